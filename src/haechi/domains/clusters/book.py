"""Clusters as they are looked at: one, lists, proofs, kubeconfigs, who uses a device."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from haechi.core.access import Principal
from haechi.core.operations import Operation
from haechi.core.pages import DEFAULT_LIMIT, Page
from haechi.core.secrets import Secret
from haechi.domains.audit.ports import AuditTrail
from haechi.domains.clusters import kubeconfig, store
from haechi.domains.clusters.cleaning import Cleaning
from haechi.domains.clusters.context import KUBECONFIG, Context
from haechi.domains.clusters.errors import NoKubeconfig
from haechi.domains.clusters.model import (
    API_PORT,
    HELD,
    Cluster,
    HostProof,
    Member,
    MemberState,
)
from haechi.domains.inventory.model import Use


@dataclass(frozen=True, slots=True)
class ClusterView:
    """A cluster with all members it ever had, and the operation that works on it now."""

    cluster: Cluster
    members: list[Member]
    active: Operation | None


class Book:
    def __init__(self, context: Context, cleaning: Cleaning, audit: AuditTrail) -> None:
        self._c = context
        self._db = context.db
        self._operations = context.operations
        self._cleaning = cleaning
        self._audit = audit

    async def get(self, cluster_id: str) -> ClusterView:
        async with self._db.read() as tx:
            cluster = await store.cluster(tx, cluster_id)
            members = await store.members(tx, cluster_id)
        return ClusterView(cluster, members, await self._operations.active_on(cluster_id))

    async def find(
        self,
        *,
        name: str | None = None,
        include_gone: bool = False,
        limit: int = DEFAULT_LIMIT,
        cursor: str | None = None,
    ) -> Page[ClusterView]:
        async with self._db.read() as tx:
            page = await store.find(
                tx, name=name, include_gone=include_gone, limit=limit, cursor=cursor
            )
            members = {one.id: await store.members(tx, one.id) for one in page.items}
        views = [
            ClusterView(one, members[one.id], await self._operations.active_on(one.id))
            for one in page.items
        ]
        return Page(views, page.next_cursor)

    async def of_device(self, device_id: str) -> Member | None:
        """The membership that holds the device now."""
        async with self._db.read() as tx:
            return await store.membership(tx, device_id)

    async def pod_networks(self, device_id: str) -> list[str]:
        """Where pods of the device's cluster call from (CIDR); none where it is no node."""
        async with self._db.read() as tx:
            member = await store.membership(tx, device_id)
            if member is None:
                return []
            return [(await store.cluster(tx, member.cluster_id)).options.pod_cidr]

    async def nodes(self) -> list[str]:
        """Devices that are nodes in order, of whatever cluster."""
        async with self._db.read() as tx:
            found = await store.members_in_state(tx, MemberState.READY)
        return [one.device_id for one in found]

    async def proof(self, cluster_id: str) -> list[HostProof]:
        async with self._db.read() as tx:
            await store.cluster(tx, cluster_id)
        return await self._cleaning.proof(cluster_id)

    async def kubeconfig(self, cluster_id: str, *, by: Principal) -> Secret:
        """The admin's, leading straight to a control plane: for kubectl elsewhere on the site."""
        async with self._db.read() as tx:
            cluster = await store.cluster(tx, cluster_id)
            kept = await store.secret(tx, self._c.keyring, cluster_id, KUBECONFIG)
            members = await store.members(tx, cluster_id)
        if kept is None:
            raise NoKubeconfig(id=cluster_id)
        ready = [one for one in members if one.is_control_plane and one.state in HELD]
        server = f"https://{ready[0].address}:{API_PORT}" if ready else None
        async with self._db.write() as tx:
            await self._audit.record(tx, by, "read_kubeconfig", cluster_id)
        return kubeconfig.renamed(kept, cluster.id, server, tls_server_name=cluster.api_name)

    async def uses_of_device(self, tx: AsyncSession, device_id: str) -> list[Use]:
        """A `DeleteCheck`: a device of a cluster cannot go, not even by force."""
        member = await store.membership(tx, device_id)
        if member is None:
            return []
        cluster = await store.cluster(tx, member.cluster_id)
        return [Use(kind="cluster", id=cluster.id, name=cluster.name, blocking=True)]
