"""One request to a Kubernetes API: bounded in time and size, and tried once more where that helps.

What verbs there are on which objects `kube_calls` knows. A control plane that broke off in the
middle, or that has just started, is passed over for another one: every request may be repeated.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx2
import msgspec
from lightkube.config.client_adapter import ConnectionParams
from lightkube.config.kubeconfig import SingleConfig
from lightkube.config.models import Cluster, Context, User
from lightkube.core.generic_client import BasicRequest, GenericAsyncClient
from lightkube.core.resource import Resource

from haechi.adapters.kube_errors import (
    MESSAGE_LIMIT,
    KubeRefused,
    KubeUnreachable,
    of_status,
)
from haechi.adapters.kube_transport import (
    CONNECT_S,
    ApiTransport,
    read_kubeconfig,
    tls_context,
    why,
)
from haechi.domains.clusters.ports import KubeAccess

MANAGER: Final = "haechi"
"""Field manager of everything that haechi applies."""
CALL_S: Final = 15.0
MAX_BYTES: Final = 64 * 1024 * 1024


class Requests:
    """To one cluster. Close it with `close`."""

    def __init__(self, access: KubeAccess) -> None:
        self.cluster_id = access.cluster_id
        credentials = read_kubeconfig(access.cluster_id, access.kubeconfig)
        self._transport = ApiTransport(
            servers=[(one.address, one.port) for one in access.servers],
            server_name=access.server_name,
            context=tls_context(access.cluster_id, credentials),
        )
        # The transport does TLS; what lightkube is told of it only keeps it from looking for more.
        config = SingleConfig(
            context_name=MANAGER,
            context=Context(cluster=MANAGER, user=MANAGER),
            cluster=Cluster(server=f"https://{access.server_name}", insecure=True),
            user=User(token=credentials.token or None),
        )
        timeout = httpx2.Timeout(CALL_S, connect=CONNECT_S)
        self._client = GenericAsyncClient(
            ConnectionParams(
                timeout=timeout,
                trust_env=False,
                transport=self._transport,  # type: ignore[arg-type]
            ),
            config,
            field_manager=MANAGER,
        )

    async def close(self) -> None:
        await self._client.close()  # type: ignore[no-untyped-call]

    def prepare(self, method: str, kind_of: type[Resource], **said: Any) -> BasicRequest:
        """One of lightkube's verbs on a kind of object."""
        return self._client.prepare_request(method, kind_of, **said)

    async def answer(self, request: BasicRequest, what: str) -> dict[str, Any]:
        async with self.bounded(what, CALL_S):
            response = await self._send(request, what)
            try:
                body = await self._body(response, what)
            finally:
                await response.aclose()
        try:
            decoded = msgspec.json.decode(body) if body else {}
        except msgspec.DecodeError:
            decoded = None
        if not isinstance(decoded, dict):
            raise KubeRefused(
                cluster_id=self.cluster_id, status=200, what=what, reason="the answer is no object"
            )
        return decoded

    async def _body(self, response: httpx2.Response, what: str) -> bytes:
        parts: list[bytes] = []
        size = 0
        try:
            async for part in response.aiter_bytes():
                size += len(part)
                if size > MAX_BYTES:
                    reason = f"the answer is larger than {MAX_BYTES} bytes"
                    raise KubeRefused(
                        cluster_id=self.cluster_id, status=200, what=what, reason=reason
                    )
                parts.append(part)
        except httpx2.TransportError as error:
            raise KubeUnreachable(cluster_id=self.cluster_id, reason=why(error)) from error
        return b"".join(parts)

    async def _send(self, asked: BasicRequest, what: str) -> httpx2.Response:
        """The response, not read yet; an error status is raised."""
        response = await self._response(asked)
        if response.status_code == 403:
            response = await self._once_ready(asked, response, what)
        if response.is_success:
            return response
        try:
            text = await _first_bytes(response)
        finally:
            await response.aclose()
        raise self.error(response.status_code, what, text)

    async def _once_ready(
        self, asked: BasicRequest, refused: httpx2.Response, what: str
    ) -> httpx2.Response:
        """One that has just started knows no rights yet, and refuses everybody: another one may
        know them. What one refuses that is ready is refused.
        """
        for others_left in reversed(range(self._transport.count)):
            await refused.aclose()
            if await self._is_ready():
                return await self._response(asked)
            if others_left:
                self._transport.pass_over(refused.extensions.get("haechi_server"))
                refused = await self._response(asked)
                if refused.status_code != 403:
                    return refused
        reason = f"{what}: the API has started and is not ready"
        raise KubeUnreachable(cluster_id=self.cluster_id, reason=reason)

    async def _is_ready(self) -> bool:
        response = await self._response(BasicRequest("GET", "readyz"))
        await response.aclose()
        return response.is_success

    async def _response(self, asked: BasicRequest) -> httpx2.Response:
        """With one more try where a connection broke that had been made."""
        tried = 0
        while True:
            request = self._client.build_adapter_request(asked)
            try:
                response: httpx2.Response = await self._client.send(  # type: ignore[no-untyped-call]
                    request, stream=True
                )
                return response
            except httpx2.ConnectError as error:
                # It names every control plane that was tried.
                raise KubeUnreachable(cluster_id=self.cluster_id, reason=why(error)) from error
            except httpx2.TransportError as error:
                tried += 1
                another = self._transport.pass_over(request.extensions.get("haechi_server"))
                # A kept-alive connection may just have been closed: that deserves one more try.
                stale = isinstance(error, httpx2.RemoteProtocolError | httpx2.ReadError)
                if tried > 1 or not (another or stale):
                    raise KubeUnreachable(cluster_id=self.cluster_id, reason=why(error)) from error

    def error(self, status: int, what: str, said: bytes | Mapping[str, Any]) -> Exception:
        message = ""
        if isinstance(said, bytes):
            try:
                said = msgspec.json.decode(said)
            except msgspec.DecodeError:
                message = str(said, "utf-8", "replace") if isinstance(said, bytes) else ""
        if isinstance(said, Mapping):
            message = str(said.get("message") or said.get("reason") or "")
        return of_status(status, cluster_id=self.cluster_id, what=what, message=message)

    @asynccontextmanager
    async def bounded(self, what: str, timeout_s: float) -> AsyncIterator[None]:
        """The time limit of a whole call, whatever it is made of."""
        try:
            async with asyncio.timeout(timeout_s):
                yield
        except TimeoutError as error:
            reason = f"no answer to '{what}' within {timeout_s:g} s"
            raise KubeUnreachable(cluster_id=self.cluster_id, reason=reason) from error

    async def lines(
        self, request: BasicRequest, what: str, *, quiet_s: float | None, limit: int
    ) -> AsyncGenerator[bytes, None]:
        """Whole lines; one longer than `limit` is cut. `quiet_s`: longest silence."""
        request.timeout = httpx2.Timeout(CALL_S, connect=CONNECT_S, read=quiet_s)
        response = await self._send(request, what)
        try:
            left = b""
            async for piece in response.aiter_bytes():
                *whole, left = (left + piece).split(b"\n")
                for line in whole:
                    if line:
                        yield line[:limit]
                left = left[:limit]
            if left:
                yield left
        except httpx2.TransportError as error:
            raise KubeUnreachable(cluster_id=self.cluster_id, reason=why(error)) from error
        finally:
            await response.aclose()


async def _first_bytes(response: httpx2.Response) -> bytes:
    """Enough of a refusal to say why."""
    text = b""
    async for piece in response.aiter_bytes():
        text += piece
        if len(text) > 16 * MESSAGE_LIMIT:
            break
    return text
