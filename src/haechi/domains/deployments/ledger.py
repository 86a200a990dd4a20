"""The book of assignments inside transactions: epochs given out, trials, promotions, ends.

What callers of the service and operations both build on. It also keeps in memory what every
result asks for: whose epoch counts, and which camera a deployment has; that memory changes once
the transaction is committed.
"""

import secrets
from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from haechi.core import ids
from haechi.core.clock import Clock, to_ms
from haechi.core.db import after_commit
from haechi.domains.deployments import store
from haechi.domains.deployments.epochs import Epochs
from haechi.domains.deployments.model import Assignment, AssignmentState, Deployment
from haechi.protocol.assignments import Mode, Stream


class Ledger:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._epochs = Epochs()
        self._held: dict[str, dict[str, Assignment]] = {}
        """Deployment → its assignments by id, of those handed out."""

    def authoritative(
        self,
        camera_id: str,
        package_id: str,
        epoch: int | None,
        device_id: str,
        captured_ms: int | None = None,
    ) -> bool:
        """The epoch rule (CONTRACTS 6), from memory."""
        return self._epochs.authoritative(camera_id, package_id, epoch, device_id, captured_ms)

    def only_camera(self, deployment_id: str) -> str | None:
        """The camera of a result that names none: where the deployment has just one."""
        cameras = {one.camera_id for one in self._held.get(deployment_id, {}).values()}
        return cameras.pop() if len(cameras) == 1 else None

    def held(self, deployment_id: str, device_id: str) -> set[str]:
        """Ids of the assignments that this deployment has on this device."""
        found = self._held.get(deployment_id, {}).values()
        return {one.id for one in found if one.device_id == device_id}

    async def make(
        self,
        tx: AsyncSession,
        camera_id: str,
        target: Deployment,
        *,
        mode: Mode,
        fps: float,
        stream: Stream,
        until: datetime | None,
        reason: dict[str, str],
        state: AssignmentState,
        replaces: str | None = None,
        operation_id: str | None = None,
    ) -> Assignment:
        now = self._clock.now()
        made = Assignment(
            id=ids.new_id("assignment"),
            camera_id=camera_id,
            deployment_id=target.id,
            package_id=target.package_id,
            device_id=target.device_id,
            mode=mode,
            fps=fps,
            stream=stream,
            epoch=await store.next_epoch(tx, camera_id, target.package_id),
            state=state,
            replaces=replaces,
            operation_id=operation_id,
            export_path=f"x-{secrets.token_hex(16)}",
            until=until,
            reason=reason,
            created_at=now,
            effective_at=now if state == AssignmentState.ACTIVE else None,
            ended_at=None,
        )
        await store.add_assignment(tx, made)
        after_commit(tx, lambda: self.learn(made))
        return made

    async def end(self, tx: AsyncSession, assignments: Iterable[Assignment]) -> None:
        ended = list(assignments)
        await store.change_assignments(
            tx,
            [one.id for one in ended],
            state=AssignmentState.ENDED.value,
            ended_at=self._clock.now(),
        )
        after_commit(tx, lambda: self._forget(ended))

    def _forget(self, ended: Sequence[Assignment]) -> None:
        for one in ended:
            held = self._held.get(one.deployment_id, {})
            held.pop(one.id, None)
            if not held:
                self._held.pop(one.deployment_id, None)
            if one.state == AssignmentState.TRIAL:
                self._epochs.drop(one.camera_id, one.package_id, one.epoch)

    async def promote_one(self, tx: AsyncSession, trial: Assignment) -> list[Assignment]:
        now = self._clock.now()
        await store.change_assignments(
            tx, [trial.id], state=AssignmentState.ACTIVE.value, effective_at=now
        )
        key = (trial.camera_id, trial.package_id, trial.epoch, trial.device_id, to_ms(now))
        after_commit(tx, lambda: self._epochs.put(*key))
        if trial.replaces is None:
            return [trial]
        old = await store.assignment(tx, trial.replaces)
        if old.state != AssignmentState.ENDED:
            await self.end(tx, [old])
        return [trial, old]

    async def begin_trials(
        self,
        tx: AsyncSession,
        new: Sequence[Deployment],
        old: Sequence[Deployment],
        cameras: Sequence[str],
        operation_id: str,
    ) -> list[Assignment]:
        """What the old ones watch, and `cameras`, for the new ones, on trial. Repeated: the
        same. A camera that another deployment of the package watches is left to it, unless the
        caller named it.
        """
        if not new:
            return []
        there = await store.assignments_of(tx, [one.id for one in new])
        if there:
            return there
        wishes = new[0].wishes
        old_ids = {one.id for one in old}
        before = {found.camera_id: found for found in await store.assignments_of(tx, [*old_ids])}
        wanted = list(wishes.camera_ids) if wishes.camera_ids is not None else list(before)
        if wishes.camera_ids is None and not old:
            wanted = list(cameras)
        made = []
        for deployment in new:
            if deployment.camera == "none":
                continue
            own = [deployment.camera_id] if deployment.camera_id else wanted
            for camera_id in own:
                taken = [
                    other
                    for other in await store.handed_out(
                        tx, camera_id=camera_id, package_id=deployment.package_id
                    )
                    if other.deployment_id not in old_ids
                ]
                if taken and wishes.camera_ids is None and not deployment.camera_id:
                    continue
                like = before.get(camera_id)
                replaced = like or (taken[0] if taken else None)
                made.append(
                    await self.make(
                        tx,
                        camera_id,
                        deployment,
                        mode=like.mode if like else wishes.mode,
                        fps=like.fps if like else wishes.fps,
                        stream=like.stream if like else wishes.stream,
                        until=None,
                        reason=like.reason if like else {},
                        state=AssignmentState.TRIAL,
                        replaces=replaced.id if replaced else None,
                        operation_id=operation_id,
                    )
                )
        return made

    async def promote(
        self, tx: AsyncSession, new_ids: Sequence[str], old_ids: Sequence[str]
    ) -> list[Assignment]:
        """The trials of `new_ids` count from now on; what they replace ends."""
        changed: list[Assignment] = []
        for one in await store.assignments_of(tx, new_ids):
            if one.state == AssignmentState.TRIAL:
                changed += await self.promote_one(tx, one)
        left = await store.assignments_of(tx, old_ids)
        await self.end(tx, left)
        return [*changed, *left]

    async def give_back(
        self, tx: AsyncSession, given: Sequence[Assignment], old: Sequence[Deployment]
    ) -> list[Assignment]:
        """Undo `promote`: the old deployments get their cameras again, under a new epoch."""
        by_id = {one.id: one for one in old}
        changed: list[Assignment] = []
        for one in given:
            if one.state != AssignmentState.ACTIVE or one.replaces is None:
                continue  # still a trial: the old one never lost it
            before = await store.assignment(tx, one.replaces)
            target = by_id.get(before.deployment_id)
            if target is None:
                continue
            await self.end(tx, [one])
            again = await self.make(
                tx,
                one.camera_id,
                target,
                mode=before.mode,
                fps=before.fps,
                stream=before.stream,
                until=before.until,
                reason=before.reason,
                state=AssignmentState.ACTIVE,
                replaces=one.id,
            )
            changed += [one, again]
        return changed

    async def end_of(self, tx: AsyncSession, deployment_ids: Sequence[str]) -> list[Assignment]:
        """All that these deployments hold."""
        found = await store.assignments_of(tx, deployment_ids)
        await self.end(tx, found)
        return found

    def learn(self, known: Assignment) -> None:
        if known.state != AssignmentState.ENDED:
            self._held.setdefault(known.deployment_id, {})[known.id] = known
        self._epochs.put(
            known.camera_id,
            known.package_id,
            known.epoch,
            known.device_id,
            None if known.effective_at is None else to_ms(known.effective_at),
        )
