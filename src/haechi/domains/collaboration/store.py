"""The table of decisions."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from haechi.core.db import Base, Json, UtcDateTime
from haechi.domains.collaboration.model import Decision


class DecisionRow(Base):
    __tablename__ = "policy_decisions"
    __table_args__ = (sa.Index("ix_policy_decisions_device_at", "device_id", "at"),)

    id: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    policy: Mapped[str] = mapped_column(sa.String(32))
    device_id: Mapped[str] = mapped_column(sa.String(32))
    family: Mapped[str] = mapped_column(sa.String(128))
    action: Mapped[str] = mapped_column(sa.String(16))
    reason: Mapped[str] = mapped_column(sa.String(32))
    values: Mapped[dict[str, Any]] = mapped_column(Json)
    candidates: Mapped[list[str]] = mapped_column(Json)
    operation_id: Mapped[str | None] = mapped_column(sa.String(32), index=True)
    outcome: Mapped[str] = mapped_column(sa.String(16))
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


def to_decision(row: DecisionRow) -> Decision:
    return Decision(**{name: getattr(row, name) for name in Decision.__slots__})


def add(tx: AsyncSession, decision: Decision) -> None:
    tx.add(DecisionRow(**{name: getattr(decision, name) for name in Decision.__slots__}))


async def end(tx: AsyncSession, operation_id: str, outcome: str, at: datetime) -> None:
    await tx.execute(
        sa.update(DecisionRow)
        .where(DecisionRow.operation_id == operation_id)
        .values(outcome=outcome, ended_at=at)
    )


async def find(
    tx: AsyncSession, *, device_id: str | None = None, policy: str | None = None, limit: int = 100
) -> list[Decision]:
    """Newest first."""
    query = sa.select(DecisionRow).order_by(DecisionRow.at.desc(), DecisionRow.id.desc())
    if device_id is not None:
        query = query.where(DecisionRow.device_id == device_id)
    if policy is not None:
        query = query.where(DecisionRow.policy == policy)
    return [to_decision(row) for row in await tx.scalars(query.limit(limit))]


async def last_attempts(tx: AsyncSession, policy: str) -> dict[tuple[str, str], datetime]:
    """(device, family) → when the last switch ended, or began where it has not ended."""
    query = (
        sa.select(
            DecisionRow.device_id,
            DecisionRow.family,
            sa.func.max(sa.func.coalesce(DecisionRow.ended_at, DecisionRow.at)),
        )
        .where(DecisionRow.policy == policy, DecisionRow.action == "started")
        .group_by(DecisionRow.device_id, DecisionRow.family)
    )
    found = {}
    for device_id, family, at in await tx.execute(query):
        found[device_id, family] = at
    return found
