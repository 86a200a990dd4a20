"""Tables of the inventory. Functions take the caller's transaction; services own it."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from haechi.core.db import Base, Json, UtcDateTime
from haechi.core.pages import Page, decode_cursor, page_of
from haechi.domains.inventory.model import (
    Camera,
    Device,
    DeviceRole,
    Enrolment,
    Gps,
    Group,
    Link,
    PtzPreset,
    Site,
)
from haechi.errors import ObjectNotFound

T = TypeVar("T")
Id = sa.String(32)


class SiteRow(Base):
    __tablename__ = "sites"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(128))
    description: Mapped[str] = mapped_column(sa.Text)
    postal_address: Mapped[str] = mapped_column(sa.Text)
    latitude: Mapped[float | None]
    longitude: Mapped[float | None]
    timezone: Mapped[str] = mapped_column(sa.String(64))
    revision: Mapped[int]


class DeviceRow(Base):
    __tablename__ = "devices"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(128))
    name_key: Mapped[str] = mapped_column(sa.String(256), unique=True)
    role: Mapped[str] = mapped_column(sa.String(16))
    type: Mapped[int]
    description: Mapped[str] = mapped_column(sa.Text)
    postal_address: Mapped[str] = mapped_column(sa.Text)
    latitude: Mapped[float | None]
    longitude: Mapped[float | None]
    supports_analysis: Mapped[bool]
    host_name: Mapped[str | None] = mapped_column(sa.String(63), unique=True)
    address: Mapped[str | None] = mapped_column(sa.String(255), index=True)
    port: Mapped[int | None]
    seen_address: Mapped[str | None] = mapped_column(sa.String(255), index=True)
    ssh_user: Mapped[str | None] = mapped_column(sa.String(64))
    ssh_password: Mapped[bytes | None]
    ssh_key: Mapped[bytes | None]
    ssh_host_key: Mapped[str | None] = mapped_column(sa.Text)
    machine_id: Mapped[str | None] = mapped_column(sa.String(64), index=True)
    platform: Mapped[str | None] = mapped_column(sa.String(32))
    capacity: Mapped[dict[str, Any]] = mapped_column(Json)
    labels: Mapped[dict[str, str]] = mapped_column(Json)
    agent_version: Mapped[str | None] = mapped_column(sa.String(64))
    enrolment: Mapped[str] = mapped_column(sa.String(16))
    enrolled_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revision: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


class CameraRow(Base):
    __tablename__ = "cameras"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(128))
    name_key: Mapped[str] = mapped_column(sa.String(256), unique=True)
    device_id: Mapped[str | None] = mapped_column(
        sa.ForeignKey("devices.id", ondelete="SET NULL"), index=True
    )
    url: Mapped[str] = mapped_column(sa.Text)
    sub_url: Mapped[str | None] = mapped_column(sa.Text)
    full_urls: Mapped[bytes | None]
    """Encrypted JSON [main, sub] where a query holds a secret that the shown URLs mask."""
    login: Mapped[str | None] = mapped_column(sa.String(256))
    password: Mapped[bytes | None]
    ptz_presets: Mapped[list[dict[str, str]]] = mapped_column(Json)
    latitude: Mapped[float | None]
    longitude: Mapped[float | None]
    postal_address: Mapped[str] = mapped_column(sa.Text)
    description: Mapped[str] = mapped_column(sa.Text)
    streams: Mapped[dict[str, dict[str, Any]]] = mapped_column(Json)
    labels: Mapped[dict[str, str]] = mapped_column(Json)
    revision: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


class LinkRow(Base):
    __tablename__ = "camera_links"
    __table_args__ = (sa.UniqueConstraint("camera_a", "camera_b"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    camera_a: Mapped[str] = mapped_column(sa.ForeignKey("cameras.id", ondelete="CASCADE"))
    camera_b: Mapped[str] = mapped_column(
        sa.ForeignKey("cameras.id", ondelete="CASCADE"), index=True
    )
    origin: Mapped[str] = mapped_column(sa.String(8))
    distance_m: Mapped[float | None]
    preset_a: Mapped[str | None] = mapped_column(sa.String(128))
    preset_b: Mapped[str | None] = mapped_column(sa.String(128))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class GroupRow(Base):
    __tablename__ = "device_groups"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(128))
    name_key: Mapped[str] = mapped_column(sa.String(256), unique=True)
    description: Mapped[str] = mapped_column(sa.Text)
    revision: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class GroupMemberRow(Base):
    __tablename__ = "device_group_members"

    group_id: Mapped[str] = mapped_column(
        sa.ForeignKey("device_groups.id", ondelete="CASCADE"), primary_key=True
    )
    device_id: Mapped[str] = mapped_column(
        sa.ForeignKey("devices.id", ondelete="CASCADE"), primary_key=True, index=True
    )


class AliasRow(Base):
    """Foreign ids: (kind, alias) → id. Also for kinds of other domains (package, cluster)."""

    __tablename__ = "aliases"

    kind: Mapped[str] = mapped_column(sa.String(16), primary_key=True)
    alias: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    id: Mapped[str] = mapped_column(Id, index=True)


def gps_of(row: SiteRow | DeviceRow | CameraRow) -> Gps | None:
    if row.latitude is None or row.longitude is None:
        return None
    return Gps(row.latitude, row.longitude)


def to_site(row: SiteRow) -> Site:
    return Site(
        id=row.id,
        name=row.name,
        description=row.description,
        postal_address=row.postal_address,
        gps=gps_of(row),
        timezone=row.timezone,
        revision=row.revision,
    )


def to_device(row: DeviceRow) -> Device:
    return Device(
        id=row.id,
        name=row.name,
        role=cast("DeviceRole", row.role),
        type=row.type,
        description=row.description,
        postal_address=row.postal_address,
        gps=gps_of(row),
        supports_analysis=row.supports_analysis,
        host_name=row.host_name,
        address=row.address,
        port=row.port,
        seen_address=row.seen_address,
        ssh_user=row.ssh_user,
        has_ssh_password=row.ssh_password is not None,
        has_ssh_key=row.ssh_key is not None,
        ssh_host_key=row.ssh_host_key,
        machine_id=row.machine_id,
        platform=row.platform,
        capacity=dict(row.capacity),
        labels=dict(row.labels),
        agent_version=row.agent_version,
        enrolment=cast("Enrolment", row.enrolment),
        enrolled_at=row.enrolled_at,
        revision=row.revision,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def to_camera(row: CameraRow) -> Camera:
    return Camera(
        id=row.id,
        name=row.name,
        device_id=row.device_id,
        url=row.url,
        sub_url=row.sub_url,
        login=row.login,
        has_password=row.password is not None,
        ptz_presets=[PtzPreset(**preset) for preset in row.ptz_presets],
        gps=gps_of(row),
        postal_address=row.postal_address,
        description=row.description,
        streams=dict(row.streams),
        labels=dict(row.labels),
        revision=row.revision,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def to_link(row: LinkRow) -> Link:
    return Link(
        id=row.id,
        camera_a=row.camera_a,
        camera_b=row.camera_b,
        origin="gps" if row.origin == "gps" else "hand",
        distance_m=row.distance_m,
        preset_a=row.preset_a,
        preset_b=row.preset_b,
        created_at=row.created_at,
    )


R = TypeVar("R", DeviceRow, CameraRow, GroupRow, LinkRow)
N = TypeVar("N", DeviceRow, CameraRow, GroupRow)


async def row_of(tx: AsyncSession, table: type[R], kind: str, ref: str) -> R:
    """By id, else by alias; raises ObjectNotFound."""
    row = await tx.get(table, ref)
    if row is None:
        known = await resolve_alias(tx, kind, ref)
        row = None if known is None else await tx.get(table, known)
    if row is None:
        raise ObjectNotFound(kind=kind, id=ref)
    return row


async def row_by_name(tx: AsyncSession, table: type[N], name_key: str) -> N | None:
    return cast("N | None", await tx.scalar(sa.select(table).where(table.name_key == name_key)))


async def page(
    tx: AsyncSession,
    table: type[N],
    conditions: Iterable[sa.ColumnElement[bool]],
    *,
    limit: int,
    cursor: str | None,
) -> Page[N]:
    """Ordered by name."""
    query = sa.select(table).where(*conditions).order_by(table.name_key).limit(limit + 1)
    after = decode_cursor(cursor, 1)
    if after:
        query = query.where(table.name_key > str(after[0]))
    rows = cast("list[N]", (await tx.scalars(query)).all())
    return page_of(rows, limit, lambda row: (row.name_key,))


async def resolve_alias(tx: AsyncSession, kind: str, alias: str) -> str | None:
    row = await tx.get(AliasRow, (kind, alias))
    return None if row is None else row.id


async def aliases_of(tx: AsyncSession, kind: str) -> dict[str, list[str]]:
    """Id → its aliases."""
    found: dict[str, list[str]] = {}
    query = sa.select(AliasRow).where(AliasRow.kind == kind).order_by(AliasRow.alias)
    for row in await tx.scalars(query):
        found.setdefault(row.id, []).append(row.alias)
    return found


async def drop_aliases(tx: AsyncSession, kind: str, subject: str) -> None:
    await tx.execute(sa.delete(AliasRow).where(AliasRow.kind == kind, AliasRow.id == subject))


async def members_of(tx: AsyncSession, group_id: str) -> list[str]:
    query = (
        sa.select(GroupMemberRow.device_id)
        .where(GroupMemberRow.group_id == group_id)
        .order_by(GroupMemberRow.device_id)
    )
    return list(await tx.scalars(query))


async def to_group(tx: AsyncSession, row: GroupRow) -> Group:
    return Group(
        id=row.id,
        name=row.name,
        description=row.description,
        device_ids=await members_of(tx, row.id),
        revision=row.revision,
        created_at=row.created_at,
    )
