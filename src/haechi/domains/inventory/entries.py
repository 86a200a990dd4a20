"""The entries of an inventory document, and how historic records become them. Pure.

Lenient about type (a port may be a string), strict about names: an unknown field is a problem,
because a misspelt one would silently be lost.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from haechi.domains.inventory.model import BadValue, Camera, Device, Gps, Link, Site
from haechi.domains.inventory.rules import is_host_name

FORMAT: Final = "haechi.inventory/1"


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True, hide_input_in_errors=True)


class GpsEntry(_Entry):
    latitude: float
    longitude: float


class SiteEntry(_Entry):
    id: str | None = None
    name: str = "현장"
    description: str = ""
    postal_address: str = ""
    gps: GpsEntry | None = None
    timezone: str = "Asia/Seoul"


class DeviceEntry(_Entry):
    id: str | None = None
    aliases: list[str] = []
    name: str
    role: Literal["edge", "analysis", "server"] = "edge"
    type: int = 1
    description: str = ""
    postal_address: str = ""
    gps: GpsEntry | None = None
    supports_analysis: bool = False
    host_name: str | None = None
    address: str | None = None
    port: int | None = None
    ssh_user: str | None = None
    ssh_password: str | None = None
    ssh_key: str | None = None
    labels: dict[str, str] = {}


class PresetEntry(_Entry):
    name: str
    token: str


class CameraEntry(_Entry):
    id: str | None = None
    aliases: list[str] = []
    name: str
    device: str | None = None
    url: str
    sub_url: str | None = None
    login: str | None = None
    password: str | None = None
    ptz_presets: list[PresetEntry] = []
    gps: GpsEntry | None = None
    postal_address: str = ""
    description: str = ""
    labels: dict[str, str] = {}


class LinkEntry(_Entry):
    cameras: Annotated[tuple[str, str], Field()]
    presets: tuple[str | None, str | None] = (None, None)
    origin: Literal["hand", "gps"] = "hand"


class GroupEntry(_Entry):
    name: str
    description: str = ""
    devices: list[str] = []


class HistoricEntry(_Entry):
    """A master or device as the older system wrote it."""

    id: str | None = None
    name: str
    ip: str
    port: int | None = None
    description: str = ""
    host_name: str | None = None
    host_pwd: str | None = None
    type: int | None = None
    gps: GpsEntry | None = None
    address: str = ""
    isSupportAnnalysis: bool | None = None  # noqa: N815 - the historic spelling
    url: str | None = None

    @field_validator("gps", "port", "type", "isSupportAnnalysis", mode="before")
    @classmethod
    def _empty_is_absent(cls, value: Any) -> Any:
        if value == "":
            return None
        if isinstance(value, Mapping) and all(item in ("", None) for item in value.values()):
            return None
        return value


Entry = SiteEntry | DeviceEntry | CameraEntry | LinkEntry | GroupEntry
ORDER: Final[list[type]] = [SiteEntry, DeviceEntry, CameraEntry, LinkEntry, GroupEntry]
Shape = Literal["site", "devices", "masters", "cameras", "links", "groups"]
_LISTS: Final[tuple[Shape, ...]] = ("masters", "devices", "cameras", "links", "groups")
_SHAPES: Final[dict[str, type[_Entry]]] = {
    "site": SiteEntry,
    "devices": DeviceEntry,
    "cameras": CameraEntry,
    "links": LinkEntry,
    "groups": GroupEntry,
}


def find(document: Any) -> Iterator[tuple[str, str, Any]]:
    """(path, shape, content) of every entry. A bare record or list holds historic ones."""
    if isinstance(document, list):
        for index, content in enumerate(document):
            yield f"[{index}]", _guess(content), content
        return
    if not isinstance(document, dict):
        return
    if "ip" in document and "name" in document:
        yield "", _guess(document), document
        return
    for key, content in document.items():
        if key in {"format", "exported_at"}:
            continue
        if key == "site":
            yield "site", "site", content
        elif key in _LISTS and isinstance(content, list):
            for index, item in enumerate(content):
                yield f"{key}[{index}]", key, item
        else:
            yield key[:200], "unknown", content


def _guess(content: Any) -> str:
    """Only devices have a type, coordinates or a camera; what is left is a master."""
    if isinstance(content, dict) and not {"type", "gps", "isSupportAnnalysis", "url"} & set(
        content
    ):
        return "masters"
    return "devices"


def read(shape: str, content: Any) -> list[Entry]:
    """Raises pydantic's ValidationError, BadValue."""
    historic = shape == "masters" or (isinstance(content, dict) and "ip" in content)
    if shape in {"devices", "masters"} and historic:
        return _from_historic(HistoricEntry.model_validate(content), master=shape == "masters")
    model = _SHAPES.get(shape)
    if model is None:  # `shape` is "unknown": the entry's path says where
        raise BadValue(field="document", reason=f"expected `site` or a list: {', '.join(_LISTS)}")
    return [model.model_validate(content)]  # type: ignore[list-item]


def _from_historic(old: HistoricEntry, *, master: bool) -> list[Entry]:
    given = old.model_fields_set
    fields: dict[str, Any] = {"name": old.name, "address": old.ip}
    if old.id is not None:
        fields["id"] = old.id
    if master:
        fields["role"] = "server"
    host_name = old.host_name or (old.name if is_host_name(old.name) else None)
    if host_name:
        fields["host_name"] = host_name
    known = {
        "port": old.port,
        "type": old.type,
        "gps": old.gps,
        "supports_analysis": old.isSupportAnnalysis,
        "ssh_password": old.host_pwd,
    }
    fields |= {key: value for key, value in known.items() if value is not None}
    for key, source in (("description", "description"), ("postal_address", "address")):
        if source in given:
            fields[key] = getattr(old, source)
    made: list[Entry] = [DeviceEntry.model_validate(fields)]
    if old.url:
        camera: dict[str, Any] = {"name": old.name, "device": old.name, "url": old.url}
        for key in ("gps", "description", "postal_address"):
            if key in fields:
                camera[key] = fields[key]
        made.append(CameraEntry.model_validate(camera))
    return made


def given(entry: _Entry, *, drop: set[str]) -> dict[str, Any]:
    """What the entry says, coordinates in the domain's type."""
    values = {name: getattr(entry, name) for name in entry.model_fields_set - drop}
    gps = values.get("gps")
    if isinstance(gps, GpsEntry):
        values["gps"] = Gps(gps.latitude, gps.longitude)
    return values


def unprintable(document: Any) -> Iterator[str]:
    """Paths of texts that are no Unicode (lone surrogates), which no database could store."""
    todo: list[tuple[str, Any]] = [("", document)]
    while todo:
        path, value = todo.pop()
        if isinstance(value, str):
            try:
                value.encode()
            except UnicodeEncodeError:
                yield path
        elif isinstance(value, dict):
            todo += [(path, key) for key in value]
            todo += [(f"{path}.{key}".strip(".")[:200], item) for key, item in value.items()]
        elif isinstance(value, list):
            todo += [(f"{path}[{index}]", item) for index, item in enumerate(value)]


def _gps_out(gps: Gps | None) -> dict[str, float] | None:
    return None if gps is None else gps._asdict()


def site_out(site: Site) -> dict[str, Any]:
    return {
        "name": site.name,
        "description": site.description,
        "postal_address": site.postal_address,
        "gps": _gps_out(site.gps),
        "timezone": site.timezone,
    }


def device_out(device: Device, aliases: list[str]) -> dict[str, Any]:
    return {
        "id": device.id,
        "aliases": aliases,
        "name": device.name,
        "role": device.role,
        "type": device.type,
        "description": device.description,
        "postal_address": device.postal_address,
        "gps": _gps_out(device.gps),
        "supports_analysis": device.supports_analysis,
        "host_name": device.host_name,
        "address": device.address,
        "port": device.port,
        "ssh_user": device.ssh_user,
        "labels": device.labels,
    }


def camera_out(camera: Camera, devices: Mapping[str, Device], aliases: list[str]) -> dict[str, Any]:
    return {
        "id": camera.id,
        "aliases": aliases,
        "name": camera.name,
        "device": devices[camera.device_id].name if camera.device_id else None,
        "url": camera.url,
        "sub_url": camera.sub_url,
        "login": camera.login,
        "ptz_presets": [{"name": p.name, "token": p.token} for p in camera.ptz_presets],
        "gps": _gps_out(camera.gps),
        "postal_address": camera.postal_address,
        "description": camera.description,
        "labels": camera.labels,
    }


def link_out(link: Link, cameras: Mapping[str, Camera]) -> dict[str, Any]:
    return {
        "cameras": [cameras[link.camera_a].name, cameras[link.camera_b].name],
        "presets": [link.preset_a, link.preset_b],
        "origin": link.origin,
    }
