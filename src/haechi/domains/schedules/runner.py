"""Takes up what is due, once, and sees each run to its end.

The moment a schedule is due its run is saved together with the next due time, so whatever dies
after that finds the run and goes on with it. Beginning is left to the actions, which are
idempotent; what was begun is an operation and survives by itself.
"""

import asyncio
import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from haechi.core.access import Principal, Role
from haechi.core.bus import Bus
from haechi.core.clock import Clock
from haechi.core.db import Database
from haechi.core.ids import new_id
from haechi.core.operations import State
from haechi.core.tasks import Tasks
from haechi.domains.schedules import store
from haechi.domains.schedules.model import (
    ActionName,
    NoMaintenanceHours,
    NothingToDo,
    OperationFailed,
    RunState,
    Schedule,
    ScheduleRun,
)
from haechi.domains.schedules.ports import Action, Operations
from haechi.domains.schedules.times import last_due, next_due, opens_at
from haechi.errors import AppError, NotFound

log = logging.getLogger(__name__)

_LOOK_S: Final = 60.0
"""At least so often, whatever the wall clock has done meanwhile."""
_GIVE_UP: Final = timedelta(days=8)
"""Weekly maintenance hours have come by then."""


class _Deleted(Exception):
    """Its schedule was deleted while the run went on."""


class Runner:
    def __init__(
        self,
        *,
        db: Database,
        bus: Bus,
        clock: Clock,
        operations: Operations,
        actions: Mapping[ActionName, Action],
    ) -> None:
        self._db = db
        self._bus = bus
        self._clock = clock
        self._operations = operations
        self._actions = actions
        self._tasks = Tasks("schedules")
        self._following: dict[str, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()

    def start(self) -> None:
        self._tasks.forever("due", self._keep)

    async def close(self) -> None:
        await self._tasks.close()

    def wake(self) -> None:
        """Something was added or changed: look at once."""
        self._wake.set()

    def drop(self, run_ids: list[str]) -> None:
        """Their schedule is gone; what was begun goes on."""
        for run_id in run_ids:
            task = self._following.get(run_id)
            if task is not None:
                task.cancel()

    async def _keep(self) -> None:
        while True:
            self._wake.clear()
            await self.take_up()
            async with self._db.read() as tx:
                moment = await store.next_moment(tx)
                active = await store.active_runs(tx)
            for run in active:
                self._follow(run)
            await self._pause(moment)

    async def _pause(self, moment: datetime | None) -> None:
        left_s = _LOOK_S
        if moment is not None:
            left_s = min(left_s, max(0.0, (moment - self._clock.now()).total_seconds()))
        alarm = self._tasks.spawn("alarm", self._ring(left_s))
        try:
            await self._wake.wait()
        finally:
            alarm.cancel()

    async def _ring(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._wake.set()

    async def take_up(self) -> None:
        """Make a run of everything that is due now."""
        now = self._clock.now()
        async with self._db.write() as tx:
            for row in await store.due(tx, now):
                assert row.next_at is not None
                due_at = row.next_at
                if row.cron is not None:
                    due_at = last_due(row.cron, row.timezone, due_at, now)
                    row.next_at = next_due(row.cron, row.timezone, now)
                else:
                    row.next_at = None
                row.enabled = row.next_at is not None
                state = RunState.WAITING
                if now - due_at > timedelta(seconds=row.catch_up_s):
                    state = RunState.MISSED
                elif await store.active_runs(tx, row.id):
                    state = RunState.SKIPPED
                tx.add(new_run(row.id, due_at, state, now))
                log.info("schedule %s, due %s: %s", row.name, due_at, state)

    def _follow(self, run: ScheduleRun) -> None:
        if run.id in self._following:
            return
        task = self._tasks.spawn(run.id, self._see_through(run))
        self._following[run.id] = task
        task.add_done_callback(lambda _: self._following.pop(run.id, None))

    # --- one run

    async def _see_through(self, run: ScheduleRun) -> None:
        try:
            async with self._db.read() as tx:
                schedule = store.to_schedule(await store.row_of(tx, run.schedule_id))
            await self._perform(run, schedule, self._actions[schedule.action])
        except (_Deleted, NotFound):
            log.info("run %s ends with its schedule, which was deleted", run.id)

    async def _perform(self, run: ScheduleRun, schedule: Schedule, action: Action) -> None:
        try:
            if run.started_at is None:
                devices = await action.devices(schedule.arguments)
                if action.by_device and not devices:
                    raise NothingToDo(name=schedule.name)
                now = self._clock.now()
                run = await self._save(run, waiting=devices, started_at=now)
            if action.by_device:
                run = await self._device_by_device(run, schedule, action)
            elif not run.operations:
                begun = await action.begin(schedule.arguments, [], acting(schedule))
                run = await self._save(run, operations=[one.id for one in begun])
            run = await self._save(run, state=RunState.RUNNING)
            errors = [*run.errors, *[one for one in await self._outcomes(run) if one]]
        except AppError as error:
            errors = [*run.errors, _told(error, run.waiting)]
        await self._save(
            run,
            state=RunState.FAILED if errors else RunState.SUCCEEDED,
            waiting=[],
            errors=errors,
            ended_at=self._clock.now(),
        )

    async def _device_by_device(
        self, run: ScheduleRun, schedule: Schedule, action: Action
    ) -> ScheduleRun:
        """Begin on each device when its maintenance hours are open."""
        while run.waiting:
            now = self._clock.now()
            moments = await self._moments(run, schedule, now)
            ready = [one for one, opens in moments.items() if opens is not None and opens <= now]
            if ready:
                run = await self._begin(run, schedule, action, ready)
                continue
            coming = [opens for opens in moments.values() if opens is not None]
            if not coming or now - run.due_at > _GIVE_UP:
                error = NoMaintenanceHours(
                    hours=round(_GIVE_UP.total_seconds() / 3600), device_ids=run.waiting
                )
                errors = [*run.errors, _told(error, run.waiting)]
                return await self._save(run, waiting=[], errors=errors)
            wait_s = (min(coming) - now).total_seconds()
            await self._clock.sleep(min(max(wait_s, 0.0), _LOOK_S))
        return run

    async def _moments(
        self, run: ScheduleRun, schedule: Schedule, now: datetime
    ) -> dict[str, datetime | None]:
        if run.at_once:
            return dict.fromkeys(run.waiting, now)
        async with self._db.read() as tx:
            return {
                device_id: opens_at(
                    (await store.maintenance(tx, device_id)).hours, schedule.timezone, now
                )
                for device_id in run.waiting
            }

    async def _begin(
        self, run: ScheduleRun, schedule: Schedule, action: Action, ready: list[str]
    ) -> ScheduleRun:
        begun, errors = list(run.operations), list(run.errors)
        try:
            operations = await action.begin(schedule.arguments, ready, acting(schedule))
            begun += [one.id for one in operations]
        except AppError as error:
            errors.append(_told(error, ready))
        left = [one for one in run.waiting if one not in ready]
        return await self._save(run, waiting=left, operations=begun, errors=errors)

    async def _outcomes(self, run: ScheduleRun) -> list[dict[str, Any] | None]:
        return [await self._outcome(operation_id) for operation_id in run.operations]

    async def _outcome(self, operation_id: str) -> dict[str, Any] | None:
        try:
            ended = await self._operations.wait(operation_id)
        except NotFound:  # so old that retention took it: its end is not known any more
            return None
        if ended.state == State.SUCCEEDED:
            return None
        return _told(OperationFailed(operation_id=operation_id, state=ended.state.value), [])

    async def _save(self, run: ScheduleRun, **values: Any) -> ScheduleRun:
        async with self._db.write() as tx:
            row = await store.run_row(tx, run.id)
            if row is None:  # its schedule was deleted under it
                raise _Deleted
            for name, value in values.items():
                setattr(row, name, value)
            await tx.flush()
            saved = store.to_run(row)
        data = {"kind": "schedule", "id": run.schedule_id, "state": saved.state.value}
        self._bus.publish("states", data)
        return saved


def new_run(
    schedule_id: str, due_at: datetime, state: RunState, now: datetime, *, at_once: bool = False
) -> store.ScheduleRunRow:
    return store.ScheduleRunRow(
        id=new_id("schedule_run"),
        schedule_id=schedule_id,
        due_at=due_at,
        at_once=at_once,
        state=state.value,
        waiting=[],
        operations=[],
        errors=[],
        started_at=None,
        ended_at=now if state.ended else None,
    )


def acting(schedule: Schedule) -> Principal:
    """As whom a run acts: the schedule, with the role of whoever saved it."""
    return Principal(
        kind="system", id=schedule.id, name=schedule.name, role=Role[schedule.role.upper()]
    )


def _told(error: AppError, device_ids: list[str]) -> dict[str, Any]:
    return {"code": error.code, "data": error.data, "device_ids": device_ids}
