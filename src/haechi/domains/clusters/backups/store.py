"""Table of backups; the files lie in the data folder."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from haechi.core.db import Base, Json, UtcDateTime
from haechi.core.pages import Page, decode_moment_cursor, page_of
from haechi.domains.clusters.backups.model import Backup, BackupNotFound, SavedNode


class BackupRow(Base):
    """Outlives its cluster: what is deleted by mistake can be built anew from one."""

    __tablename__ = "cluster_backups"
    __table_args__ = (sa.Index("ix_cluster_backups_cluster_created", "cluster_id", "created_at"),)

    id: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    cluster_id: Mapped[str] = mapped_column(sa.String(32))
    occasion: Mapped[str] = mapped_column(sa.String(16))
    size_bytes: Mapped[int] = mapped_column(sa.BigInteger)
    sha256: Mapped[str] = mapped_column(sa.String(64))
    kubernetes_version: Mapped[str] = mapped_column(sa.String(32))
    revision: Mapped[int] = mapped_column(sa.BigInteger)
    total_keys: Mapped[int]
    device_id: Mapped[str] = mapped_column(sa.String(32))
    control_planes: Mapped[list[dict[str, Any]]] = mapped_column(Json)
    file_key: Mapped[bytes] = mapped_column(sa.LargeBinary)
    """Of the file; encrypted by the keyring."""
    created_by: Mapped[str] = mapped_column(sa.String(128))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


def to_backup(row: BackupRow) -> Backup:
    values = {name: getattr(row, name) for name in Backup.__slots__ if name != "control_planes"}
    nodes = [SavedNode(**one) for one in row.control_planes]
    return Backup(**values, control_planes=nodes)


async def add(tx: AsyncSession, backup: Backup, file_key: bytes) -> None:
    values = {name: getattr(backup, name) for name in Backup.__slots__ if name != "control_planes"}
    nodes = [one._asdict() for one in backup.control_planes]
    tx.add(BackupRow(**values, control_planes=nodes, file_key=file_key))
    await tx.flush()


async def row(tx: AsyncSession, cluster_id: str, backup_id: str) -> BackupRow:
    found = await tx.get(BackupRow, backup_id)
    if found is None or found.cluster_id != cluster_id:
        raise BackupNotFound(id=backup_id, cluster_id=cluster_id)
    return found


async def listed(tx: AsyncSession, backup_id: str) -> Backup | None:
    found = await tx.get(BackupRow, backup_id)
    return None if found is None else to_backup(found)


async def newest(tx: AsyncSession, cluster_id: str) -> Backup | None:
    found = await tx.scalar(_of(cluster_id).limit(1))
    return None if found is None else to_backup(found)


async def of_cluster(tx: AsyncSession, cluster_id: str) -> list[Backup]:
    """Newest first."""
    return [to_backup(one) for one in await tx.scalars(_of(cluster_id))]


async def find(
    tx: AsyncSession, cluster_id: str, *, limit: int, cursor: str | None
) -> Page[Backup]:
    """Newest first."""
    query = _of(cluster_id)
    after = decode_moment_cursor(cursor)
    if after:
        at, last = after
        query = query.where(
            sa.or_(
                BackupRow.created_at < at,
                sa.and_(BackupRow.created_at == at, BackupRow.id < last),
            )
        )
    rows = (await tx.scalars(query.limit(limit + 1))).all()
    return page_of(
        [to_backup(one) for one in rows], limit, lambda b: (b.created_at.isoformat(), b.id)
    )


async def delete(tx: AsyncSession, backup_ids: list[str]) -> None:
    await tx.execute(sa.delete(BackupRow).where(BackupRow.id.in_(backup_ids)))


async def all_ids(tx: AsyncSession) -> set[str]:
    return set(await tx.scalars(sa.select(BackupRow.id)))


def _of(cluster_id: str) -> sa.Select[BackupRow]:
    return (
        sa.select(BackupRow)
        .where(BackupRow.cluster_id == cluster_id)
        .order_by(BackupRow.created_at.desc(), BackupRow.id.desc())
    )
