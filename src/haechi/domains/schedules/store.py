"""Tables of schedules, their runs and maintenance hours."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from haechi.core.clock import to_text
from haechi.core.db import Base, Json, UtcDateTime
from haechi.core.pages import Page, decode_cursor, decode_moment_cursor, page_of
from haechi.domains.schedules.model import Hours, Maintenance, RunState, Schedule, ScheduleRun
from haechi.errors import ObjectNotFound


class ScheduleRow(Base):
    __tablename__ = "schedules"

    id: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(128), unique=True)
    action: Mapped[str] = mapped_column(sa.String(32))
    arguments: Mapped[dict[str, Any]] = mapped_column(Json)
    at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    cron: Mapped[str | None] = mapped_column(sa.String(200))
    timezone: Mapped[str] = mapped_column(sa.String(64))
    catch_up_s: Mapped[int]
    enabled: Mapped[bool]
    next_at: Mapped[datetime | None] = mapped_column(UtcDateTime, index=True)
    message: Mapped[str] = mapped_column(sa.String(500))
    role: Mapped[str] = mapped_column(sa.String(16))
    created_by: Mapped[str] = mapped_column(sa.String(128))
    revision: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class ScheduleRunRow(Base):
    """(schedule, due time) is unique: a moment is taken up once, whatever dies on the way."""

    __tablename__ = "schedule_runs"
    __table_args__ = (sa.UniqueConstraint("schedule_id", "due_at"),)

    id: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    schedule_id: Mapped[str] = mapped_column(sa.ForeignKey("schedules.id", ondelete="CASCADE"))
    due_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    at_once: Mapped[bool]
    state: Mapped[str] = mapped_column(sa.String(16), index=True)
    waiting: Mapped[list[str]] = mapped_column(Json)
    operations: Mapped[list[str]] = mapped_column(Json)
    errors: Mapped[list[dict[str, Any]]] = mapped_column(Json)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class MaintenanceRow(Base):
    __tablename__ = "maintenance_hours"

    device_id: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    hours: Mapped[list[dict[str, Any]]] = mapped_column(Json)
    revision: Mapped[int]


def to_schedule(row: ScheduleRow) -> Schedule:
    return Schedule(**{name: getattr(row, name) for name in Schedule.__slots__})


def to_run(row: ScheduleRunRow) -> ScheduleRun:
    values = {name: getattr(row, name) for name in ScheduleRun.__slots__}
    return ScheduleRun(**values | {"state": RunState(row.state)})


async def row_of(tx: AsyncSession, schedule_id: str) -> ScheduleRow:
    row = await tx.get(ScheduleRow, schedule_id)
    if row is None:
        raise ObjectNotFound(kind="schedule", id=schedule_id)
    return row


async def by_name(tx: AsyncSession, name: str) -> ScheduleRow | None:
    return (await tx.scalars(sa.select(ScheduleRow).where(ScheduleRow.name == name))).first()


async def find(
    tx: AsyncSession, *, name: str | None, limit: int, cursor: str | None
) -> Page[Schedule]:
    """By name."""
    query = sa.select(ScheduleRow).order_by(ScheduleRow.name, ScheduleRow.id)
    if name is not None:
        query = query.where(ScheduleRow.name == name)
    after = decode_cursor(cursor, 2)
    if after is not None:
        query = query.where(sa.tuple_(ScheduleRow.name, ScheduleRow.id) > sa.tuple_(*after))
    rows = (await tx.scalars(query.limit(limit + 1))).all()
    page = page_of(rows, limit, lambda row: (row.name, row.id))
    return Page([to_schedule(row) for row in page.items], page.next_cursor)


async def all_schedules(tx: AsyncSession) -> list[ScheduleRow]:
    return list(await tx.scalars(sa.select(ScheduleRow)))


async def due(tx: AsyncSession, now: datetime) -> list[ScheduleRow]:
    query = sa.select(ScheduleRow).where(ScheduleRow.enabled, ScheduleRow.next_at <= now)
    return list(await tx.scalars(query.order_by(ScheduleRow.next_at)))


async def next_moment(tx: AsyncSession) -> datetime | None:
    query = sa.select(sa.func.min(ScheduleRow.next_at)).where(ScheduleRow.enabled)
    return await tx.scalar(query)


async def active_runs(tx: AsyncSession, schedule_id: str | None = None) -> list[ScheduleRun]:
    active = [state.value for state in RunState if not state.ended]
    query = sa.select(ScheduleRunRow).where(ScheduleRunRow.state.in_(active))
    if schedule_id is not None:
        query = query.where(ScheduleRunRow.schedule_id == schedule_id)
    return [to_run(row) for row in await tx.scalars(query.order_by(ScheduleRunRow.due_at))]


async def run_row(tx: AsyncSession, run_id: str) -> ScheduleRunRow | None:
    return await tx.get(ScheduleRunRow, run_id)


async def find_runs(
    tx: AsyncSession, schedule_id: str, *, limit: int, cursor: str | None
) -> Page[ScheduleRun]:
    """Newest first."""
    query = (
        sa.select(ScheduleRunRow)
        .where(ScheduleRunRow.schedule_id == schedule_id)
        .order_by(ScheduleRunRow.due_at.desc(), ScheduleRunRow.id.desc())
    )
    before = decode_moment_cursor(cursor)
    if before is not None:
        at, run_id = before
        query = query.where(
            sa.or_(
                ScheduleRunRow.due_at < at,
                sa.and_(ScheduleRunRow.due_at == at, ScheduleRunRow.id < run_id),
            )
        )
    rows = (await tx.scalars(query.limit(limit + 1))).all()
    page = page_of(rows, limit, lambda row: (to_text(row.due_at), row.id))
    return Page([to_run(row) for row in page.items], page.next_cursor)


async def forget_runs(tx: AsyncSession, before: datetime) -> None:
    await tx.execute(sa.delete(ScheduleRunRow).where(ScheduleRunRow.ended_at < before))


async def maintenance(tx: AsyncSession, device_id: str) -> Maintenance:
    row = await tx.get(MaintenanceRow, device_id)
    if row is None:
        return Maintenance(device_id, [], 0)
    return Maintenance(device_id, [Hours(**one) for one in row.hours], row.revision)


async def set_maintenance(tx: AsyncSession, device_id: str, hours: list[Hours]) -> Maintenance:
    known = await maintenance(tx, device_id)
    row = MaintenanceRow(
        device_id=device_id, hours=[asdict(one) for one in hours], revision=known.revision + 1
    )
    await tx.merge(row)
    await tx.flush()
    return Maintenance(device_id, hours, row.revision)


async def forget_device(tx: AsyncSession, device_id: str) -> None:
    await tx.execute(sa.delete(MaintenanceRow).where(MaintenanceRow.device_id == device_id))
