"""The kinds of operation of this domain, step by step. Step names are saved: never rename one."""

from typing import Final

from haechi.core.operations import Definition, Run, Step, Temporary
from haechi.domains.deployments import store
from haechi.domains.deployments.context import TAIL_LINES, Context
from haechi.domains.deployments.fleet import CHILD_KIND, Fleet
from haechi.domains.deployments.model import KEPT_BY_AGENT, MAX_WAIT_S, DeploymentState
from haechi.domains.deployments.prepare import SLICE_S, Prepare
from haechi.domains.deployments.replace import Replace
from haechi.domains.deployments.specs import GRACE_S
from haechi.errors import Text, Unavailable

TRIES: Final = 60
"""`retry_s` apart: two minutes in which an engine, a cluster's API or a registry may come back."""


class Remove:
    """remove_deployment: withdraw → remove."""

    def __init__(self, context: Context) -> None:
        self._c = context
        self._db = context.db

    async def withdraw(self, run: Run) -> None:
        c = self._c
        async with self._db.write() as tx:
            one = await store.deployment(tx, run.ctx["deployment_id"])
            if one.state == DeploymentState.GONE:
                return
            ended = await c.assignments.ledger.end_of(tx, [one.id])
            await store.change_deployments(
                tx,
                [one.id],
                state=DeploymentState.STOPPING.value,
                outcome="removed",
                desired="stopped",
                ended_at=c.clock.now(),
            )
        await c.assignments.announce(ended)
        c.announce([one], DeploymentState.STOPPING)

    async def remove(self, run: Run) -> None:
        """A device that is away removes it when it returns: its desired state says so, or the
        keeper does it."""
        c = self._c
        async with self._db.read() as tx:
            one = await store.deployment(tx, run.ctx["deployment_id"])
        run.ctx["result"] = {"deployment_id": one.id, "device_id": one.device_id}
        if one.state == DeploymentState.GONE:
            run.ctx["result"]["outcome"] = "removed"
            return
        by_agent = one.engine == KEPT_BY_AGENT
        if by_agent and not c.devices.is_connected(one.device_id):
            run.ctx["result"]["outcome"] = "pending"
            run.log("the device is not connected; it removes the container when it returns")
            return
        try:
            removed = await c.engine.remove(one.device_id, one.id, GRACE_S, TAIL_LINES)
        except Unavailable as error:
            if by_agent:
                raise Temporary(c.pace.retry_s, error) from error
            run.ctx["result"]["outcome"] = "pending"
            run.log(f"-- {error}; the container is removed when the device can be reached")
            return
        await c.keep_log(one.id, removed.log_tail)
        await c.set_state([one], DeploymentState.GONE)
        run.ctx["result"]["outcome"] = "removed"


def definitions(
    prepare: Prepare, replace: Replace, remove: Remove, fleet: Fleet
) -> list[Definition]:
    return [
        Definition(
            kind="deploy_package",
            title=Text("패키지 배포", "Deploy package"),
            steps=[
                Step(
                    "start_devices",
                    Text("장치별 배포 시작", "Start on every device"),
                    fleet.fan_out,
                    fleet.undo,
                    timeout_s=120,
                ),
                Step(
                    "release",
                    Text("대상 확정", "Settle the targets"),
                    fleet.release_claims,
                    fleet.release_claims,
                ),
                Step(
                    "wait_devices",
                    Text("장치별 결과 대기", "Wait for every device"),
                    fleet.wait,
                    fleet.undo,
                    timeout_s=MAX_WAIT_S + 86_400,
                ),
            ],
            parallel=1024,
        ),
        Definition(
            kind=CHILD_KIND,
            title=Text("장치에 배포", "Deploy to a device"),
            steps=_device_steps(prepare, replace),
            parallel=1024,  # most may be waiting for their device
        ),
        Definition(
            kind="rollback_deployment",
            title=Text("이전 버전으로 되돌리기", "Roll back to the earlier version"),
            steps=_device_steps(prepare, replace),
            parallel=1024,  # most may be waiting for their device
        ),
        Definition(
            kind="remove_deployment",
            title=Text("배포 제거", "Remove deployment"),
            steps=[
                Step("withdraw", Text("카메라 회수", "Take its cameras back"), remove.withdraw),
                Step("remove", Text("컨테이너 제거", "Remove the container"), remove.remove),
            ],
            parallel=32,
        ),
    ]


def _device_steps(prepare: Prepare, replace: Replace) -> list[Step]:
    return [
        Step(
            "preflight",
            Text("사전 점검", "Check the device"),
            prepare.preflight,
            timeout_s=120 + SLICE_S,
            temporary_limit=1_000_000,  # it keeps its own time: a device may be away for days
        ),
        Step("build", Text("이미지 빌드", "Build the image"), prepare.build, timeout_s=7200),
        Step(
            "plan",
            Text("교체 계획", "Plan the replacement"),
            prepare.plan,
            prepare.undo_plan,
            timeout_s=60,
        ),
        Step(
            "pull",
            Text("이미지 받기", "Pull the image"),
            prepare.pull,
            timeout_s=3600,
            temporary_limit=TRIES,
        ),
        Step(
            "stop_old",
            Text("이전 버전 정지", "Stop the old version"),
            replace.stop_old,
            replace.undo_stop_old,
            timeout_s=300,
            temporary_limit=TRIES,
        ),
        Step(
            "start",
            Text("새 버전 시작", "Start the new version"),
            replace.start,
            replace.undo_start,
            timeout_s=300,
            temporary_limit=TRIES,
        ),
        Step(
            "prove",
            Text("동작 확인", "Let it prove itself"),
            replace.prove,
            timeout_s=4000,
        ),
        Step(
            "switch",
            Text("카메라 전환", "Switch the cameras"),
            replace.switch,
            replace.undo_switch,
            timeout_s=120,
        ),
        Step(
            "retire",
            Text("이전 버전 정리", "Retire the old version"),
            replace.retire,
            timeout_s=300,
        ),
    ]
