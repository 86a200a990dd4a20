"""The steps of delete_cluster: workers first, control planes last, the proof at the end.

It can be begun again wherever it stopped; what cannot be reached is recorded and cleaned when it is
seen again.
"""

from haechi.core.operations import Run
from haechi.domains.clusters import store
from haechi.domains.clusters.board import Board
from haechi.domains.clusters.cleaning import Cleaning
from haechi.domains.clusters.context import Context
from haechi.domains.clusters.leaving import leave_hooks
from haechi.domains.clusters.model import ClusterState, Member, MemberState


class Deleting:
    def __init__(self, context: Context, cleaning: Cleaning) -> None:
        self._c = context
        self._cleaning = cleaning

    async def begin(self, run: Run) -> None:
        await self._c.change_cluster(run.subject, state=ClusterState.DELETING.value, message="")

    async def clean_workers(self, run: Run) -> None:
        members = await self._c.members(run.subject)
        await self._clean(run, [one for one in members if not one.is_control_plane], 0.1)

    async def clean_control_planes(self, run: Run) -> None:
        members = await self._c.members(run.subject)
        await self._clean(run, [one for one in members if one.is_control_plane], 0.5)

    async def prove(self, run: Run) -> None:
        """Each host before forming against now, into the operation's result."""
        c = self._c
        pending = 0
        hosts = run.ctx["result"].setdefault("hosts", {})
        for proof in await self._cleaning.proof(run.subject):
            entry = hosts.setdefault(proof.device_id, {})
            entry["proof"] = proof.state
            entry["differences"] = len(proof.differences)
            pending += proof.state == "pending"
            run.log(f"{entry.get('name', proof.device_id)}: {proof.state}")
            for difference in proof.differences:
                run.log(f"  {difference}")
        run.ctx["result"]["pending"] = pending
        async with c.db.write() as tx:
            await store.delete_secrets(tx, run.subject)
            await store.change_cluster(
                tx,
                run.subject,
                state=ClusterState.DELETED.value,
                ended_at=c.clock.now(),
                message=f"{pending} hosts are away and not cleaned yet" if pending else "",
            )
        c.announce(run.subject)

    async def _clean(self, run: Run, members: list[Member], ratio: float) -> None:
        board = Board(run)

        async def one(member: Member) -> None:
            log = board.log(member)
            if member.state not in {MemberState.LEAVING, MemberState.CLEANING}:
                await leave_hooks(self._c, member, board)
                await self._c.change_member(member, MemberState.LEAVING)
            await board.stage(member, "cleaning", ratio)
            cleaned = await self._cleaning.clean(member, log)
            await board.stage(member, "clean" if cleaned else "away", ratio)

        await self._c.on_each(members, one, failed=board.failed)
