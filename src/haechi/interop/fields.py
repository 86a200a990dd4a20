"""What a field of an old request may hold: its type, length and values, and in which order checked.

The order is the contract's: everything missing first (0015), then unknown fields (0017, strict
only), types (0010), lengths (0016), values (0018, 0019, 0013). The reference page and the OpenAPI
document are made from the same declarations.
"""

import ipaddress
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from haechi.domains.inventory import rtsp, rules
from haechi.domains.inventory.model import BadCameraUrl, Gps
from haechi.domains.packages import names
from haechi.domains.packages.problems import BadName, BadVersion
from haechi.errors import Text
from haechi.interop.bodies import Decimal
from haechi.interop.codes import Refusal

MAX_WORKERS: Final = 100
_ADDRESS: Final = re.compile(r"^[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252})\Z")


def _plain(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class Kind:
    """`read` raises Refusal 0010, `check` 0018, 0019 or 0013."""

    name: str
    read: Callable[[Any], Any]
    check: Callable[[Any], Any] = _plain
    limit: int | None = None
    schema: Mapping[str, Any] = field(default_factory=dict)
    parts: tuple[str, ...] = ()
    """Keys that an object of this kind must have."""


@dataclass(frozen=True, slots=True)
class Field:
    """`names`: the first is the documented one, the others are accepted for it."""

    names: tuple[str, ...]
    kind: Kind
    text: Text
    required: bool = False

    @property
    def name(self) -> str:
        return self.names[0]

    def of(self, body: Mapping[str, Any]) -> tuple[str, Any]:
        """(name, value) as given; None where it is absent, null or empty."""
        for name in self.names:
            value = body.get(name)
            if value is not None and value != "":
                return name, value
        return self.name, None


def read_fields(
    fields: Sequence[Field], body: Mapping[str, Any], *, strict: bool, ignored: Sequence[str] = ()
) -> dict[str, Any]:
    """Checked values by documented name; absent ones are left out. Raises Refusal."""
    given = [(item, *item.of(body)) for item in fields]
    present = [(item, name, value) for item, name, value in given if value is not None]
    _check_presence(given)
    if strict:
        known = {name for item in fields for name in item.names} | set(ignored)
        unknown = sorted(str(name)[:64] for name in body if name not in known)
        if unknown:
            shown = ", ".join(unknown[:10])
            raise Refusal("0017", f"알 수 없는 필드: {shown}", f"Unknown fields: {shown}")
    values = {item.name: item.kind.read(_Named(name, value)) for item, name, value in present}
    for item, name, _ in present:
        _check_length(item, name, values[item.name])
    return {
        item.name: item.kind.check(_Named(name, values[item.name])) for item, name, _ in present
    }


@dataclass(frozen=True, slots=True)
class _Named:
    """A value with the name it came under, for the detail of a refusal."""

    name: str
    value: Any


def _check_presence(given: list[tuple[Field, str, Any]]) -> None:
    missing = [item.name for item, _, value in given if item.required and value is None]
    for item, name, value in given:
        if item.kind.parts and isinstance(value, dict):
            missing += [f"{name}.{p}" for p in item.kind.parts if value.get(p) in (None, "")]
        if item.kind.name == "workers" and isinstance(value, list):
            missing += [
                f"{name}[{index}].wid"
                for index, worker in enumerate(value)
                if isinstance(worker, dict) and worker.get("wid") in (None, "")
            ]
    if missing:
        shown = ", ".join(missing[:10])
        raise Refusal("0015", f"필수 값이 없습니다: {shown}", f"Missing: {shown}")


def _check_length(item: Field, name: str, value: Any) -> None:
    limit = item.kind.limit
    lengths = [value] if item.kind.name != "workers" else [value, *value]
    limits = [limit] if item.kind.name != "workers" else [MAX_WORKERS, *([64] * len(value))]
    for one, most in zip(lengths, limits, strict=True):
        if most is not None and isinstance(one, str | list) and len(one) > most:
            raise Refusal(
                "0016", f"{name}이(가) 너무 깁니다 (최대 {most}).", f"{name} is longer than {most}."
            )


# --- reading


_TEXT: Final = Text("글자", "text")
_NUMBER_TEXT: Final = Text("숫자", "a number")


def _wrong(name: str, expected: Text) -> Refusal:
    return Refusal(
        "0010",
        f"{name}의 형식이 올바르지 않습니다 (필요한 형식: {expected.ko}).",
        f"{name} is not {expected.en}.",
    )


def as_text(item: Any) -> str:
    """Text, or a number as it was written."""
    value = item.value
    if isinstance(value, Decimal):
        value = value.text
    elif isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise _wrong(item.name, _TEXT)
    if any(0xD800 <= ord(char) < 0xE000 for char in value):
        raise _wrong(item.name, _TEXT)
    return value


def as_number(item: Any) -> float:
    """Finite; a number or its text."""
    value = item.value
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _wrong(item.name, _NUMBER_TEXT)
    try:
        number = float(value.strip().replace("_", "x") if isinstance(value, str) else value)
    except (ValueError, OverflowError) as error:
        raise _wrong(item.name, _NUMBER_TEXT) from error
    if not math.isfinite(number):
        raise _wrong(item.name, Text("유한한 숫자", "a finite number"))
    return number


def _as_integer(item: Any) -> int:
    number = as_number(item)
    if not number.is_integer():
        raise _wrong(item.name, Text("정수", "a whole number"))
    return int(number)


def _as_gps(item: Any) -> tuple[float, float] | None:
    value = item.value
    if not isinstance(value, dict):
        raise _wrong(item.name, Text("latitude와 longitude", "an object of latitude and longitude"))
    latitude, longitude = (
        as_number(_Named(f"{item.name}.{part}", value[part])) for part in ("latitude", "longitude")
    )
    return latitude, longitude


def _as_workers(item: Any) -> list[str]:
    value = item.value
    if not isinstance(value, list):
        raise _wrong(item.name, Text('{"wid": ID} 목록', 'a list of {"wid": id}'))
    workers = []
    for index, worker in enumerate(value):
        wid = worker.get("wid") if isinstance(worker, dict) else worker
        workers.append(as_text(_Named(f"{item.name}[{index}].wid", wid)))
    return workers


def _as_class(item: Any) -> str:
    """A number, a digit string (3 = "03") or a class name."""
    value = item.value
    if isinstance(value, float):
        if not value.is_integer():
            raise _wrong(item.name, Text("분류", "a class"))
        value = int(value)
    text = as_text(_Named(item.name, value)).strip()
    if not text:
        raise _wrong(item.name, Text("분류", "a class"))
    return text.zfill(2) if text.isascii() and text.isdigit() else text


# --- checking


def _not_allowed(name: str, allowed: str, ko: str = "") -> Refusal:
    return Refusal(
        "0019",
        f"{name}에 허용되지 않는 값입니다 (허용: {ko or allowed}).",
        f"{name}: not allowed (allowed: {allowed}).",
    )


def _range(low: float, high: float) -> Callable[[Any], Any]:
    def check(item: Any) -> Any:
        if not low <= item.value <= high:
            raise _not_allowed(item.name, f"{low:g}-{high:g}" if high < math.inf else f">= {low:g}")
        return item.value

    return check


def _value(item: Any) -> Any:
    return item.value


def _check_yes(item: Any) -> bool:
    if item.value.upper() not in {"YES", "NO"}:
        raise _not_allowed(item.name, "YES, NO")
    return bool(item.value.upper() == "YES")


def _check_address(item: Any) -> str:
    text = str(item.value).strip()
    looks_numeric = re.fullmatch(r"[0-9.]+", text) is not None or ":" in text
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        if looks_numeric or not _ADDRESS.match(text):
            raise _not_allowed(item.name, "IP or host name", "IP 또는 호스트 이름") from error
    return text


def _check_host_name(item: Any) -> str:
    if not rules.is_host_name(item.value):
        raise _not_allowed(
            item.name, "a-z, 0-9, inner -, at most 63", "a-z, 0-9, 중간의 -, 63자 이내"
        )
    return str(item.value)


def _check_gps(item: Any) -> Gps:
    latitude, longitude = item.value
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
        raise _not_allowed(item.name, "-90..90, -180..180")
    return Gps(latitude, longitude)


def _check_camera_url(item: Any) -> str:
    if re.match(r"^rtsps?://", item.value.strip(), re.IGNORECASE) is None:
        raise Refusal(
            "0013",
            f"{item.name}은(는) rtsp:// 또는 rtsps://로 시작해야 합니다.",
            f"{item.name} must begin with rtsp:// or rtsps://.",
        )
    try:
        rtsp.parse(item.value)
    except BadCameraUrl as error:
        raise _not_allowed(
            item.name, f"a camera URL; {error.data['reason']}", "카메라 주소"
        ) from error
    return str(item.value)


def _check_version(item: Any) -> str:
    try:
        return names.version(item.value)
    except BadVersion as error:
        raise _not_allowed(item.name, "letters, digits, _.-", "영문자, 숫자, _.-") from error


def _check_file_name(item: Any) -> str:
    try:
        names.from_file_name(item.value)
    except BadName as error:
        raise _not_allowed(item.name, "a plain file name", "경로 없는 파일 이름") from error
    return str(item.value)


def _check_stem(item: Any) -> str:
    """A year-3 file name: no `.zip`, but one that has it is understood."""
    name = _check_file_name(item)
    return name[:-4] if name.lower().endswith(".zip") and len(name) > 4 else name


def _check_plain(item: Any) -> str:
    """No control characters in what is shown and stored."""
    text: str = item.value
    if any(ord(char) < 0x20 and char not in "\n\t\r" for char in text):
        raise _not_allowed(item.name, "no control characters", "제어 문자 없는 글")
    return text


def _check_class(item: Any) -> str:
    if item.value not in {f"0{number}" for number in range(7)}:
        raise _not_allowed(item.name, "00-06")
    return str(item.value)


_STRING: Final = {"anyOf": [{"type": "string"}, {"type": "number"}]}
_NUMBER: Final = {"anyOf": [{"type": "number"}, {"type": "string"}]}

ID: Final = Kind("id", as_text, _value, 64, _STRING | {"maxLength": 64})
NAME: Final = Kind("name", as_text, _check_plain, 128, _STRING | {"maxLength": 128})
TEXT: Final = Kind("text", as_text, _check_plain, 2000, _STRING | {"maxLength": 2000})
SECRET: Final = Kind("secret", as_text, _value, 2000, {"type": "string", "format": "password"})
URL: Final = Kind("url", as_text, _value, 2000, {"type": "string", "maxLength": 2000})
CAMERA_URL: Final = Kind("rtsp url", as_text, _check_camera_url, 2000, {"type": "string"})
ADDRESS: Final = Kind("address", as_text, _check_address, 255, {"type": "string"})
HOST_NAME: Final = Kind("host name", as_text, _check_host_name, 128, {"type": "string"})
PORT: Final = Kind("port", _as_integer, _range(1, 65535), None, _NUMBER)
TYPE: Final = Kind("type", _as_integer, _range(0, 9999), None, _NUMBER)
YES_NO: Final = Kind("YES/NO", as_text, _check_yes, 2000, {"type": "string", "enum": ["YES", "NO"]})
GPS: Final = Kind(
    "gps",
    _as_gps,
    _check_gps,
    None,
    {"type": "object", "properties": {"latitude": _STRING, "longitude": _STRING}},
    ("latitude", "longitude"),
)
WORKERS: Final = Kind(
    "workers",
    _as_workers,
    _value,
    None,
    {
        "type": "array",
        "maxItems": MAX_WORKERS,
        "items": {"type": "object", "properties": {"wid": _STRING}, "required": ["wid"]},
    },
)
VERSION: Final = Kind("version", as_text, _check_version, 128, _STRING | {"maxLength": 128})
FILE_NAME: Final = Kind("file name", as_text, _check_file_name, 255, {"type": "string"})
STEM: Final = Kind("file name without .zip", as_text, _check_stem, 255, {"type": "string"})
PERCENT: Final = Kind("number >= 0", as_number, _range(0, math.inf), None, _NUMBER)
RATIO: Final = Kind("number 0-1", as_number, _range(0, 1), None, _NUMBER)
CLASS: Final = Kind("class 00-06", _as_class, _check_class, 128, _STRING)
ANY_CLASS: Final = Kind("class or name", _as_class, _check_plain, 128, _STRING)
TIME: Final = Kind("time", as_text, _value, 2000, _STRING)
