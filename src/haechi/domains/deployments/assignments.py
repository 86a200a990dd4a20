"""Assignments: cameras handed to deployments, and moving them without a gap.

Make before break: the new assignment begins as a trial, becomes authoritative with its first
result (or after a few seconds), and only then the one before it ends. Nothing restarts.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from haechi.core.access import Principal
from haechi.core.bus import Bus
from haechi.core.clock import Clock
from haechi.core.db import Database
from haechi.core.pages import DEFAULT_LIMIT, Page
from haechi.core.tasks import Tasks
from haechi.domains.agents.model import NotConnected
from haechi.domains.audit.ports import AuditTrail
from haechi.domains.deployments import store
from haechi.domains.deployments.ledger import Ledger
from haechi.domains.deployments.model import (
    AlreadyAssigned,
    Assignment,
    AssignmentState,
    Deployment,
    FixedCamera,
    NoHome,
    NotRunning,
    OtherPackage,
    TakesNoCamera,
)
from haechi.domains.deployments.ports import Devices, Places
from haechi.errors import NotFound
from haechi.protocol.assignments import Mode, Stream
from haechi.protocol.results import AgentResult

log = logging.getLogger(__name__)

HANDOVER_S: Final = 8.0
"""A move waits so long for the new deployment's first result before the old one ends anyway."""
APPLIED_S: Final = 60.0


class Assignments:
    def __init__(
        self,
        *,
        db: Database,
        bus: Bus,
        clock: Clock,
        audit: AuditTrail,
        places: Places,
        devices: Devices,
        handover_s: float = HANDOVER_S,
    ) -> None:
        self._db = db
        self._bus = bus
        self._clock = clock
        self._audit = audit
        self._places = places
        self._devices = devices
        self._handover_s = handover_s
        self.ledger = Ledger(clock)
        self._awaited: dict[str, asyncio.Event] = {}
        self._last_result_s: dict[str, float] = {}
        self._tasks = Tasks("assignments")
        devices.listen_results(self._on_results)

    async def start(self) -> None:
        """Learn the epochs again; finish moves that a stopped server left half-way."""
        async with self._db.read() as tx:
            for known in await store.recent_epochs(tx):
                self.ledger.learn(known)
            half_way = await store.handed_out(tx, state=AssignmentState.TRIAL.value)
        for trial in half_way:
            if trial.operation_id is None:
                _ = self._tasks.spawn(f"move:{trial.id}", self._hand_over(trial))

    async def close(self) -> None:
        await self._tasks.close()

    # --- asked from outside

    async def assign_camera(
        self,
        camera_id: str,
        deployment_id: str,
        *,
        by: Principal,
        mode: Mode = "watch",
        fps: float = 5.0,
        stream: Stream = "main",
        until: datetime | None = None,
        reason: dict[str, str] | None = None,
    ) -> Assignment:
        camera = await self._places.camera(camera_id)
        if camera.device_id is None:
            raise NoHome(camera_id=camera_id)
        async with self._db.write() as tx:
            target = await store.deployment(tx, deployment_id)
            _check_target(target, camera.camera_id)
            for other in await store.handed_out(
                tx, camera_id=camera.camera_id, package_id=target.package_id
            ):
                raise AlreadyAssigned(camera_id=camera.camera_id, assignment_id=other.id)
            made = await self.ledger.make(
                tx,
                camera.camera_id,
                target,
                mode=mode,
                fps=fps,
                stream=stream,
                until=until,
                reason=reason or {},
                state=AssignmentState.ACTIVE,
            )
            await self._audit.record(
                tx,
                by,
                "assign_camera",
                made.id,
                {"camera_id": camera.camera_id, "deployment_id": deployment_id},
            )
        await self.announce([made])
        return made

    async def move_assignment(
        self,
        assignment_id: str,
        deployment_id: str,
        *,
        by: Principal,
        reason: dict[str, str] | None = None,
    ) -> Assignment:
        """A new assignment for the same camera on another deployment, which may be on another
        device; the old one ends once the new one has spoken. Returns the new one.
        """
        async with self._db.write() as tx:
            old = await store.assignment(tx, assignment_id)
            if old.state == AssignmentState.ENDED or old.deployment_id == deployment_id:
                raise AlreadyAssigned(camera_id=old.camera_id, assignment_id=assignment_id)
            for other in await store.handed_out(
                tx, camera_id=old.camera_id, package_id=old.package_id
            ):
                if other.id != old.id:  # it is being moved already
                    raise AlreadyAssigned(camera_id=old.camera_id, assignment_id=other.id)
            target = await store.deployment(tx, deployment_id)
            if target.package_id != old.package_id:
                raise OtherPackage
            _check_target(target, old.camera_id)
            if not self._devices.is_connected(target.device_id):
                raise NotConnected(device_id=target.device_id)
            made = await self.ledger.make(
                tx,
                old.camera_id,
                target,
                mode=old.mode,
                fps=old.fps,
                stream=old.stream,
                until=old.until,
                reason=reason or {},
                state=AssignmentState.TRIAL,
                replaces=old.id,
            )
            await self._audit.record(
                tx,
                by,
                "move_assignment",
                old.id,
                {"to": made.id, "deployment_id": deployment_id, "device_id": target.device_id},
            )
        self._awaited[made.id] = asyncio.Event()
        await self.announce([made])
        _ = self._tasks.spawn(f"move:{made.id}", self._hand_over(made))
        return made

    async def end_assignment(self, assignment_id: str, *, by: Principal) -> None:
        async with self._db.write() as tx:
            found = await store.assignment(tx, assignment_id)
            if found.state == AssignmentState.ENDED:
                return
            await self.ledger.end(tx, [found])
            await self._audit.record(tx, by, "end_assignment", assignment_id)
        await self.announce([found])

    async def get(self, assignment_id: str) -> Assignment:
        async with self._db.read() as tx:
            return await store.assignment(tx, assignment_id)

    async def find(
        self,
        *,
        camera_id: str | None = None,
        deployment_id: str | None = None,
        device_id: str | None = None,
        include_ended: bool = False,
        limit: int = DEFAULT_LIMIT,
        cursor: str | None = None,
    ) -> Page[Assignment]:
        async with self._db.read() as tx:
            return await store.find_assignments(
                tx,
                camera_id=camera_id,
                deployment_id=deployment_id,
                device_id=device_id,
                include_ended=include_ended,
                limit=limit,
                cursor=cursor,
            )

    # --- used by operations and by results

    def authoritative(
        self,
        camera_id: str,
        package_id: str,
        epoch: int | None,
        device_id: str,
        captured_ms: int | None = None,
    ) -> bool:
        """The epoch rule (CONTRACTS 6), from memory."""
        return self.ledger.authoritative(camera_id, package_id, epoch, device_id, captured_ms)

    def only_camera(self, deployment_id: str) -> str | None:
        """The camera of a result that names none: where the deployment has just one."""
        return self.ledger.only_camera(deployment_id)

    async def wait_first_results(self, assignments: Sequence[Assignment], timeout_s: float) -> bool:
        """True once each has given a result (as stored by the server)."""
        events = [self._awaited.setdefault(one.id, asyncio.Event()) for one in assignments]
        try:
            async with asyncio.timeout(timeout_s):
                for event in events:
                    await event.wait()
        except TimeoutError:
            return False
        finally:
            for one in assignments:
                self._awaited.pop(one.id, None)
        return True

    def await_results(self, assignments: Iterable[Assignment]) -> None:
        """Remember from now on whether they give results (before they are handed out)."""
        for one in assignments:
            self._awaited.setdefault(one.id, asyncio.Event())

    def seconds_since_result(self, deployment_id: str) -> float | None:
        at_s = self._last_result_s.get(deployment_id)
        return None if at_s is None else self._clock.monotonic() - at_s

    async def announce(self, changed: Iterable[Assignment]) -> None:
        """After commit: the devices concerned get their new desired state; screens are told."""
        homes: set[str] = set()
        for one in changed:
            homes.add(one.device_id)
            try:
                camera = await self._places.camera(one.camera_id)
            except NotFound:
                camera = None
            if camera is not None and camera.device_id is not None:
                homes.add(camera.device_id)
            data: dict[str, Any] = {"kind": "assignment", "id": one.id, "camera_id": one.camera_id}
            self._bus.publish("states", data)
        for device_id in homes:
            self._devices.changed(device_id)

    # --- inside

    async def _hand_over(self, trial: Assignment) -> None:
        """Wait until the new device has it and has spoken, then end the old one."""
        revision = await self._devices.push(trial.device_id)
        if not await self._devices.wait_applied(trial.device_id, revision, APPLIED_S):
            await self._take_back(trial)
            return
        spoke = await self.wait_first_results([trial], self._handover_s)
        async with self._db.write() as tx:
            now = await store.assignment(tx, trial.id)
            if now.state != AssignmentState.TRIAL:
                return
            changed = await self.ledger.promote_one(tx, now)
        if not spoke:
            log.warning("assignment %s moved without a result of the new deployment", trial.id)
        await self.announce(changed)

    async def _take_back(self, trial: Assignment) -> None:
        """The new device never took it: the old one goes on as if nothing had been."""
        log.warning("assignment %s was not taken by device %s", trial.id, trial.device_id)
        self._awaited.pop(trial.id, None)
        async with self._db.write() as tx:
            await self.ledger.end(tx, [trial])
        await self.announce([trial])

    def _on_results(self, device_id: str, rows: list[AgentResult]) -> None:
        """Of deployments that hold a camera on that device; what else a device says is its own."""
        now_s = self._clock.monotonic()
        for row in rows:
            held = self.ledger.held(row.deployment_id, device_id)
            if not held:
                continue
            self._last_result_s[row.deployment_id] = now_s
            event = self._awaited.get(row.result.assignment_id or "")
            if event is not None and row.result.assignment_id in held:
                event.set()


def _check_target(target: Deployment, camera_id: str) -> None:
    if not target.state.live:
        raise NotRunning(id=target.id)
    if target.camera == "none":
        raise TakesNoCamera
    if target.camera == "one" and target.camera_id != camera_id:
        raise FixedCamera
