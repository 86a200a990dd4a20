"""Tables of deployments and assignments."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from haechi.core.db import Base, Json, UtcDateTime
from haechi.core.pages import Page, decode_cursor, decode_moment_cursor, page_of
from haechi.domains.deployments.model import (
    Assignment,
    AssignmentNotFound,
    AssignmentState,
    Deployment,
    DeploymentNotFound,
    DeploymentState,
    Wishes,
)


class DeploymentRow(Base):
    __tablename__ = "deployments"
    __table_args__ = (
        sa.Index("ix_deployments_device_package", "device_id", "package_id"),
        sa.Index("ix_deployments_created_at_id", "created_at", "id"),
    )

    id: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    package_id: Mapped[str] = mapped_column(sa.String(32), index=True)
    package_name: Mapped[str] = mapped_column(sa.String(128))
    version_id: Mapped[str] = mapped_column(sa.String(32), index=True)
    version: Mapped[str] = mapped_column(sa.String(128))
    device_id: Mapped[str] = mapped_column(sa.String(32))
    engine: Mapped[str] = mapped_column(sa.String(32))
    image: Mapped[str] = mapped_column(sa.String(512))
    image_digest: Mapped[str] = mapped_column(sa.String(128))
    name: Mapped[str] = mapped_column(sa.String(63))
    strategy: Mapped[str] = mapped_column(sa.String(16))
    camera: Mapped[str] = mapped_column(sa.String(8))
    camera_id: Mapped[str | None] = mapped_column(sa.String(32))
    wishes: Mapped[dict[str, Any]] = mapped_column(Json)
    needs: Mapped[dict[str, Any]] = mapped_column(Json)
    generation: Mapped[int]
    replaces: Mapped[list[str]] = mapped_column(Json)
    desired: Mapped[str] = mapped_column(sa.String(16))
    state: Mapped[str] = mapped_column(sa.String(16), index=True)
    outcome: Mapped[str] = mapped_column(sa.String(16))
    message: Mapped[str] = mapped_column(sa.String(500))
    operation_id: Mapped[str | None] = mapped_column(sa.String(32))
    token_digest: Mapped[str] = mapped_column(sa.String(64))
    token: Mapped[bytes | None] = mapped_column(sa.LargeBinary)
    """Encrypted, so that a repeated start hands out the same one."""
    created_by: Mapped[str] = mapped_column(sa.String(128))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class AssignmentRow(Base):
    __tablename__ = "assignments"
    __table_args__ = (sa.Index("ix_assignments_camera_package", "camera_id", "package_id"),)

    id: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    camera_id: Mapped[str] = mapped_column(sa.String(32))
    deployment_id: Mapped[str] = mapped_column(sa.String(32), index=True)
    package_id: Mapped[str] = mapped_column(sa.String(32))
    device_id: Mapped[str] = mapped_column(sa.String(32), index=True)
    mode: Mapped[str] = mapped_column(sa.String(16))
    fps: Mapped[float]
    stream: Mapped[str] = mapped_column(sa.String(8))
    epoch: Mapped[int]
    state: Mapped[str] = mapped_column(sa.String(16), index=True)
    replaces: Mapped[str | None] = mapped_column(sa.String(32))
    operation_id: Mapped[str | None] = mapped_column(sa.String(32))
    export_path: Mapped[str] = mapped_column(sa.String(64))
    until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    reason: Mapped[dict[str, str]] = mapped_column(Json)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    effective_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class EpochRow(Base):
    """The highest epoch ever given out: it never goes back, whatever is deleted."""

    __tablename__ = "assignment_epochs"

    camera_id: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    package_id: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    epoch: Mapped[int]


LIVE: Final = (DeploymentState.STARTING, DeploymentState.RUNNING)
HANDED_OUT: Final = (AssignmentState.TRIAL, AssignmentState.ACTIVE)


def to_deployment(row: DeploymentRow) -> Deployment:
    values = {
        name: getattr(row, name)
        for name in Deployment.__slots__
        if name not in {"state", "wishes", "observed"}
    }
    return Deployment(
        **values, state=DeploymentState(row.state), wishes=Wishes(**row.wishes), observed=None
    )


def to_assignment(row: AssignmentRow) -> Assignment:
    values = {name: getattr(row, name) for name in Assignment.__slots__ if name != "state"}
    return Assignment(**values, state=AssignmentState(row.state))


# --- deployments


async def add_deployment(tx: AsyncSession, deployment: Deployment) -> None:
    """Nothing where it is there already."""
    if await tx.get(DeploymentRow, deployment.id) is not None:
        return
    values = {
        name: getattr(deployment, name)
        for name in Deployment.__slots__
        if name not in {"observed", "wishes", "state"}
    }
    tx.add(
        DeploymentRow(
            **values,
            state=deployment.state.value,
            wishes=deployment.wishes.as_json(),
            token=None,
        )
    )
    await tx.flush()


async def deployment_row(tx: AsyncSession, deployment_id: str) -> DeploymentRow:
    row = await tx.get(DeploymentRow, deployment_id)
    if row is None:
        raise DeploymentNotFound(id=deployment_id)
    return row


async def deployment(tx: AsyncSession, deployment_id: str) -> Deployment:
    return to_deployment(await deployment_row(tx, deployment_id))


async def deployments(tx: AsyncSession, ids: Iterable[str]) -> list[Deployment]:
    """In the order of `ids`; unknown ones are left out."""
    wanted = list(ids)
    rows = await tx.scalars(sa.select(DeploymentRow).where(DeploymentRow.id.in_(wanted)))
    found = {row.id: to_deployment(row) for row in rows}
    return [found[one] for one in wanted if one in found]


async def change_deployments(tx: AsyncSession, ids: Sequence[str], **values: Any) -> None:
    await tx.execute(sa.update(DeploymentRow).where(DeploymentRow.id.in_(ids)).values(**values))


async def on_device(
    tx: AsyncSession,
    device_id: str,
    *,
    states: Sequence[DeploymentState],
    package_id: str | None = None,
) -> list[Deployment]:
    query = sa.select(DeploymentRow).where(
        DeploymentRow.device_id == device_id, DeploymentRow.state.in_(states)
    )
    if package_id is not None:
        query = query.where(DeploymentRow.package_id == package_id)
    rows = await tx.scalars(query.order_by(DeploymentRow.id))
    return [to_deployment(row) for row in rows]


async def in_states(
    tx: AsyncSession, states: Sequence[DeploymentState], **where: str
) -> list[Deployment]:
    query = sa.select(DeploymentRow).where(DeploymentRow.state.in_(states)).filter_by(**where)
    return [to_deployment(row) for row in await tx.scalars(query.order_by(DeploymentRow.id))]


async def history(tx: AsyncSession, device_id: str, package_id: str) -> list[Deployment]:
    """All that ever proved themselves there, newest first."""
    rows = await tx.scalars(
        sa.select(DeploymentRow)
        .where(
            DeploymentRow.device_id == device_id,
            DeploymentRow.package_id == package_id,
            DeploymentRow.started_at.is_not(None),
        )
        .order_by(DeploymentRow.generation.desc(), DeploymentRow.id)
    )
    return [to_deployment(row) for row in rows]


async def images_of(tx: AsyncSession, device_id: str, package_id: str) -> list[tuple[str, bool]]:
    """(image, whether it ever proved itself there) of what was deployed, newest first."""
    rows = await tx.execute(
        sa.select(DeploymentRow.image, DeploymentRow.started_at)
        .where(DeploymentRow.device_id == device_id, DeploymentRow.package_id == package_id)
        .order_by(DeploymentRow.generation.desc(), DeploymentRow.id)
    )
    return [(image, started_at is not None) for image, started_at in rows]


async def last_generation(tx: AsyncSession, device_id: str, package_id: str) -> int:
    highest = await tx.scalar(
        sa.select(sa.func.max(DeploymentRow.generation)).where(
            DeploymentRow.device_id == device_id, DeploymentRow.package_id == package_id
        )
    )
    return highest or 0


async def find(
    tx: AsyncSession,
    *,
    device_id: str | None,
    package_id: str | None,
    version_id: str | None,
    include_removed: bool,
    limit: int,
    cursor: str | None,
) -> Page[Deployment]:
    """Newest first."""
    query = sa.select(DeploymentRow)
    if not include_removed:
        query = query.where(DeploymentRow.state != DeploymentState.GONE)
    for column, value in (
        (DeploymentRow.device_id, device_id),
        (DeploymentRow.package_id, package_id),
        (DeploymentRow.version_id, version_id),
    ):
        if value is not None:
            query = query.where(column == value)
    after = decode_moment_cursor(cursor)
    if after:
        at, last = after
        query = query.where(
            sa.or_(
                DeploymentRow.created_at < at,
                sa.and_(DeploymentRow.created_at == at, DeploymentRow.id < last),
            )
        )
    query = query.order_by(DeploymentRow.created_at.desc(), DeploymentRow.id.desc())
    rows = (await tx.scalars(query.limit(limit + 1))).all()
    return page_of(
        [to_deployment(row) for row in rows], limit, lambda d: (d.created_at.isoformat(), d.id)
    )


async def forget(tx: AsyncSession, ended_before: datetime, keep: int) -> list[str]:
    """Delete deployments long gone, but for the newest `keep` of each device and package."""
    rank = (
        sa.func.row_number()
        .over(
            partition_by=(DeploymentRow.device_id, DeploymentRow.package_id),
            order_by=DeploymentRow.generation.desc(),
        )
        .label("rank")
    )
    ranked = sa.select(DeploymentRow.id, DeploymentRow.ended_at, DeploymentRow.state, rank)
    old = ranked.subquery()
    ids = list(
        await tx.scalars(
            sa.select(old.c.id).where(
                old.c.state == DeploymentState.GONE,
                old.c.ended_at < ended_before,
                old.c.rank > keep,
            )
        )
    )
    await tx.execute(sa.delete(AssignmentRow).where(AssignmentRow.deployment_id.in_(ids)))
    await tx.execute(sa.delete(DeploymentRow).where(DeploymentRow.id.in_(ids)))
    return ids


# --- assignments


async def next_epoch(tx: AsyncSession, camera_id: str, package_id: str) -> int:
    row = await tx.get(EpochRow, (camera_id, package_id))
    epoch = (row.epoch if row else 0) + 1
    await tx.execute(
        insert(EpochRow)
        .values(camera_id=camera_id, package_id=package_id, epoch=epoch)
        .on_conflict_do_update(index_elements=["camera_id", "package_id"], set_={"epoch": epoch})
    )
    if row is not None:
        await tx.refresh(row)
    return epoch


async def add_assignment(tx: AsyncSession, assignment: Assignment) -> None:
    values = {name: getattr(assignment, name) for name in Assignment.__slots__ if name != "state"}
    tx.add(AssignmentRow(**values, state=assignment.state.value))
    await tx.flush()


async def assignment(tx: AsyncSession, assignment_id: str) -> Assignment:
    row = await tx.get(AssignmentRow, assignment_id)
    if row is None:
        raise AssignmentNotFound(id=assignment_id)
    return to_assignment(row)


async def change_assignments(tx: AsyncSession, ids: Sequence[str], **values: Any) -> None:
    await tx.execute(sa.update(AssignmentRow).where(AssignmentRow.id.in_(ids)).values(**values))


async def handed_out(tx: AsyncSession, **where: str) -> list[Assignment]:
    """Trials and active ones, filtered by column."""
    query = (
        sa.select(AssignmentRow)
        .where(AssignmentRow.state.in_(HANDED_OUT))
        .filter_by(**where)
        .order_by(AssignmentRow.id)
    )
    return [to_assignment(row) for row in await tx.scalars(query)]


async def assignments_of(tx: AsyncSession, deployment_ids: Sequence[str]) -> list[Assignment]:
    query = (
        sa.select(AssignmentRow)
        .where(AssignmentRow.deployment_id.in_(deployment_ids), AssignmentRow.state.in_(HANDED_OUT))
        .order_by(AssignmentRow.id)
    )
    return [to_assignment(row) for row in await tx.scalars(query)]


async def recent_epochs(tx: AsyncSession) -> list[Assignment]:
    """Oldest first, for the epoch rule after a restart."""
    query = sa.select(AssignmentRow).order_by(AssignmentRow.epoch.desc()).limit(20_000)
    return [to_assignment(row) for row in reversed((await tx.scalars(query)).all())]


async def find_assignments(
    tx: AsyncSession,
    *,
    camera_id: str | None,
    deployment_id: str | None,
    device_id: str | None,
    include_ended: bool,
    limit: int,
    cursor: str | None,
) -> Page[Assignment]:
    query = sa.select(AssignmentRow)
    if not include_ended:
        query = query.where(AssignmentRow.state.in_(HANDED_OUT))
    for column, value in (
        (AssignmentRow.camera_id, camera_id),
        (AssignmentRow.deployment_id, deployment_id),
        (AssignmentRow.device_id, device_id),
    ):
        if value is not None:
            query = query.where(column == value)
    after = decode_cursor(cursor, 1)
    if after:
        query = query.where(AssignmentRow.id > after[0])
    rows = (await tx.scalars(query.order_by(AssignmentRow.id).limit(limit + 1))).all()
    return page_of([to_assignment(row) for row in rows], limit, lambda a: (a.id,))
