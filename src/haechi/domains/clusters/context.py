"""What the parts of the clusters domain share, and small acts they all do."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

from haechi.core.bus import Bus
from haechi.core.clock import Clock
from haechi.core.db import Database
from haechi.core.operations import Operations
from haechi.core.secrets import Keyring, Secret
from haechi.core.tasks import TaskGroup
from haechi.domains.clusters import store
from haechi.domains.clusters.errors import ClusterNotReady, NoKubeconfig
from haechi.domains.clusters.host.errors import HostAway
from haechi.domains.clusters.host.ports import Hosts, Shell
from haechi.domains.clusters.model import (
    API_PORT,
    HELD,
    Cluster,
    ClusterState,
    Member,
    MemberRole,
    MemberState,
    api_name,
)
from haechi.domains.clusters.naming import node_name
from haechi.domains.clusters.ports import (
    ApiServer,
    Devices,
    Hook,
    HostWork,
    Kube,
    KubeAccess,
    Kubes,
    Releases,
)
from haechi.errors import AppError

T = TypeVar("T")
KUBECONFIG: Final = "kubeconfig"
_MESSAGE_LIMIT: Final = 500
_CUTS: Final = 10
"""A connection may be lost so often in the middle of one piece of work."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things may take; tests turn it down."""

    retry_s: float = 3.0
    away_s: float = 90.0
    """A host that goes away in the middle of a step is waited for so long."""
    poll_s: float = 0.5
    api_s: float = 120.0
    """For the API to answer after init."""
    ready_s: float = 300.0
    """For all nodes to be ready, the pods' network with them."""
    drain_s: float = 60.0
    grace_s: int = 10


@dataclass
class Context:
    db: Database
    bus: Bus
    clock: Clock
    keyring: Keyring
    operations: Operations
    devices: Devices
    hosts: Hosts
    work: HostWork
    releases: Releases
    kubes: Kubes
    hooks: list[Hook] = field(default_factory=list)
    pace: Pace = field(default_factory=Pace)

    # --- reading

    async def cluster(self, cluster_id: str) -> Cluster:
        async with self.db.read() as tx:
            return await store.cluster(tx, cluster_id)

    async def members(self, cluster_id: str, *, all_ever: bool = False) -> list[Member]:
        """Those that belong to it now, control planes first."""
        async with self.db.read() as tx:
            found = await store.members(tx, cluster_id)
        return [one for one in found if all_ever or one.state in HELD]

    async def ready_cluster(self, cluster_id: str) -> Cluster:
        """Raises ClusterNotReady unless it is formed."""
        cluster = await self.cluster(cluster_id)
        if cluster.state != ClusterState.READY:
            raise ClusterNotReady(id=cluster_id, state=cluster.state.value)
        return cluster

    # --- changing

    async def change_cluster(self, cluster_id: str, **values: Any) -> None:
        async with self.db.write() as tx:
            await store.change_cluster(tx, cluster_id, **values)
        self.announce(cluster_id)

    async def change_member(
        self,
        member: Member,
        state: MemberState | None = None,
        *,
        error: AppError | None = None,
        **values: Any,
    ) -> None:
        if state is not None:
            values["state"] = state.value
            values["message"] = "" if error is None else str(error)[:_MESSAGE_LIMIT]
        async with self.db.write() as tx:
            await store.change_member(tx, member.cluster_id, member.device_id, **values)
        self.announce(member.cluster_id, member.device_id)

    async def claim(self, cluster_id: str, device_id: str, role: MemberRole) -> None:
        """Write a device down as a member to be, under a name that is free. Idempotent."""
        members = await self.members(cluster_id)
        if any(one.device_id == device_id for one in members):
            return
        device = await self.devices.device(device_id)
        taken = [one.node_name for one in members]
        member = Member(
            cluster_id=cluster_id,
            device_id=device_id,
            role=role,
            node_name=node_name(device.host_name or device.name, device_id, taken),
            address=device.address or "",
            state=MemberState.PLANNED,
        )
        async with self.db.write() as tx:
            await store.put_member(tx, member)
        self.announce(cluster_id, device_id)

    async def give_up(self, cluster_id: str, device_id: str) -> None:
        """One that was claimed and did not become a node is free again."""
        async with self.db.read() as tx:
            member = await store.member(tx, cluster_id, device_id)
        if member.state in {MemberState.PLANNED, MemberState.JOINING}:
            await self.change_member(member, MemberState.FAILED)

    def announce(self, cluster_id: str, device_id: str | None = None) -> None:
        data: dict[str, Any] = {"kind": "cluster", "id": cluster_id, "change": "edit"}
        if device_id is not None:
            data["device_id"] = device_id
        self.bus.publish("states", data)

    # --- hosts

    async def on_host(
        self,
        device_id: str,
        act: Callable[[Shell], Awaitable[T]],
        *,
        log: Callable[[str], None],
        away_s: float | None = None,
    ) -> T:
        """Log in and do it. Where the host goes away, again once it is back, unless it has been
        away for `away_s`: `act` must be idempotent. With 0 the first time counts.
        """
        limit_s = self.pace.away_s if away_s is None else away_s
        away_since, cuts = self.clock.monotonic(), 0
        while True:
            reached = False
            try:
                async with self.hosts.open(device_id) as shell:
                    reached = True
                    return await act(shell)
            except HostAway as error:
                if reached:  # what was done until now took its time: the host was there
                    away_since = self.clock.monotonic()
                    cuts += 1
                if self.clock.monotonic() - away_since >= limit_s or cuts > _CUTS:
                    raise
                log(f"-- {error}; again in {self.pace.retry_s:g} s")
            await self.clock.sleep(self.pace.retry_s)

    async def by_first(
        self,
        members: Sequence[Member],
        act: Callable[[Member, Shell], Awaitable[T]],
        *,
        log: Callable[[Member], Callable[[str], None]],
    ) -> T:
        """Have the first of them do it that can; only the last is waited for where it is away, and
        what keeps that one is raised.
        """
        *others, last = members
        for member in others:
            try:
                return await self.on_host(
                    member.device_id, partial(act, member), log=log(member), away_s=0
                )
            except AppError as error:
                log(member)(f"-- {error}")
        return await self.on_host(last.device_id, partial(act, last), log=log(last))

    async def on_each(
        self,
        members: Iterable[Member],
        act: Callable[[Member], Awaitable[object]],
        *,
        failed: Callable[[Member, AppError], None],
    ) -> list[Member]:
        """Do it for all at once; returns those that went well. One that fails stops no other."""
        good: list[Member] = []

        async def one(member: Member) -> None:
            try:
                await act(member)
            except AppError as error:
                failed(member, error)
            else:
                good.append(member)

        async with TaskGroup() as group:
            for member in members:
                group.create_task(one(member))
        return good

    # --- Kubernetes

    async def access(self, cluster_id: str) -> KubeAccess:
        """Raises NoKubeconfig."""
        async with self.db.read() as tx:
            kubeconfig = await store.secret(tx, self.keyring, cluster_id, KUBECONFIG)
            members = await store.members(tx, cluster_id)
        if kubeconfig is None:
            raise NoKubeconfig(id=cluster_id)
        return KubeAccess(
            cluster_id=cluster_id,
            kubeconfig=kubeconfig,
            server_name=api_name(cluster_id),
            servers=tuple(
                ApiServer(one.device_id, one.address, API_PORT)
                for one in sorted(members, key=lambda m: m.state != MemberState.READY)
                if one.is_control_plane and one.state in HELD and one.state != MemberState.CLEANING
            ),
        )

    @asynccontextmanager
    async def kube(self, cluster_id: str) -> AsyncIterator[Kube]:
        async with self.kubes.open(await self.access(cluster_id)) as kube:
            yield kube

    async def keep_secret(self, cluster_id: str, name: str, secret: Secret) -> None:
        async with self.db.write() as tx:
            await store.put_secret(tx, self.keyring, cluster_id, name, secret, self.clock.now())

    async def until(self, true: Callable[[], Awaitable[T | None]], timeout_s: float) -> T | None:
        """Ask until it gives something; None where the time is over."""
        limit = self.clock.monotonic() + timeout_s
        while True:
            found = await true()
            if found is not None:
                return found
            if self.clock.monotonic() >= limit:
                return None
            await self.clock.sleep(self.pace.poll_s)
