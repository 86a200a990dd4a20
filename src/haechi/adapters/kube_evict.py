"""Emptying a node: evict what would be started elsewhere, honouring disruption budgets.

The rules are those of `kubectl drain --ignore-daemonsets --delete-emptydir-data --force`.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, Final

from haechi.adapters.kube_calls import Calls
from haechi.adapters.kube_errors import KubeObjectMissing, KubeUnreachable
from haechi.adapters.kube_shapes import is_static
from haechi.domains.clusters.ports import Drained, OnText

POLL_S: Final = 0.5
BUDGET_S: Final = 3.0
"""Between two tries where a disruption budget forbids the eviction."""
_ENDED: Final = frozenset({"Succeeded", "Failed"})


class Drain:
    def __init__(self, calls: Calls, node: str, *, grace_s: int, log: OnText) -> None:
        self._calls = calls
        self._node = node
        self._grace_s = grace_s
        self._log = log
        self._asked: dict[str, float] = {}
        """Pod uid → when its eviction was accepted; refused ones are asked for again."""
        self._refused: dict[str, float] = {}

    async def run(self, timeout_s: float) -> Drained:
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_s
        while True:
            there = await self._there()
            if not there or loop.time() >= end:
                left = tuple(sorted(_shown(pod) for pod in there))
                still = {pod["metadata"]["uid"] for pod in there}
                return Drained(len(self._asked.keys() - still), left)
            for pod in there:
                await self._evict(pod, loop.time())
            await asyncio.sleep(POLL_S)

    async def _there(self) -> list[dict[str, Any]]:
        return await _those_that_go(self._calls, self._node)

    async def _evict(self, pod: Mapping[str, Any], now: float) -> None:
        meta = pod["metadata"]
        uid = meta["uid"]
        if uid in self._asked or now - self._refused.get(uid, -BUDGET_S) < BUDGET_S:
            return
        names = {"name": meta["name"], "namespace": meta["namespace"]}
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": names,
            "deleteOptions": {"gracePeriodSeconds": self._grace_s},
        }
        path = f"api/v1/namespaces/{names['namespace']}/pods/{names['name']}/eviction"
        try:
            _ = await self._calls.post(path, body, what=f"evict {_shown(pod)}")
        except KubeObjectMissing:
            self._asked[uid] = now
        except KubeUnreachable as error:
            # Also what a disruption budget says (429): not now.
            if uid not in self._refused:
                self._log(f"-- {_shown(pod)} may not be evicted yet: {error.data.get('reason')}")
            self._refused[uid] = now
        else:
            self._log(f"evicting {_shown(pod)}")
            self._asked[uid] = now


async def abandon(calls: Calls, node: str, *, log: OnText) -> int:
    """The pods of a dead node, out at once: an eviction would wait for its kubelet, and budgets
    guard what runs.
    """
    gone = await _those_that_go(calls, node)
    for pod in gone:
        meta = pod["metadata"]
        with contextlib.suppress(KubeObjectMissing):
            await calls.delete("v1", "Pod", meta["name"], meta["namespace"], grace_s=0)
        log(f"took out {_shown(pod)}")
    return len(gone)


async def _those_that_go(calls: Calls, node: str) -> list[dict[str, Any]]:
    pods, _ = await calls.list("v1", "Pod", fields={"spec.nodeName": node})
    return [pod for pod in pods if _goes(pod)]


def _goes(pod: Mapping[str, Any]) -> bool:
    owners = {one.get("kind") for one in pod["metadata"].get("ownerReferences") or []}
    if is_static(pod) or "DaemonSet" in owners:
        return False
    return (pod.get("status") or {}).get("phase") not in _ENDED


def _shown(pod: Mapping[str, Any]) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
