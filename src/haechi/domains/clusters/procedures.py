"""The kinds of operation of this domain, step by step. Step names are saved: never rename one."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from haechi.core.operations import Definition, Operation, Run, State, Step, Temporary
from haechi.domains.clusters import store
from haechi.domains.clusters.context import Context
from haechi.domains.clusters.deleting import Deleting
from haechi.domains.clusters.forming import Forming
from haechi.domains.clusters.host.errors import HostAway
from haechi.domains.clusters.host.ports import CARRY_S
from haechi.domains.clusters.leaving import Leaving
from haechi.domains.clusters.model import ClusterState, MemberState
from haechi.errors import Text, Unavailable

FORM: Final = "form_cluster"
ADD: Final = "add_node"
REMOVE: Final = "remove_node"
DELETE: Final = "delete_cluster"
_HOUR_S: Final = 3600.0
_PATIENCE: Final = 10
"""So often a step is tried again while the cluster's API does not answer."""


def form_steps(forming: Forming) -> list[Step]:
    return [
        Step("check", Text("호스트 점검", "Check the hosts"), forming.check, timeout_s=300),
        Step(
            "snapshot",
            Text("호스트 상태 기록", "Record what the hosts are like"),
            forming.snapshot,
            timeout_s=600,
        ),
        Step(
            "prepare",
            Text("호스트 준비", "Prepare the hosts"),
            forming.prepare,
            forming.undo_prepare,
            timeout_s=CARRY_S,
        ),
        Step(
            "initialise",
            Text("제어 노드 시작", "Start the control plane"),
            forming.initialise,
            timeout_s=1200,
        ),
        Step(
            "keep_kubeconfig",
            Text("kubeconfig 보관", "Keep the kubeconfig"),
            forming.keep_kubeconfig,
            timeout_s=600,
        ),
        Step("network", Text("파드 네트워크", "Set the pods' network up"), forming.network),
        *join_steps(forming),
    ]


def add_steps(forming: Forming) -> list[Step]:
    """As forming, without what makes the cluster itself."""
    own = {"initialise", "keep_kubeconfig", "network"}
    return [step for step in form_steps(forming) if step.name not in own]


def steps_of(forming: Forming, *names: str) -> list[Step]:
    """Some of them, for what forms a node on the way to something else."""
    return [step for step in form_steps(forming) if step.name in names]


def join_steps(forming: Forming) -> list[Step]:
    return [
        Step(
            "join_control_planes",
            Text("제어 노드 추가", "Join further control planes"),
            forming.join_control_planes,
            timeout_s=_HOUR_S,
        ),
        Step(
            "join_workers",
            Text("작업 노드 추가", "Join the workers"),
            forming.join_workers,
            timeout_s=_HOUR_S,
        ),
        Step(
            "apply_hooks",
            Text("레지스트리·에이전트 연결", "Wire registry and agent"),
            forming.apply_hooks,
            timeout_s=1800,
        ),
        Step(
            "wait_ready",
            Text("준비 대기", "Wait until all are ready"),
            forming.wait_ready,
            timeout_s=1200,
        ),
        Step("finish", Text("마무리", "Finish"), forming.finish),
    ]


def definitions(
    context: Context, forming: Forming, leaving: Leaving, deleting: Deleting
) -> list[Definition]:
    ends = _Ends(context)
    found = [
        Definition(
            kind=FORM,
            title=Text("클러스터 구성", "Form cluster"),
            steps=form_steps(forming),
            parallel=16,
            on_end=ends.formed,
        ),
        Definition(
            kind=ADD,
            title=Text("노드 추가", "Add nodes"),
            steps=add_steps(forming),
            parallel=16,
            on_end=ends.added,
        ),
        Definition(
            kind=REMOVE,
            title=Text("노드 제거", "Remove node"),
            steps=[
                Step(
                    "drain",
                    Text("작업 옮기기", "Move its work away"),
                    leaving.drain,
                    leaving.undo_drain,
                    timeout_s=600,
                ),
                Step("say_goodbye", Text("연결 해제", "Take hooks back"), leaving.say_goodbye),
                Step("delete_node", Text("노드 삭제", "Delete the node"), leaving.delete_node),
                Step("clean", Text("호스트 정리", "Clean the host"), leaving.clean),
            ],
            parallel=16,
        ),
        Definition(
            kind=DELETE,
            title=Text("클러스터 삭제", "Delete cluster"),
            steps=[
                Step("begin", Text("삭제 시작", "Begin"), deleting.begin),
                Step(
                    "clean_workers",
                    Text("작업 노드 정리", "Clean the workers"),
                    deleting.clean_workers,
                    timeout_s=1800,
                ),
                Step(
                    "clean_control_planes",
                    Text("제어 노드 정리", "Clean the control planes"),
                    deleting.clean_control_planes,
                    timeout_s=1800,
                ),
                Step(
                    "prove", Text("원상태 확인", "Prove that hosts are as before"), deleting.prove
                ),
            ],
            parallel=16,
            on_end=ends.deleted,
        ),
    ]
    return [patient(context, one) for one in found]


def patient(context: Context, definition: Definition) -> Definition:
    """Also for what is made of the same steps elsewhere."""
    return replace(definition, steps=[_patient(context, step) for step in definition.steps])


def _patient(context: Context, step: Step) -> Step:
    """An API that does not answer for a moment ends nothing. Hosts that are away were waited for
    already (`Context.on_host`).
    """

    async def do(run: Run) -> None:
        try:
            await step.do(run)
        except HostAway:
            raise
        except Unavailable as error:
            raise Temporary(context.pace.retry_s, error) from error

    return replace(step, do=do, temporary_limit=_PATIENCE)


class _Ends:
    """What is true of a cluster once an operation about it has ended, however it did."""

    def __init__(self, context: Context) -> None:
        self._c = context

    async def formed(self, operation: Operation) -> None:
        """One that was not formed is no cluster: its hosts are clean, or recorded as not clean."""
        if operation.state == State.SUCCEEDED:
            return
        c = self._c
        async with c.db.write() as tx:
            cluster = await store.cluster(tx, operation.subject)
            if cluster.state == ClusterState.READY:
                return
            await self._let_go(tx, operation)
            await store.delete_secrets(tx, operation.subject)
            await store.change_cluster(
                tx,
                operation.subject,
                state=ClusterState.FAILED.value,
                ended_at=c.clock.now(),
                message=_why(operation),
            )
        c.announce(operation.subject)

    async def added(self, operation: Operation) -> None:
        if operation.state == State.SUCCEEDED:
            return
        async with self._c.db.write() as tx:
            await self._let_go(tx, operation)
        self._c.announce(operation.subject)

    async def deleted(self, operation: Operation) -> None:
        """Stopped on the way: what is gone is gone; deleting again goes on from there."""
        if operation.state == State.SUCCEEDED:
            return
        await self._c.change_cluster(operation.subject, message=_why(operation))

    async def _let_go(self, tx: AsyncSession, operation: Operation) -> None:
        """Devices that were not touched are free; of others nobody knows what is left there."""
        states = {
            MemberState.PLANNED: MemberState.GONE,
            MemberState.JOINING: MemberState.CLEANING,
        }
        mine: Sequence[str] = operation.ctx["device_ids"]
        for member in await store.members(tx, operation.subject):
            if member.device_id in mine and member.state in states:
                await store.change_member(
                    tx,
                    member.cluster_id,
                    member.device_id,
                    state=states[member.state].value,
                    left_at=self._c.clock.now(),
                )


def _why(operation: Operation) -> str:
    if operation.error is None:
        return operation.state.value
    return str(operation.error["code"])
