"""Calls to one Kubernetes API: paths and verbs by lightkube, objects as the JSON they are.

Objects stay plain dicts so that fields which this release's models do not know are neither lost
nor refused. How one is sent, and what becomes of it, `kube_requests` knows.
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Final

import msgspec
from lightkube.core.exceptions import LoadResourceError
from lightkube.core.generic_client import ALL_NS, BasicRequest
from lightkube.core.resource import NamespacedResource, Resource
from lightkube.core.resource_registry import resource_registry
from lightkube.resources.core_v1 import PodLog

from haechi.adapters.kube_errors import KubeRefused
from haechi.adapters.kube_requests import CALL_S, MAX_BYTES, Requests
from haechi.domains.clusters.ports import KubeAccess

LIST_S: Final = 30.0
WATCH_S: Final = 60
"""The API ends a watch after so long, so that a line that died is noticed soon after."""
MAX_LINE: Final = 256 * 1024
PAGE: Final = 500
APPLY: Final = "application/apply-patch+yaml"
MERGE: Final = "application/merge-patch+json"


class Calls:
    """One cluster. Close it with `close`."""

    def __init__(self, access: KubeAccess) -> None:
        self.cluster_id = access.cluster_id
        self._requests = Requests(access)

    async def close(self) -> None:
        await self._requests.close()

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
        async with self._requests.bounded(f"list {kind}", LIST_S):
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
        return await self._requests.answer(BasicRequest("POST", path, data=dict(body)), what)

    async def raw(self, path: str) -> dict[str, Any]:
        """What is no resource, such as `version`."""
        return await self._requests.answer(BasicRequest("GET", path), path)

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
            request = self._requests.prepare(
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
            lines = self._requests.lines(request, what, quiet_s=WATCH_S + 15, limit=MAX_BYTES)
            async with aclosing(lines):
                async for line in lines:
                    event = msgspec.json.decode(line)
                    seen = event["object"]
                    if event["type"] == "ERROR":
                        raise self._requests.error(int(seen.get("code") or 500), what, seen)
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
        request = self._requests.prepare(
            "get",
            PodLog,
            name=pod,
            namespace=namespace,
            params=params,
        )
        quiet = quiet_s if follow else CALL_S
        lines = self._requests.lines(request, f"log {pod}", quiet_s=quiet, limit=MAX_LINE)
        async with aclosing(lines):
            async for line in lines:
                yield line.decode("utf-8", "replace")

    # --- inside

    async def _ask(self, method: str, kind_of: type[Resource], **said: Any) -> dict[str, Any]:
        request = self._requests.prepare(method, kind_of, **said)
        name = said.get("name")
        what = f"{method} {kind_of.__name__}" + (f" {name}" if name else "")
        return await self._requests.answer(request, what)

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
