"""Tables of packages. Functions take the caller's transaction; the service owns it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from haechi.core.db import Base, Json, UtcDateTime
from haechi.core.pages import Page, decode_cursor, decode_moment_cursor, page_of
from haechi.domains.packages import manifest
from haechi.domains.packages.inspection import Note
from haechi.domains.packages.layout import Layout
from haechi.domains.packages.model import Package, PackageSummary, PackageVersion, Revision
from haechi.errors import ObjectNotFound


class PackageRow(Base):
    __tablename__ = "packages"

    id: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(63), unique=True)
    original_name: Mapped[str] = mapped_column(sa.String(128))
    title_ko: Mapped[str] = mapped_column(sa.String(128))
    title_en: Mapped[str] = mapped_column(sa.String(128))
    description: Mapped[str] = mapped_column(sa.Text)
    author: Mapped[str] = mapped_column(sa.String(128))
    classes: Mapped[list[str]] = mapped_column(Json)
    edited: Mapped[list[str]] = mapped_column(Json)
    """Fields that a person changed: a later upload leaves them alone."""
    revision: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


class VersionRow(Base):
    __tablename__ = "package_versions"
    __table_args__ = (sa.UniqueConstraint("package_id", "version"),)

    id: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    package_id: Mapped[str] = mapped_column(sa.ForeignKey("packages.id", ondelete="CASCADE"))
    version: Mapped[str] = mapped_column(sa.String(128))
    revision: Mapped[int]
    zip_sha256: Mapped[str] = mapped_column(sa.String(64), index=True)
    size_bytes: Mapped[int] = mapped_column(sa.BigInteger)
    unpacked_bytes: Mapped[int] = mapped_column(sa.BigInteger)
    file_name: Mapped[str] = mapped_column(sa.String(255))
    manifest: Mapped[dict[str, Any]] = mapped_column(Json)
    has_manifest: Mapped[bool]
    dockerfile: Mapped[dict[str, Any]] = mapped_column(Json)
    layout: Mapped[dict[str, Any]] = mapped_column(Json)
    notes: Mapped[list[dict[str, Any]]] = mapped_column(Json)
    description: Mapped[str] = mapped_column(sa.Text)
    created_by: Mapped[str] = mapped_column(sa.String(128))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


class RevisionRow(Base):
    __tablename__ = "package_revisions"

    version_id: Mapped[str] = mapped_column(
        sa.ForeignKey("package_versions.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True)
    zip_sha256: Mapped[str] = mapped_column(sa.String(64), index=True)
    size_bytes: Mapped[int] = mapped_column(sa.BigInteger)
    file_name: Mapped[str] = mapped_column(sa.String(255))
    created_by: Mapped[str] = mapped_column(sa.String(128))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


def to_package(row: PackageRow) -> Package:
    return Package(
        id=row.id,
        name=row.name,
        original_name=row.original_name,
        title_ko=row.title_ko,
        title_en=row.title_en,
        description=row.description,
        author=row.author,
        classes=list(row.classes),
        revision=row.revision,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def to_version(row: VersionRow, package_name: str) -> PackageVersion:
    return PackageVersion(
        id=row.id,
        package_id=row.package_id,
        package_name=package_name,
        version=row.version,
        revision=row.revision,
        zip_sha256=row.zip_sha256,
        size_bytes=row.size_bytes,
        unpacked_bytes=row.unpacked_bytes,
        file_name=row.file_name,
        manifest=manifest.stored(row.manifest),
        has_manifest=row.has_manifest,
        dockerfile=row.dockerfile,
        layout=Layout(**row.layout),
        notes=[Note(note["code"], note["data"]) for note in row.notes],
        description=row.description,
        created_by=row.created_by,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def to_revision(row: RevisionRow) -> Revision:
    return Revision(
        number=row.number,
        zip_sha256=row.zip_sha256,
        size_bytes=row.size_bytes,
        file_name=row.file_name,
        created_by=row.created_by,
        created_at=row.created_at,
    )


async def package_row(tx: AsyncSession, ref: str) -> PackageRow:
    """By id or name; raises ObjectNotFound."""
    row = await tx.get(PackageRow, ref) or await by_name(tx, ref)
    if row is None:
        raise ObjectNotFound(kind="package", id=ref)
    return row


async def by_name(tx: AsyncSession, name: str) -> PackageRow | None:
    return await tx.scalar(sa.select(PackageRow).where(PackageRow.name == name))


async def version_of(tx: AsyncSession, package_id: str, version: str) -> VersionRow | None:
    return await tx.scalar(
        sa.select(VersionRow).where(
            VersionRow.package_id == package_id, VersionRow.version == version
        )
    )


async def version_row(tx: AsyncSession, package_id: str, ref: str) -> VersionRow:
    """By version text or id; raises ObjectNotFound."""
    row = await version_of(tx, package_id, ref)
    if row is None:
        row = await tx.get(VersionRow, ref)
    if row is None or row.package_id != package_id:
        raise ObjectNotFound(kind="version", id=ref)
    return row


async def find_packages(
    tx: AsyncSession, *, name: str | None, limit: int, cursor: str | None
) -> Page[PackageSummary]:
    query = sa.select(PackageRow).order_by(PackageRow.name).limit(limit + 1)
    if name is not None:
        query = query.where(PackageRow.name == name)
    after = decode_cursor(cursor, 1)
    if after:
        query = query.where(PackageRow.name > str(after[0]))
    page = page_of((await tx.scalars(query)).all(), limit, lambda row: (row.name,))
    items = [await summary(tx, row) for row in page.items]
    return Page(items, page.next_cursor)


async def summary(tx: AsyncSession, row: PackageRow) -> PackageSummary:
    count = await tx.scalar(sa.select(sa.func.count()).where(VersionRow.package_id == row.id))
    latest = await tx.scalar(
        sa.select(VersionRow.version)
        .where(VersionRow.package_id == row.id)
        .order_by(VersionRow.created_at.desc(), VersionRow.id.desc())
        .limit(1)
    )
    return PackageSummary(to_package(row), latest, count or 0)


async def find_versions(
    tx: AsyncSession, package: PackageRow, *, limit: int, cursor: str | None
) -> Page[PackageVersion]:
    """Newest first."""
    query = (
        sa.select(VersionRow)
        .where(VersionRow.package_id == package.id)
        .order_by(VersionRow.created_at.desc(), VersionRow.id.desc())
        .limit(limit + 1)
    )
    after = decode_moment_cursor(cursor)
    if after:
        at, last = after
        query = query.where(
            sa.or_(
                VersionRow.created_at < at,
                sa.and_(VersionRow.created_at == at, VersionRow.id < last),
            )
        )
    rows = (await tx.scalars(query)).all()
    return page_of(
        [to_version(row, package.name) for row in rows],
        limit,
        lambda version: (version.created_at.isoformat(), version.id),
    )


async def revisions(tx: AsyncSession, version_id: str) -> list[RevisionRow]:
    query = sa.select(RevisionRow).where(RevisionRow.version_id == version_id)
    return list(await tx.scalars(query.order_by(RevisionRow.number.desc())))


async def digests_of(tx: AsyncSession, version_ids: Sequence[str]) -> set[str]:
    query = sa.select(RevisionRow.zip_sha256).where(RevisionRow.version_id.in_(version_ids))
    return set(await tx.scalars(query))


async def known_digests(tx: AsyncSession, among: set[str] | None = None) -> set[str]:
    """Digests that some revision still needs."""
    query = sa.select(RevisionRow.zip_sha256)
    if among is not None:
        query = query.where(RevisionRow.zip_sha256.in_(among))
    return set(await tx.scalars(query))
