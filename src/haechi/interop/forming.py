"""Clusters as the old interface speaks of them, formed for real by the clusters domain.

A cluster that a VMS named before anybody formed it is kept by `RecordedClusters`, and gives its
foreign ids over to the formed one.
"""

from collections.abc import Sequence
from typing import Any, Final

from haechi.core.access import Principal
from haechi.core.db import Database
from haechi.core.operations import Operation, Operations, State
from haechi.core.pages import MAX_LIMIT
from haechi.domains.clusters.book import ClusterView
from haechi.domains.clusters.consent import Consent
from haechi.domains.clusters.errors import AlreadyRunsOther, ClusterNotFound, DeviceInCluster
from haechi.domains.clusters.model import ClusterState, FormOptions, Member, MemberState
from haechi.domains.clusters.ports import Node as KubeNode
from haechi.domains.clusters.service import Clusters
from haechi.errors import AppError, Busy, Text
from haechi.interop import store
from haechi.interop.clusters import Cluster, ClusterOutcome, Node, RecordedClusters
from haechi.interop.codes import Refusal
from haechi.interop.problems import code_of, explain, of_saved

_HERE: Final = (MemberState.READY, MemberState.JOINING, MemberState.PLANNED)
_AWAY: Final = Text(
    "호스트에 연결할 수 없어, 다시 연결되면 정리합니다.",
    "The host cannot be reached; it is cleaned when it is seen again.",
)
_NO_NODE: Final = Text(
    "클러스터에 이 노드가 등록되어 있지 않습니다.", "The cluster knows no such node."
)


class FormedClusters:
    def __init__(
        self,
        *,
        db: Database,
        clusters: Clusters,
        operations: Operations,
        recorded: RecordedClusters,
        options: FormOptions,
    ) -> None:
        self._db = db
        self._clusters = clusters
        self._operations = operations
        self._recorded = recorded
        self._options = options

    async def get(self, cluster_id: str) -> Cluster | None:
        view = await self._view(cluster_id)
        return await self._recorded.get(cluster_id) if view is None else _shown(view)

    async def all(self) -> list[Cluster]:
        formed = [_shown(view) for view in await self._views()]
        masters = {one.mid for one in formed}
        recorded = [one for one in await self._recorded.all() if one.mid not in masters]
        return [*formed, *recorded]

    async def record(self, mid: str, wids: Sequence[str], *, name: str, by: Principal) -> Cluster:
        for view in await self._views():
            if _shown(view).mid == mid:
                return _shown(view)
        return await self._recorded.record(mid, wids, name=name, by=by)

    async def form(
        self, mid: str, wids: Sequence[str], *, name: str, by: Principal
    ) -> ClusterOutcome:
        """INTERFACES 4.1: formed already is fine, what is missing is added, other workers are
        refused.
        """
        if len({mid, *wids}) < len(wids) + 1:
            raise Refusal("0003", "같은 호스트가 두 번 있습니다.", "A host is named twice.")
        view = next((one for one in await self._views() if _shown(one).mid == mid), None)
        if view is None:
            return await self._form(mid, wids, name, by)
        return await self._complete(view, wids, by)

    async def _form(
        self, mid: str, wids: Sequence[str], name: str, by: Principal
    ) -> ClusterOutcome:
        try:
            formed = await self._clusters.form_cluster(
                await self._free_name(name), [mid], list(wids), self._options, by=by
            )
        except (DeviceInCluster, AlreadyRunsOther) as error:
            raise Refusal("0003", explain(error, "ko"), explain(error, "en")) from error
        ended = await self._operations.wait(formed.operation.id)
        cluster = Cluster(formed.cluster.id, name, mid, list(wids))
        if ended.state == State.SUCCEEDED:
            await self._take_over(cluster)
        return _outcome(cluster, ended, [mid, *wids])

    async def _complete(
        self, view: ClusterView, wids: Sequence[str], by: Principal
    ) -> ClusterOutcome:
        cluster = _shown(view)
        there = {one.device_id for one in view.members if one.state == MemberState.READY}
        ever = {one.device_id for one in view.members} | set(cluster.wids)
        if view.active is None and set(cluster.wids) == set(wids) and there >= set(wids):
            return ClusterOutcome(cluster, [Node(one) for one in [cluster.mid, *wids]])
        if not set(cluster.wids) <= set(wids) <= ever:
            raise Refusal(
                "0003",
                f"이 마스터의 클러스터 {cluster.id}에는 다른 작업 장치가 있습니다.",
                f"The master's cluster {cluster.id} has other workers.",
            )
        missing = [one for one in wids if one not in there]
        if view.active is not None:
            operation = view.active
        else:
            # Its caller cannot be asked: the site's settings speak for it, as when it forms.
            operation = await self._clusters.add_node(
                cluster.id, missing, consent=Consent.of(self._options), by=by
            )
        ended = await self._operations.wait(operation.id)
        return _outcome(
            Cluster(cluster.id, cluster.name, cluster.mid, list(wids)), ended, [cluster.mid, *wids]
        )

    async def delete(self, cluster_id: str, *, by: Principal) -> ClusterOutcome:
        view = await self._view(cluster_id)
        if view is None:
            return await self._recorded.delete(cluster_id, by=by)
        cluster = _shown(view)
        if cluster.deleted:
            waiting = [Node(one, "0014", _AWAY) for one in _waiting(view)]
            return ClusterOutcome(cluster, waiting, "0014", _AWAY)
        try:
            operation = await self._clusters.delete_cluster(cluster_id, by=by)
        except Busy:
            active = await self._operations.active_on(cluster_id)
            if active is None or active.kind != "delete_cluster":
                raise
            operation = active
        ended = await self._operations.wait(operation.id)
        away = _waiting(await self._clusters.book.get(cluster_id))
        nodes = [
            Node(one, "0014", _AWAY) if one in away else Node(one)
            for one in [*cluster.wids, cluster.mid]
        ]
        if ended.state != State.SUCCEEDED:
            return _outcome(cluster, ended, [*cluster.wids, cluster.mid])
        if away:
            return ClusterOutcome(cluster, nodes, "0014", _AWAY, operation.id)
        async with self._db.write() as tx:
            await store.drop_aliases(tx, "cluster", cluster_id)
        return ClusterOutcome(cluster, nodes, operation_id=operation.id)

    async def check(self, cluster_id: str) -> list[Node]:
        """Asks the cluster's API now."""
        view = await self._view(cluster_id)
        if view is None:
            return await self._recorded.check(cluster_id)
        members = [one for one in view.members if one.state in _HERE]
        try:
            async with self._clusters.context.kube(cluster_id) as kube:
                seen = {node.name: node for node in await kube.nodes()}
        except AppError as error:
            said = Text(explain(error, "ko"), explain(error, "en"))
            return [Node(one.device_id, code_of(error), said) for one in members]
        return [_checked(one, seen.get(one.node_name)) for one in members]

    # --- inside

    async def _views(self) -> list[ClusterView]:
        page = await self._clusters.book.find(limit=MAX_LIMIT)
        return [one for one in page.items if _has_master(one)]

    async def _view(self, cluster_id: str) -> ClusterView | None:
        """One that is there, or going, or not clean yet; not one that is gone."""
        try:
            view = await self._clusters.book.get(cluster_id)
        except ClusterNotFound:
            return None
        there = _waiting(view) if _is_deleted(view) else _has_master(view)
        return view if there else None

    async def _free_name(self, name: str) -> str:
        """The old interface lets several clusters have one name; haechi's names are unique."""
        taken = {view.cluster.name for view in await self._views()}
        number, free = 1, name
        while free in taken:
            number += 1
            free = f"{name} ({number})"
        return free

    async def _take_over(self, cluster: Cluster) -> None:
        """What was recorded ahead gives its foreign ids to the formed one."""
        async with self._db.write() as tx:
            for row in await store.clusters(tx):
                if row.mid == cluster.mid:
                    await store.move_aliases(tx, "cluster", row.id, cluster.id)
                    await tx.delete(row)


def _is_deleted(view: ClusterView) -> bool:
    return view.cluster.state == ClusterState.DELETED


def _waiting(view: ClusterView) -> list[str]:
    """Devices whose hosts were away and are cleaned when they are seen again."""
    return [one.device_id for one in view.members if one.state == MemberState.CLEANING]


def _has_master(view: ClusterView) -> bool:
    """Without one (all hosts put back) there is nothing to show."""
    return any(one.is_control_plane and _belongs(one, view) for one in view.members)


def _belongs(member: Member, view: ClusterView) -> bool:
    if _is_deleted(view):
        return member.is_control_plane or member.state == MemberState.CLEANING
    if view.cluster.state == ClusterState.DELETING:
        return member.state not in {MemberState.GONE, MemberState.FAILED}
    return member.state in _HERE


def _shown(view: ClusterView) -> Cluster:
    """As the old interface knows clusters: one master. Further control planes count as workers."""
    members = [one for one in view.members if _belongs(one, view)]
    first, *others = sorted(members, key=lambda one: not one.is_control_plane)
    return Cluster(
        view.cluster.id,
        view.cluster.name,
        first.device_id,
        [one.device_id for one in others],
        deleted=_is_deleted(view),
    )


def _outcome(cluster: Cluster, ended: Operation, device_ids: Sequence[str]) -> ClusterOutcome:
    """Each host's own error where it has one; else what ended the operation."""
    hosts: dict[str, dict[str, Any]] = ended.ctx.get("hosts", {})
    whole = of_saved(ended.error)
    found = _findings(whole)
    names = {hosts[one]["name"]: one for one in device_ids if one in hosts}
    by_device = {names.get(host, host): errors for host, errors in found.items()}
    nodes = []
    for device_id in device_ids:
        error = of_saved(hosts.get(device_id, {}).get("error"))
        errors = by_device.get(device_id) or ([error] if error else [])
        if not errors and ended.state != State.SUCCEEDED and whole is not None and not found:
            errors = [whole]
        nodes.append(_failed(device_id, errors) if errors else Node(device_id))
    bad = [node for node in nodes if node.code != "0000"]
    if ended.state == State.SUCCEEDED and not bad:
        return ClusterOutcome(cluster, nodes, operation_id=ended.id)
    said = Text("", "") if whole is None else Text(explain(whole, "ko"), explain(whole, "en"))
    return ClusterOutcome(cluster, nodes, "0014", said, ended.id)


def _findings(error: AppError | None) -> dict[str, list[AppError]]:
    """Host name → what preflight found there."""
    found: dict[str, list[AppError]] = {}
    for part in [] if error is None else error.data.get("problems", []):
        one = of_saved(part)
        if one is not None and "host" in one.data:
            found.setdefault(str(one.data["host"]), []).append(one)
    return found


def _failed(device_id: str, errors: Sequence[AppError]) -> Node:
    korean = " ".join(explain(one, "ko") for one in errors)
    english = " ".join(explain(one, "en") for one in errors)
    return Node(device_id, "0014", Text(korean, english))


def _checked(member: Member, node: KubeNode | None) -> Node:
    if node is None:
        return Node(member.device_id, "0014", _NO_NODE)
    if node.ready:
        return Node(member.device_id)
    return Node(member.device_id, "0014", Text(node.why_not_ready, node.why_not_ready))
