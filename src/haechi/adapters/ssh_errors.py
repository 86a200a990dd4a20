"""What asyncssh and the network raise, as errors that may be shown: one place for all of it."""

import socket

import asyncssh

from haechi.domains.clusters.host.errors import (
    HostConnectionLost,
    HostNotSsh,
    HostRefused,
    HostTimedOut,
    HostUnreachable,
    LoginRefused,
    short,
)
from haechi.domains.clusters.host.ports import HostName, Target
from haechi.errors import AppError


def at_login(error: BaseException, target: Target, address: str, timeout_s: float) -> AppError:
    """While connecting and logging in. Host keys are judged by whoever connects."""
    host = {"host": target.name, "address": address}
    match error:
        case _ if isinstance(error, TimeoutError) or _ran_out(error):
            return HostTimedOut(**host, timeout_s=timeout_s, what="SSH")
        case ConnectionRefusedError():
            return HostRefused(**host, port=target.port)
        case asyncssh.PermissionDenied():
            return LoginRefused(**host, user=target.user, method=_methods(target))
        case (
            asyncssh.KeyExchangeFailed()
            | asyncssh.ProtocolError()
            | asyncssh.ProtocolNotSupported()
        ):
            return HostNotSsh(**host, port=target.port, reason=reason_of(error))
    return HostUnreachable(**host, reason=reason_of(error))


def in_command(error: BaseException, host: HostName, what: str) -> HostConnectionLost:
    """While a command or a transfer runs."""
    return HostConnectionLost(
        host=host.name, address=host.address, what=what, reason=reason_of(error)
    )


def reason_of(error: BaseException) -> str:
    if isinstance(error, socket.gaierror):
        return f"name not found ({error.strerror or error})"
    text = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
    return short(text or type(error).__name__)


def _ran_out(error: BaseException) -> bool:
    """The library's own limit of a login."""
    return isinstance(error, asyncssh.ConnectionLost) and "timeout" in str(error).lower()


def _methods(target: Target) -> str:
    have = [name for name, it in (("key", target.key), ("password", target.password)) if it]
    return ", ".join(have)
