"""Agents on hosts as others use them: install, update, remove; and as a hook of clusters."""

from collections.abc import Sequence
from typing import Any, Final

from haechi.core.access import SYSTEM, Principal
from haechi.core.clock import Clock
from haechi.core.db import Database
from haechi.core.operations import (
    Definition,
    Operation,
    Operations,
    Permanent,
    Run,
    Step,
    Temporary,
)
from haechi.domains.audit.ports import AuditTrail
from haechi.domains.clusters import store
from haechi.domains.clusters.agent.errors import AgentNotSeen, AgentRolledBack
from haechi.domains.clusters.agent.ports import AgentImages, Agents, Devices
from haechi.domains.clusters.agent.steps import Log, Pace, Steps
from haechi.domains.clusters.host.errors import HostAway
from haechi.domains.clusters.host.ports import CARRY_S, Hosts
from haechi.domains.clusters.model import MemberState
from haechi.errors import AppError, Text

RETRY_S: Final = 3.0
OURS: Final = frozenset({"install_agent", "update_agent", "remove_agent"})
_HOLDS: Final = frozenset({"pending", "enrolled"})
"""Enrolments that let an agent in, or will."""


class HostAgents:
    def __init__(
        self,
        *,
        db: Database,
        clock: Clock,
        hosts: Hosts,
        agents: Agents,
        images: AgentImages,
        devices: Devices,
        operations: Operations,
        audit: AuditTrail,
        pace: Pace | None = None,
    ) -> None:
        self._db = db
        self._agents = agents
        self._devices = devices
        self._images = images
        self._operations = operations
        self._audit = audit
        self._steps = Steps(
            db=db, clock=clock, hosts=hosts, agents=agents, images=images, pace=pace or Pace()
        )
        for definition in self._definitions():
            operations.register(definition)

    # --- asked from outside

    async def install_agent(self, device_id: str, *, by: Principal) -> Operation:
        """Bring an agent to the device's host, enrol it and see it call in."""
        return await self._on_device("install_agent", device_id, by)

    async def update_agent(self, device_id: str, *, by: Principal) -> Operation:
        """Stop the agent, start the newest image; the old one again where that does not call in."""
        return await self._on_device("update_agent", device_id, by)

    async def remove_agent(self, device_id: str, *, by: Principal) -> Operation:
        """Take agent, data and image from the host, and its certificates from the device."""
        return await self._on_device("remove_agent", device_id, by)

    async def update_agents(self, cluster_id: str, *, by: Principal) -> Operation:
        """Every node's agent, one after the other; the first that fails stops it. Raises Busy where
        something is at work on one of them.
        """
        async with self._db.read() as tx:
            cluster = await store.cluster(tx, cluster_id)
            members = await store.members(tx, cluster.id)
        devices = [one.device_id for one in members if one.state == MemberState.READY]
        return await self._begin("update_agents", cluster.id, by, devices, device_ids=devices)

    async def _on_device(self, kind: str, device_id: str, by: Principal) -> Operation:
        known = (await self._devices.get(device_id)).id
        return await self._begin(kind, known, by, [known])

    async def _begin(
        self, kind: str, subject: str, by: Principal, devices: Sequence[str], **more: Any
    ) -> Operation:
        """The agents of `devices` are its own until it ends; what they run is not."""
        ctx = {"device_id": subject, "requested_by": by.name, **more}
        claims = [f"{one}/agent" for one in devices]
        operation = await self._operations.start(
            kind, subject, ctx, requested_by=by.name, claims=claims
        )
        async with self._db.write() as tx:
            await self._audit.record(tx, by, kind, subject, {"operation": operation.id})
        return operation

    # --- as a hook of clusters

    name = "agent"

    async def joined(self, cluster_id: str, device_id: str, *, log: Log) -> None:
        """Begins an operation of its own: a node is one without an agent too, and forming neither
        waits for it nor fails with it. Where it cannot work anyway, that is only said."""
        del cluster_id
        ctx: dict[str, Any] = {"device_id": device_id}
        try:
            await self._steps.look(ctx, log)
            if not await self._images.known(ctx["platform"]):
                log(f"-- no agent on this node: there is no image of it for {ctx['platform']}")
                return
            operation = await self._begin("install_agent", device_id, SYSTEM, [device_id])
        except AppError as error:
            log(f"-- no agent on this node yet: {error}; `haechi device install-agent` tries again")
        else:
            log(f"its agent is brought by operation {operation.id}")

    async def leaving(self, cluster_id: str, device_id: str, *, log: Log) -> None:
        del cluster_id
        active = await self._operations.active_on(device_id)
        if active is not None and active.kind in OURS:
            await self._operations.cancel(active.id)
            await self._operations.wait(active.id)
        ctx: dict[str, Any] = {"device_id": device_id}
        try:
            await self._steps.look(ctx, log)
            if not ctx["before"]:
                return
            await self._steps.take_away(ctx, log)
        except AppError:
            # Whoever has the host now, it is this node no more.
            await self._end_access(device_id, log)
            raise
        await self._end_access(device_id, log)

    async def _end_access(self, device_id: str, log: Log) -> None:
        if (await self._devices.get(device_id)).enrolment in _HOLDS:
            await self._agents.revoke_device(device_id, SYSTEM)
            log("its agent's certificate counts no more")

    # --- steps

    async def _look(self, run: Run) -> None:
        with _Reaching():
            await self._steps.look(run.ctx, run.log)

    async def _look_for_one(self, run: Run) -> None:
        await self._look(run)
        with _Reaching():
            await self._steps.must_be_there(run.ctx)

    async def _deliver(self, run: Run) -> None:
        with _Reaching():
            await self._steps.deliver(run.ctx, run.log, run.progress)
        run.progress(0.7, "")

    async def _invite(self, run: Run) -> None:
        with _Reaching():
            await self._steps.invite(run.ctx, run.log)

    async def _start(self, run: Run) -> None:
        with _Reaching():
            await self._steps.start(run.ctx, run.log, reference=run.ctx["reference"])

    async def _see(self, run: Run) -> None:
        with _Reaching():
            await self._steps.see(run.ctx, run.log)
        run.ctx["result"] = {"device_id": run.ctx["device_id"], "image": run.ctx["reference"]}
        run.progress(1.0, "")

    async def _undo_start(self, run: Run) -> None:
        """An installation that failed leaves nothing; one over an agent puts that back."""
        ctx = run.ctx
        if "reference" not in ctx:
            return
        with _Reaching():
            if ctx["before"]:
                await self._steps.start(ctx, run.log, reference=ctx["before"])
            else:
                await self._steps.take_away(ctx, run.log)

    async def _replace(self, run: Run) -> None:
        """Stop, start, see; and back. Never two at once."""
        await self._replaced(run.ctx, run.log)
        run.ctx["result"] = {
            "device_id": run.ctx["device_id"],
            "image": run.ctx["reference"],
            "before": run.ctx["before"],
        }
        run.progress(1.0, "")

    async def _replaced(self, ctx: dict[str, Any], log: Log) -> None:
        if ctx["same"]:
            log("it runs that image already")
            return
        with _Reaching():
            await self._steps.start(ctx, log, reference=ctx["reference"])
        try:
            await self._steps.see(ctx, log)
        except AgentNotSeen as error:
            with _Reaching():
                await self._steps.start(ctx, log, reference=ctx["before"])
                await self._steps.drop(ctx, ctx["reference"])
                await self._steps.see(ctx, log, back=True)
            raise Permanent(AgentRolledBack(**error.data)) from error
        await self._steps.drop(ctx, ctx["before"])

    async def _update_all(self, run: Run) -> None:
        ctx = run.ctx
        done: list[str] = ctx.setdefault("updated", [])
        for number, device_id in enumerate(ctx["device_ids"], start=1):
            if device_id in done:
                continue
            # Kept until it is done: what ran there before is not seen any more after a crash.
            one: dict[str, Any] = ctx.setdefault("at", {"device_id": device_id})
            with _Reaching():
                await self._steps.look(one, run.log)
            if one["before"]:
                with _Reaching():
                    await self._steps.deliver(one, run.log, lambda _ratio, _text: None)
                await run.save()
                await self._replaced(one, run.log)
            done.append(device_id)
            del ctx["at"]
            await run.save()
            run.progress(number / len(ctx["device_ids"]), one["host"])
        ctx["result"] = {"updated": done}

    async def _take_away(self, run: Run) -> None:
        with _Reaching():
            await self._steps.take_away(run.ctx, run.log)
        await self._agents.revoke_device(run.ctx["device_id"], SYSTEM)
        run.ctx["result"] = {"device_id": run.ctx["device_id"], "outcome": "removed"}

    def _definitions(self) -> list[Definition]:
        look = Text("호스트 확인", "Look at the host")
        deliver = Text("이미지 전달", "Bring the image")
        return [
            Definition(
                kind="install_agent",
                title=Text("에이전트 설치", "Install agent"),
                steps=[
                    Step("look", look, self._look, timeout_s=300),
                    Step("deliver", deliver, self._deliver, timeout_s=CARRY_S),
                    Step("invite", Text("등록 준비", "Invite it"), self._invite),
                    Step("start", Text("에이전트 시작", "Start it"), self._start, self._undo_start),
                    Step("see", Text("연결 확인", "See it call in"), self._see, timeout_s=600),
                ],
                parallel=16,
                gives_way=True,  # to a node's leaving, which takes its agent along
            ),
            Definition(
                kind="update_agent",
                title=Text("에이전트 업데이트", "Update agent"),
                steps=[
                    Step("look", look, self._look_for_one, timeout_s=300),
                    Step("deliver", deliver, self._deliver, timeout_s=CARRY_S),
                    Step("replace", Text("교체", "Replace it"), self._replace, timeout_s=1200),
                ],
                parallel=16,
            ),
            Definition(
                kind="update_agents",
                title=Text("클러스터 에이전트 업데이트", "Update a cluster's agents"),
                steps=[
                    Step(
                        "update",
                        Text("노드별 교체", "One node after the other"),
                        self._update_all,
                        timeout_s=CARRY_S,
                    )
                ],
            ),
            Definition(
                kind="remove_agent",
                title=Text("에이전트 제거", "Remove agent"),
                steps=[
                    Step("look", look, self._look_for_one, timeout_s=300),
                    Step("take_away", Text("제거", "Take it away"), self._take_away),
                ],
                parallel=16,
            ),
        ]


class _Reaching:
    """Hosts that are away may come back; anything else will not change by itself."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, HostAway):
            raise Temporary(RETRY_S, error) from error
        if isinstance(error, AppError):
            raise Permanent(error) from error
