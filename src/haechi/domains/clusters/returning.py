"""What a host is owed that was away: its cleaning, or the control planes that came meanwhile.

`watching` tells when a host answers again. A node learns where its cluster's API is now; a host
that could not be cleaned when it left is cleaned (operation `clean_node`), again and again at
growing intervals where that fails.
"""

import logging
from collections.abc import Callable, Coroutine
from typing import Final

from haechi.core.operations import Definition, Operations, Run, Step
from haechi.core.tasks import Tasks
from haechi.domains.clusters import proxy, store
from haechi.domains.clusters.cleaning import Cleaning
from haechi.domains.clusters.context import Context
from haechi.domains.clusters.host.ports import Shell
from haechi.domains.clusters.leaving import leave_hooks
from haechi.domains.clusters.model import ClusterState, Member, MemberState
from haechi.domains.clusters.pauses import Pauses
from haechi.domains.clusters.ports import OnText
from haechi.errors import AppError, Busy, Text

log = logging.getLogger(__name__)

KIND: Final = "clean_node"
FIRST_RETRY_S: Final = 60.0
LAST_RETRY_S: Final = 3600.0


class Returning:
    def __init__(
        self,
        context: Context,
        cleaning: Cleaning,
        operations: Operations,
        *,
        missed: Callable[[Member], None],
    ) -> None:
        """`missed` is told of a host that answered and was not cleaned: perhaps it was another."""
        self._c = context
        self._missed = missed
        self._cleaning = cleaning
        self._operations = operations
        self._pauses = Pauses(context.clock, first_s=FIRST_RETRY_S, last_s=LAST_RETRY_S)
        self._busy: set[str] = set()
        self._tasks = Tasks("returning")

    def definition(self) -> Definition:
        return Definition(
            kind=KIND,
            title=Text("돌아온 호스트 정리", "Clean a host that came back"),
            parallel=8,
            steps=[
                Step(
                    "clean", Text("호스트 정리", "Clean the host"), self.clean_node, timeout_s=1800
                )
            ],
        )

    async def close(self) -> None:
        await self._tasks.close()

    def returned(self, member: Member) -> None:
        """A `ReturnHandler` of watching."""
        if member.device_id in self._busy:
            return
        if member.state == MemberState.CLEANING:
            if self._pauses.lasts(_place(member)):
                return
            work = self._begin_cleaning(member)
        else:
            work = self._catch_up(member)
        self._busy.add(member.device_id)
        _ = self._tasks.spawn(member.device_id, self._done(member.device_id, work))

    async def _done(self, device_id: str, work: Coroutine[object, object, None]) -> None:
        try:
            await work
        except AppError as error:
            log.info("device %s came back, but: %s", device_id, error)
        finally:
            self._busy.discard(device_id)

    async def _catch_up(self, member: Member) -> None:
        """Its proxy may still know control planes that are no more."""
        c = self._c
        addresses = [
            one.address
            for one in await c.members(member.cluster_id)
            if one.is_control_plane and one.state == MemberState.READY
        ]
        if not addresses or await self._operations.active_on(member.cluster_id) is not None:
            return

        async def act(shell: Shell) -> None:
            if await proxy.install_proxy(shell, member.cluster_id, addresses):
                log.info("node %s was told of its control planes", member.node_name)

        await c.on_host(member.device_id, act, log=log.debug, away_s=0)

    async def _begin_cleaning(self, member: Member) -> None:
        if await self._operations.active_on(member.cluster_id) is not None:
            return
        self._pauses.begin(_place(member))
        try:
            operation = await self._operations.start(
                KIND,
                member.device_id,
                {"cluster_id": member.cluster_id},
                requested_by="system",
            )
        except Busy:
            return
        ended = await self._operations.wait(operation.id)
        if ended.ctx.get("result", {}).get("cleaned"):
            self._pauses.forget(_place(member))
        else:
            self._missed(member)

    async def clean_node(self, run: Run) -> None:
        async with self._c.db.read() as tx:
            member = await store.member(tx, run.ctx["cluster_id"], run.subject)
        cleaned = member.state == MemberState.GONE
        owed = member.state == MemberState.CLEANING
        if owed and await self._cleaning.may_begin(member, run.log):
            # While it was away nobody could take back there what its hooks had laid.
            await leave_hooks(self._c, member, run.log)
            cleaned = await self._cleaning.clean(member, run.log)
        if cleaned:
            await self._forget_node(member, run.log)
        run.ctx["result"] = {"device_id": run.subject, "cleaned": cleaned}

    async def _forget_node(self, member: Member, note: OnText) -> None:
        """Its kubelet registered itself anew as soon as the host was on, before it was cleaned."""
        c = self._c
        if (await c.cluster(member.cluster_id)).state != ClusterState.READY:
            return
        if any(one.node_name == member.node_name for one in await c.members(member.cluster_id)):
            return
        try:
            async with c.kube(member.cluster_id) as kube:
                await kube.delete_node(member.node_name)
        except AppError as error:
            note(f"node {member.node_name} was not taken out of Kubernetes again: {error}")


def _place(member: Member) -> str:
    """At another address it is tried at once."""
    return f"{member.device_id} {member.address}"
