"""Devices: register, find, edit, delete; what agents report; the host's login, encrypted."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, TypedDict

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from haechi.core.access import SYSTEM, Principal
from haechi.core.ids import new_id
from haechi.core.pages import DEFAULT_LIMIT, Page
from haechi.core.secrets import Secret
from haechi.domains.inventory import rules, store
from haechi.domains.inventory.context import Change, Context
from haechi.domains.inventory.model import (
    AliasTaken,
    Device,
    DeviceRole,
    DuplicateHostName,
    DuplicateName,
    Enrolment,
    Gps,
    HostLogin,
    NoHostLogin,
    Use,
)
from haechi.domains.inventory.store import CameraRow, DeviceRow
from haechi.errors import StaleEdit


class DeviceFields(TypedDict, total=False):
    """What a person or an import may set. Absent: unchanged (or the default); None: cleared."""

    name: str
    role: DeviceRole
    type: int
    description: str
    postal_address: str
    gps: Gps | None
    supports_analysis: bool
    host_name: str | None
    address: str | None
    port: int | None
    ssh_user: str | None
    ssh_password: Secret | None
    ssh_key: Secret | None
    labels: dict[str, str]


class ReportedFacts(TypedDict, total=False):
    """What an agent tells of its host; no edit, so it leaves the revision alone."""

    machine_id: str
    ssh_host_key: str
    platform: str
    capacity: dict[str, Any]
    agent_version: str
    seen_address: str


_DEFAULTS: Final[dict[str, Any]] = {
    "role": "edge",
    "type": 1,
    "description": "",
    "postal_address": "",
    "latitude": None,
    "longitude": None,
    "supports_analysis": False,
    "host_name": None,
    "address": None,
    "port": None,
    "ssh_user": None,
    "labels": {},
}


def device_values(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Checked column values, secrets left out. Raises the first problem."""
    values: dict[str, Any] = {}
    for key, value in fields.items():
        match key:
            case "name":
                values |= {"name": rules.name(value), "name_key": rules.name_key(value)}
            case "gps":
                place = None if value is None else rules.gps(*value)
                values |= {
                    "latitude": place.latitude if place else None,
                    "longitude": place.longitude if place else None,
                }
            case "host_name" | "address" | "port" if value in {None, ""}:
                values[key] = None
            case "host_name":
                values[key] = rules.host_name(value)
            case "address":
                values[key] = rules.address(value)
            case "port":
                values[key] = rules.port(value)
            case "ssh_user":
                values[key] = rules.text(key, value, maximum=64) if value else None
            case "description" | "postal_address":
                values[key] = rules.text(key, value)
            case "labels":
                values[key] = rules.labels(value)
            case "ssh_password" | "ssh_key":
                pass
            case _:
                values[key] = value
    return values


class Devices:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def get(self, ref: str) -> Device:
        """By id or foreign id; raises ObjectNotFound."""
        async with self._context.db.read() as tx:
            return await self.read(tx, ref)

    async def read(self, tx: AsyncSession, ref: str) -> Device:
        """`get` inside the caller's transaction."""
        return store.to_device(await store.row_of(tx, DeviceRow, "device", ref))

    async def by_name(self, name: str) -> Device | None:
        async with self._context.db.read() as tx:
            row = await store.row_by_name(tx, DeviceRow, rules.name_key(name))
            return None if row is None else store.to_device(row)

    async def all(self) -> list[Device]:
        async with self._context.db.read() as tx:
            rows = await tx.scalars(sa.select(DeviceRow).order_by(DeviceRow.name_key))
            return [store.to_device(row) for row in rows]

    async def find(
        self,
        *,
        name: str | None = None,
        role: DeviceRole | None = None,
        machine_id: str | None = None,
        address: str | None = None,
        limit: int = DEFAULT_LIMIT,
        cursor: str | None = None,
    ) -> Page[Device]:
        """By name. `address` matches the entered one and the one last seen."""
        conditions: list[sa.ColumnElement[bool]] = []
        if name is not None:
            conditions.append(DeviceRow.name_key == rules.name_key(name))
        if role is not None:
            conditions.append(DeviceRow.role == role)
        if machine_id is not None:
            conditions.append(DeviceRow.machine_id == machine_id)
        if address is not None:
            conditions.append(
                sa.or_(DeviceRow.address == address, DeviceRow.seen_address == address)
            )
        async with self._context.db.read() as tx:
            page = await store.page(tx, DeviceRow, conditions, limit=limit, cursor=cursor)
        return Page([store.to_device(row) for row in page.items], page.next_cursor)

    async def create(self, fields: DeviceFields, *, by: Principal, alias: str = "") -> Device:
        async with self._context.change(by) as change:
            row = await self.add(change, fields, alias=alias)
            return store.to_device(row)

    async def add(self, change: Change, fields: DeviceFields, *, alias: str = "") -> DeviceRow:
        """`create` inside a change that does more."""
        values = {**_DEFAULTS, **device_values(fields)}
        await self._refuse_duplicates(change.tx, values, own_id="")
        now = self._context.clock.now()
        device_id = new_id("device")
        row = DeviceRow(
            id=device_id,
            capacity={},
            enrolment="none",
            revision=1,
            created_at=now,
            updated_at=now,
            **values,
            **self._sealed(device_id, fields),
        )
        change.tx.add(row)
        await change.tx.flush()
        if alias:
            await set_alias(change.tx, "device", alias, device_id)
        await change.note("create", "device", device_id, fields)
        return row

    async def edit(
        self, ref: str, fields: DeviceFields, *, by: Principal, revision: int | None = None
    ) -> Device:
        """Raises StaleEdit when `revision` is given and no longer the current one."""
        async with self._context.change(by) as change:
            return await self._edit(change, ref, fields, revision)

    async def readdress(self, devices: Iterable[Device], address: str, *, by: Principal) -> None:
        """All or none. Raises StaleEdit where one was edited since it was read."""
        async with self._context.change(by) as change:
            for device in devices:
                _ = await self._edit(change, device.id, {"address": address}, device.revision)

    async def _edit(
        self, change: Change, ref: str, fields: DeviceFields, revision: int | None
    ) -> Device:
        row = await store.row_of(change.tx, DeviceRow, "device", ref)
        if revision is not None and row.revision != revision:
            raise StaleEdit
        await self.apply(change, row, fields)
        return store.to_device(row)

    async def apply(self, change: Change, row: DeviceRow, fields: DeviceFields) -> bool:
        """Set what differs; False where nothing does."""
        values = device_values(fields)
        await self._refuse_duplicates(change.tx, values, own_id=row.id)
        values = {key: value for key, value in values.items() if getattr(row, key) != value}
        for key in ("ssh_password", "ssh_key"):
            if key in fields and fields[key] != self._unsealed(row, key):
                values |= self._sealed(row.id, {key: fields[key]})
        if not values:
            return False
        for key, value in values.items():
            setattr(row, key, value)
        row.revision += 1
        row.updated_at = self._context.clock.now()
        await change.tx.flush()
        await change.note("edit", "device", row.id, fields)
        return True

    async def delete(self, ref: str, *, by: Principal, force: bool = False) -> None:
        """Cameras whose home it is stay; with `force` they lose their home device."""
        async with self._context.change(by) as change:
            tx = change.tx
            row = await store.row_of(tx, DeviceRow, "device", ref)
            cameras = await tx.scalars(sa.select(CameraRow).where(CameraRow.device_id == row.id))
            own = [Use(kind="camera", id=camera.id, name=camera.name) for camera in cameras]
            await self._context.clear_uses(tx, "device", row.id, row.name, own=own, force=force)
            await store.drop_aliases(tx, "device", row.id)
            await tx.delete(row)
            await change.note("delete", "device", row.id, {"name": row.name})

    async def report(self, device_id: str, facts: ReportedFacts) -> Device:
        """Take up what the agent says of its host; told on the bus only where something changed."""
        async with self._context.db.write() as tx:
            row = await store.row_of(tx, DeviceRow, "device", device_id)
            changed = [key for key, value in facts.items() if getattr(row, key) != value]
            for key in changed:
                setattr(row, key, facts[key])  # type: ignore[literal-required]
            device = store.to_device(row)
        if changed:
            self._context.bus.publish("states", {"kind": "device", "id": row.id, "change": "edit"})
        return device

    async def set_enrolment(
        self,
        tx: AsyncSession,
        device_id: str,
        enrolment: Enrolment,
        *,
        enrolled_at: datetime | None = None,
    ) -> None:
        """Part of the agents domain's own transaction; it audits and publishes."""
        row = await store.row_of(tx, DeviceRow, "device", device_id)
        row.enrolment = enrolment
        if enrolled_at is not None:
            row.enrolled_at = enrolled_at
        await tx.flush()

    async def host_login(self, ref: str) -> HostLogin:
        """Raises NoHostLogin where neither password nor key is stored."""
        async with self._context.db.read() as tx:
            row = await store.row_of(tx, DeviceRow, "device", ref)
        login = HostLogin(
            user=row.ssh_user or row.host_name,
            password=self._unsealed(row, "ssh_password"),
            key=self._unsealed(row, "ssh_key"),
        )
        if login.password is None and login.key is None:
            raise NoHostLogin(id=row.id)
        return login

    async def pin_host_key(self, ref: str, host_key: str, *, by: Principal = SYSTEM) -> None:
        async with self._context.change(by) as change:
            row = await store.row_of(change.tx, DeviceRow, "device", ref)
            row.ssh_host_key = host_key
            await change.note("edit", "device", row.id, {"ssh_host_key": host_key})

    async def add_alias(self, ref: str, alias: str, *, by: Principal) -> None:
        """Remember a foreign id; raises AliasTaken where it is another device's."""
        async with self._context.change(by) as change:
            row = await store.row_of(change.tx, DeviceRow, "device", ref)
            await set_alias(change.tx, "device", alias, row.id)
            await change.note("edit", "device", row.id, {"alias": alias})

    def _sealed(self, device_id: str, fields: Mapping[str, Any]) -> dict[str, bytes | None]:
        return {
            key: self._context.keyring.encrypt(secret, f"{device_id}:{key}") if secret else None
            for key in ("ssh_password", "ssh_key")
            if key in fields
            for secret in [fields[key]]
        }

    def _unsealed(self, row: DeviceRow, key: str) -> Secret | None:
        blob = getattr(row, key)
        return None if blob is None else self._context.keyring.decrypt(blob, f"{row.id}:{key}")

    async def _refuse_duplicates(
        self, tx: AsyncSession, values: dict[str, Any], *, own_id: str
    ) -> None:
        if "name_key" in values:
            other = await store.row_by_name(tx, DeviceRow, values["name_key"])
            if other is not None and other.id != own_id:
                raise DuplicateName(kind="device", name=values["name"], id=other.id)
        if values.get("host_name"):
            query = sa.select(DeviceRow.id).where(DeviceRow.host_name == values["host_name"])
            holder = await tx.scalar(query)
            if holder is not None and holder != own_id:
                raise DuplicateHostName(host_name=values["host_name"], id=holder)


async def set_alias(tx: AsyncSession, kind: str, alias: str, subject: str) -> None:
    alias = rules.alias(alias)
    known = await store.resolve_alias(tx, kind, alias)
    if known == subject:
        return
    if known is not None:
        raise AliasTaken(alias=alias, id=known)
    tx.add(store.AliasRow(kind=kind, alias=alias, id=subject))
    await tx.flush()
