"""What the old interface remembers that no domain does: clusters recorded ahead of forming."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from haechi.core.db import Base, Json, UtcDateTime
from haechi.domains.inventory.store import AliasRow


class ClusterRow(Base):
    __tablename__ = "interop_clusters"

    id: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(128))
    mid: Mapped[str] = mapped_column(sa.String(32), unique=True)
    wids: Mapped[list[str]] = mapped_column(Json)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


async def clusters(tx: AsyncSession) -> list[ClusterRow]:
    return list(await tx.scalars(sa.select(ClusterRow).order_by(ClusterRow.created_at)))


async def point_alias(tx: AsyncSession, kind: str, alias: str, subject: str) -> None:
    """Let a foreign id mean this from now on, whatever it meant before."""
    row = await tx.get(AliasRow, (kind, alias))
    if row is None:
        tx.add(AliasRow(kind=kind, alias=alias, id=subject))
    else:
        row.id = subject
    await tx.flush()


async def drop_aliases(tx: AsyncSession, kind: str, subject: str) -> None:
    await tx.execute(sa.delete(AliasRow).where(AliasRow.kind == kind, AliasRow.id == subject))


async def move_aliases(tx: AsyncSession, kind: str, subject: str, other: str) -> None:
    await tx.execute(
        sa.update(AliasRow).where(AliasRow.kind == kind, AliasRow.id == subject).values(id=other)
    )
