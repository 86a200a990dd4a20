"""What the inventory's REST face takes and gives. Secrets are taken and never given back.

In an edit a field that is not sent stays as it is; null clears it where it may be empty. Whether
values make sense is decided by `rules`, so these shapes only bound type and length.
"""

from typing import Annotated, Any, Literal, cast

from pydantic import Field, SecretStr

from haechi.core.secrets import Secret
from haechi.domains.inventory.cameras import CameraFields
from haechi.domains.inventory.devices import DeviceFields
from haechi.domains.inventory.model import (
    Camera,
    CameraState,
    Device,
    DeviceRole,
    Enrolment,
    Gps,
    Presence,
    PtzPreset,
    Site,
)
from haechi.domains.inventory.ports import Watch
from haechi.domains.inventory.service import SiteFields
from haechi.rest import In, Out, UtcTime

Name = Annotated[str, Field(min_length=1, max_length=128)]
Long = Annotated[str, Field(max_length=2000)]
Short = Annotated[str, Field(max_length=256)]
Ref = Annotated[str, Field(max_length=64)]
Url = Annotated[str, Field(max_length=2000)]
Port = Annotated[int, Field(ge=1, le=65535)]
Password = Annotated[SecretStr, Field(max_length=1024)]
Labels = Annotated[dict[str, str], Field(max_length=64)]


class GpsIn(In):
    latitude: Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False)]
    longitude: Annotated[float, Field(ge=-180, le=180, allow_inf_nan=False)]


class GpsOut(Out):
    latitude: float
    longitude: float


class SiteOut(Out):
    id: str
    name: str
    description: str
    postal_address: str
    gps: GpsOut | None
    timezone: str

    @classmethod
    def of(cls, site: Site) -> "SiteOut":
        return cls.model_validate(site)


class SiteEditIn(In):
    name: Name = Field(default_factory=str)
    description: Long = Field(default_factory=str)
    postal_address: Long = Field(default_factory=str)
    gps: GpsIn | None = None
    timezone: Annotated[str, Field(max_length=64)] = Field(default_factory=str)

    def fields(self) -> SiteFields:
        return cast("SiteFields", _given(self))


class DeviceOut(Out):
    id: str
    name: str
    role: DeviceRole
    type: int
    description: str
    postal_address: str
    gps: GpsOut | None
    supports_analysis: bool
    host_name: str | None
    address: str | None
    """As entered; only data."""
    port: int | None
    seen_address: str | None
    """From where its agent called last."""
    ssh_user: str | None
    has_ssh_password: bool
    has_ssh_key: bool
    ssh_host_key: str | None
    machine_id: str | None
    platform: str | None
    capacity: dict[str, Any]
    labels: dict[str, str]
    agent_version: str | None
    enrolment: Enrolment
    enrolled: bool
    enrolled_at: UtcTime | None
    state: Presence
    last_seen_at: UtcTime | None
    aliases: list[str]
    """Ids by which other systems know it."""
    revision: int
    created_at: UtcTime
    updated_at: UtcTime

    @classmethod
    def of(cls, device: Device, watch: Watch | None, aliases: list[str]) -> "DeviceOut":
        values = {name: getattr(device, name) for name in Device.__slots__}
        return cls.model_validate(
            {
                **values,
                "enrolled": device.enrolment == "enrolled",
                "state": watch.device_presence(device.id) if watch else "new",
                "last_seen_at": watch.device_last_seen_at(device.id) if watch else None,
                "aliases": aliases,
            }
        )


class _DeviceFieldsIn(In):
    role: Literal["edge", "analysis", "server"] = "edge"
    type: Annotated[int, Field(ge=0, le=1000)] = 1
    description: Long = ""
    postal_address: Long = ""
    gps: GpsIn | None = None
    supports_analysis: bool = False
    host_name: Annotated[str, Field(max_length=63)] | None = None
    """DNS label; node name and default SSH user."""
    address: Annotated[str, Field(max_length=255)] | None = None
    port: Port | None = None
    ssh_user: Annotated[str, Field(max_length=64)] | None = None
    ssh_password: Password | None = None
    """Write-only."""
    ssh_key: Annotated[SecretStr, Field(max_length=20_000)] | None = None
    """Write-only: a private key in PEM or OpenSSH form."""
    labels: Labels = Field(default_factory=dict)

    def fields(self) -> DeviceFields:
        return cast("DeviceFields", _given(self))


class DeviceIn(_DeviceFieldsIn):
    name: Name


class DeviceEditIn(_DeviceFieldsIn):
    name: Name = Field(default_factory=str)


class PtzPresetIn(In):
    name: Annotated[str, Field(min_length=1, max_length=128)]
    token: Annotated[str, Field(min_length=1, max_length=128)]


class PtzPresetOut(Out):
    name: str
    token: str


class CameraOut(Out):
    id: str
    name: str
    device_id: str | None
    """Home device: the one that pulls it."""
    url: str
    """Without login; secret query values masked."""
    sub_url: str | None
    login: str | None
    has_password: bool
    ptz_presets: list[PtzPresetOut]
    gps: GpsOut | None
    postal_address: str
    description: str
    streams: dict[str, dict[str, Any]]
    labels: dict[str, str]
    state: CameraState
    aliases: list[str]
    revision: int
    created_at: UtcTime
    updated_at: UtcTime

    @classmethod
    def of(cls, camera: Camera, watch: Watch | None, aliases: list[str]) -> "CameraOut":
        values = {name: getattr(camera, name) for name in Camera.__slots__}
        state = watch.camera_state(camera.id, camera.device_id) if watch else "unknown"
        return cls.model_validate({**values, "state": state, "aliases": aliases})


class _CameraFieldsIn(In):
    device_id: Ref | None = None
    sub_url: Url | None = None
    login: Short | None = None
    password: Password | None = None
    """Write-only."""
    ptz_presets: Annotated[list[PtzPresetIn], Field(max_length=256)] = Field(default_factory=list)
    gps: GpsIn | None = None
    postal_address: Long = ""
    description: Long = ""
    labels: Labels = Field(default_factory=dict)

    def fields(self) -> CameraFields:
        given = _given(self)
        if "ptz_presets" in given:
            given["ptz_presets"] = [PtzPreset(item.name, item.token) for item in self.ptz_presets]
        return cast("CameraFields", given)


class CameraIn(_CameraFieldsIn):
    name: Name
    url: Url
    """rtsp:// or rtsps://; a login inside it is split off and kept encrypted."""


class CameraEditIn(_CameraFieldsIn):
    name: Name = Field(default_factory=str)
    url: Url = Field(default_factory=str)


class LinkOut(Out):
    id: str
    camera_a: str
    camera_b: str
    origin: Literal["hand", "gps"]
    distance_m: float | None
    preset_a: str | None
    preset_b: str | None
    created_at: UtcTime


class LinkIn(In):
    camera_a: Ref
    camera_b: Ref
    preset_a: Annotated[str, Field(max_length=128)] | None = None
    """Where camera A looks when B reports something: name of one of A's presets."""
    preset_b: Annotated[str, Field(max_length=128)] | None = None
    origin: Literal["hand", "gps"] = "hand"


class LinkSuggestionOut(Out):
    camera_a: str
    camera_b: str
    distance_m: float


class GroupOut(Out):
    id: str
    name: str
    description: str
    device_ids: list[str]
    revision: int
    created_at: UtcTime


class GroupIn(In):
    name: Name
    description: Long = ""
    device_ids: Annotated[list[Ref], Field(max_length=1000)] = Field(default_factory=list)


class GroupEditIn(In):
    name: Name | None = None
    description: Long | None = None
    device_ids: Annotated[list[Ref], Field(max_length=1000)] | None = None


class ImportedOut(Out):
    kind: str
    name: str
    id: str | None
    """Absent in a dry run that would create it."""


class ImportOut(Out):
    dry_run: bool
    created: list[ImportedOut]
    updated: list[ImportedOut]
    unchanged: int


def _given(sent: In) -> dict[str, Any]:
    """Only what was sent, in the domain's own types."""
    given: dict[str, Any] = {}
    for name in sent.model_fields_set:
        value = getattr(sent, name)
        if isinstance(value, GpsIn):
            value = Gps(value.latitude, value.longitude)
        elif isinstance(value, SecretStr):
            value = Secret(value.get_secret_value()) if value else None
        given[name] = value
    return given
