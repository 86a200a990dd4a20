"""Clusters as the old interface speaks of them, behind a small port.

`RecordedClusters` keeps who belongs together and says honestly that no Kubernetes is formed; what
works without one (deploying to all workers) works. The clusters domain takes its place.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from haechi.core.access import Principal
from haechi.core.clock import Clock
from haechi.core.db import Database
from haechi.core.ids import new_id
from haechi.domains.audit.ports import AuditTrail
from haechi.domains.inventory import Inventory
from haechi.errors import Text
from haechi.interop import store
from haechi.interop.codes import Refusal

NO_KUBERNETES = Text(
    "클러스터 구성원은 저장했지만 Kubernetes는 구성하지 않았습니다. 이 서버는 아직 Kubernetes를 "
    "구성할 수 없으며, 클러스터로의 배포는 각 작업 장치의 컨테이너 엔진에서 실행됩니다.",
    "The members are stored but no Kubernetes was formed: this server cannot form one yet. "
    "Deploying to the cluster runs on the container engine of each worker.",
)


@dataclass(frozen=True, slots=True)
class Cluster:
    """`mid` and `wids` are device ids of haechi."""

    id: str
    name: str
    mid: str
    wids: list[str]
    deleted: bool = False
    """It is no cluster any more, but some of its hosts wait to be cleaned: `wids` among them."""


@dataclass(frozen=True, slots=True)
class Node:
    """One host's outcome; `detail` empty where all is well."""

    device_id: str
    code: str = "0000"
    detail: Text = field(default=Text("", ""))


@dataclass(frozen=True, slots=True)
class ClusterOutcome:
    cluster: Cluster
    nodes: list[Node]
    code: str = "0000"
    detail: Text = field(default=Text("", ""))
    operation_id: str = ""


class Clusters(Protocol):
    """Raises Refusal or AppError."""

    async def get(self, cluster_id: str) -> Cluster | None: ...

    async def all(self) -> list[Cluster]: ...

    async def record(self, mid: str, wids: Sequence[str], *, name: str, by: Principal) -> Cluster:
        """Know it without forming it; the same one again is the same."""

    async def form(
        self, mid: str, wids: Sequence[str], *, name: str, by: Principal
    ) -> ClusterOutcome:
        """INTERFACES 4.1."""

    async def delete(self, cluster_id: str, *, by: Principal) -> ClusterOutcome:
        """INTERFACES 4.2."""

    async def check(self, cluster_id: str) -> list[Node]:
        """INTERFACES 4.9: whether its API answers and each node is ready."""


class RecordedClusters:
    def __init__(
        self, *, db: Database, clock: Clock, inventory: Inventory, audit: AuditTrail
    ) -> None:
        self._db = db
        self._clock = clock
        self._audit = audit
        self._inventory = inventory
        inventory.on_delete("device", self._forget_device)

    async def get(self, cluster_id: str) -> Cluster | None:
        async with self._db.read() as tx:
            row = await tx.get(store.ClusterRow, cluster_id)
            return None if row is None else _to_cluster(row)

    async def all(self) -> list[Cluster]:
        async with self._db.read() as tx:
            return [_to_cluster(row) for row in await store.clusters(tx)]

    async def record(self, mid: str, wids: Sequence[str], *, name: str, by: Principal) -> Cluster:
        members = [mid, *wids]
        if len(set(members)) < len(members):
            raise Refusal("0003", "같은 호스트가 두 번 있습니다.", "A host is named twice.")
        async with self._db.write() as tx:
            for row in await store.clusters(tx):
                if row.mid == mid and set(row.wids) == set(wids):
                    return _to_cluster(row)
                taken = {row.mid, *row.wids} & set(members)
                if taken:
                    shown = ", ".join(sorted(taken))
                    raise Refusal(
                        "0003",
                        f"호스트 {shown}은(는) 클러스터 {row.id}에 속해 있습니다.",
                        f"{shown} already belongs to cluster {row.id}.",
                    )
            row = store.ClusterRow(
                id=new_id("cluster"),
                name=name,
                mid=mid,
                wids=list(wids),
                created_at=self._clock.now(),
            )
            tx.add(row)
            details: dict[str, Any] = {"name": name, "mid": mid, "wids": list(wids)}
            await self._audit.record(tx, by, "record_cluster", row.id, details)
            return _to_cluster(row)

    async def form(
        self, mid: str, wids: Sequence[str], *, name: str, by: Principal
    ) -> ClusterOutcome:
        cluster = await self.record(mid, wids, name=name, by=by)
        nodes = [Node(device_id, "0014", NO_KUBERNETES) for device_id in [mid, *cluster.wids]]
        return ClusterOutcome(cluster, nodes, "0014", NO_KUBERNETES)

    async def delete(self, cluster_id: str, *, by: Principal) -> ClusterOutcome:
        """Nothing was formed, so nothing is left on any host."""
        async with self._db.write() as tx:
            row = await tx.get(store.ClusterRow, cluster_id)
            if row is None:
                raise Refusal("0004", "클러스터를 찾을 수 없습니다.", "There is no such cluster.")
            cluster = _to_cluster(row)
            await store.drop_aliases(tx, "cluster", row.id)
            await tx.delete(row)
            await self._audit.record(tx, by, "delete_cluster", row.id, {"name": row.name})
        return ClusterOutcome(cluster, [Node(one) for one in [*cluster.wids, cluster.mid]])

    async def check(self, cluster_id: str) -> list[Node]:
        cluster = await self.get(cluster_id)
        members = [] if cluster is None else [cluster.mid, *cluster.wids]
        return [Node(device_id, "0014", NO_KUBERNETES) for device_id in members]

    async def _forget_device(self, tx: AsyncSession, device_id: str) -> None:
        for row in await store.clusters(tx):
            if row.mid == device_id:
                await store.drop_aliases(tx, "cluster", row.id)
                await tx.delete(row)
            elif device_id in row.wids:
                row.wids = [wid for wid in row.wids if wid != device_id]


def _to_cluster(row: store.ClusterRow) -> Cluster:
    return Cluster(id=row.id, name=row.name, mid=row.mid, wids=list(row.wids))
