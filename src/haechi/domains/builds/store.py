"""Tables of builds. Functions take the caller's transaction; the services own it."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from haechi.core.db import Base, Json, UtcDateTime
from haechi.core.pages import Page, decode_moment_cursor, page_of
from haechi.domains.builds.images import normalise
from haechi.domains.builds.model import BaseImage, BaseUse, Build, BuildNotFound, BuildState

ACTIVE = (BuildState.QUEUED.value, BuildState.BUILDING.value, BuildState.PUSHING.value)


class BuildRow(Base):
    """`version_id` is no foreign key: the record of a build outlives its version until its image
    is really gone from the registry.
    """

    __tablename__ = "builds"

    id: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    package_id: Mapped[str] = mapped_column(sa.String(32), index=True)
    version_id: Mapped[str] = mapped_column(sa.String(32), index=True)
    repository: Mapped[str] = mapped_column(sa.String(200))
    version: Mapped[str] = mapped_column(sa.String(128))
    zip_digest: Mapped[str] = mapped_column(sa.String(80))
    platform: Mapped[str] = mapped_column(sa.String(64))
    state: Mapped[str] = mapped_column(sa.String(16), index=True)
    operation_id: Mapped[str | None] = mapped_column(sa.String(32), index=True)
    recipe: Mapped[str] = mapped_column(sa.String(80), index=True)
    reused_from: Mapped[str | None] = mapped_column(sa.String(32))
    base_images: Mapped[list[dict[str, Any]]] = mapped_column(Json)
    image: Mapped[str] = mapped_column(sa.String(400))
    digest: Mapped[str] = mapped_column(sa.String(80), index=True)
    size_bytes: Mapped[int] = mapped_column(sa.BigInteger)
    manifest_bytes: Mapped[int] = mapped_column(sa.BigInteger)
    error: Mapped[dict[str, Any] | None] = mapped_column(Json)
    deleted: Mapped[bool]
    """Its version is deleted: the image goes at the next collection."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class BaseImageRow(Base):
    __tablename__ = "base_images"

    source: Mapped[str] = mapped_column(sa.String(300), primary_key=True)
    """Normalised, so that `python` and `docker.io/library/python:latest` are one."""
    written: Mapped[str] = mapped_column(sa.String(300))
    target: Mapped[str] = mapped_column(sa.String(300))
    changed_at: Mapped[datetime] = mapped_column(UtcDateTime)


class PullLoginRow(Base):
    __tablename__ = "registry_pull_logins"

    device_id: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    password: Mapped[bytes] = mapped_column(sa.LargeBinary)
    """Encrypted with the device's id."""
    hashed: Mapped[str] = mapped_column(sa.String(100))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


def to_build(row: BuildRow) -> Build:
    return Build(
        id=row.id,
        package_id=row.package_id,
        version_id=row.version_id,
        platform=row.platform,
        state=BuildState(row.state),
        operation_id=row.operation_id,
        recipe=row.recipe,
        reused_from=row.reused_from,
        base_images=[BaseUse(**use) for use in row.base_images],
        image=row.image,
        digest=row.digest,
        size_bytes=row.size_bytes,
        error=row.error,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
    )


async def add(tx: AsyncSession, row: BuildRow) -> None:
    tx.add(row)
    await tx.flush()


async def row_of(tx: AsyncSession, build_id: str) -> BuildRow:
    row = await tx.get(BuildRow, build_id)
    if row is None:
        raise BuildNotFound(id=build_id)
    return row


async def update(tx: AsyncSession, build_id: str, **values: Any) -> None:
    if "base_images" in values:
        values["base_images"] = [asdict(use) for use in values["base_images"]]
    await tx.execute(sa.update(BuildRow).where(BuildRow.id == build_id).values(**values))


async def find(
    tx: AsyncSession,
    *,
    version_id: str | None,
    package_id: str | None,
    state: BuildState | None,
    limit: int,
    cursor: str | None,
) -> Page[Build]:
    """Newest first."""
    query = sa.select(BuildRow).order_by(BuildRow.created_at.desc(), BuildRow.id.desc())
    if version_id is not None:
        query = query.where(BuildRow.version_id == version_id)
    if package_id is not None:
        query = query.where(BuildRow.package_id == package_id)
    if state is not None:
        query = query.where(BuildRow.state == state.value)
    after = decode_moment_cursor(cursor)
    if after:
        at, last = after
        query = query.where(
            sa.or_(
                BuildRow.created_at < at,
                sa.and_(BuildRow.created_at == at, BuildRow.id < last),
            )
        )
    rows = (await tx.scalars(query.limit(limit + 1))).all()
    builds = [to_build(row) for row in rows]
    return page_of(builds, limit, lambda build: (build.created_at.isoformat(), build.id))


async def of_operation(tx: AsyncSession, operation_id: str) -> list[Build]:
    query = sa.select(BuildRow).where(BuildRow.operation_id == operation_id)
    return [to_build(row) for row in await tx.scalars(query.order_by(BuildRow.platform))]


async def rows_of_versions(tx: AsyncSession, version_ids: Sequence[str]) -> list[BuildRow]:
    """Newest first."""
    query = sa.select(BuildRow).where(BuildRow.version_id.in_(version_ids))
    return list(await tx.scalars(query.order_by(BuildRow.created_at.desc(), BuildRow.id.desc())))


async def succeeded(tx: AsyncSession, *, recipe: str, repository: str) -> BuildRow | None:
    """The newest build of that recipe whose image should still be in the registry."""
    query = (
        sa.select(BuildRow)
        .where(
            BuildRow.recipe == recipe,
            BuildRow.repository == repository,
            BuildRow.state == BuildState.SUCCEEDED.value,
            BuildRow.digest != "",
        )
        .order_by(BuildRow.created_at.desc())
        .limit(1)
    )
    return await tx.scalar(query)


async def end_active(
    tx: AsyncSession, operation_id: str, state: BuildState, error: Any, at: datetime
) -> None:
    await tx.execute(
        sa.update(BuildRow)
        .where(BuildRow.operation_id == operation_id, BuildRow.state.in_(ACTIVE))
        .values(state=state.value, error=error, ended_at=at)
    )


async def mark_deleted(tx: AsyncSession, version_id: str) -> None:
    await tx.execute(
        sa.update(BuildRow).where(BuildRow.version_id == version_id).values(deleted=True)
    )


async def manifests(tx: AsyncSession, *, deleted: bool) -> set[tuple[str, str]]:
    """(repository, digest) that deleted, or living, builds stand for."""
    query = sa.select(BuildRow.repository, BuildRow.digest).where(
        BuildRow.deleted == deleted, BuildRow.digest != ""
    )
    return {(repository, digest) for repository, digest in await tx.execute(query)}


async def current_manifests(tx: AsyncSession) -> set[tuple[str, str]]:
    """(repository, digest) of the newest successful build of each version and platform."""
    query = (
        sa.select(BuildRow.version_id, BuildRow.platform, BuildRow.repository, BuildRow.digest)
        .where(BuildRow.deleted.is_(False), BuildRow.state == BuildState.SUCCEEDED.value)
        .order_by(BuildRow.created_at, BuildRow.id)
    )
    newest = {(row[0], row[1]): (row[2], row[3]) for row in await tx.execute(query)}
    # A build that takes over an image has its digest before it has ended.
    active = sa.select(BuildRow.repository, BuildRow.digest).where(
        BuildRow.state.in_(ACTIVE), BuildRow.digest != ""
    )
    going_on = {(repository, digest) for repository, digest in await tx.execute(active)}
    return {*newest.values(), *going_on}


async def living_tags(tx: AsyncSession) -> set[tuple[str, str]]:
    """(repository, tag) of versions that have an image and are not deleted."""
    query = sa.select(BuildRow.repository, BuildRow.version).where(
        BuildRow.deleted.is_(False), BuildRow.digest != ""
    )
    return {(repository, version) for repository, version in await tx.execute(query)}


async def forget_deleted(tx: AsyncSession) -> None:
    await tx.execute(
        sa.delete(BuildRow).where(BuildRow.deleted.is_(True), BuildRow.state.not_in(ACTIVE))
    )


async def base_images(tx: AsyncSession) -> list[BaseImage]:
    rows = await tx.scalars(sa.select(BaseImageRow).order_by(BaseImageRow.source))
    return [BaseImage(row.written, row.target, row.changed_at) for row in rows]


async def put_base_image(tx: AsyncSession, entry: BaseImage) -> None:
    row = await tx.get(BaseImageRow, normalise(entry.source))
    if row is None:
        row = BaseImageRow(source=normalise(entry.source))
        tx.add(row)
    row.written, row.target, row.changed_at = entry.source, entry.target, entry.changed_at
    await tx.flush()


async def delete_base_image(tx: AsyncSession, source: str) -> bool:
    row = await tx.get(BaseImageRow, normalise(source))
    if row is None:
        return False
    await tx.delete(row)
    return True


async def pull_logins(tx: AsyncSession) -> Iterable[PullLoginRow]:
    return (await tx.scalars(sa.select(PullLoginRow))).all()


async def pull_login(tx: AsyncSession, device_id: str) -> PullLoginRow | None:
    return await tx.get(PullLoginRow, device_id)


async def active_tags(tx: AsyncSession) -> set[tuple[str, str]]:
    """(repository, tag) that builds in progress may have pushed."""
    query = sa.select(BuildRow.repository, BuildRow.id).where(BuildRow.state.in_(ACTIVE))
    return {(repository, build_id) for repository, build_id in await tx.execute(query)}
