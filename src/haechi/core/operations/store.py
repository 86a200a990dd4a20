"""The table of operations. One active operation per subject: a partial unique index decides. What
an operation claims beside it is looked up where one is added: there is one writer.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from haechi.core.db import Base, Json, UtcDateTime
from haechi.core.operations.model import ACTIVE, Operation, State
from haechi.core.pages import Page, decode_moment_cursor, page_of
from haechi.errors import Busy, ObjectNotFound

_ACTIVE_SQL = sa.text("state IN ('queued', 'running', 'cancelling')")
_CLAIMING_SQL = sa.text("claims IS NOT NULL")


class OperationRow(Base):
    __tablename__ = "operations"
    __table_args__ = (
        sa.Index(
            "uq_operations_active_subject",
            "subject",
            unique=True,
            sqlite_where=_ACTIVE_SQL,
            postgresql_where=_ACTIVE_SQL,
        ),
        sa.Index("ix_operations_created_at_id", "created_at", "id"),
        sa.Index(
            "ix_operations_claiming",
            "state",
            sqlite_where=_CLAIMING_SQL,
            postgresql_where=_CLAIMING_SQL,
        ),
    )

    id: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    kind: Mapped[str] = mapped_column(sa.String(64))
    subject: Mapped[str] = mapped_column(sa.String(128), index=True)
    state: Mapped[str] = mapped_column(sa.String(16), index=True)
    step: Mapped[str | None] = mapped_column(sa.String(64))
    done: Mapped[list[str]] = mapped_column(Json)
    ctx: Mapped[dict[str, Any]] = mapped_column(Json)
    progress_ratio: Mapped[float | None]
    progress_text: Mapped[str] = mapped_column(sa.String(200))
    error: Mapped[dict[str, Any] | None] = mapped_column(Json)
    requested_by: Mapped[str] = mapped_column(sa.String(128))
    parent_id: Mapped[str | None] = mapped_column(sa.String(32), index=True)
    claims: Mapped[list[str] | None] = mapped_column(Json)
    """None where there are none."""
    attempts: Mapped[int]
    release: Mapped[str] = mapped_column(sa.String(32))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


def to_operation(row: OperationRow) -> Operation:
    return Operation(
        id=row.id,
        kind=row.kind,
        subject=row.subject,
        state=State(row.state),
        step=row.step,
        done=list(row.done),
        ctx=dict(row.ctx),
        progress_ratio=row.progress_ratio,
        progress_text=row.progress_text,
        error=row.error,
        requested_by=row.requested_by,
        parent_id=row.parent_id,
        claims=list(row.claims or ()),
        attempts=row.attempts,
        release=row.release,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
    )


async def add(tx: AsyncSession, operation: Operation, *, giving_way: Collection[str] = ()) -> None:
    """Insert; raises Busy naming the holder where the subject is taken, or what the operation
    claims. `giving_way`: kinds that do not hinder a claim.
    """
    await _refuse_rivals(tx, operation, giving_way)
    values = {name: getattr(operation, name) for name in Operation.__slots__}
    values |= {"state": operation.state.value, "claims": operation.claims or None}
    try:
        async with tx.begin_nested():
            tx.add(OperationRow(**values))
    except IntegrityError as error:
        holder = await active_on(tx, operation.subject)
        if holder is None:
            raise
        raise Busy(subject=operation.subject, operation_id=holder.id, kind=holder.kind) from error


async def active_on(tx: AsyncSession, subject: str) -> Operation | None:
    row = await tx.scalar(
        sa.select(OperationRow).where(
            OperationRow.subject == subject, OperationRow.state.in_(ACTIVE)
        )
    )
    return None if row is None else to_operation(row)


async def at_work_on(
    tx: AsyncSession, subject: str, *, but: Collection[str] = ()
) -> Operation | None:
    """An active operation of a kind that is none of `but`: about the subject, about something below
    it, or one that claims it.
    """
    for row in await _claimers(tx):
        if any(_covers(claim, subject) for claim in row.claims or ()):
            return to_operation(row)
    below = OperationRow.subject.startswith(f"{subject}/", autoescape=True)
    found = await tx.scalar(
        sa.select(OperationRow).where(
            OperationRow.state.in_(ACTIVE),
            sa.or_(OperationRow.subject == subject, below),
            OperationRow.kind.not_in(but),
        )
    )
    return None if found is None else to_operation(found)


async def _claimers(tx: AsyncSession) -> list[OperationRow]:
    found = await tx.scalars(
        sa.select(OperationRow).where(
            OperationRow.state.in_(ACTIVE), OperationRow.claims.is_not(None)
        )
    )
    return list(found)


def _covers(claim: str, subject: str) -> bool:
    return subject == claim or subject.startswith(f"{claim}/")


async def _refuse_rivals(
    tx: AsyncSession, operation: Operation, giving_way: Collection[str]
) -> None:
    for row in await _claimers(tx):
        for claim in row.claims or ():
            if _covers(claim, operation.subject):
                raise Busy(subject=claim, operation_id=row.id, kind=row.kind)
    await _refuse_workers(tx, operation.claims, giving_way)


async def _refuse_workers(
    tx: AsyncSession, claims: Sequence[str], giving_way: Collection[str]
) -> None:
    for claim in claims:
        rival = await at_work_on(tx, claim, but=giving_way)
        if rival is not None:
            raise Busy(subject=claim, operation_id=rival.id, kind=rival.kind)


async def claim(
    tx: AsyncSession, operation_id: str, claims: Sequence[str], *, giving_way: Collection[str] = ()
) -> None:
    """They become the operation's own too, as far as they are not. Raises as `add` does."""
    held = (await get(tx, operation_id)).claims
    new = [one for one in claims if one not in held]
    await _refuse_workers(tx, new, giving_way)
    await update(tx, operation_id, claims=[*held, *new])


async def get(tx: AsyncSession, operation_id: str) -> Operation:
    row = await tx.get(OperationRow, operation_id)
    if row is None:
        raise ObjectNotFound(kind="operation", id=operation_id)
    return to_operation(row)


async def update(tx: AsyncSession, operation_id: str, **values: Any) -> None:
    await tx.execute(
        sa.update(OperationRow).where(OperationRow.id == operation_id).values(**values)
    )


async def active(tx: AsyncSession) -> list[Operation]:
    rows = await tx.scalars(
        sa.select(OperationRow)
        .where(OperationRow.state.in_(ACTIVE))
        .order_by(OperationRow.created_at)
    )
    return [to_operation(row) for row in rows]


async def find(
    tx: AsyncSession,
    *,
    subject: str | None,
    state: State | None,
    parent_id: str | None,
    limit: int,
    cursor: str | None,
) -> Page[Operation]:
    """Newest first."""
    query = sa.select(OperationRow).order_by(OperationRow.created_at.desc(), OperationRow.id.desc())
    if subject:
        query = query.where(OperationRow.subject == subject)
    if state:
        query = query.where(OperationRow.state == state)
    if parent_id:
        query = query.where(OperationRow.parent_id == parent_id)
    after = decode_moment_cursor(cursor)
    if after:
        at, last = after
        query = query.where(
            sa.or_(
                OperationRow.created_at < at,
                sa.and_(OperationRow.created_at == at, OperationRow.id < last),
            )
        )
    rows = (await tx.scalars(query.limit(limit + 1))).all()
    return page_of(
        [to_operation(row) for row in rows], limit, lambda o: (o.created_at.isoformat(), o.id)
    )


async def ended_before(tx: AsyncSession, at: datetime) -> list[str]:
    return list(await tx.scalars(sa.select(OperationRow.id).where(OperationRow.ended_at < at)))


async def delete(tx: AsyncSession, ids: list[str]) -> None:
    await tx.execute(sa.delete(OperationRow).where(OperationRow.id.in_(ids)))
