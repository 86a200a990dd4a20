"""TLS of the listeners: uvicorn protocols that show the client's certificate, and renewal.

uvicorn does not tell an application who the TLS peer is. These subclasses put the certificate that
OpenSSL has verified into `scope["extensions"]["tls"]["client_cert_der"]`; whose it is and whether
it was revoked is decided by `web.security`.
"""

import asyncio
import fcntl
import logging
import socket
import ssl
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from haechi.core.clock import Clock
from haechi.core.pki import ClientCertificates, ServerFiles, SiteCa
from haechi.web.connections import BoundedProtocol

log = logging.getLogger(__name__)

_CHECK_S: Final = 600.0
_SIOCGIFADDR: Final = 0x8915
_LOCAL_ONLY: Final = ("lo", "docker", "br-", "veth", "virbr", "cni", "flannel", "haechi")
"""Interfaces whose addresses nobody else on the site dials."""


def with_certificate(app: ASGIApp, der: bytes | None) -> ASGIApp:
    """`app`, told which client certificate its connection has."""

    async def told(scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"] = {**(scope.get("extensions") or {}), "tls": {"client_cert_der": der}}
        await app(scope, receive, send)

    return told


class HttpProtocol(BoundedProtocol):
    """`Listener(http=HttpProtocol, ws=WebSocketProtocol)`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        der = _verified_peer(transport)
        if der is not None:
            self.known()
        self.app = with_certificate(self.app, der)


class WebSocketProtocol(WebSocketsSansIOProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.app = with_certificate(self.app, _verified_peer(transport))


class ListenerTls:
    """The context of one listener; `keep_fresh` renews its certificate while it serves.

    `hosts` is asked again at every check, so that a new address of this machine gets a
    certificate without a restart. Handshakes after a renewal show the new one.
    """

    def __init__(
        self,
        ca: SiteCa,
        name: str,
        hosts: Callable[[], Iterable[str]],
        *,
        clients: ClientCertificates = "none",
    ) -> None:
        self._ca = ca
        self._name = name
        self._hosts = hosts
        self.files: ServerFiles = ca.server_files(name, hosts())
        self.context: ssl.SSLContext = ca.server_context(self.files, clients=clients)

    def refresh(self) -> bool:
        """Whether a new certificate was taken up."""
        files = self._ca.server_files(self._name, self._hosts())
        if files.renewed:
            self.context.load_cert_chain(files.certificate, files.key)
            log.info("listener %s has a new certificate", self._name)
        return files.renewed

    async def keep_fresh(self, clock: Clock) -> None:
        """For `Tasks.forever`."""
        while True:
            await clock.sleep(_CHECK_S)
            await asyncio.to_thread(self.refresh)


def own_hosts(*addresses: str) -> list[str]:
    """Names and addresses by which this machine is dialled: its own, and those of settings.

    `addresses` are HOST:PORT; wildcards and empty ones say nothing.
    """
    hosts = {socket.gethostname(), *local_addresses()}
    for address in addresses:
        host = address.rpartition(":")[0].strip("[]")
        if host and host not in {"0.0.0.0", "::"}:  # noqa: S104 - recognised, not bound
            hosts.add(host)
    return sorted(hosts)


def local_addresses() -> list[str]:
    """IPv4 and global IPv6 addresses of this machine's own network interfaces (Linux)."""
    found: set[str] = set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            if name.startswith(_LOCAL_ONLY):
                continue
            try:
                answer = fcntl.ioctl(
                    probe.fileno(), _SIOCGIFADDR, struct.pack("256s", name.encode()[:15])
                )
            except OSError:
                continue  # an interface without an IPv4 address
            found.add(socket.inet_ntoa(answer[20:24]))
    try:
        lines = Path("/proc/net/if_inet6").read_text("ascii").splitlines()
    except OSError:
        lines = []
    for line in lines:
        text, _, _, scope, _, name = line.split()
        if scope == "00" and not name.startswith(_LOCAL_ONLY):
            found.add(socket.inet_ntop(socket.AF_INET6, bytes.fromhex(text)))
    return sorted(found)


def _verified_peer(transport: Any) -> bytes | None:
    tls = transport.get_extra_info("ssl_object")
    if tls is None or tls.context.verify_mode == ssl.CERT_NONE:
        return None
    der: bytes | None = tls.getpeercert(binary_form=True)
    return der
