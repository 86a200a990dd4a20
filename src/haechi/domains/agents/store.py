"""Tables of agents: what each said last, and the revision of its desired state."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from haechi.core.db import Base, Json, UtcDateTime


class AgentRow(Base):
    """Written in batches: a crash loses seconds of `last_seen_at`, nothing that matters."""

    __tablename__ = "agents"

    device_id: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    machine_id: Mapped[str] = mapped_column(sa.String(64))
    """Bound at enrolment; empty until then."""
    boot_id: Mapped[str] = mapped_column(sa.String(64))
    agent_version: Mapped[str] = mapped_column(sa.String(64))
    protocol: Mapped[int | None]
    host_name: Mapped[str] = mapped_column(sa.String(255))
    remote: Mapped[str] = mapped_column(sa.String(64))
    addresses: Mapped[list[str]] = mapped_column(Json)
    capacity: Mapped[dict[str, Any]] = mapped_column(Json)
    boots: Mapped[dict[str, int]] = mapped_column(Json)
    """Boot id → wall − monotonic, ms."""
    observed: Mapped[dict[str, Any] | None] = mapped_column(Json)
    refusal: Mapped[dict[str, Any] | None] = mapped_column(Json)
    last_seen_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class DesiredRow(Base):
    """The document itself is made when needed (it holds camera logins); only its digest is kept."""

    __tablename__ = "desired_states"

    device_id: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    revision: Mapped[int]
    digest: Mapped[str] = mapped_column(sa.String(64))


COLUMNS = [column.name for column in AgentRow.__table__.columns]


async def load_agents(tx: AsyncSession) -> list[AgentRow]:
    return list(await tx.scalars(sa.select(AgentRow)))


async def save_agents(tx: AsyncSession, rows: list[dict[str, Any]]) -> None:
    """Insert or replace whole rows."""
    if not rows:
        return
    statement = insert(AgentRow)
    changed = {name: statement.excluded[name] for name in COLUMNS if name != "device_id"}
    await tx.execute(
        statement.on_conflict_do_update(index_elements=["device_id"], set_=changed), rows
    )


async def load_desired(tx: AsyncSession) -> dict[str, tuple[int, str]]:
    rows = await tx.scalars(sa.select(DesiredRow))
    return {row.device_id: (row.revision, row.digest) for row in rows}


async def save_desired(tx: AsyncSession, device_id: str, revision: int, digest: str) -> None:
    values = {"revision": revision, "digest": digest}
    await tx.execute(
        insert(DesiredRow)
        .values(device_id=device_id, **values)
        .on_conflict_do_update(index_elements=["device_id"], set_=values)
    )


async def delete_device(tx: AsyncSession, device_id: str) -> None:
    await tx.execute(sa.delete(AgentRow).where(AgentRow.device_id == device_id))
    await tx.execute(sa.delete(DesiredRow).where(DesiredRow.device_id == device_id))
