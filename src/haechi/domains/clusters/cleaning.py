"""One host stops being a node: what the cluster left is removed, and the proof is kept.

Used by deleting, leaving and undoing, and for hosts that come back (`returning.py`).
"""

import logging
from collections.abc import Awaitable, Callable

from haechi.domains.clusters import kubeadm, kubeconfig, marker, proxy, store
from haechi.domains.clusters.context import Context
from haechi.domains.clusters.errors import NotItsHost
from haechi.domains.clusters.host import ledger
from haechi.domains.clusters.host.errors import HostAway
from haechi.domains.clusters.host.ports import Shell
from haechi.domains.clusters.model import HostProof, Member, MemberState, api_name
from haechi.errors import AppError

OnText = Callable[[str], None]
log = logging.getLogger(__name__)


async def refuse_others(c: Context, member: Member, *, must_bear: bool = False) -> None:
    """What was away for long may have become another's: its disk lives in a machine that is a node
    by itself, or another machine has its key. `must_bear`: something of ours must be there. Raises
    NotItsHost, HostAway, AppError.
    """
    device = await c.devices.device(member.device_id)

    def refused(reason: str) -> NotItsHost:
        return NotItsHost(address=device.address, node=member.node_name, reason=reason)

    for twin in await c.devices.twins(member.device_id):
        async with c.db.read() as tx:
            other = await store.membership(tx, twin)
        if other is not None and other.state != MemberState.CLEANING:
            raise refused(f"{other.node_name} of cluster {other.cluster_id} has its host key")

    async def look(shell: Shell) -> None:
        found = await marker.read(shell)
        if found is None:
            if must_bear and await ledger.read(shell) is None:
                raise refused("nothing of haechi is there")
        elif (found.cluster_id, found.device_id) != (member.cluster_id, member.device_id):
            raise refused(f"it says that it is {found.node_name} of cluster {found.cluster_id}")

    await c.on_host(member.device_id, look, log=log.debug, away_s=0)


class Cleaning:
    def __init__(self, context: Context) -> None:
        self._c = context

    async def clean(
        self,
        member: Member,
        log: OnText,
        *,
        away_s: float = 0,
        then: MemberState = MemberState.GONE,
        has_left: bool = False,
    ) -> bool:
        """Clean the host and free the device. A host that cannot be reached now, or not be cleaned
        whole, is recorded as `cleaning`: False. `has_left`: `leave` was done already.
        """
        c = self._c

        async def work() -> None:
            if not has_left:
                await self.leave(member, log, away_s=away_s)
            await self._restore(member, log, away_s=away_s)

        if not await self._done(work(), member, log):
            return False
        await c.change_member(member, then, left_at=c.clock.now(), observed={})
        return True

    async def may_begin(self, member: Member, log: OnText) -> bool:
        """A host that was away is nobody else by now; what hinders is recorded as in `clean`."""
        return await self._done(refuse_others(self._c, member), member, log)

    async def _done(self, work: Awaitable[None], member: Member, log: OnText) -> bool:
        try:
            await work
        except HostAway as error:
            await self.postpone(member, log, error)
        except AppError as error:
            log(f"!! not cleaned whole: {error}")
            await self._c.change_member(member, MemberState.CLEANING, error=error)
        else:
            return True
        return False

    async def postpone(self, member: Member, log: OnText, error: HostAway) -> None:
        log(f"not reached, cleaned when it is seen again: {error}")
        await self._c.change_member(member, MemberState.CLEANING, error=error)

    async def leave(self, member: Member, log: OnText, *, away_s: float = 0) -> None:
        """It is a node no more. Idempotent. Raises HostAway, AppError."""

        async def act(shell: Shell) -> None:
            await kubeconfig.take_from_user(shell, api_name(member.cluster_id))
            await kubeadm.reset(shell, log=log)
            await proxy.remove_proxy(shell, member.cluster_id)
            await shell.run(["rm", "-rf", kubeadm.FOLDER], root=True, timeout_s=30)

        await self._c.on_host(member.device_id, act, log=log, away_s=away_s)

    async def _restore(self, member: Member, log: OnText, *, away_s: float) -> None:
        """It is as before, and its snapshot says so. Idempotent. Raises HostAway, AppError."""
        c = self._c

        async def act(shell: Shell) -> None:
            await c.work.clean(shell, log=log)
            content = await c.work.snapshot(shell)
            async with c.db.write() as tx:
                await store.put_snapshot(
                    tx, member.cluster_id, member.device_id, "after", content, c.clock.now()
                )

        await c.on_host(member.device_id, act, log=log, away_s=away_s)

    async def proof(self, cluster_id: str) -> list[HostProof]:
        """Of every host that ever was a member: before forming against after cleaning."""
        c = self._c
        found: list[HostProof] = []
        async with c.db.read() as tx:
            for member in await store.members(tx, cluster_id):
                before = await store.snapshot(tx, cluster_id, member.device_id, "before")
                after = await store.snapshot(tx, cluster_id, member.device_id, "after")
                found.append(self._proof(member, before, after))
        return found

    def _proof(
        self,
        member: Member,
        before: store.Taken | None,
        after: store.Taken | None,
    ) -> HostProof:
        before_at = before[1] if before else None
        after_at = after[1] if after else None
        if before is None:
            return HostProof(member.device_id, "unknown", None, after_at, [])
        if after is None or member.state not in {MemberState.GONE, MemberState.FAILED}:
            return HostProof(member.device_id, "pending", before_at, after_at, [])
        differences = self._c.work.differences(before[0], after[0])
        if differences:
            return HostProof(member.device_id, "differs", before_at, after_at, differences)
        return HostProof(member.device_id, "clean", before_at, after_at, [])
