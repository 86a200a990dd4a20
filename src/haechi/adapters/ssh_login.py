"""Logging in to a host: dial, compare the host key with the pinned one, authenticate. One attempt.

No file of the user's (~/.ssh), no SSH agent and no configuration is read.
"""

import asyncio
import logging
import socket
from dataclasses import dataclass
from typing import Any, Final

import asyncssh

from haechi.adapters import ssh_errors
from haechi.domains.clusters.host.errors import (
    HostKeyChanged,
    HostKeyUnknown,
    PrivateKeyUnusable,
    short,
)
from haechi.domains.clusters.host.ports import Target, bare_key

# Its INFO tells of every channel; what matters is told here as errors.
logging.getLogger("asyncssh").setLevel(logging.WARNING)

# ed25519 first: what a host is pinned by where nothing is pinned yet.
_KEY_ALGS: Final[tuple[str, ...]] = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)
# Faster than asyncssh's first choice where the processor has AES; all of them are sound.
_CIPHERS: Final = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
    "aes128-ctr",
)


@dataclass(frozen=True, slots=True)
class Pace:
    """Time limits of everything that waits for a host, in seconds."""

    dial_s: float = 10.0
    """TCP connection to one address."""
    login_s: float = 30.0
    """Key exchange and login; a busy host is slow at it."""
    keepalive_s: float = 3.0
    keepalive_count: int = 3
    """So a frozen host is found after about 12 s."""
    attempts: int = 3
    retry_s: float = 1.0
    """Before the second attempt; doubled before each further one."""
    idle_s: float = 60.0
    """A connection that nobody uses is closed then."""
    queue_s: float = 300.0
    """Where others hold all of a host's sessions, one is waited for so long."""
    open_s: float = 30.0
    """Beginning a command on a connection that is there."""
    stall_s: float = 30.0
    """A transfer that does not move is given up then."""


async def log_in(target: Target, address: str, pace: Pace) -> asyncssh.SSHClientConnection:
    """One attempt at one address."""
    witness = _Witness(target, address)
    keys = [_private_key(target)] if target.key is not None else []
    try:
        dialled = await dial(address, target.port, pace.dial_s)
    except (OSError, TimeoutError) as error:
        raise ssh_errors.at_login(error, target, address, pace.dial_s) from error
    try:
        async with asyncio.timeout(pace.login_s):
            return await asyncssh.connect(
                address,
                target.port,
                sock=dialled,
                client_factory=lambda: witness,
                username=target.user,
                password=target.password.reveal() if target.password is not None else None,
                client_keys=keys,
                agent_path=None,
                gss_host=None,
                config=None,
                known_hosts=([], [], []),
                server_host_key_algs=host_key_algs(target.host_key),
                encryption_algs=list(_CIPHERS),
                compression_algs=["none"],
                keepalive_interval=pace.keepalive_s,
                keepalive_count_max=pace.keepalive_count,
                login_timeout=pace.login_s,
            )
    except asyncssh.HostKeyNotVerifiable as error:
        raise witness.judgement() from error
    except (asyncssh.Error, OSError, TimeoutError) as error:
        raise ssh_errors.at_login(error, target, address, pace.login_s) from error
    finally:
        if witness.connection is None:
            dialled.close()


async def dial(address: str, port: int, timeout_s: float) -> socket.socket:
    """A connected TCP socket; addresses of a name are tried one after the other."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(timeout_s):
        found = await loop.getaddrinfo(address, port, type=socket.SOCK_STREAM)
        last: OSError | None = None
        for family, kind, protocol, _, where in found:
            one = socket.socket(family, kind, protocol)
            one.setblocking(False)
            try:
                await loop.sock_connect(one, where)
            except OSError as error:
                last = error
                one.close()
            except BaseException:
                one.close()
                raise
            else:
                return one
        raise last or OSError(f"{address} has no address")


def host_key_algs(pinned: str | None) -> list[str]:
    """The pinned key's own kind first, so that a host with several shows that one."""
    if pinned is None:
        return list(_KEY_ALGS)
    kind = pinned.split()[0]
    own = [name for name in _KEY_ALGS if name == kind or (kind == "ssh-rsa" and "rsa" in name)]
    return own + [name for name in _KEY_ALGS if name not in own]


class _Witness(asyncssh.SSHClient):
    """Compares the host key that is shown with the pinned one, and remembers it."""

    def __init__(self, target: Target, address: str) -> None:
        self._target = target
        self._address = address
        self._seen: asyncssh.SSHKey | None = None
        self.connection: asyncssh.SSHClientConnection | None = None

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        self.connection = conn

    def validate_host_public_key(
        self, host: str, addr: str, port: int, key: asyncssh.SSHKey
    ) -> bool:
        del host, addr, port
        self._seen = key
        pinned = self._target.host_key
        return pinned is not None and public_of(key) == bare_key(pinned)

    def judgement(self) -> HostKeyUnknown | HostKeyChanged:
        fingerprint = self._seen.get_fingerprint() if self._seen is not None else "?"
        host = {"host": self._target.name, "address": self._address, "fingerprint": fingerprint}
        if self._target.host_key is None:
            return HostKeyUnknown(**host)
        return HostKeyChanged(**host, expected=fingerprint_of(self._target.host_key))


def public_of(key: asyncssh.SSHKey) -> str:
    """`ssh-ed25519 AAAA…`, without a comment."""
    return bare_key(key.export_public_key().decode())


def fingerprint_of(public: str) -> str:
    try:
        return asyncssh.import_public_key(public).get_fingerprint()
    except (asyncssh.KeyImportError, ValueError):
        return public[:80]


def _private_key(target: Target) -> Any:
    if target.key is None:
        raise AssertionError("asked for only where there is one")
    try:
        return asyncssh.import_private_key(target.key.reveal())
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, ValueError) as error:
        raise PrivateKeyUnusable(host=target.name, reason=short(str(error))) from error
