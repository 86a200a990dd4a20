"""The operation `replace_node`: a new host takes the place of a dead one, its work with it.

The new node stands before anything is taken from the old one. Only a dead control plane goes first:
its etcd would count for a majority that a further member must not depend on.
"""

import contextlib
from typing import Final, Protocol

from haechi.core.operations import Definition, Permanent, Run, Step
from haechi.core.operations.model import NotCancellable
from haechi.domains.clusters import store
from haechi.domains.clusters.board import Board
from haechi.domains.clusters.context import Context
from haechi.domains.clusters.forming import Forming
from haechi.domains.clusters.leaving import Leaving
from haechi.domains.clusters.model import Member, MemberState
from haechi.domains.clusters.ports import OnText
from haechi.domains.clusters.procedures import join_steps, patient, steps_of
from haechi.errors import AppError, Busy, Text, catalogue

KIND: Final = "replace_node"


class WorkMover(Protocol):
    """Who knows what runs where (deployments, cameras). Idempotent; raises AppError."""

    async def move_work(self, old_id: str, new_id: str, *, by: str, log: OnText) -> None:
        """Deploy what the old device should run to the new one and hand its cameras over. What one
        deployment or camera refuses does not keep the others; the first failure is raised.
        """


class Replacing:
    """`mover` is set by whoever wires the domains together."""

    def __init__(self, context: Context, forming: Forming, leaving: Leaving) -> None:
        self._c = context
        self._forming = forming
        self._leaving = leaving
        self.mover: WorkMover | None = None

    def definition(self) -> Definition:
        forming = self._forming
        made = Definition(
            kind=KIND,
            title=Text("노드 교체", "Replace a node"),
            parallel=8,
            steps=[
                Step("claim", Text("호스트 확보", "Claim the host"), self.claim, self.give_up),
                *steps_of(forming, "check", "snapshot", "prepare"),
                Step(
                    "free_place",
                    Text("죽은 제어 노드 빼기", "Take a dead control plane out"),
                    self.free_place,
                ),
                *join_steps(forming),
                Step(
                    "move_work",
                    Text("AI와 카메라 옮기기", "Move its AIs and cameras"),
                    self.move_work,
                    timeout_s=4 * 3600,
                ),
                Step("retire", Text("이전 노드 정리", "Retire the old node"), self.retire),
                Step("report", Text("결과 확인", "Tell what was not moved"), self.report),
            ],
        )
        return patient(self._c, made)

    async def claim(self, run: Run) -> None:
        c = self._c
        members = await c.members(run.subject)
        old = next(one for one in members if one.device_id == run.ctx["device_id"])
        await c.claim(run.subject, run.ctx["device_ids"][0], old.role)

    async def give_up(self, run: Run) -> None:
        await self._c.give_up(run.subject, run.ctx["device_ids"][0])

    async def free_place(self, run: Run) -> None:
        old = await self._old(run)
        if not old.is_control_plane or run.ctx.get("freed"):
            return
        await self._leave(run, old)
        run.ctx["freed"] = True

    async def move_work(self, run: Run) -> None:
        """What cannot be moved is told at the end: the node itself is replaced all the same."""
        if self.mover is None:
            return
        await self._agent(run)
        try:
            await self.mover.move_work(
                run.ctx["device_id"],
                run.ctx["device_ids"][0],
                by=run.ctx["requested_by"],
                log=run.log,
            )
        except AppError as error:
            run.log(f"!! not all of its work was moved: {error}")
            run.ctx["not_moved"] = {"code": error.code, "data": error.data}

    async def _agent(self, run: Run) -> None:
        """An AI gets its cameras from the agent of its node and gives it its results; the new one's
        is brought by an operation of its own. Moved is what can be without one.
        """
        operations = self._c.operations
        bringing = await operations.active_on(run.ctx["device_ids"][0])
        if bringing is not None:
            run.log(f"its agent first: {bringing.id}")
            ended = await operations.wait(bringing.id)
            run.log(f"{bringing.id} {ended.state.value}")

    async def retire(self, run: Run) -> None:
        """Out of Kubernetes; its host is cleaned now, or when it is seen again."""
        old = await self._old(run)
        await self._have_to_itself(run, old)
        await self._leaving.say_goodbye(run)
        if not run.ctx.get("freed"):
            await self._leave(run, old)
        await self._leaving.clean(run)
        run.ctx["result"]["replaced"] = old.device_id

    async def _have_to_itself(self, run: Run, old: Member) -> None:
        """Until now its work was moved by operations on it. What anybody else has begun there ends
        first, and nothing new is: it would make anew what is taken away.
        """
        operations = self._c.operations
        while True:
            try:
                return await operations.claim(run.id, [old.device_id])
            except Busy as busy:
                other = busy.data["operation_id"]
                Board(run).log(old)(f"{busy.data['kind']} {other} is cancelled: the node leaves")
            with contextlib.suppress(NotCancellable):
                await operations.cancel(other)
            await operations.wait(other)

    async def report(self, run: Run) -> None:
        saved = run.ctx.get("not_moved")
        cls = catalogue().get(saved["code"]) if saved else None
        if saved and cls is not None:
            raise Permanent(cls(**saved["data"]))

    async def _leave(self, run: Run, old: Member) -> None:
        if old.state == MemberState.READY:
            await self._c.change_member(old, MemberState.LEAVING)
        await self._leaving.delete_node(run)

    async def _old(self, run: Run) -> Member:
        async with self._c.db.read() as tx:
            return await store.member(tx, run.subject, run.ctx["device_id"])
