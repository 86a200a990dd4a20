"""The audit table: rows are added and, after their time, deleted; never changed."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from haechi.core.db import Base, Json, UtcDateTime
from haechi.core.pages import Page, decode_cursor, page_of
from haechi.domains.audit.model import AuditEntry
from haechi.errors import BadRequest


class AuditRow(Base):
    __tablename__ = "audit"

    number: Mapped[int] = mapped_column(
        sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True
    )
    """Order of recording: two entries of one instant keep it."""
    id: Mapped[str] = mapped_column(sa.String(32), unique=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    by_kind: Mapped[str] = mapped_column(sa.String(16))
    by_id: Mapped[str] = mapped_column(sa.String(64), index=True)
    by_name: Mapped[str] = mapped_column(sa.String(200))
    action: Mapped[str] = mapped_column(sa.String(64), index=True)
    subject: Mapped[str] = mapped_column(sa.String(200), index=True)
    details: Mapped[dict[str, Any]] = mapped_column(Json)


def _to_entry(row: AuditRow) -> AuditEntry:
    return AuditEntry(
        id=row.id,
        at=row.at,
        by_kind=row.by_kind,
        by_id=row.by_id,
        by_name=row.by_name,
        action=row.action,
        subject=row.subject,
        details=dict(row.details),
    )


async def add(tx: AsyncSession, entry: AuditEntry) -> None:
    tx.add(AuditRow(**{name: getattr(entry, name) for name in AuditEntry.__slots__}))
    await tx.flush()


async def find(
    tx: AsyncSession,
    *,
    action: str | None,
    subject: str | None,
    by_id: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    cursor: str | None,
) -> Page[AuditEntry]:
    """Newest first."""
    query = sa.select(AuditRow).order_by(AuditRow.number.desc())
    for column, wanted in (
        (AuditRow.action, action),
        (AuditRow.subject, subject),
        (AuditRow.by_id, by_id),
    ):
        if wanted:
            query = query.where(column == wanted)
    if since:
        query = query.where(AuditRow.at >= since)
    if until:
        query = query.where(AuditRow.at < until)
    after = decode_cursor(cursor, 1)
    if after:
        if not isinstance(after[0], int):
            raise BadRequest(reason="cursor")
        query = query.where(AuditRow.number < after[0])
    rows = list(await tx.scalars(query.limit(limit + 1)))
    page = page_of(rows, limit, lambda row: (row.number,))
    return Page([_to_entry(row) for row in page.items], page.next_cursor)


async def delete_before(tx: AsyncSession, at: datetime) -> None:
    await tx.execute(sa.delete(AuditRow).where(AuditRow.at < at))
