"""A formed cluster is looked after: watched, backed up, renewed, repaired, led after moved hosts.

Beside `Clusters`, which forms, changes and deletes; both share the domain's context.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from haechi.core.access import Principal
from haechi.core.ids import new_id
from haechi.core.operations import Operation, Operations
from haechi.core.pages import DEFAULT_LIMIT, Page
from haechi.domains.agents.presence import Limits
from haechi.domains.audit.ports import AuditTrail
from haechi.domains.clusters import readdressing as moves
from haechi.domains.clusters import renewing as certs
from haechi.domains.clusters import renumbering
from haechi.domains.clusters.announcing import Announcing
from haechi.domains.clusters.asking import AskedNeighbours
from haechi.domains.clusters.backups import rebuilding, restoring, store, taking
from haechi.domains.clusters.backups.model import Backup, NoBackup, Occasion
from haechi.domains.clusters.backups.taking import Taking, new_context
from haechi.domains.clusters.backups.taking import Upkeep as BackupWork
from haechi.domains.clusters.backups.vault import Vault
from haechi.domains.clusters.certificates import NodeCertificate
from haechi.domains.clusters.changing import KIND as REPLACE
from haechi.domains.clusters.changing import Replacing, WorkMover
from haechi.domains.clusters.consent import NONE, Consent
from haechi.domains.clusters.duties import Duties
from haechi.domains.clusters.errors import ClusterNotReady, HostBusy, NotAMember
from haechi.domains.clusters.finding import Finder, Finding
from haechi.domains.clusters.model import Cluster, ClusterState, Member, MemberState
from haechi.domains.clusters.ports import HostFinding
from haechi.domains.clusters.readdressing import Readdressing
from haechi.domains.clusters.renewing import Renewing
from haechi.domains.clusters.returning import Returning
from haechi.domains.clusters.rewiring import KIND as REWIRE
from haechi.domains.clusters.rewiring import Rewiring
from haechi.domains.clusters.service import Clusters
from haechi.domains.clusters.system_watching import SystemWatching
from haechi.domains.clusters.upkeep_errors import (
    AddressUnknown,
    ControlPlanesMoved,
    SameDevice,
    StillLives,
)
from haechi.domains.clusters.watched import AgentsView, NodeState, Probe, WatchedApi
from haechi.domains.clusters.watching import Watching
from haechi.errors import AppError
from haechi.settings import ClustersSettings


@dataclass(frozen=True, slots=True)
class ClusterHealth:
    """How a cluster is right now."""

    cluster: Cluster
    api: WatchedApi
    nodes: list[NodeState]
    moved: dict[str, str]
    """Device → the address at which it was found, where that is not its recorded one."""
    newest_backup: Backup | None
    findings: list[HostFinding]
    """Of the pods of its own that it needs: `system.py`."""


@dataclass(frozen=True, slots=True)
class BackupContent:
    backup: Backup
    pieces: Iterator[bytes]
    """The archive (tar.gz) in clear; it holds the cluster's private keys."""


class Upkeep:
    """`start` after `Clusters` and the agents; `close` before them."""

    def __init__(
        self,
        *,
        clusters: Clusters,
        operations: Operations,
        audit: AuditTrail,
        agents: AgentsView,
        probe: Probe,
        finder: Finder,
        limits: Limits,
        settings: Callable[[], ClustersSettings],
        folder: Path,
    ) -> None:
        c = self._c = clusters.context
        self._clusters = clusters
        self._db = c.db
        self._operations = operations
        self._audit = audit
        self._vault = Vault(folder, c.keyring)
        work = BackupWork(c, self._vault, keep=lambda: settings().backups_kept)
        self._taking = Taking(work)
        self._restoring = restoring.Restoring(work, clusters.joining)
        self._rebuilding = rebuilding.Rebuilding(
            work, clusters.forming, clusters.joining, clusters.cleaning
        )
        self._renewing = Renewing(
            c, clusters.joining, before_days=lambda: settings().renew_before_days
        )
        self._readdressing = Readdressing(c, clusters.joining)
        self._renumbering = renumbering.Renumbering(work, clusters.joining, self._restoring)
        self._replacing = Replacing(c, clusters.forming, clusters.leaving)
        self._rewiring = Rewiring(c)
        self._neighbours = AskedNeighbours(c.hosts, c.clock)
        self.watching = Watching(
            c, agents=agents, probe=probe, neighbours=self._neighbours, limits=limits
        )
        clusters.leaving.presence = self.watching.presence
        self._system = SystemWatching(c, self.watching)
        self._announcing = Announcing(c, self.watching, operations)
        self._finding = Finding(c, self.watching, finder, operations)
        self._returning = Returning(c, clusters.cleaning, operations, missed=self._finding.follow)
        self._duties = Duties(c, self, settings)
        self.watching.on_return += [self._returning.returned, self._finding.returned]
        self.watching.on_away += [self._finding.away]
        for part in (
            self._taking,
            self._restoring,
            self._rebuilding,
            self._renewing,
            self._readdressing,
            self._renumbering,
            self._replacing,
            self._rewiring,
            self._returning,
        ):
            operations.register(part.definition())

    def neighbour_word(self, device_id: str) -> bool | None:
        """For `agents`: do its neighbours reach a silent device?"""
        return self._neighbours.word(device_id)

    def moves_work_by(self, mover: WorkMover) -> None:
        """Who moves AIs and cameras when a node is replaced."""
        self._replacing.mover = mover

    async def start(self) -> None:
        async with self._db.read() as tx:
            known = await store.all_ids(tx)
        await self._vault.sweep(known)
        await self.watching.start()
        self._system.start()
        self._announcing.start()
        self._duties.start()

    async def close(self) -> None:
        await self._duties.close()
        await self.watching.close()  # first of those that it tells
        await self._returning.close()
        await self._finding.close()
        await self._announcing.close()
        await self._system.close()
        await self._neighbours.close()

    # --- looking

    async def health(self, cluster_id: str) -> ClusterHealth:
        cluster = await self._c.cluster(cluster_id)
        nodes = self.watching.nodes(cluster_id)
        async with self._db.read() as tx:
            newest = await store.newest(tx, cluster_id)
        known = {one.device_id for one in nodes}
        moved = {key: value for key, value in self._finding.found.items() if key in known}
        api, findings = self.watching.api(cluster_id), self._system.findings(cluster_id)
        return ClusterHealth(cluster, api, nodes, moved, newest, findings)

    async def certificates(
        self, cluster_id: str
    ) -> tuple[list[NodeCertificate], dict[str, AppError]]:
        """Read on the hosts now: soonest end first; and why some could not be read."""
        await self._c.ready_cluster(cluster_id)
        return await self._renewing.look_at(cluster_id)

    # --- backups

    async def back_up_cluster(
        self, cluster_id: str, *, by: Principal, occasion: Occasion = "asked"
    ) -> Operation:
        """Raises ClusterNotReady, Busy."""
        await self._c.ready_cluster(cluster_id)
        ctx = new_context(new_id("backup"), occasion, by.name)
        operation = await self._operations.start(taking.KIND, cluster_id, ctx, requested_by=by.name)
        await self._note(by, "back_up_cluster", cluster_id, operation, ctx["backup_id"])
        return operation

    async def backups(
        self, cluster_id: str, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None
    ) -> Page[Backup]:
        """They outlive their cluster. Raises ClusterNotFound where there is neither."""
        async with self._db.read() as tx:
            found = await store.find(tx, cluster_id, limit=limit, cursor=cursor)
        if not found.items and cursor is None:
            await self._c.cluster(cluster_id)
        return found

    async def backup(self, cluster_id: str, backup_id: str) -> Backup:
        async with self._db.read() as tx:
            return store.to_backup(await store.row(tx, cluster_id, backup_id))

    async def download_backup(
        self, cluster_id: str, backup_id: str, *, by: Principal
    ) -> BackupContent:
        async with self._db.write() as tx:
            row = await store.row(tx, cluster_id, backup_id)
            await self._audit.record(tx, by, "download_backup", cluster_id, {"backup": backup_id})
            return BackupContent(store.to_backup(row), self._vault.read(row))

    async def delete_backup(self, cluster_id: str, backup_id: str, *, by: Principal) -> None:
        async with self._db.write() as tx:
            await store.row(tx, cluster_id, backup_id)
            await store.delete(tx, [backup_id])
            await self._audit.record(tx, by, "delete_backup", cluster_id, {"backup": backup_id})
        await self._vault.forget([backup_id])

    async def restore_cluster(
        self,
        cluster_id: str,
        *,
        backup_id: str | None = None,
        onto: str | None = None,
        leave_out_away: bool = False,
        consent: Consent = NONE,
        by: Principal,
    ) -> Operation:
        """The newest backup unless one is named. `leave_out_away`: control planes that cannot be
        reached are lost and leave the cluster. `onto`: a device that becomes the only control
        plane, where all others are lost; `consent` is of its host. Raises BackupNotFound, NoBackup,
        Busy, DeviceInCluster, HostBusy.
        """
        await self._c.ready_cluster(cluster_id)
        async with self._db.read() as tx:
            newest = await store.newest(tx, cluster_id)
            chosen = backup_id or (newest.id if newest else None)
            if chosen is None:
                raise NoBackup(cluster_id=cluster_id)
            await store.row(tx, cluster_id, chosen)
        kind, ctx = restoring.KIND, dict[str, Any](backup_id=chosen, leave_out_away=leave_out_away)
        if onto is not None:
            device = await self._c.devices.device(onto)
            await self._clusters.refuse_held(onto, device.name)
            kind = rebuilding.KIND
            ctx |= {"device_ids": [onto], **consent.as_ctx()}
        operation = await self._operations.start(kind, cluster_id, ctx, requested_by=by.name)
        facts = consent.as_json() if onto is not None else {}
        await self._note(by, kind, cluster_id, operation, chosen, **facts)
        return operation

    # --- certificates and addresses

    async def renew_certificates(
        self, cluster_id: str, *, by: Principal, every: bool = True
    ) -> Operation:
        """`every` one, or those that end soon."""
        await self._c.ready_cluster(cluster_id)
        operation = await self._operations.start(
            certs.KIND, cluster_id, {"all": every}, requested_by=by.name
        )
        await self._note(by, "renew_certificates", cluster_id, operation, "")
        return operation

    async def readdress_node(
        self, cluster_id: str, device_id: str, *, address: str | None = None, by: Principal
    ) -> Operation:
        """Take a node's new address up; looked for where none is given. Raises AddressUnknown, and
        ControlPlanesMoved where etcd could not be told.
        """
        member = await self._member(cluster_id, device_id)
        if member.is_control_plane and address is None:
            await self._refuse_without_majority(member)
        device = await self._c.devices.device(device_id)
        where = address or await self._finding.look_for(member)
        where = where or (device.address if device.address != member.address else None)
        if where is None:
            raise AddressUnknown(host=member.node_name, tried=member.address)
        operation = await self._operations.start(
            moves.KIND,
            cluster_id,
            {"device_id": device_id, "address": where},
            requested_by=by.name,
        )
        await self._note(by, "readdress_node", cluster_id, operation, f"{device_id} {where}")
        return operation

    async def readdress_control_planes(
        self, cluster_id: str, *, leave_out_away: bool = False, by: Principal
    ) -> Operation:
        """So many have other addresses that etcd has no majority: all of them are taken up where
        they are found, or where their devices are said to be. `leave_out_away`: those that cannot
        be reached are lost and leave the cluster.
        """
        await self._c.ready_cluster(cluster_id)
        members = await self._control_planes(cluster_id)
        where = await asyncio.gather(*(self._finding.place_of(one) for one in members))
        addresses = {one.device_id: address for one, address in zip(members, where, strict=True)}
        ctx = {"addresses": addresses, "leave_out_away": leave_out_away}
        operation = await self._operations.start(
            renumbering.KIND, cluster_id, ctx, requested_by=by.name
        )
        what = " ".join(f"{key} {value}" for key, value in addresses.items())
        await self._note(by, "readdress_control_planes", cluster_id, operation, what)
        return operation

    async def readdress_server(self, *, by: Principal) -> Operation:
        """This server has another address: every node's way to registry and server is laid anew.
        Call it once the new address is set (agents.address, registry.address).
        """
        operation = await self._operations.start(REWIRE, "server", {}, requested_by=by.name)
        await self._note(by, "readdress_server", "server", operation, "")
        return operation

    # --- replacing

    async def replace_node(
        self,
        cluster_id: str,
        old_id: str,
        new_id_: str,
        *,
        force: bool = False,
        consent: Consent = NONE,
        by: Principal,
    ) -> Operation:
        """A new host for a dead one, its AIs and cameras with it. Raises StillLives unless the old
        one is dead or `force` says so, SameDevice, NotAMember, DeviceInCluster, HostBusy, Busy.
        """
        member = await self._member(cluster_id, old_id)
        if old_id == new_id_:
            raise SameDevice(device_id=old_id)
        device = await self._c.devices.device(new_id_)
        await self._clusters.refuse_held(new_id_, device.name)
        judgement = self.watching.presence(old_id)
        if not force and judgement is not None and judgement.presence != "dead":
            raise StillLives(host=member.node_name, presence=judgement.presence)
        active = await self._operations.at_work_on(old_id, hindering=True)
        if active is not None:
            raise HostBusy(host=member.node_name, operation_id=active.id, kind=active.kind)
        ctx: dict[str, Any] = {"device_id": old_id, "device_ids": [new_id_]}
        ctx |= {"requested_by": by.name, **consent.as_ctx()}
        operation = await self._operations.start(REPLACE, cluster_id, ctx, requested_by=by.name)
        what = f"{old_id} {new_id_}"
        await self._note(by, "replace_node", cluster_id, operation, what, **consent.as_json())
        return operation

    # --- inside

    async def _control_planes(self, cluster_id: str) -> list[Member]:
        members = await self._c.members(cluster_id)
        return [
            one for one in members if one.is_control_plane and one.state != MemberState.CLEANING
        ]

    async def _refuse_without_majority(self, moving: Member) -> None:
        """One alone is no matter: it asks nobody."""

        def decides(one: Member) -> bool:
            judgement = self.watching.presence(one.device_id)
            dead = judgement is not None and judgement.presence == "dead"
            elsewhere = self._finding.found.get(one.device_id, one.address) != one.address
            return not (dead or elsewhere or one.device_id == moving.device_id)

        all_of_them = await self._control_planes(moving.cluster_id)
        gone = [one.node_name for one in all_of_them if not decides(one)]
        if len(all_of_them) > 1 and len(all_of_them) - len(gone) <= len(all_of_them) // 2:
            raise ControlPlanesMoved(hosts=", ".join(gone))

    async def _member(self, cluster_id: str, device_id: str) -> Member:
        cluster = await self._c.cluster(cluster_id)
        if cluster.state != ClusterState.READY:
            raise ClusterNotReady(id=cluster_id, state=cluster.state.value)
        for one in await self._c.members(cluster_id):
            if one.device_id == device_id and one.state != MemberState.CLEANING:
                return one
        raise NotAMember(device_id=device_id, cluster_id=cluster_id)

    async def _note(
        self, by: Principal, action: str, subject: str, operation: Operation, what: str, **more: Any
    ) -> None:
        async with self._db.write() as tx:
            await self._audit.record(
                tx, by, action, subject, {"operation": operation.id, "what": what, **more}
            )
