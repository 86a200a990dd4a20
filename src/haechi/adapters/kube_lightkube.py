"""The `Kube` of the clusters domain by lightkube, for as many clusters as there are.

One client per cluster, kept while its access stays the same: opening it again costs nothing.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from haechi.adapters.kube_calls import Calls
from haechi.adapters.kube_errors import KubeConflict, KubeHistoryGone, KubeObjectMissing
from haechi.adapters.kube_evict import Drain, abandon
from haechi.adapters.kube_shapes import node_of, pod_of
from haechi.adapters.kube_transport import another_answers
from haechi.domains.clusters.ports import (
    Drained,
    KubeAccess,
    Manifest,
    Node,
    OnText,
    Pod,
)

log = logging.getLogger(__name__)

POLL_S: Final = 0.5
EDIT_TRIES: Final = 5


class LightKube:
    """One cluster's API. `calls` is for adapters that need more than the port says."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls

    async def version(self) -> str:
        found = await self.calls.raw("version")
        return str(found.get("gitVersion") or "").removeprefix("v")

    # --- nodes

    async def nodes(self) -> list[Node]:
        found, _ = await self.calls.list("v1", "Node")
        return [node_of(one) for one in found]

    async def node(self, name: str) -> Node | None:
        found = await self.get("v1", "Node", name)
        return None if found is None else node_of(found)

    async def label_node(self, name: str, labels: Mapping[str, str | None]) -> None:
        _ = await self.calls.merge("v1", "Node", name, {"metadata": {"labels": dict(labels)}})

    async def untaint_node(self, name: str, key: str) -> None:
        """Taints are one list, so that it is written only where nobody else wrote meanwhile."""
        for tries_left in reversed(range(EDIT_TRIES)):
            found = await self.calls.get("v1", "Node", name)
            taints = (found.get("spec") or {}).get("taints") or []
            kept = [one for one in taints if one["key"] != key]
            if len(kept) == len(taints):
                return
            patch = {
                "metadata": {"resourceVersion": found["metadata"]["resourceVersion"]},
                "spec": {"taints": kept or None},
            }
            try:
                _ = await self.calls.merge("v1", "Node", name, patch)
                return
            except KubeConflict:
                if not tries_left:
                    raise

    async def cordon(self, name: str) -> None:
        _ = await self.calls.merge("v1", "Node", name, {"spec": {"unschedulable": True}})

    async def uncordon(self, name: str) -> None:
        _ = await self.calls.merge("v1", "Node", name, {"spec": {"unschedulable": None}})

    async def drain(self, name: str, *, grace_s: int, timeout_s: float, log: OnText) -> Drained:
        try:
            await self.cordon(name)
        except KubeObjectMissing:
            return Drained(0, ())
        return await Drain(self.calls, name, grace_s=grace_s, log=log).run(timeout_s)

    async def abandon(self, name: str, *, log: OnText) -> int:
        try:
            await self.cordon(name)
        except KubeObjectMissing:
            return 0
        return await abandon(self.calls, name, log=log)

    async def delete_node(self, name: str) -> None:
        try:
            await self.calls.delete("v1", "Node", name)
        except KubeObjectMissing:
            return

    async def watch_nodes(self) -> AsyncIterator[list[Node]]:
        while True:
            found, since = await self.calls.list("v1", "Node")
            nodes = {one["metadata"]["name"]: node_of(one) for one in found}
            yield list(nodes.values())
            try:
                async with aclosing(self.calls.watch("v1", "Node", since=since)) as changes:
                    async for change, seen in changes:
                        node = node_of(seen)
                        if change == "DELETED":
                            nodes.pop(node.name, None)
                        elif nodes.get(node.name) == node:
                            continue
                        else:
                            nodes[node.name] = node
                        yield list(nodes.values())
            except KubeHistoryGone:
                continue

    # --- pods

    async def pods(
        self,
        *,
        namespace: str | None = None,
        node: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> list[Pod]:
        fields = {"spec.nodeName": node} if node else ""
        found, _ = await self.calls.list(
            "v1", "Pod", namespace=namespace, labels=labels or "", fields=fields
        )
        return [pod_of(one) for one in found]

    # --- any object

    async def apply(self, objects: Sequence[Manifest], *, log: OnText | None = None) -> None:
        for one in objects:
            _ = await self.calls.apply(one)
            if log is not None:
                log(f"applied {_shown(one)}")

    async def delete(self, objects: Sequence[Manifest], *, wait_s: float = 30) -> None:
        going = []
        for one in reversed(objects):
            try:
                await self.calls.delete(*_named(one), policy="Foreground")
                going.append(one)
            except KubeObjectMissing:
                continue
        loop = asyncio.get_running_loop()
        end = loop.time() + wait_s
        while going and loop.time() < end:
            going = [one for one in going if await self.get(*_named(one)) is not None]
            if going:
                await asyncio.sleep(POLL_S)

    async def get(
        self, api_version: str, kind: str, name: str, namespace: str | None = None
    ) -> dict[str, Any] | None:
        try:
            return await self.calls.get(api_version, kind, name, namespace)
        except KubeObjectMissing:
            return None


class LightKubes:
    """`Kubes`: opens clusters. Close it with `close`."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[KubeAccess, Calls]] = {}
        self._users: dict[int, int] = {}
        self._retired: dict[int, Calls] = {}

    @asynccontextmanager
    async def open(self, access: KubeAccess) -> AsyncIterator[LightKube]:
        """Raises BadKubeconfig; whether the API answers is seen at the first call."""
        calls, before = self._calls(access)
        key = id(calls)
        # Before anything is waited for, or another access would close it meanwhile.
        self._users[key] = self._users.get(key, 0) + 1
        try:
            if before is not None:
                await self._retire(before)
            yield LightKube(calls)
        finally:
            self._users[key] -= 1
            if not self._users[key]:
                del self._users[key]
                retired = self._retired.pop(key, None)
                if retired is not None:
                    await retired.close()

    async def is_another(self, access: KubeAccess, socket: Path) -> bool:
        return await another_answers(access, socket)

    def _calls(self, access: KubeAccess) -> tuple[Calls, Calls | None]:
        """Those of this access, and those of an earlier one that they replace."""
        known = self._open.get(access.cluster_id)
        if known is not None and known[0] == access:
            return known[1], None
        made = Calls(access)
        self._open[access.cluster_id] = (access, made)
        return made, None if known is None else known[1]

    async def _retire(self, calls: Calls) -> None:
        """Whoever uses it may finish; the last one closes it."""
        if id(calls) in self._users:
            self._retired[id(calls)] = calls
        else:
            await calls.close()

    async def forget(self, cluster_id: str) -> None:
        """The cluster is gone: keep no connection and no credential of it."""
        known = self._open.pop(cluster_id, None)
        if known is not None:
            await self._retire(known[1])

    async def close(self) -> None:
        for _, calls in self._open.values():
            await calls.close()
        for calls in self._retired.values():
            await calls.close()
        self._open.clear()
        self._retired.clear()


def _named(manifest: Manifest) -> tuple[str, str, str, str | None]:
    meta = manifest["metadata"]
    return manifest["apiVersion"], manifest["kind"], meta["name"], meta.get("namespace")


def _shown(manifest: Manifest) -> str:
    _, kind, name, namespace = _named(manifest)
    return f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"
