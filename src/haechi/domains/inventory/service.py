"""The inventory as others see it: one object with a part for each noun.

Whoever stands higher registers what it knows (`on_delete_check`, `on_delete`, `watched_by`); the
inventory itself never looks up.
"""

from typing import TypedDict

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from haechi.core.access import Principal
from haechi.core.bus import Bus
from haechi.core.clock import Clock
from haechi.core.db import Database
from haechi.core.ids import new_id
from haechi.core.secrets import Keyring, Secret
from haechi.domains.audit.ports import AuditTrail
from haechi.domains.inventory import rules, store
from haechi.domains.inventory.cameras import Cameras
from haechi.domains.inventory.context import Context
from haechi.domains.inventory.devices import Devices, set_alias
from haechi.domains.inventory.groups import Groups
from haechi.domains.inventory.links import Links
from haechi.domains.inventory.model import Gps, Kind, Site
from haechi.domains.inventory.ports import DeleteCheck, DeleteHook, Watch
from haechi.domains.inventory.store import SiteRow
from haechi.errors import StaleEdit


class SiteFields(TypedDict, total=False):
    name: str
    description: str
    postal_address: str
    gps: Gps | None
    timezone: str


class Inventory:
    def __init__(
        self, *, db: Database, bus: Bus, clock: Clock, keyring: Keyring, audit: AuditTrail
    ) -> None:
        self.context = Context(db=db, bus=bus, clock=clock, keyring=keyring, audit=audit)
        self.devices = Devices(self.context)
        self.cameras = Cameras(self.context)
        self.links = Links(self.context)
        self.groups = Groups(self.context)
        self.watch: Watch | None = None

    def on_delete_check(self, kind: Kind, check: DeleteCheck) -> None:
        """Ask `check` before a device, camera or group is deleted."""
        self.context.checks.setdefault(kind, []).append(check)

    def on_delete(self, kind: Kind, hook: DeleteHook) -> None:
        """Call `hook` inside the transaction that deletes one."""
        self.context.hooks.setdefault(kind, []).append(hook)

    def watched_by(self, watch: Watch) -> None:
        """Who tells how devices and cameras are doing right now."""
        self.watch = watch

    async def camera_source(self, camera_id: str) -> tuple[Secret, Secret | None]:
        """Main and sub URL with login, for media only."""
        source = await self.cameras.source(camera_id)
        return source.main, source.sub

    async def site(self) -> Site:
        """The site; made with defaults the first time somebody asks."""
        async with self.context.db.read() as tx:
            row = await tx.scalar(sa.select(SiteRow))
            if row is not None:
                return store.to_site(row)
        async with self.context.db.write() as tx:
            return store.to_site(await self.site_row(tx))

    async def site_row(self, tx: AsyncSession) -> SiteRow:
        row = await tx.scalar(sa.select(SiteRow))
        if row is None:
            row = SiteRow(
                id=new_id("site"),
                name="현장",
                description="",
                postal_address="",
                latitude=None,
                longitude=None,
                timezone="Asia/Seoul",
                revision=1,
            )
            tx.add(row)
            await tx.flush()
        return row

    async def edit_site(
        self, fields: SiteFields, *, by: Principal, revision: int | None = None
    ) -> Site:
        async with self.context.change(by) as change:
            row = await self.site_row(change.tx)
            if revision is not None and row.revision != revision:
                raise StaleEdit
            if self.apply_site(row, fields):
                await change.tx.flush()
                await change.note("edit", "site", row.id, fields)
            return store.to_site(row)

    def apply_site(self, row: SiteRow, fields: SiteFields) -> bool:
        """Set what differs; False where nothing does."""
        values: dict[str, object] = {}
        if "name" in fields:
            values["name"] = rules.name(fields["name"])
        if "description" in fields:
            values["description"] = rules.text("description", fields["description"])
        if "postal_address" in fields:
            values["postal_address"] = rules.text("postal_address", fields["postal_address"])
        if "timezone" in fields:
            values["timezone"] = rules.timezone(fields["timezone"])
        if "gps" in fields:
            place = fields["gps"]
            checked = None if place is None else rules.gps(*place)
            values["latitude"] = checked.latitude if checked else None
            values["longitude"] = checked.longitude if checked else None
        changed = {key: value for key, value in values.items() if getattr(row, key) != value}
        for key, value in changed.items():
            setattr(row, key, value)
        if changed:
            row.revision += 1
        return bool(changed)

    async def resolve(self, kind: str, alias: str) -> str | None:
        """Foreign id → haechi's id, for any kind (interop)."""
        async with self.context.db.read() as tx:
            return await store.resolve_alias(tx, kind, alias)

    async def aliases(self, kind: str) -> dict[str, list[str]]:
        """Haechi's id → foreign ids."""
        async with self.context.db.read() as tx:
            return await store.aliases_of(tx, kind)

    async def add_alias(self, tx: AsyncSession, kind: str, alias: str, subject: str) -> None:
        """Remember a foreign id of any kind, inside the caller's transaction."""
        await set_alias(tx, kind, alias, subject)
