"""The steps of delete_cluster: workers leave first, control planes last, the proof at the end.

What leaving leaves on hosts (packages, files) is cleaned on all of them side by side. It can be
begun again wherever it stopped; what cannot be reached is recorded and cleaned when it is seen
again.
"""

from haechi.core.operations import Run
from haechi.domains.clusters import store
from haechi.domains.clusters.board import Board
from haechi.domains.clusters.cleaning import Cleaning
from haechi.domains.clusters.context import Context
from haechi.domains.clusters.host.errors import HostAway
from haechi.domains.clusters.leaving import leave_hooks
from haechi.domains.clusters.model import ClusterState, Member, MemberState
from haechi.errors import AppError


class Deleting:
    def __init__(self, context: Context, cleaning: Cleaning) -> None:
        self._c = context
        self._cleaning = cleaning

    async def begin(self, run: Run) -> None:
        await self._c.change_cluster(run.subject, state=ClusterState.DELETING.value, message="")

    async def clean_workers(self, run: Run) -> None:
        """They are nodes no more after it. `ctx["left"]` and `ctx["away"]`: which of them are."""
        c = self._c
        board = Board(run)
        left: list[str] = run.ctx.setdefault("left", [])
        away: list[str] = run.ctx.setdefault("away", [])

        async def one(member: Member) -> None:
            log = board.log(member)
            await self._say_goodbye(member, board)
            await board.stage(member, "leaving", 0.1)
            try:
                await self._cleaning.leave(member, log)
            except HostAway as error:
                await self._cleaning.postpone(member, log, error)
                away.append(member.device_id)
                await board.stage(member, "away", 0.1)
            except AppError as error:
                log(f"-- {error}")  # cleaning does it again, and says what stays
            else:
                left.append(member.device_id)
                await run.save()

        members = await c.members(run.subject)
        todo = [one for one in members if one.device_id not in {*left, *away}]
        workers = [one for one in todo if not one.is_control_plane]
        await c.on_each(workers, one, failed=board.failed)

    async def clean_control_planes(self, run: Run) -> None:
        """And, beside them, what is still to be cleaned of the workers."""
        board = Board(run)
        left, away = run.ctx["left"], run.ctx["away"]

        async def one(member: Member) -> None:
            if member.is_control_plane:
                await self._say_goodbye(member, board)
            await board.stage(member, "cleaning", 0.5)
            has_left = member.device_id in left
            cleaned = await self._cleaning.clean(member, board.log(member), has_left=has_left)
            await board.stage(member, "clean" if cleaned else "away", 0.5)

        members = await self._c.members(run.subject)
        await self._c.on_each(
            [one for one in members if one.device_id not in away], one, failed=board.failed
        )

    async def prove(self, run: Run) -> None:
        """Each host before forming against now, into the operation's result; also those that had
        left before.
        """
        c = self._c
        board = Board(run)
        pending = 0
        members = {one.device_id: one for one in await c.members(run.subject, all_ever=True)}
        for proof in await self._cleaning.proof(run.subject):
            entry = board.entry(members[proof.device_id])
            entry.setdefault("stage", proof.state)
            entry["proof"] = proof.state
            entry["differences"] = len(proof.differences)
            pending += proof.state == "pending"
            run.log(f"{entry['name']}: {proof.state}")
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

    async def _say_goodbye(self, member: Member, board: Board) -> None:
        if member.state not in {MemberState.LEAVING, MemberState.CLEANING}:
            await leave_hooks(self._c, member, board.log(member))
            await self._c.change_member(member, MemberState.LEAVING)
