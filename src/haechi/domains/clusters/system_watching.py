"""The system pods of every formed cluster, looked at every ten seconds where its API answers.

Beside `Watching`, which sees to nodes: what is said here is held against no node, for a node whose
services are down still runs its AIs. What does not last is not told (a node that joined or started
again just now), and what comes again and again (a pod that crashes) is told all the while.
"""

import logging
from dataclasses import dataclass
from typing import Final, Protocol

from haechi.core.tasks import TaskGroup, Tasks
from haechi.domains.clusters import system
from haechi.domains.clusters.context import Context
from haechi.domains.clusters.ports import HostFinding
from haechi.domains.clusters.watched import NodeState, WatchedApi
from haechi.errors import AppError

log = logging.getLogger(__name__)

LOOK_S: Final = 10.0
LASTS_S: Final = 8.0
"""Told once it has been seen so for this long: at the second look."""
OVER_S: Final = 25.0
"""And until it has not been so for this long."""
Key = tuple[str, str]


class Nodes(Protocol):
    """Watching, as it is used here."""

    def clusters(self) -> list[str]: ...

    def api(self, cluster_id: str) -> WatchedApi: ...

    def nodes(self, cluster_id: str) -> list[NodeState]: ...


@dataclass(slots=True)
class _Sighting:
    finding: HostFinding
    first_s: float
    last_s: float

    @property
    def lasts(self) -> bool:
        return self.last_s - self.first_s >= LASTS_S


class SystemWatching:
    def __init__(self, context: Context, nodes: Nodes) -> None:
        self._c = context
        self._nodes = nodes
        self._seen: dict[str, dict[Key, _Sighting]] = {}
        self._told: dict[str, set[Key]] = {}
        self._tasks = Tasks("system-pods")

    def start(self) -> None:
        self._tasks.forever("look", self._forever)

    async def close(self) -> None:
        await self._tasks.close()

    def findings(self, cluster_id: str) -> list[HostFinding]:
        """Nothing while the API is away: nobody knows then."""
        if self._nodes.api(cluster_id).state != "ok":
            return []
        well = self._well(cluster_id)
        lasting = [
            one.finding
            for one in self._seen.get(cluster_id, {}).values()
            if one.lasts and (one.finding.device_id in well.values() or not one.finding.device_id)
        ]
        return sorted(lasting, key=lambda one: (one.level, one.host, one.name))

    async def _forever(self) -> None:
        while True:
            await self._c.clock.sleep(LOOK_S)
            await self._look()

    async def _look(self) -> None:
        clusters = self._nodes.clusters()
        for gone in set(self._seen) - set(clusters):
            del self._seen[gone]
            self._told.pop(gone, None)
        async with TaskGroup() as group:
            for cluster_id in clusters:
                if self._nodes.api(cluster_id).state == "ok":
                    group.create_task(self._look_at(cluster_id))

    async def _look_at(self, cluster_id: str) -> None:
        try:
            async with self._c.kube(cluster_id) as kube:
                pods = await system.pods(kube)
        except AppError as error:
            log.info("system pods of cluster %s: %s", cluster_id, error)
            return
        well = self._well(cluster_id)
        found = [*system.on_nodes(well, pods), *system.names(well, pods)]
        self._note(cluster_id, found)
        self._tell(cluster_id)

    def _note(self, cluster_id: str, found: list[HostFinding]) -> None:
        now_s = self._c.clock.monotonic()
        seen = self._seen.setdefault(cluster_id, {})
        for finding in found:
            sighting = seen.setdefault(_key(finding), _Sighting(finding, now_s, now_s))
            sighting.finding, sighting.last_s = finding, now_s
        for key in [key for key, one in seen.items() if now_s - one.last_s >= OVER_S]:
            del seen[key]

    def _tell(self, cluster_id: str) -> None:
        """Whoever shows it reads it again."""
        lasting = {_key(one) for one in self.findings(cluster_id)}
        if lasting == self._told.get(cluster_id, set()):
            return
        self._told[cluster_id] = lasting
        log.info("system pods of cluster %s: %s", cluster_id, sorted(lasting) or "all well")
        state = "lacking" if lasting else "ok"
        data = {"kind": "cluster_system", "id": cluster_id, "state": state}
        self._c.bus.publish("states", data)

    def _well(self, cluster_id: str) -> dict[str, str]:
        """Members alone: one that is joining or leaving is none."""
        return {
            one.node_name: one.device_id
            for one in self._nodes.nodes(cluster_id)
            if one.presence == "ok" and one.ready
        }


def _key(finding: HostFinding) -> Key:
    return finding.code, finding.host
