"""What may be entered: names, host names, coordinates, addresses. Pure; one place for REST,
import and interop, so that they cannot disagree.
"""

import math
import re
import unicodedata
import zoneinfo
from itertools import combinations
from typing import Any, Final

from haechi.domains.inventory.model import (
    BadGps,
    BadHostName,
    BadText,
    BadTimezone,
    BadValue,
    Camera,
    Device,
    Gps,
    LinkSuggestion,
)

MAX_NAME: Final = 128
MAX_TEXT: Final = 2000
MAX_ALIAS: Final = 64
MAX_LABELS: Final = 64
_HOST_NAME: Final = re.compile(r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")
_ADDRESS: Final = re.compile(r"^[A-Za-z0-9](?:[A-Za-z0-9.:%_-]{0,252})\Z|^[0-9A-Fa-f:]{2,45}\Z")
_EARTH_M: Final = 6_371_000.0


def text(field: str, value: str, *, maximum: int = MAX_TEXT, minimum: int = 0) -> str:
    """NFC, trimmed, no control characters (line breaks only in long texts)."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise BadText(field=field, min=minimum, max=maximum) from error
    value = unicodedata.normalize("NFC", value).strip()
    allowed = "\n\t" if maximum >= MAX_TEXT else ""
    bad = any(unicodedata.category(char) == "Cc" and char not in allowed for char in value)
    if bad or not minimum <= len(value) <= maximum:
        raise BadText(field=field, min=minimum, max=maximum)
    return value


def name(value: str) -> str:
    return text("name", value, maximum=MAX_NAME, minimum=1)


def name_key(value: str) -> str:
    """Names that a person would read as the same are the same."""
    return " ".join(unicodedata.normalize("NFKC", value).casefold().split())


def is_host_name(value: str) -> bool:
    return _HOST_NAME.match(value) is not None


def host_name(value: str) -> str:
    if not is_host_name(value):
        raise BadHostName(host_name=value[:80])
    return value


def address(value: str) -> str:
    """An IP address or host name as data: it is never connected to from here."""
    value = value.strip()
    if not _ADDRESS.match(value):
        raise BadValue(field="address", reason="IP or DNS name")
    return value


def port(value: int) -> int:
    if not 1 <= value <= 65535:
        raise BadValue(field="port", reason="1-65535")
    return value


def gps(latitude: float, longitude: float) -> Gps:
    fine = math.isfinite(latitude) and math.isfinite(longitude)
    if not fine or not -90 <= latitude <= 90 or not -180 <= longitude <= 180:
        raise BadGps(value=f"{latitude}, {longitude}")
    return Gps(float(latitude), float(longitude))


def timezone(value: str) -> str:
    try:
        zoneinfo.ZoneInfo(value)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise BadTimezone(timezone=value[:80]) from error
    return value


def labels(value: dict[str, Any]) -> dict[str, str]:
    if len(value) > MAX_LABELS:
        raise BadValue(field="labels", reason=f"at most {MAX_LABELS}")
    return {
        text("labels", str(key), maximum=64, minimum=1): text("labels", str(item), maximum=256)
        for key, item in value.items()
    }


def alias(value: str) -> str:
    return text("alias", value, maximum=MAX_ALIAS, minimum=1)


def distance_m(one: Gps, other: Gps) -> float:
    """Great-circle distance."""
    lat_1, lat_2 = math.radians(one.latitude), math.radians(other.latitude)
    d_lat = lat_2 - lat_1
    d_lon = math.radians(other.longitude - one.longitude)
    h = math.sin(d_lat / 2) ** 2 + math.cos(lat_1) * math.cos(lat_2) * math.sin(d_lon / 2) ** 2
    return 2 * _EARTH_M * math.asin(min(1.0, math.sqrt(h)))


def suggest_links(
    cameras: list[Camera],
    devices: list[Device],
    linked: set[tuple[str, str]],
    *,
    max_m: float,
) -> list[LinkSuggestion]:
    """Pairs of cameras within `max_m` that are not linked yet, nearest first. A camera without
    coordinates stands where its device stands.
    """
    device_gps = {device.id: device.gps for device in devices}
    places = [
        (camera.id, place)
        for camera in cameras
        if (place := camera.gps or device_gps.get(camera.device_id or "")) is not None
    ]
    found = []
    for (id_1, place_1), (id_2, place_2) in combinations(places, 2):
        pair = (min(id_1, id_2), max(id_1, id_2))
        metres = distance_m(place_1, place_2)
        if metres <= max_m and pair not in linked:
            found.append(LinkSuggestion(*pair, distance_m=round(metres, 1)))
    return sorted(found, key=lambda item: (item.distance_m, item.camera_a, item.camera_b))
