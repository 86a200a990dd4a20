"""The way to one cluster's API: any of its control planes, known by one name.

Every request is addressed to the name that the API's certificate bears; which control plane it is
sent to is decided here. The one that answered last is asked first; one that cannot be connected
to is passed over. Credentials never touch the disk: the client key goes to OpenSSL by a memory
file.
"""

import asyncio
import base64
import binascii
import os
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import httpx2
import yaml

from haechi.adapters.kube_errors import BadKubeconfig
from haechi.core.secrets import Secret
from haechi.domains.clusters.ports import KubeAccess

CONNECT_S: Final = 3.0
"""A host that is off does not even refuse; with three of them this is waited for at most twice."""
_NOTICE_DEATH: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
"""A followed log may be silent for hours; a host that lost its power must not look the same."""
_LEAVE_DEAD: Final = (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(CONNECT_S * 1000))
"""Where there is another one to ask: a slow API server's kernel still takes what it is sent, that
of a host without power does not, and a call would wait its whole time for it.
"""
_CONNECTING: Final = (httpx2.ConnectError, httpx2.ConnectTimeout)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Of a kubeconfig, its user and its trust; nothing that would make us run a program."""

    ca_pem: str
    certificate_pem: bytes
    key_pem: bytes
    token: str


def read_kubeconfig(cluster_id: str, kubeconfig: Secret) -> Credentials:
    """Raises BadKubeconfig, which says what is wrong with it and none of what is in it."""

    def bad(reason: str) -> BadKubeconfig:
        return BadKubeconfig(cluster_id=cluster_id, status=0, reason=reason)

    try:
        config = yaml.safe_load(kubeconfig.reveal())
    except yaml.YAMLError:
        raise bad("it is no YAML") from None
    try:
        contexts = {one["name"]: one["context"] for one in config["contexts"]}
        context = contexts[config["current-context"]]
        cluster = {one["name"]: one["cluster"] for one in config["clusters"]}[context["cluster"]]
        user: dict[str, Any] = {one["name"]: one["user"] for one in config["users"]}[
            context["user"]
        ]
    except (KeyError, TypeError) as error:
        raise bad(f"it lacks {error}") from None
    try:
        ca_pem = base64.b64decode(cluster["certificate-authority-data"], validate=True).decode()
        certificate = base64.b64decode(user.get("client-certificate-data", ""), validate=True)
        key = base64.b64decode(user.get("client-key-data", ""), validate=True)
    except KeyError:
        raise bad("it lacks the cluster's certificate authority") from None
    except (binascii.Error, TypeError, UnicodeDecodeError):
        raise bad("a certificate in it is damaged") from None
    token = str(user.get("token") or "")
    if not token and not (certificate and key):
        raise bad("its user has neither certificate nor token")
    return Credentials(ca_pem, certificate, key, token)


def tls_context(cluster_id: str, credentials: Credentials) -> ssl.SSLContext:
    """Trusts the cluster's CA alone. Raises BadKubeconfig."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cadata=credentials.ca_pem)
        if credentials.key_pem:
            _load_pair(context, credentials.certificate_pem + b"\n" + credentials.key_pem)
    except (ssl.SSLError, ValueError):
        reason = "its certificates do not fit together"
        raise BadKubeconfig(cluster_id=cluster_id, status=0, reason=reason) from None
    return context


async def another_answers(access: KubeAccess, socket: Path) -> bool:
    """`Kubes.is_another`. Nothing of ours is shown to whoever it is."""
    credentials = read_kubeconfig(access.cluster_id, access.kubeconfig)
    context = tls_context(access.cluster_id, replace(credentials, certificate_pem=b"", key_pem=b""))
    try:
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_unix_connection(
                socket, ssl=context, server_hostname=access.server_name
            )
    except ssl.SSLCertVerificationError:
        return True
    except (OSError, TimeoutError):
        return False
    writer.close()
    return False


def _load_pair(context: ssl.SSLContext, pem: bytes) -> None:
    """OpenSSL takes keys from files only: one that is in memory and nowhere else."""
    descriptor = os.memfd_create("haechi-kube", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


class ApiTransport(httpx2.AsyncBaseTransport):
    def __init__(
        self,
        *,
        servers: Sequence[tuple[str, int]],
        server_name: str,
        context: ssl.SSLContext,
    ) -> None:
        self._servers = list(servers)
        self._name = server_name
        self._pool = httpx2.AsyncHTTPTransport(
            verify=context,
            trust_env=False,
            limits=httpx2.Limits(
                max_connections=64, max_keepalive_connections=8, keepalive_expiry=30
            ),
            socket_options=[*_NOTICE_DEATH, *([_LEAVE_DEAD] if len(self._servers) > 1 else [])],
        )

    @property
    def addresses(self) -> str:
        return ", ".join(f"{host}:{port}" for host, port in self._servers)

    @property
    def count(self) -> int:
        """Of control planes to ask."""
        return len(self._servers)

    def pass_over(self, server: tuple[str, int] | None) -> bool:
        """It connected and then failed: the others first. Whether there is another one to ask."""
        if server in self._servers:
            self._servers.remove(server)
            self._servers.append(server)
        return len(self._servers) > 1

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        reasons = []
        for server in list(self._servers):
            host, port = server
            request.extensions = {**request.extensions, "sni_hostname": self._name}
            addressed = httpx2.Request(
                request.method,
                request.url.copy_with(host=host, port=port),
                headers=request.headers,  # with the API's name as Host
                stream=request.stream,
                extensions=request.extensions,
            )
            try:
                response = await self._pool.handle_async_request(addressed)
            except _CONNECTING as error:
                reasons.append(f"{host}:{port}: {why(error)}")
                self.pass_over(server)
                continue
            except httpx2.TransportError:
                request.extensions["haechi_server"] = server
                raise
            response.extensions["haechi_server"] = server
            return response
        raise httpx2.ConnectError("; ".join(reasons) or "no control plane is known")

    async def aclose(self) -> None:
        await self._pool.aclose()


def why(error: BaseException) -> str:
    """The first telling words in a chain of exceptions of the client."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return f"its certificate is not the cluster's ({seen.verify_message})"
        if isinstance(seen, httpx2.TimeoutException | TimeoutError):
            return "no answer in time"
        seen = seen.__cause__ or seen.__context__
    return str(error) or type(error).__name__
