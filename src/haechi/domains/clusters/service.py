"""Clusters as others use them: check, plan, form, change, delete, look."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from haechi.core.access import Principal
from haechi.core.ids import new_id
from haechi.core.operations import Operation, Operations
from haechi.domains.audit.ports import AuditTrail
from haechi.domains.clusters import planning, procedures, store
from haechi.domains.clusters.book import Book
from haechi.domains.clusters.checking import Checked, Checking, HostToCheck
from haechi.domains.clusters.cleaning import Cleaning
from haechi.domains.clusters.consent import NONE, Consent
from haechi.domains.clusters.context import Context
from haechi.domains.clusters.deleting import Deleting
from haechi.domains.clusters.errors import (
    AlreadyRunsOther,
    BadMembers,
    ClusterNotReady,
    DeviceInCluster,
    DuplicateCluster,
    HostBusy,
    LastControlPlane,
    NotAMember,
)
from haechi.domains.clusters.forming import Forming
from haechi.domains.clusters.joining import Joining
from haechi.domains.clusters.leaving import Leaving
from haechi.domains.clusters.model import (
    Cluster,
    ClusterPlan,
    ClusterState,
    FormOptions,
    Member,
    MemberRole,
    MemberState,
    PlannedMember,
)
from haechi.domains.clusters.ports import ClusterDevice
from haechi.errors import Busy, StaleEdit, Unavailable


@dataclass(frozen=True, slots=True)
class Formed:
    cluster: Cluster
    operation: Operation


class Clusters:
    """`start` before the operations engine starts."""

    def __init__(self, *, context: Context, operations: Operations, audit: AuditTrail) -> None:
        self._c = context
        self._db = context.db
        self._operations = operations
        self._audit = audit
        self._lock = asyncio.Lock()
        """From looking whether it is under way until its operation exists."""
        self.joining = Joining(context)
        self.cleaning = Cleaning(context)
        self.checking = Checking(context)
        self.book = Book(context, self.cleaning, audit)
        self.forming = Forming(context, self.checking, self.joining, self.cleaning)
        self.leaving = Leaving(context, self.joining, self.cleaning)
        deleting = Deleting(context, self.cleaning)
        self._form_steps = procedures.form_steps(self.forming)
        for definition in procedures.definitions(context, self.forming, self.leaving, deleting):
            operations.register(definition)

    @property
    def context(self) -> Context:
        return self._c

    async def start(self) -> None:
        """Clusters and members that were written down when the server died, before their
        operation was.
        """
        async with self._db.write() as tx:
            for cluster in await store.in_states(tx, [ClusterState.FORMING, ClusterState.READY]):
                if await self._operations.active_on(cluster.id) is None:
                    await self._give_up(tx, cluster)

    # --- before forming

    async def check_cluster(
        self, control_planes: Sequence[str], workers: Sequence[str], options: FormOptions
    ) -> Checked:
        """Every finding about every host; nothing is changed."""
        planned = await self._planned(control_planes, workers, options)
        hosts = [HostToCheck(one.device_id, one.node_name, one.role) for one in planned]
        return await self.checking.check(hosts, options, log=lambda _: _nothing)

    async def check_nodes(
        self,
        cluster_id: str,
        device_ids: Sequence[str],
        *,
        role: MemberRole = "worker",
        consent: Consent = NONE,
    ) -> Checked:
        """As adding would check them; nothing is changed. Where the cluster's API does not answer
        (a host is to take over after all control planes are lost), they are not compared with its
        nodes. Raises ClusterNotReady.
        """
        cluster = await self._c.ready_cluster(cluster_id)
        planned = await self._planned_further(cluster, device_ids, role)
        try:
            machines = await self.checking.machines_of(cluster_id, device_ids)
            there = await self.checking.control_planes_of(cluster_id, device_ids)
        except Unavailable:
            machines, there = {}, []
        return await self.checking.check(
            [HostToCheck(one.device_id, one.node_name, one.role) for one in planned],
            consent.over(cluster.options),
            log=lambda _: _nothing,
            machines=machines,
            there=there,
        )

    async def plan_cluster(
        self,
        name: str,
        control_planes: Sequence[str],
        workers: Sequence[str],
        options: FormOptions,
    ) -> ClusterPlan:
        planned = await self._planned(control_planes, workers, options)
        version = await self._c.releases.resolve(options, [])
        return planning.plan(name, version, planned, options, self._form_steps)

    # --- long work

    async def form_cluster(
        self,
        name: str,
        control_planes: Sequence[str],
        workers: Sequence[str],
        options: FormOptions,
        *,
        by: Principal,
    ) -> Formed:
        """The same cluster being formed already is joined. Raises DuplicateCluster,
        DeviceInCluster, HostBusy, AlreadyRunsOther and what is wrong with members and networks.
        """
        planned = await self._planned(control_planes, workers, options)
        async with self._lock:
            return await self._form(name, planned, options, by)

    async def _form(
        self, name: str, planned: list[PlannedMember], options: FormOptions, by: Principal
    ) -> Formed:
        joined = await self._joined(name, planned, options)
        if joined is not None:
            return joined
        now = self._c.clock.now()
        cluster = Cluster(
            id=new_id("cluster"),
            name=name,
            state=ClusterState.FORMING,
            kubernetes_version="",
            options=options,
            message="",
            operation_id=None,
            created_by=by.name,
            revision=1,
            created_at=now,
            formed_at=None,
            ended_at=None,
        )
        async with self._db.write() as tx:
            other = await store.by_name(tx, name)
            if other is not None:
                raise DuplicateCluster(name=name, id=other.id)
            await store.add_cluster(tx, cluster)
            await self._take(tx, cluster.id, planned)
        operation = await self._operations.start(
            procedures.FORM,
            cluster.id,
            {"device_ids": [one.device_id for one in planned], **Consent.of(options).as_ctx()},
            requested_by=by.name,
        )
        await self._note(by, "form_cluster", cluster.id, operation, {"name": name})
        return Formed(await self._c.cluster(cluster.id), operation)

    async def add_node(
        self,
        cluster_id: str,
        device_ids: Sequence[str],
        *,
        role: MemberRole = "worker",
        consent: Consent = NONE,
        by: Principal,
    ) -> Operation:
        """Raises ClusterNotReady, DeviceInCluster, HostBusy, Busy."""
        async with self._lock:
            return await self._add(cluster_id, device_ids, role, consent, by)

    async def _add(
        self,
        cluster_id: str,
        device_ids: Sequence[str],
        role: MemberRole,
        consent: Consent,
        by: Principal,
    ) -> Operation:
        cluster = await self._c.ready_cluster(cluster_id)
        planned = await self._planned_further(cluster, device_ids, role)
        active = await self._operations.active_on(cluster_id)
        if active is not None:
            raise Busy(subject=cluster_id, operation_id=active.id, kind=active.kind)
        for one in planned:
            await self.refuse_held(one.device_id, one.node_name)
        async with self._db.write() as tx:
            await self._take(tx, cluster_id, planned)
        try:
            operation = await self._operations.start(
                procedures.ADD,
                cluster_id,
                {"device_ids": [one.device_id for one in planned], **consent.as_ctx()},
                requested_by=by.name,
            )
        except Busy:
            async with self._db.write() as tx:
                for one in planned:
                    await store.change_member(
                        tx, cluster_id, one.device_id, state=MemberState.GONE.value
                    )
            raise
        facts = {"device_ids": list(device_ids), "role": role, **consent.as_json()}
        await self._note(by, "add_node", cluster_id, operation, facts)
        return operation

    async def remove_node(self, cluster_id: str, device_id: str, *, by: Principal) -> Operation:
        """Raises ClusterNotReady, NotAMember, LastControlPlane, Busy, HostBusy."""
        await self._c.ready_cluster(cluster_id)
        members = await self._c.members(cluster_id)
        member = next((one for one in members if one.device_id == device_id), None)
        if member is None or member.state == MemberState.CLEANING:
            raise NotAMember(device_id=device_id, cluster_id=cluster_id)
        others = [one for one in members if one.is_control_plane and one is not member]
        if member.is_control_plane and not others:
            raise LastControlPlane(host=member.node_name, id=cluster_id)
        ctx = {"device_id": device_id}
        operation = await self._let_leave(procedures.REMOVE, cluster_id, [member], ctx, by)
        await self._note(by, "remove_node", cluster_id, operation, {"device_id": device_id})
        return operation

    async def delete_cluster(self, cluster_id: str, *, by: Principal) -> Operation:
        """Also one whose deletion stopped on the way. Raises ClusterNotReady where it is gone
        already, Busy and HostBusy naming what is at work on it or on a host of it.
        """
        cluster = await self._c.cluster(cluster_id)
        if cluster.state == ClusterState.DELETED:
            raise ClusterNotReady(id=cluster_id, state=cluster.state.value)
        members = await self._c.members(cluster_id)
        operation = await self._let_leave(procedures.DELETE, cluster_id, members, {}, by)
        await self._note(by, "delete_cluster", cluster_id, operation, {"name": cluster.name})
        return operation

    async def edit_cluster(
        self, cluster_id: str, *, name: str, by: Principal, revision: int | None = None
    ) -> Cluster:
        """Its name: the id and everything on the hosts stay. Raises StaleEdit, DuplicateCluster."""
        async with self._db.write() as tx:
            cluster = await store.cluster(tx, cluster_id)
            if revision is not None and cluster.revision != revision:
                raise StaleEdit
            other = await store.by_name(tx, name)
            if other is not None and other.id != cluster_id:
                raise DuplicateCluster(name=name, id=other.id)
            await store.change_cluster(tx, cluster_id, name=name, revision=cluster.revision + 1)
            await self._audit.record(tx, by, "edit_cluster", cluster_id, {"name": name})
        self._c.announce(cluster_id)
        return await self._c.cluster(cluster_id)

    # --- inside

    async def _planned(
        self, control_planes: Sequence[str], workers: Sequence[str], options: FormOptions
    ) -> list[PlannedMember]:
        masters = [await self._c.devices.device(one) for one in control_planes]
        others = [await self._c.devices.device(one) for one in workers]
        planning.check_members([one.id for one in masters], [one.id for one in others])
        devices: list[tuple[ClusterDevice, MemberRole]] = [
            *((one, "control_plane") for one in masters),
            *((one, "worker") for one in others),
        ]
        planned = planning.plan_members(devices)
        planning.check_networks(options, [one.address for one in planned])
        return planned

    async def _planned_further(
        self, cluster: Cluster, device_ids: Sequence[str], role: MemberRole
    ) -> list[PlannedMember]:
        if not device_ids or len(set(device_ids)) != len(device_ids):
            raise BadMembers(reason="each device once, and at least one")
        devices = [await self._c.devices.device(one) for one in device_ids]
        members = await self._c.members(cluster.id)
        planned = planning.plan_members(
            [(device, role) for device in devices], [one.node_name for one in members]
        )
        planning.check_networks(cluster.options, [one.address for one in planned])
        return planned

    async def _joined(
        self, name: str, planned: list[PlannedMember], options: FormOptions
    ) -> Formed | None:
        """The operation to join, where exactly this is under way."""
        async with self._db.read() as tx:
            cluster = await store.by_name(tx, name)
        if cluster is None:
            for one in planned:
                await self.refuse_held(one.device_id, one.node_name)
            return None
        active = await self._operations.active_on(cluster.id)
        if active is None or active.kind != procedures.FORM:
            raise DuplicateCluster(name=name, id=cluster.id)
        members = {(one.device_id, one.role) for one in await self._c.members(cluster.id)}
        wanted = {(one.device_id, one.role) for one in planned}
        if members != wanted or cluster.options != options:
            raise AlreadyRunsOther(name=name, operation_id=active.id)
        return Formed(cluster, active)

    async def refuse_held(self, device_id: str, host: str) -> None:
        """A device that something is at work on names the operation; one that belongs to another
        cluster, that cluster.
        """
        held = await self.book.of_device(device_id)
        subjects = [device_id] if held is None else [device_id, held.cluster_id]
        for subject in subjects:
            active = await self._operations.at_work_on(subject)
            if active is not None:
                raise HostBusy(host=host, operation_id=active.id, kind=active.kind)
        if held is not None:
            raise DeviceInCluster(device_id=device_id, cluster_id=held.cluster_id, host=host)

    async def _let_leave(
        self,
        kind: str,
        cluster_id: str,
        members: Sequence[Member],
        ctx: dict[str, Any],
        by: Principal,
    ) -> Operation:
        """Begin an operation that takes these nodes out: until it ends nobody else is at work on
        them. Agents that forming still brings give way; they leave with the node.
        """
        hosts = {one.device_id: one.node_name for one in members}
        try:
            return await self._operations.start(
                kind, cluster_id, ctx, requested_by=by.name, claims=list(hosts)
            )
        except Busy as busy:
            host = hosts.get(str(busy.data["subject"]))
            if host is None:
                raise
            holder = {key: busy.data[key] for key in ("operation_id", "kind")}
            raise HostBusy(host=host, **holder) from busy

    async def _take(
        self, tx: AsyncSession, cluster_id: str, planned: Sequence[PlannedMember]
    ) -> None:
        for one in planned:
            await store.put_member(
                tx,
                Member(
                    cluster_id=cluster_id,
                    device_id=one.device_id,
                    role=one.role,
                    node_name=one.node_name,
                    address=one.address,
                    state=MemberState.PLANNED,
                ),
            )

    async def _give_up(self, tx: AsyncSession, cluster: Cluster) -> None:
        for member in await store.members(tx, cluster.id):
            if member.state == MemberState.PLANNED:
                await store.change_member(
                    tx, cluster.id, member.device_id, state=MemberState.GONE.value
                )
        if cluster.state == ClusterState.READY:
            return
        await store.change_cluster(
            tx,
            cluster.id,
            state=ClusterState.FAILED.value,
            ended_at=self._c.clock.now(),
            message="the server ended before forming began",
        )

    async def _note(
        self,
        by: Principal,
        action: str,
        cluster_id: str,
        operation: Operation,
        facts: dict[str, Any],
    ) -> None:
        """Audit it, and remember which operation is at work on the cluster."""
        async with self._db.write() as tx:
            await store.change_cluster(tx, cluster_id, operation_id=operation.id)
            await self._audit.record(
                tx, by, action, cluster_id, {**facts, "operation": operation.id}
            )
        self._c.announce(cluster_id)


def _nothing(line: str) -> None:
    del line
