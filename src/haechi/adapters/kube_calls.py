"""Calls to one Kubernetes API: paths and verbs by lightkube, objects as the JSON they are.

Objects stay plain dicts so that fields which this release's models do not know are neither lost
nor refused. Each call has a time limit; what comes back has a size limit; a control plane that
broke off in the middle is passed over once, because every call here may be repeated.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

import httpx2
import msgspec
from lightkube.config.client_adapter import ConnectionParams
from lightkube.config.kubeconfig import SingleConfig
from lightkube.config.models import Cluster, Context, User
from lightkube.core.exceptions import LoadResourceError
from lightkube.core.generic_client import ALL_NS, BasicRequest, GenericAsyncClient
from lightkube.core.resource import NamespacedResource, Resource
from lightkube.core.resource_registry import resource_registry
from lightkube.resources.core_v1 import PodLog

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
LIST_S: Final = 30.0
WATCH_S: Final = 60
"""The API ends a watch after so long, so that a line that died is noticed soon after."""
MAX_BYTES: Final = 64 * 1024 * 1024
MAX_LINE: Final = 256 * 1024
PAGE: Final = 500
APPLY: Final = "application/apply-patch+yaml"
MERGE: Final = "application/merge-patch+json"


class Calls:
    """One cluster. Close it with `close`."""

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

    # --- objects

    async def get(
        self, api_version: str, kind: str, name: str, namespace: str | None = None
    ) -> dict[str, Any]:
        """Raises KubeObjectMissing."""
        kind_of = self._kind(api_version, kind)
        return await self._ask("get", kind_of, name=name, namespace=namespace)

    async def list(
        self,
        api_version: str,
        kind: str,
        *,
        namespace: str | None = None,
        labels: Mapping[str, str] | str = "",
        fields: Mapping[str, str] | str = "",
    ) -> tuple[list[dict[str, Any]], str]:
        """(objects, the version they are of); of all namespaces unless one is given. In pages."""
        kind_of = self._kind(api_version, kind)
        found: list[dict[str, Any]] = []
        params: dict[str, Any] = {"limit": PAGE, **_selectors(labels, fields)}
        async with self._bounded(f"list {kind}", LIST_S):
            while True:
                page = await self._ask(
                    "list", kind_of, namespace=_where(kind_of, namespace), params=params
                )
                found += page.get("items") or []
                meta = page.get("metadata") or {}
                if not meta.get("continue"):
                    return found, str(meta.get("resourceVersion", ""))
                params["continue"] = meta["continue"]

    async def apply(self, manifest: Mapping[str, Any], *, force: bool = True) -> dict[str, Any]:
        """Server-side apply: fields that somebody else owns are taken over, unless not `force`."""
        kind_of = self._kind(str(manifest["apiVersion"]), str(manifest["kind"]))
        meta = manifest["metadata"]
        return await self._ask(
            "patch",
            kind_of,
            name=meta["name"],
            namespace=meta.get("namespace"),
            obj=dict(manifest),
            headers={"Content-Type": APPLY},
            params={"force": "true" if force else "false"},
        )

    async def merge(
        self,
        api_version: str,
        kind: str,
        name: str,
        patch: Mapping[str, Any],
        namespace: str | None = None,
    ) -> dict[str, Any]:
        """JSON merge patch; None removes a key."""
        return await self._ask(
            "patch",
            self._kind(api_version, kind),
            name=name,
            namespace=namespace,
            obj=dict(patch),
            headers={"Content-Type": MERGE},
        )

    async def delete(
        self,
        api_version: str,
        kind: str,
        name: str,
        namespace: str | None = None,
        *,
        grace_s: int | None = None,
        policy: str = "Background",
    ) -> None:
        """Raises KubeObjectMissing."""
        params = {"gracePeriodSeconds": grace_s, "propagationPolicy": policy}
        kind_of = self._kind(api_version, kind)
        _ = await self._ask("delete", kind_of, name=name, namespace=namespace, params=params)

    async def post(self, path: str, body: Mapping[str, Any], *, what: str) -> dict[str, Any]:
        """To a subresource that has a verb of its own, such as `…/eviction`."""
        return await self._answer(BasicRequest("POST", path, data=dict(body)), what)

    async def raw(self, path: str) -> dict[str, Any]:
        """What is no resource, such as `version`."""
        return await self._answer(BasicRequest("GET", path), path)

    # --- streams

    async def watch(
        self,
        api_version: str,
        kind: str,
        *,
        since: str,
        namespace: str | None = None,
        labels: Mapping[str, str] | str = "",
        fields: Mapping[str, str] | str = "",
    ) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
        """(ADDED | MODIFIED | DELETED, object) after version `since`, for ever. Raises
        KubeHistoryGone (list again) and KubeUnreachable.
        """
        kind_of = self._kind(api_version, kind)
        what = f"watch {kind}"
        while True:
            request = self._client.prepare_request(
                "list",
                kind_of,
                namespace=_where(kind_of, namespace),
                watch=True,
                params={
                    **_selectors(labels, fields),
                    "resourceVersion": since,
                    "timeoutSeconds": WATCH_S,
                    "allowWatchBookmarks": "true",
                },
            )
            lines = self._lines(request, what, quiet_s=WATCH_S + 15, limit=MAX_BYTES)
            async with aclosing(lines):
                async for line in lines:
                    event = msgspec.json.decode(line)
                    seen = event["object"]
                    if event["type"] == "ERROR":
                        raise self._error(int(seen.get("code") or 500), what, seen)
                    since = seen["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        yield event["type"], seen

    async def logs(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        follow: bool = False,
        since: str = "",
        tail: int | None = None,
        previous: bool = False,
        quiet_s: float | None = None,
    ) -> AsyncGenerator[str, None]:
        """Lines, each beginning with its RFC 3339 time. `since` is such a time."""
        params: dict[str, Any] = {
            "container": container,
            "timestamps": "true",
            "follow": "true" if follow else None,
            "previous": "true" if previous else None,
            "sinceTime": since or None,
            "tailLines": tail,
        }
        request = self._client.prepare_request(
            "get",
            PodLog,
            name=pod,
            namespace=namespace,
            params=params,
        )
        quiet = quiet_s if follow else CALL_S
        lines = self._lines(request, f"log {pod}", quiet_s=quiet, limit=MAX_LINE)
        async with aclosing(lines):
            async for line in lines:
                yield line.decode("utf-8", "replace")

    async def _lines(
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

    # --- one request

    async def _ask(self, method: str, kind_of: type[Resource], **said: Any) -> dict[str, Any]:
        request = self._client.prepare_request(method, kind_of, **said)
        name = said.get("name")
        what = f"{method} {kind_of.__name__}" + (f" {name}" if name else "")
        return await self._answer(request, what)

    async def _answer(self, request: BasicRequest, what: str) -> dict[str, Any]:
        async with self._bounded(what, CALL_S):
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
        raise self._error(response.status_code, what, text)

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

    def _error(self, status: int, what: str, said: bytes | Mapping[str, Any]) -> Exception:
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
    async def _bounded(self, what: str, timeout_s: float) -> AsyncIterator[None]:
        """The time limit of a whole call, whatever it is made of."""
        try:
            async with asyncio.timeout(timeout_s):
                yield
        except TimeoutError as error:
            reason = f"no answer to '{what}' within {timeout_s:g} s"
            raise KubeUnreachable(cluster_id=self.cluster_id, reason=reason) from error

    def _kind(self, api_version: str, kind: str) -> type[Resource]:
        try:
            found: type[Resource] = resource_registry.load(api_version, kind)
        except LoadResourceError:
            raise KubeRefused(
                cluster_id=self.cluster_id,
                status=404,
                what=kind,
                reason=f"{api_version} {kind} is no kind that is known here",
            ) from None
        return found


async def _first_bytes(response: httpx2.Response) -> bytes:
    """Enough of a refusal to say why."""
    text = b""
    async for piece in response.aiter_bytes():
        text += piece
        if len(text) > 16 * MESSAGE_LIMIT:
            break
    return text


def _where(kind_of: type[Resource], namespace: str | None) -> str | None:
    if namespace is None and issubclass(kind_of, NamespacedResource):
        return str(ALL_NS)
    return namespace


def _selectors(labels: Mapping[str, str] | str, fields: Mapping[str, str] | str) -> dict[str, Any]:
    return {"labelSelector": _selector(labels), "fieldSelector": _selector(fields)}


def _selector(wanted: Mapping[str, str] | str) -> str | None:
    if isinstance(wanted, str):
        return wanted or None
    return ",".join(f"{key}={value}" for key, value in wanted.items()) or None
