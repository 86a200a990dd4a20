"""Tables of clusters, their members, what hosts looked like before, and what is secret."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from haechi.core.db import Base, Json, UtcDateTime
from haechi.core.pages import Page, decode_moment_cursor, page_of
from haechi.core.secrets import Keyring, Secret
from haechi.domains.clusters.errors import ClusterNotFound, DeviceInCluster, NotAMember
from haechi.domains.clusters.model import (
    HELD,
    Cluster,
    ClusterState,
    FormOptions,
    Member,
    MemberState,
)

SnapshotKind = Literal["before", "after"]
Taken = tuple[dict[str, Any], datetime]
"""A snapshot and when it was taken."""
_HELD_SQL: Final = sa.text("state NOT IN ('gone', 'failed')")


class ClusterRow(Base):
    __tablename__ = "clusters"
    __table_args__ = (sa.Index("ix_clusters_created_at_id", "created_at", "id"),)

    id: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(128), index=True)
    state: Mapped[str] = mapped_column(sa.String(16), index=True)
    kubernetes_version: Mapped[str] = mapped_column(sa.String(32))
    options: Mapped[dict[str, Any]] = mapped_column(Json)
    message: Mapped[str] = mapped_column(sa.String(500))
    operation_id: Mapped[str | None] = mapped_column(sa.String(32))
    created_by: Mapped[str] = mapped_column(sa.String(128))
    revision: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    formed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class MemberRow(Base):
    """A device belongs to one cluster at a time: a partial unique index decides."""

    __tablename__ = "cluster_members"
    __table_args__ = (
        sa.Index(
            "uq_cluster_members_held_device",
            "device_id",
            unique=True,
            sqlite_where=_HELD_SQL,
            postgresql_where=_HELD_SQL,
        ),
    )

    cluster_id: Mapped[str] = mapped_column(
        sa.ForeignKey("clusters.id", ondelete="CASCADE"), primary_key=True
    )
    device_id: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    role: Mapped[str] = mapped_column(sa.String(16))
    node_name: Mapped[str] = mapped_column(sa.String(63))
    address: Mapped[str] = mapped_column(sa.String(64))
    state: Mapped[str] = mapped_column(sa.String(16))
    message: Mapped[str] = mapped_column(sa.String(500))
    observed: Mapped[dict[str, Any]] = mapped_column(Json)
    joined_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    left_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class SnapshotRow(Base):
    """What a host looked like before it was touched, and after it was cleaned."""

    __tablename__ = "cluster_snapshots"

    cluster_id: Mapped[str] = mapped_column(
        sa.ForeignKey("clusters.id", ondelete="CASCADE"), primary_key=True
    )
    device_id: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    kind: Mapped[str] = mapped_column(sa.String(8), primary_key=True)
    content: Mapped[dict[str, Any]] = mapped_column(Json)
    taken_at: Mapped[datetime] = mapped_column(UtcDateTime)


class SecretRow(Base):
    """`kubeconfig`, `ca`, …: encrypted with `<cluster id>:<name>` as associated data."""

    __tablename__ = "cluster_secrets"

    cluster_id: Mapped[str] = mapped_column(
        sa.ForeignKey("clusters.id", ondelete="CASCADE"), primary_key=True
    )
    name: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    content: Mapped[bytes] = mapped_column(sa.LargeBinary)
    changed_at: Mapped[datetime] = mapped_column(UtcDateTime)


def to_cluster(row: ClusterRow) -> Cluster:
    values = {
        name: getattr(row, name) for name in Cluster.__slots__ if name not in {"state", "options"}
    }
    return Cluster(
        **values, state=ClusterState(row.state), options=FormOptions.of_json(row.options)
    )


def to_member(row: MemberRow) -> Member:
    values = {name: getattr(row, name) for name in Member.__slots__ if name != "state"}
    return Member(**values, state=MemberState(row.state))


# --- clusters


async def add_cluster(tx: AsyncSession, cluster: Cluster) -> None:
    values = {
        name: getattr(cluster, name)
        for name in Cluster.__slots__
        if name not in {"state", "options"}
    }
    tx.add(ClusterRow(**values, state=cluster.state.value, options=cluster.options.as_json()))
    await tx.flush()


async def cluster_row(tx: AsyncSession, cluster_id: str) -> ClusterRow:
    row = await tx.get(ClusterRow, cluster_id)
    if row is None:
        raise ClusterNotFound(id=cluster_id)
    return row


async def cluster(tx: AsyncSession, cluster_id: str) -> Cluster:
    return to_cluster(await cluster_row(tx, cluster_id))


async def change_cluster(tx: AsyncSession, cluster_id: str, **values: Any) -> None:
    await tx.execute(sa.update(ClusterRow).where(ClusterRow.id == cluster_id).values(**values))


async def by_name(tx: AsyncSession, name: str) -> Cluster | None:
    """The one that is not gone, if there is one."""
    row = await tx.scalar(
        sa.select(ClusterRow).where(
            ClusterRow.name == name,
            ClusterRow.state.not_in([ClusterState.DELETED, ClusterState.FAILED]),
        )
    )
    return None if row is None else to_cluster(row)


async def in_states(tx: AsyncSession, states: Sequence[ClusterState]) -> list[Cluster]:
    rows = await tx.scalars(
        sa.select(ClusterRow).where(ClusterRow.state.in_(states)).order_by(ClusterRow.id)
    )
    return [to_cluster(row) for row in rows]


async def find(
    tx: AsyncSession, *, name: str | None, include_gone: bool, limit: int, cursor: str | None
) -> Page[Cluster]:
    """Newest first."""
    query = sa.select(ClusterRow)
    if name is not None:
        query = query.where(ClusterRow.name == name)
    if not include_gone:
        query = query.where(ClusterRow.state.not_in([ClusterState.DELETED, ClusterState.FAILED]))
    after = decode_moment_cursor(cursor)
    if after:
        at, last = after
        query = query.where(
            sa.or_(
                ClusterRow.created_at < at,
                sa.and_(ClusterRow.created_at == at, ClusterRow.id < last),
            )
        )
    query = query.order_by(ClusterRow.created_at.desc(), ClusterRow.id.desc())
    rows = (await tx.scalars(query.limit(limit + 1))).all()
    return page_of(
        [to_cluster(row) for row in rows], limit, lambda c: (c.created_at.isoformat(), c.id)
    )


# --- members


async def put_member(tx: AsyncSession, member: Member) -> None:
    """Insert, or begin anew where the device was a member before. Raises DeviceInCluster where
    another cluster has it.
    """
    values = {name: getattr(member, name) for name in Member.__slots__ if name != "state"}
    try:
        async with tx.begin_nested():
            await tx.merge(MemberRow(**values, state=member.state.value))
    except IntegrityError as error:
        holder = await membership(tx, member.device_id)
        if holder is None:
            raise
        raise DeviceInCluster(
            device_id=member.device_id, cluster_id=holder.cluster_id, host=holder.node_name
        ) from error


async def members(tx: AsyncSession, cluster_id: str) -> list[Member]:
    """All that ever were, control planes first."""
    rows = await tx.scalars(
        sa.select(MemberRow)
        .where(MemberRow.cluster_id == cluster_id)
        .order_by(MemberRow.role, MemberRow.node_name)
    )
    return [to_member(row) for row in rows]


async def member(tx: AsyncSession, cluster_id: str, device_id: str) -> Member:
    row = await tx.get(MemberRow, (cluster_id, device_id))
    if row is None:
        raise NotAMember(device_id=device_id, cluster_id=cluster_id)
    return to_member(row)


async def membership(tx: AsyncSession, device_id: str) -> Member | None:
    """The cluster that has the device now."""
    row = await tx.scalar(
        sa.select(MemberRow).where(MemberRow.device_id == device_id, MemberRow.state.in_(HELD))
    )
    return None if row is None else to_member(row)


async def members_in_state(tx: AsyncSession, state: MemberState) -> list[Member]:
    rows = await tx.scalars(
        sa.select(MemberRow).where(MemberRow.state == state).order_by(MemberRow.device_id)
    )
    return [to_member(row) for row in rows]


async def change_member(tx: AsyncSession, cluster_id: str, device_id: str, **values: Any) -> None:
    await tx.execute(
        sa.update(MemberRow)
        .where(MemberRow.cluster_id == cluster_id, MemberRow.device_id == device_id)
        .values(**values)
    )


# --- snapshots


async def put_snapshot(
    tx: AsyncSession,
    cluster_id: str,
    device_id: str,
    kind: SnapshotKind,
    content: dict[str, Any],
    at: datetime,
) -> None:
    await tx.merge(
        SnapshotRow(
            cluster_id=cluster_id, device_id=device_id, kind=kind, content=content, taken_at=at
        )
    )
    await tx.flush()


async def snapshot(
    tx: AsyncSession, cluster_id: str, device_id: str, kind: SnapshotKind
) -> Taken | None:
    row = await tx.get(SnapshotRow, (cluster_id, device_id, kind))
    return None if row is None else (dict(row.content), row.taken_at)


async def delete_snapshots(
    tx: AsyncSession, cluster_id: str, device_id: str, kind: SnapshotKind
) -> None:
    await tx.execute(
        sa.delete(SnapshotRow).where(
            SnapshotRow.cluster_id == cluster_id,
            SnapshotRow.device_id == device_id,
            SnapshotRow.kind == kind,
        )
    )


# --- secrets


async def put_secret(
    tx: AsyncSession, keyring: Keyring, cluster_id: str, name: str, secret: Secret, at: datetime
) -> None:
    await tx.merge(
        SecretRow(
            cluster_id=cluster_id,
            name=name,
            content=keyring.encrypt(secret, f"{cluster_id}:{name}"),
            changed_at=at,
        )
    )
    await tx.flush()


async def secret(tx: AsyncSession, keyring: Keyring, cluster_id: str, name: str) -> Secret | None:
    row = await tx.get(SecretRow, (cluster_id, name))
    return None if row is None else keyring.decrypt(row.content, f"{cluster_id}:{name}")


async def delete_secrets(tx: AsyncSession, cluster_id: str) -> None:
    await tx.execute(sa.delete(SecretRow).where(SecretRow.cluster_id == cluster_id))
