"""The operation `replace_node`: a new host takes the place of a dead one, its work with it.

The new node stands before anything is taken from the old one. Only a dead control plane goes first:
its etcd would count for a majority that a further member must not depend on.
"""

from typing import Final, Protocol

from haechi.core.operations import Definition, Permanent, Run, Step
from haechi.domains.clusters import store
from haechi.domains.clusters.context import Context
from haechi.domains.clusters.forming import Forming
from haechi.domains.clusters.leaving import Leaving
from haechi.domains.clusters.model import Member, MemberState
from haechi.domains.clusters.naming import node_name
from haechi.domains.clusters.ports import OnText
from haechi.domains.clusters.procedures import patient
from haechi.errors import AppError, Text, catalogue

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
                Step("check", Text("호스트 점검", "Check the host"), forming.check),
                Step("snapshot", Text("호스트 상태 기록", "Keep its state"), forming.snapshot),
                Step(
                    "prepare",
                    Text("호스트 준비", "Prepare the host"),
                    forming.prepare,
                    forming.undo_prepare,
                    timeout_s=7200,
                ),
                Step(
                    "free_place",
                    Text("죽은 제어 노드 빼기", "Take a dead control plane out"),
                    self.free_place,
                ),
                Step(
                    "join_control_planes",
                    Text("제어 노드 추가", "Join as a control plane"),
                    forming.join_control_planes,
                    timeout_s=3600,
                ),
                Step(
                    "join_workers",
                    Text("작업 노드 추가", "Join as a worker"),
                    forming.join_workers,
                    timeout_s=3600,
                ),
                Step(
                    "apply_hooks",
                    Text("레지스트리·에이전트 연결", "Wire registry and agent"),
                    forming.apply_hooks,
                    timeout_s=1800,
                ),
                Step(
                    "wait_ready",
                    Text("준비 대기", "Wait until it is ready"),
                    forming.wait_ready,
                    timeout_s=1200,
                ),
                Step("finish", Text("마무리", "Finish"), forming.finish),
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
        device_id = run.ctx["device_ids"][0]
        members = await c.members(run.subject)
        old = next(one for one in members if one.device_id == run.ctx["device_id"])
        if any(one.device_id == device_id for one in members):
            return
        device = await c.devices.device(device_id)
        taken = {one.node_name for one in members}
        member = Member(
            cluster_id=run.subject,
            device_id=device_id,
            role=old.role,
            node_name=node_name(device.host_name or device.name, device_id, taken),
            address=device.address or "",
            state=MemberState.PLANNED,
            message="",
            observed={},
            joined_at=None,
            left_at=None,
        )
        async with c.db.write() as tx:
            await store.put_member(tx, member)
        c.announce(run.subject, device_id)

    async def give_up(self, run: Run) -> None:
        async with self._c.db.read() as tx:
            member = await store.member(tx, run.subject, run.ctx["device_ids"][0])
        if member.state in {MemberState.PLANNED, MemberState.JOINING}:
            await self._c.change_member(member, MemberState.FAILED)

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
        await self._leaving.say_goodbye(run)
        if not run.ctx.get("freed"):
            await self._leave(run, old)
        await self._leaving.clean(run)
        run.ctx["result"]["replaced"] = old.device_id

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
