"""Inventory as one JSON document: export without secrets, import all or nothing.

Takes haechi's own form and the historic master and device records (strings for port and
coordinates, `isSupportAnnalysis`, a camera `url` with its login), alone or in lists. An entry is
matched by id, foreign id or name, so importing the same document again changes nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, cast

import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from haechi.core.access import Principal
from haechi.core.clock import to_text
from haechi.core.secrets import Secret
from haechi.domains.inventory import entries, rules, store
from haechi.domains.inventory.cameras import CameraFields
from haechi.domains.inventory.context import Change
from haechi.domains.inventory.devices import DeviceFields, set_alias
from haechi.domains.inventory.entries import (
    FORMAT,
    CameraEntry,
    DeviceEntry,
    GroupEntry,
    LinkEntry,
    SiteEntry,
)
from haechi.domains.inventory.model import (
    BadText,
    BadValue,
    DuplicateLink,
    DuplicateName,
    ImportRefused,
    Kind,
    PtzPreset,
    UnknownReference,
)
from haechi.domains.inventory.service import Inventory, SiteFields
from haechi.domains.inventory.store import CameraRow, DeviceRow, GroupRow, LinkRow
from haechi.errors import AppError

MAX_ENTRIES: Final = 20_000
MAX_PROBLEMS: Final = 200


@dataclass(slots=True)
class Imported:
    kind: Kind
    name: str
    id: str


@dataclass(slots=True)
class Outcome:
    dry_run: bool
    created: list[Imported] = field(default_factory=list)
    updated: list[Imported] = field(default_factory=list)
    unchanged: int = 0


class _DryRun(Exception):
    """Only rolls the transaction back."""


class Transfer:
    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self._context = inventory.context

    async def export(self) -> dict[str, Any]:
        """Everything but secrets; can be imported again here or elsewhere."""
        inventory = self._inventory
        site = await inventory.site()
        devices = {device.id: device for device in await inventory.devices.all()}
        cameras = {camera.id: camera for camera in await inventory.cameras.all()}
        async with self._context.db.read() as tx:
            groups = [
                await store.to_group(tx, row)
                for row in await tx.scalars(sa.select(GroupRow).order_by(GroupRow.name_key))
            ]
            device_aliases = await store.aliases_of(tx, "device")
            camera_aliases = await store.aliases_of(tx, "camera")
        return {
            "format": FORMAT,
            "exported_at": to_text(self._context.clock.now()),
            "site": entries.site_out(site),
            "devices": [
                entries.device_out(device, device_aliases.get(device.id, []))
                for device in devices.values()
            ],
            "cameras": [
                entries.camera_out(camera, devices, camera_aliases.get(camera.id, []))
                for camera in cameras.values()
            ],
            "links": [entries.link_out(link, cameras) for link in await inventory.links.all()],
            "groups": [
                {
                    "name": group.name,
                    "description": group.description,
                    "devices": [devices[member].name for member in group.device_ids],
                }
                for group in groups
            ],
        }

    async def import_document(
        self, document: Any, *, by: Principal, dry_run: bool = False
    ) -> Outcome:
        """Raises ImportRefused with every problem; nothing is changed then, nor in a dry run."""
        work = _Import(self._inventory, Outcome(dry_run=dry_run))
        parsed = work.parse(document)
        try:
            async with self._context.change(by) as change:
                await work.apply(change, parsed)
                work.decide()
                await self._context.audit.record(
                    change.tx,
                    by,
                    "import_inventory",
                    "inventory",
                    {"created": len(work.outcome.created), "updated": len(work.outcome.updated)},
                )
        except _DryRun:
            return work.outcome
        return work.outcome


class _Import:
    """One import: collects problems instead of stopping at the first."""

    def __init__(self, inventory: Inventory, outcome: Outcome) -> None:
        self._inventory = inventory
        self._seen: set[tuple[Kind, str]] = set()
        self.outcome = outcome
        self.problems: list[AppError] = []

    def parse(self, document: Any) -> list[tuple[str, entries.Entry]]:
        """(path, entry) in the order in which they can be applied."""
        bad = next(entries.unprintable(document), None)
        if bad is not None:
            raise ImportRefused.of([BadText(field="text", min=0, max=rules.MAX_TEXT, path=bad)])
        parsed: list[tuple[str, entries.Entry]] = []
        found = list(entries.find(document))
        if not found:
            reason = f"no entries; expected {FORMAT} or historic records"
            raise ImportRefused.of([BadValue(field="document", reason=reason, path="")])
        if len(found) > MAX_ENTRIES:
            reason = f"more than {MAX_ENTRIES} entries"
            raise ImportRefused.of([BadValue(field="document", reason=reason, path="")])
        for path, shape, content in found:
            try:
                parsed += [(path, entry) for entry in entries.read(shape, content)]
            except ValidationError as error:
                self.problems += list(_problems_of(path, error))
            except AppError as error:
                self._add(path, error)
        return sorted(parsed, key=lambda item: entries.ORDER.index(type(item[1])))

    async def apply(self, change: Change, parsed: list[tuple[str, entries.Entry]]) -> None:
        for path, entry in parsed:
            try:
                if isinstance(entry, SiteEntry):
                    await self._site(change, entry)
                elif isinstance(entry, DeviceEntry):
                    await self._device(change, entry)
                elif isinstance(entry, CameraEntry):
                    await self._camera(change, entry)
                elif isinstance(entry, LinkEntry):
                    await self._link(change, entry)
                else:
                    await self._group(change, entry)
            except AppError as error:
                self._add(path, error)

    def decide(self) -> None:
        """Raise, and so roll back, unless all of it shall stay."""
        if self.problems:
            raise ImportRefused.of(self.problems[:MAX_PROBLEMS])
        if self.outcome.dry_run:
            raise _DryRun

    def _add(self, path: str, error: AppError) -> None:
        error.data = {**error.data, "path": path}
        self.problems.append(error)

    def _once(self, kind: Kind, name: str) -> None:
        key = (kind, rules.name_key(name))
        if key in self._seen:
            raise DuplicateName(kind=kind, name=name, id="-")
        self._seen.add(key)

    def _tell(self, kind: Kind, name: str, subject: str, changed: bool | None) -> None:
        """`changed` None: created."""
        if changed is None:
            shown = "" if self.outcome.dry_run else subject
            self.outcome.created.append(Imported(kind, name, shown))
        elif changed:
            self.outcome.updated.append(Imported(kind, name, subject))
        else:
            self.outcome.unchanged += 1

    async def _site(self, change: Change, entry: SiteEntry) -> None:
        row = await self._inventory.site_row(change.tx)
        fields = cast("SiteFields", entries.given(entry, drop={"id"}))
        changed = self._inventory.apply_site(row, fields)
        if changed:
            await change.note("edit", "site", row.id, fields)
        self._tell("site", row.name, row.id, changed=changed)

    async def _device(self, change: Change, entry: DeviceEntry) -> None:
        self._once("device", entry.name)
        devices = self._inventory.devices
        fields = entries.given(entry, drop={"id", "aliases"})
        for key in ("ssh_password", "ssh_key"):
            if key in fields:
                fields[key] = Secret(fields[key]) if fields[key] else None
        row = await _known(change.tx, DeviceRow, "device", entry.id, entry.aliases, entry.name)
        if row is None:
            row = await devices.add(change, cast("DeviceFields", fields))
            self._tell("device", entry.name, row.id, changed=None)
        else:
            changed = await devices.apply(change, row, cast("DeviceFields", fields))
            self._tell("device", entry.name, row.id, changed=changed)
        await _keep_aliases(change.tx, "device", row.id, entry.id, entry.aliases)

    async def _camera(self, change: Change, entry: CameraEntry) -> None:
        self._once("camera", entry.name)
        cameras = self._inventory.cameras
        fields = entries.given(entry, drop={"id", "aliases", "device"})
        if "password" in fields:
            fields["password"] = Secret(fields["password"]) if fields["password"] else None
        if "ptz_presets" in fields:
            fields["ptz_presets"] = [PtzPreset(p.name, p.token) for p in entry.ptz_presets]
        if "device" in entry.model_fields_set:
            fields["device_id"] = None
            if entry.device:
                home = await _known(change.tx, DeviceRow, "device", entry.device, [], entry.device)
                if home is None:
                    raise UnknownReference(field="device", kind="device", ref=entry.device)
                fields["device_id"] = home.id
        row = await _known(change.tx, CameraRow, "camera", entry.id, entry.aliases, entry.name)
        if row is None:
            row = await cameras.add(change, cast("CameraFields", fields))
            self._tell("camera", entry.name, row.id, changed=None)
        else:
            changed = await cameras.apply(change, row, cast("CameraFields", fields))
            self._tell("camera", entry.name, row.id, changed=changed)
        await _keep_aliases(change.tx, "camera", row.id, entry.id, entry.aliases)

    async def _link(self, change: Change, entry: LinkEntry) -> None:
        ids = []
        for ref in entry.cameras:
            row = await _known(change.tx, CameraRow, "camera", ref, [], ref)
            if row is None:
                raise UnknownReference(field="cameras", kind="camera", ref=ref)
            ids.append(row.id)
        try:
            link = await self._inventory.links.add(
                change,
                ids[0],
                ids[1],
                preset_a=entry.presets[0],
                preset_b=entry.presets[1],
                origin=entry.origin,
            )
        except DuplicateLink as known:
            old = await change.tx.get(LinkRow, known.data["id"])
            assert old is not None
            presets = entry.presets if old.camera_a == ids[0] else entry.presets[::-1]
            changed = (old.preset_a, old.preset_b) != presets
            if changed:
                old.preset_a, old.preset_b = presets
                await change.note("edit", "link", old.id, {"presets": list(presets)})
            self._tell("link", " - ".join(entry.cameras), old.id, changed=changed)
            return
        self._tell("link", " - ".join(entry.cameras), link.id, changed=None)

    async def _group(self, change: Change, entry: GroupEntry) -> None:
        self._once("group", entry.name)
        ids = []
        for ref in entry.devices:
            device = await _known(change.tx, DeviceRow, "device", ref, [], ref)
            if device is None:
                raise UnknownReference(field="devices", kind="device", ref=ref)
            ids.append(device.id)
        groups = self._inventory.groups
        row = await store.row_by_name(change.tx, GroupRow, rules.name_key(entry.name))
        if row is None:
            row = await groups.add(change, entry.name, ids, description=entry.description)
            self._tell("group", entry.name, row.id, changed=None)
            return
        known = await store.to_group(change.tx, row)
        if (known.description, set(known.device_ids)) == (entry.description, set(ids)):
            self._tell("group", entry.name, row.id, changed=False)
            return
        await groups.apply(change, row, description=entry.description, device_ids=ids)
        self._tell("group", entry.name, row.id, changed=True)


async def _known(
    tx: AsyncSession,
    table: type[store.N],
    kind: Kind,
    ref: str | None,
    aliases: list[str],
    name: str,
) -> store.N | None:
    """The row an entry means: by own id, by foreign id, by name."""
    for candidate in [*([ref] if ref else []), *aliases]:
        row = await tx.get(table, candidate)
        if row is not None:
            return row
        known = await store.resolve_alias(tx, kind, candidate)
        if known is not None:
            return await tx.get(table, known)
    return await store.row_by_name(tx, table, rules.name_key(name))


async def _keep_aliases(
    tx: AsyncSession, kind: Kind, subject: str, ref: str | None, aliases: list[str]
) -> None:
    for alias in [*([ref] if ref and ref != subject else []), *aliases]:
        await set_alias(tx, kind, alias, subject)


def _problems_of(path: str, error: ValidationError) -> Iterator[AppError]:
    for item in error.errors(include_input=False, include_url=False):
        where = ".".join(str(part) for part in item["loc"])
        yield BadValue(field=where or "entry", reason=item["msg"], path=path)
