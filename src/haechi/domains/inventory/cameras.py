"""Cameras: the login is split off the URL and encrypted; only media gets it back whole."""

import json
from collections.abc import Mapping
from typing import Any, Final, TypedDict

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from haechi.core.access import Principal
from haechi.core.ids import new_id
from haechi.core.pages import DEFAULT_LIMIT, Page
from haechi.core.secrets import Secret
from haechi.domains.inventory import rtsp, rules, store
from haechi.domains.inventory.context import Change, Context
from haechi.domains.inventory.devices import set_alias
from haechi.domains.inventory.model import (
    BadCameraUrl,
    BadValue,
    Camera,
    CameraSource,
    DuplicateName,
    Gps,
    PtzPreset,
    UnknownReference,
)
from haechi.domains.inventory.store import CameraRow, DeviceRow
from haechi.errors import ObjectNotFound, StaleEdit

MAX_PRESETS: Final = 256


class CameraFields(TypedDict, total=False):
    """Absent: unchanged; None: cleared. A login inside a URL counts as `login` and `password`."""

    name: str
    device_id: str | None
    url: str
    sub_url: str | None
    login: str | None
    password: Secret | None
    ptz_presets: list[PtzPreset]
    gps: Gps | None
    postal_address: str
    description: str
    labels: dict[str, str]


_DEFAULTS: Final[dict[str, Any]] = {
    "device_id": None,
    "ptz_presets": [],
    "latitude": None,
    "longitude": None,
    "postal_address": "",
    "description": "",
    "labels": {},
}


def camera_values(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Checked column values of all but URLs and login. Raises the first problem."""
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
            case "description" | "postal_address":
                values[key] = rules.text(key, value)
            case "labels":
                values[key] = rules.labels(value)
            case "ptz_presets":
                values[key] = _presets(value)
            case "device_id":
                values[key] = value or None
            case _:
                pass
    return values


def _presets(presets: list[PtzPreset]) -> list[dict[str, str]]:
    if len(presets) > MAX_PRESETS:
        raise BadValue(field="ptz_presets", reason=f"at most {MAX_PRESETS}")
    checked = [
        {
            "name": rules.text("ptz_presets.name", preset.name, maximum=128, minimum=1),
            "token": rules.text("ptz_presets.token", preset.token, maximum=128, minimum=1),
        }
        for preset in presets
    ]
    if len({preset["name"] for preset in checked}) < len(checked):
        raise BadValue(field="ptz_presets", reason="two presets with one name")
    return checked


class Access(TypedDict):
    """URLs (complete) and login of a camera, in clear while it is being changed."""

    main: str
    sub: str | None
    login: str | None
    password: str | None


def access_from(fields: Mapping[str, Any], known: Access | None) -> Access:
    """Merge what was entered into what was known. Fields win over a login inside a URL; a shown
    (masked) URL sent back means "as it was".
    """
    access: Access = (
        known.copy() if known else {"main": "", "sub": None, "login": None, "password": None}
    )
    logins = []
    if "url" in fields:
        main = rtsp.parse(fields["url"])
        if known is None or main.url != rtsp.parse(known["main"]).shown:
            access["main"] = _unmasked(main)
        logins.append(main)
    if "sub_url" in fields:
        sub = rtsp.parse(fields["sub_url"]) if fields["sub_url"] else None
        if sub is None:
            access["sub"] = None
        else:
            known_sub = known["sub"] if known else None
            if known_sub is None or sub.url != rtsp.parse(known_sub).shown:
                access["sub"] = _unmasked(sub)
            logins.append(sub)
    given = [(item.login, item.password) for item in logins if item.login is not None]
    if len(set(given)) > 1:
        raise BadCameraUrl(reason="main and sub stream with different logins")
    if given:
        access["login"], access["password"] = given[0]
    if "login" in fields:
        login = fields["login"]
        access["login"] = rules.text("login", login, maximum=256) if login else None
        if not access["login"]:
            access["password"] = None
    if "password" in fields:
        secret = fields["password"]
        access["password"] = secret.reveal() if secret else None
    if access["password"] is not None and not access["login"]:
        raise BadCameraUrl(reason="a password without a login")
    return access


def _unmasked(parsed: rtsp.CameraUrl) -> str:
    if f"={rtsp.MASK}" in parsed.url:
        raise BadCameraUrl(reason=f"'{rtsp.MASK}' stands for a hidden value")
    return parsed.url


class Cameras:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def get(self, ref: str) -> Camera:
        """By id or foreign id; raises ObjectNotFound."""
        async with self._context.db.read() as tx:
            return await self.read(tx, ref)

    async def read(self, tx: AsyncSession, ref: str) -> Camera:
        return store.to_camera(await store.row_of(tx, CameraRow, "camera", ref))

    async def by_name(self, name: str) -> Camera | None:
        async with self._context.db.read() as tx:
            row = await store.row_by_name(tx, CameraRow, rules.name_key(name))
            return None if row is None else store.to_camera(row)

    async def all(self) -> list[Camera]:
        async with self._context.db.read() as tx:
            rows = await tx.scalars(sa.select(CameraRow).order_by(CameraRow.name_key))
            return [store.to_camera(row) for row in rows]

    async def of_device(self, device_id: str) -> list[Camera]:
        """The cameras whose home is this device."""
        async with self._context.db.read() as tx:
            query = sa.select(CameraRow).where(CameraRow.device_id == device_id)
            rows = await tx.scalars(query.order_by(CameraRow.name_key))
            return [store.to_camera(row) for row in rows]

    async def find(
        self,
        *,
        name: str | None = None,
        device_id: str | None = None,
        limit: int = DEFAULT_LIMIT,
        cursor: str | None = None,
    ) -> Page[Camera]:
        conditions: list[sa.ColumnElement[bool]] = []
        if name is not None:
            conditions.append(CameraRow.name_key == rules.name_key(name))
        if device_id is not None:
            conditions.append(CameraRow.device_id == device_id)
        async with self._context.db.read() as tx:
            page = await store.page(tx, CameraRow, conditions, limit=limit, cursor=cursor)
        return Page([store.to_camera(row) for row in page.items], page.next_cursor)

    async def source(self, ref: str) -> CameraSource:
        """Both URLs with login, for media only: never log, never send to a browser or an AI."""
        async with self._context.db.read() as tx:
            row = await store.row_of(tx, CameraRow, "camera", ref)
        access = self._access_of(row)
        whole = [
            Secret(rtsp.with_login(url, access["login"], access["password"])) if url else None
            for url in (access["main"], access["sub"])
        ]
        return CameraSource(main=whole[0] or Secret(""), sub=whole[1])

    async def create(self, fields: CameraFields, *, by: Principal, alias: str = "") -> Camera:
        async with self._context.change(by) as change:
            return store.to_camera(await self.add(change, fields, alias=alias))

    async def add(self, change: Change, fields: CameraFields, *, alias: str = "") -> CameraRow:
        """`create` inside a change that does more."""
        values = {**_DEFAULTS, **camera_values(fields)}
        access = access_from(fields, None)
        await self._check(change.tx, values, own_id="")
        now = self._context.clock.now()
        camera_id = new_id("camera")
        row = CameraRow(
            id=camera_id, streams={}, revision=1, created_at=now, updated_at=now, **values
        )
        self._seal(row, access)
        change.tx.add(row)
        await change.tx.flush()
        if alias:
            await set_alias(change.tx, "camera", alias, camera_id)
        await change.note("create", "camera", camera_id, _loggable(fields))
        return row

    async def edit(
        self, ref: str, fields: CameraFields, *, by: Principal, revision: int | None = None
    ) -> Camera:
        async with self._context.change(by) as change:
            row = await store.row_of(change.tx, CameraRow, "camera", ref)
            if revision is not None and row.revision != revision:
                raise StaleEdit
            await self.apply(change, row, fields)
            return store.to_camera(row)

    async def apply(self, change: Change, row: CameraRow, fields: CameraFields) -> bool:
        """Set what differs; False where nothing does."""
        values = camera_values(fields)
        await self._check(change.tx, values, own_id=row.id)
        values = {key: value for key, value in values.items() if getattr(row, key) != value}
        known = self._access_of(row)
        access = access_from(fields, known)
        if not values and access == known:
            return False
        for key, value in values.items():
            setattr(row, key, value)
        if access != known:
            self._seal(row, access)
            row.streams = {}
        row.revision += 1
        row.updated_at = self._context.clock.now()
        await change.tx.flush()
        await change.note("edit", "camera", row.id, _loggable(fields))
        return True

    async def delete(self, ref: str, *, by: Principal, force: bool = False) -> None:
        """Its links to neighbours go with it."""
        async with self._context.change(by) as change:
            row = await store.row_of(change.tx, CameraRow, "camera", ref)
            await self._context.clear_uses(
                change.tx, "camera", row.id, row.name, own=[], force=force
            )
            await store.drop_aliases(change.tx, "camera", row.id)
            await change.tx.delete(row)
            await change.note("delete", "camera", row.id, {"name": row.name})

    async def report_streams(self, camera_id: str, streams: dict[str, dict[str, Any]]) -> None:
        """Codec facts as media found them; no edit, so the revision stays."""
        async with self._context.db.write() as tx:
            row = await tx.get(CameraRow, camera_id)
            if row is None:
                raise ObjectNotFound(kind="camera", id=camera_id)
            merged = {**row.streams, **streams}
            changed = merged != row.streams
            if changed:
                row.streams = merged
        if changed:
            told = {"kind": "camera", "id": camera_id, "change": "edit"}
            self._context.bus.publish("states", told)

    async def add_alias(self, ref: str, alias: str, *, by: Principal) -> None:
        async with self._context.change(by) as change:
            row = await store.row_of(change.tx, CameraRow, "camera", ref)
            await set_alias(change.tx, "camera", alias, row.id)
            await change.note("edit", "camera", row.id, {"alias": alias})

    async def _check(self, tx: AsyncSession, values: dict[str, Any], *, own_id: str) -> None:
        if "name_key" in values:
            other = await store.row_by_name(tx, CameraRow, values["name_key"])
            if other is not None and other.id != own_id:
                raise DuplicateName(kind="camera", name=values["name"], id=other.id)
        if values.get("device_id"):
            try:
                device = await store.row_of(tx, DeviceRow, "device", values["device_id"])
            except ObjectNotFound as error:
                ref = values["device_id"]
                raise UnknownReference(field="device_id", kind="device", ref=ref) from error
            values["device_id"] = device.id

    def _seal(self, row: CameraRow, access: Access) -> None:
        keyring = self._context.keyring
        main = rtsp.parse(access["main"])
        sub = rtsp.parse(access["sub"]) if access["sub"] else None
        row.url, row.sub_url = main.shown, sub.shown if sub else None
        hidden = main.hides_something or (sub is not None and sub.hides_something)
        whole = Secret(json.dumps([access["main"], access["sub"]]))
        row.full_urls = keyring.encrypt(whole, f"{row.id}:urls") if hidden else None
        row.login = access["login"]
        password = access["password"]
        row.password = (
            None if password is None else keyring.encrypt(Secret(password), f"{row.id}:password")
        )

    def _access_of(self, row: CameraRow) -> Access:
        keyring = self._context.keyring
        main, sub = row.url, row.sub_url
        if row.full_urls is not None:
            main, sub = json.loads(keyring.decrypt(row.full_urls, f"{row.id}:urls").reveal())
        password = (
            None
            if row.password is None
            else keyring.decrypt(row.password, f"{row.id}:password").reveal()
        )
        return {"main": main, "sub": sub, "login": row.login, "password": password}


def _loggable(fields: Mapping[str, Any]) -> dict[str, Any]:
    """For the audit: presets as plain JSON; the context hides URLs and password."""
    return {
        key: [{"name": item.name, "token": item.token} for item in value]
        if key == "ptz_presets"
        else value
        for key, value in fields.items()
    }
