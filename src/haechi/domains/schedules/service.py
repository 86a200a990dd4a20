"""Schedules as others use them: save, look, run now, and the maintenance hours of devices."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sqlalchemy.ext.asyncio import AsyncSession

from haechi.core.access import Principal, Role
from haechi.core.bus import Bus
from haechi.core.clock import Clock
from haechi.core.db import Database
from haechi.core.ids import new_id
from haechi.core.pages import DEFAULT_LIMIT, Page
from haechi.domains.audit.ports import AuditTrail
from haechi.domains.schedules import store
from haechi.domains.schedules.model import (
    ActionName,
    BadArguments,
    DuplicateSchedule,
    Hours,
    Maintenance,
    NeverDue,
    OneTime,
    RunState,
    Schedule,
    ScheduleRun,
    StillRunning,
    shown,
)
from haechi.domains.schedules.ports import Action, Operations, Site
from haechi.domains.schedules.runner import Runner, new_run
from haechi.domains.schedules.times import check_cron, check_hours, next_due
from haechi.errors import BadRequest, StaleEdit

_KEEP_RUNS: Final = timedelta(days=365)


class Schedules:
    def __init__(
        self,
        *,
        db: Database,
        bus: Bus,
        clock: Clock,
        audit: AuditTrail,
        operations: Operations,
        site: Site,
    ) -> None:
        self._db = db
        self._clock = clock
        self._audit = audit
        self._site = site
        self._actions: dict[ActionName, Action] = {}
        self._runner = Runner(
            db=db, bus=bus, clock=clock, operations=operations, actions=self._actions
        )

    def can(self, name: ActionName, action: Action) -> None:
        """Teach it one more thing to do; before `start`."""
        self._actions[name] = action

    def start(self) -> None:
        """After operations are resumed: runs wait for them."""
        self._runner.start()

    async def close(self) -> None:
        await self._runner.close()

    # --- schedules

    async def create_schedule(
        self,
        name: str,
        action: ActionName,
        arguments: dict[str, Any],
        *,
        by: Principal,
        at: datetime | None = None,
        cron: str | None = None,
        timezone: str | None = None,
        catch_up_s: int = 3600,
        enabled: bool = True,
    ) -> Schedule:
        """`timezone` absent: the site's. Raises DuplicateSchedule, BadCron, NeverDue, OneTime and
        what the action refuses.
        """
        checked = await self._checked(action, arguments, by)
        timezone = _zone(timezone or await self._site.timezone())
        cron, next_at = self._when(at, cron, timezone)
        async with self._db.write() as tx:
            await _refuse_duplicate(tx, name)
            row = store.ScheduleRow(
                id=new_id("schedule"),
                name=name,
                action=action,
                arguments=checked,
                at=at,
                cron=cron,
                timezone=timezone,
                catch_up_s=catch_up_s,
                enabled=enabled,
                next_at=next_at,
                message="",
                role=_role(by),
                created_by=by.name,
                revision=1,
                created_at=self._clock.now(),
            )
            tx.add(row)
            await tx.flush()
            details = {"name": name, "action": action, "arguments": shown(checked)}
            await self._audit.record(tx, by, "create_schedule", row.id, details)
        self._runner.wake()
        return store.to_schedule(row)

    async def edit_schedule(
        self, schedule_id: str, changes: dict[str, Any], *, by: Principal, revision: int
    ) -> Schedule:
        """`changes` may hold name, arguments, at, cron, timezone, catch_up_s, enabled."""
        known = await self.get(schedule_id)
        at, cron = known.at, known.cron
        if "at" in changes or "cron" in changes:  # the one given takes the other's place
            at, cron = changes.get("at"), changes.get("cron")
        timezone = _zone(changes.get("timezone") or known.timezone)
        enabled = changes.get("enabled", known.enabled)
        next_at = known.next_at
        moved = (at, cron, timezone) != (known.at, known.cron, known.timezone)
        if moved or (enabled and not known.enabled):
            cron, next_at = self._when(at, cron, timezone)
        arguments = await self._checked(known.action, changes.get("arguments", known.arguments), by)
        async with self._db.write() as tx:
            row = await store.row_of(tx, schedule_id)
            if row.revision != revision:
                raise StaleEdit
            name = changes.get("name", row.name)
            if name != row.name:
                await _refuse_duplicate(tx, name)
            row.name, row.arguments = name, arguments
            row.at, row.cron, row.timezone = at, cron, timezone
            row.next_at, row.enabled, row.message = next_at, enabled, ""
            row.catch_up_s = changes.get("catch_up_s", row.catch_up_s)
            row.role = _role(by)
            row.revision += 1
            await tx.flush()
            await self._audit.record(tx, by, "edit_schedule", row.id, {"name": row.name})
        self._runner.wake()
        return store.to_schedule(row)

    async def delete_schedule(self, schedule_id: str, *, by: Principal) -> None:
        """What it has begun already goes on."""
        async with self._db.write() as tx:
            row = await store.row_of(tx, schedule_id)
            active = await store.active_runs(tx, schedule_id)
            await tx.delete(row)
            await self._audit.record(tx, by, "delete_schedule", row.id, {"name": row.name})
        self._runner.drop([run.id for run in active])

    async def run_schedule(self, schedule_id: str, *, by: Principal) -> ScheduleRun:
        """Now, whatever the maintenance hours. Raises StillRunning."""
        now = self._clock.now()
        async with self._db.write() as tx:
            row = await store.row_of(tx, schedule_id)
            if await store.active_runs(tx, schedule_id):
                raise StillRunning(name=row.name)
            run = new_run(row.id, now, RunState.WAITING, now, at_once=True)
            tx.add(run)
            await tx.flush()
            await self._audit.record(tx, by, "run_schedule", row.id, {"name": row.name})
        self._runner.wake()
        return store.to_run(run)

    async def get(self, schedule_id: str) -> Schedule:
        async with self._db.read() as tx:
            return store.to_schedule(await store.row_of(tx, schedule_id))

    async def find(
        self, *, name: str | None = None, limit: int = DEFAULT_LIMIT, cursor: str | None = None
    ) -> Page[Schedule]:
        async with self._db.read() as tx:
            return await store.find(tx, name=name, limit=limit, cursor=cursor)

    async def runs(
        self, schedule_id: str, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None
    ) -> Page[ScheduleRun]:
        async with self._db.read() as tx:
            await store.row_of(tx, schedule_id)
            return await store.find_runs(tx, schedule_id, limit=limit, cursor=cursor)

    async def forget_old(self) -> None:
        async with self._db.write() as tx:
            await store.forget_runs(tx, self._clock.now() - _KEEP_RUNS)

    async def that_deploy(self, tx: AsyncSession, version_id: str) -> list[Schedule]:
        """Those that would deploy this package version."""
        return [
            store.to_schedule(row)
            for row in await store.all_schedules(tx)
            if row.action == "deploy_package" and row.arguments.get("version_id") == version_id
        ]

    # --- maintenance hours

    async def maintenance(self, device_ref: str) -> Maintenance:
        device_id = await self._site.device_id(device_ref)
        async with self._db.read() as tx:
            return await store.maintenance(tx, device_id)

    async def set_maintenance(
        self, device_ref: str, hours: Sequence[Hours], *, by: Principal, revision: int
    ) -> Maintenance:
        """No hours: at any time. Raises BadHours, StaleEdit."""
        device_id = await self._site.device_id(device_ref)
        checked = [check_hours(one) for one in hours]
        async with self._db.write() as tx:
            known = await store.maintenance(tx, device_id)
            if known.revision != revision:
                raise StaleEdit
            changed = await store.set_maintenance(tx, device_id, checked)
            await self._audit.record(tx, by, "set_maintenance", device_id, {"hours": len(checked)})
            return changed

    async def forget_device(self, tx: AsyncSession, device_id: str) -> None:
        await store.forget_device(tx, device_id)

    # --- checks

    def _when(
        self, at: datetime | None, cron: str | None, timezone: str
    ) -> tuple[str | None, datetime]:
        now = self._clock.now()
        if (at is None) == (cron is None):
            raise OneTime
        if cron is None:
            assert at is not None
            if at <= now:
                raise NeverDue(when=at.isoformat())
            return None, at
        cron = check_cron(cron)
        due = next_due(cron, timezone, now)
        if due is None:
            raise NeverDue(when=cron)
        return cron, due

    async def _checked(
        self, name: ActionName, arguments: dict[str, Any], by: Principal
    ) -> dict[str, Any]:
        action = self._actions.get(name)
        if action is None:
            raise BadArguments(action=name, reason="this server cannot do it")
        return await action.check(arguments, by)


def _role(by: Principal) -> str:
    return "admin" if by.role == Role.ADMIN else "operator"


def _zone(name: str) -> str:
    try:
        return ZoneInfo(name).key
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise BadRequest(reason="timezone") from error


async def _refuse_duplicate(tx: AsyncSession, name: str) -> None:
    if await store.by_name(tx, name) is not None:
        raise DuplicateSchedule(name=name)
