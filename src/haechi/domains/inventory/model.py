"""Site, devices, cameras, links and groups, and what may be wrong with them.

A device's identity is haechi's id with the host's machine-id and SSH host key; addresses and
names are data (DESIGN 4). Secrets are not part of these types: whoever needs one asks the
service for it by name.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple

from haechi.core.secrets import Secret
from haechi.errors import Conflict, Invalid, Language, ManyProblems, NotFound, Text

DeviceRole = Literal["edge", "analysis", "server"]
Enrolment = Literal["none", "pending", "enrolled", "revoked"]
Presence = Literal["new", "ok", "silent", "dead"]
CameraState = Literal["unknown", "ok", "offline", "unauthorized"]
Kind = Literal["site", "device", "camera", "link", "group"]


class Gps(NamedTuple):
    latitude: float
    longitude: float


@dataclass(frozen=True, slots=True)
class Site:
    """There is exactly one."""

    id: str
    name: str
    description: str
    postal_address: str
    gps: Gps | None
    timezone: str
    revision: int


@dataclass(frozen=True, slots=True)
class Device:
    id: str
    name: str
    role: DeviceRole
    type: int
    """The historic `type` number; 1 everywhere so far."""
    description: str
    postal_address: str
    gps: Gps | None
    supports_analysis: bool
    host_name: str | None
    """DNS label: node name and default SSH user."""
    address: str | None
    """As entered; only data, never the identity."""
    port: int | None
    seen_address: str | None
    """From where its agent called last."""
    ssh_user: str | None
    has_ssh_password: bool
    has_ssh_key: bool
    ssh_host_key: str | None
    machine_id: str | None
    platform: str | None
    """OCI platform, e.g. `linux/amd64`; known once the agent has reported."""
    capacity: dict[str, Any]
    labels: dict[str, str]
    agent_version: str | None
    enrolment: Enrolment
    enrolled_at: datetime | None
    revision: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class PtzPreset:
    name: str
    token: str
    """What the camera calls it."""


@dataclass(frozen=True, slots=True)
class Camera:
    """URLs are shown without login; sensitive query values are masked."""

    id: str
    name: str
    device_id: str | None
    """The home device, which pulls it; None until somebody decides."""
    url: str
    sub_url: str | None
    login: str | None
    has_password: bool
    ptz_presets: list[PtzPreset]
    gps: Gps | None
    postal_address: str
    description: str
    streams: dict[str, dict[str, Any]]
    """What media found: `{"main": {codec, width, height, fps}, "sub": …}`."""
    labels: dict[str, str]
    revision: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Link:
    """Two neighbouring cameras; the lower id is `camera_a`. Presets: where each looks to see what
    its neighbour reports.
    """

    id: str
    camera_a: str
    camera_b: str
    origin: Literal["hand", "gps"]
    distance_m: float | None
    preset_a: str | None
    preset_b: str | None
    created_at: datetime

    def other(self, camera_id: str) -> str:
        return self.camera_b if camera_id == self.camera_a else self.camera_a


@dataclass(frozen=True, slots=True)
class LinkSuggestion:
    camera_a: str
    camera_b: str
    distance_m: float


@dataclass(frozen=True, slots=True)
class Group:
    id: str
    name: str
    description: str
    device_ids: list[str]
    revision: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Use:
    """Where a thing is still used. `blocking` uses refuse even a forced delete."""

    kind: str
    id: str
    name: str = ""
    blocking: bool = False
    facts: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "id": self.id, "name": self.name, **self.facts}


class HostLogin(NamedTuple):
    """How to log in to a device's host over SSH."""

    user: str | None
    password: Secret | None
    key: Secret | None


class CameraSource(NamedTuple):
    """URLs with login, for media only."""

    main: Secret
    sub: Secret | None


class InventoryProblem(Invalid):
    """One thing wrong with what was entered; shows as a list of one (`data.problems`)."""

    def problem(self, language: Language) -> dict[str, Any]:
        document = super().problem(language)
        if not self.code:
            return document
        part = {key: document[key] for key in ("code", "detail", "remedy")}
        return {**document, "data": {**self.data, "problems": [part]}}


class BadText(InventoryProblem):
    code = "inventory.bad_text"
    detail = Text(
        "{field}은(는) {min}~{max}자여야 하며 제어 문자를 쓸 수 없습니다.",
        "{field} must have {min} to {max} characters, without control characters.",
    )
    remedy = Text("값을 고쳐 다시 보내세요.", "Correct it and send it again.")


class BadHostName(InventoryProblem):
    code = "inventory.bad_host_name"
    detail = Text(
        "호스트 이름 '{host_name}'은(는) DNS 이름 형식이 아닙니다.",
        "The host name '{host_name}' is not a DNS label.",
    )
    remedy = Text(
        "영문 소문자, 숫자, 중간의 '-'만 써서 63자 이내로 입력하세요.",
        "Use a-z, 0-9 and inner '-', at most 63 characters.",
    )


class BadGps(InventoryProblem):
    code = "inventory.bad_gps"
    detail = Text("GPS 좌표가 올바르지 않습니다: {value}", "These are not GPS coordinates: {value}")
    remedy = Text(
        "위도는 -90~90, 경도는 -180~180 사이의 수로 입력하세요.",
        "Give a latitude of -90 to 90 and a longitude of -180 to 180.",
    )


class BadCameraUrl(InventoryProblem):
    code = "inventory.bad_camera_url"
    detail = Text(
        "카메라 주소를 쓸 수 없습니다 ({reason}).", "The camera's URL cannot be used ({reason})."
    )
    remedy = Text(
        "rtsp:// 또는 rtsps://로 시작하는 주소를 입력하고, 로그인 정보에 특수 문자가 있으면 "
        "사용자 이름과 비밀번호 항목에 따로 입력하세요.",
        "Give an rtsp:// or rtsps:// URL; where the login has special characters, give it in the "
        "fields for login and password.",
    )


class BadTimezone(InventoryProblem):
    code = "inventory.bad_timezone"
    detail = Text("알 수 없는 시간대입니다: {timezone}", "Unknown time zone: {timezone}")
    remedy = Text("예: Asia/Seoul", "For example Asia/Seoul")


class BadValue(InventoryProblem):
    code = "inventory.bad_value"
    detail = Text(
        "{field}의 값이 올바르지 않습니다: {reason}", "The value of {field} is not valid: {reason}"
    )
    remedy = Text("값을 고쳐 다시 보내세요.", "Correct it and send it again.")


class UnknownReference(InventoryProblem):
    code = "inventory.unknown_reference"
    detail = Text(
        "{field}에 적힌 '{ref}'은(는) 등록되어 있지 않습니다.",
        "{field} names the {kind} '{ref}', which does not exist.",
    )
    remedy = Text("먼저 등록하거나 이름을 고치세요.", "Register it first, or correct the name.")


class SelfLink(InventoryProblem):
    code = "inventory.self_link"
    detail = Text(
        "카메라를 자기 자신과 이웃으로 연결할 수 없습니다.",
        "A camera cannot be its own neighbour.",
    )
    remedy = Text("서로 다른 두 카메라를 고르세요.", "Choose two different cameras.")


class DuplicateName(Conflict):
    code = "inventory.duplicate_name"
    detail = Text(
        "이름 '{name}'은(는) 이미 다른 항목({id})이 쓰고 있습니다.",
        "The name '{name}' is already taken by {id}.",
    )
    remedy = Text("다른 이름을 입력하세요.", "Choose another name.")


class DuplicateHostName(Conflict):
    code = "inventory.duplicate_host_name"
    detail = Text(
        "호스트 이름 '{host_name}'은(는) 이미 장치 {id}이(가) 쓰고 있습니다.",
        "The host name '{host_name}' is already that of device {id}.",
    )
    remedy = Text("다른 호스트 이름을 입력하세요.", "Choose another host name.")


class DuplicateLink(Conflict):
    code = "inventory.duplicate_link"
    detail = Text(
        "두 카메라는 이미 이웃으로 연결되어 있습니다 ({id}).",
        "The two cameras are linked already ({id}).",
    )
    remedy = Text("기존 연결을 쓰거나 지우세요.", "Use the existing link, or delete it.")


class AliasTaken(Conflict):
    code = "inventory.alias_taken"
    detail = Text(
        "외부 ID '{alias}'은(는) 이미 {id}의 것입니다.",
        "The foreign id '{alias}' already belongs to {id}.",
    )
    remedy = Text("외부 ID를 확인하세요.", "Check the foreign id.")


class StillUsed(Conflict):
    """`where` lists each use: kind, id, name and what the user of it adds."""

    code = "inventory.still_used"
    detail = Text(
        "'{name}'은(는) 아직 {count}곳에서 쓰이고 있어 지울 수 없습니다.",
        "The {kind} '{name}' is still used in {count} places and cannot be deleted.",
    )
    remedy = Text(
        "표시된 사용처를 먼저 정리하거나, 가능하면 강제 삭제를 선택하세요.",
        "Clear the uses listed first, or force the delete where that is possible.",
    )


class ImportRefused(ManyProblems):
    """Nothing was imported."""

    code = "inventory.import_refused"
    detail = Text(
        "가져올 내용에 문제가 {count}개 있어 아무것도 바꾸지 않았습니다.",
        "The import has {count} problems; nothing was changed.",
    )
    remedy = Text("모두 고친 뒤 다시 가져오세요.", "Correct them all and import again.")


class NoHostLogin(NotFound):
    code = "inventory.no_host_login"
    detail = Text("장치 {id}에 SSH 로그인 정보가 없습니다.", "Device {id} has no SSH login stored.")
    remedy = Text(
        "장치 편집에서 SSH 사용자와 비밀번호 또는 키를 입력하세요.",
        "Enter SSH user and password or key in the device's settings.",
    )
