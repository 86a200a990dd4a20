"""An audit entry, and how details are made safe to keep."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Final

from haechi.core.clock import to_text
from haechi.core.secrets import Secret

MASK: Final = "***"
_SECRET_KEYS: Final = re.compile(
    r"passw|secret|credential|private|api_?key|(^|_)(token|key|pem)$", re.IGNORECASE
)
_URL_LOGIN: Final = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)[^/\s@]+@", re.IGNORECASE)
_MAX_TEXT: Final = 2000
_MAX_DEPTH: Final = 6


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """`subject` is the id of the thing changed (or a name where it has none)."""

    id: str
    at: datetime
    by_kind: str
    by_id: str
    by_name: str
    action: str
    subject: str
    details: dict[str, Any] = field(default_factory=dict)


def safe_details(details: Mapping[str, Any]) -> dict[str, Any]:
    """JSON-ready copy of `details` with every secret masked: by type, by key and inside URLs."""
    return {str(key): _safe(value, str(key), _MAX_DEPTH) for key, value in details.items()}


def _safe(value: Any, key: str, depth: int) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Secret | bytes) or _SECRET_KEYS.search(key):
        return MASK
    if depth and isinstance(value, Mapping):
        return {str(name): _safe(part, str(name), depth - 1) for name, part in value.items()}
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [_safe(part, key, depth - 1) for part in value]
    if isinstance(value, datetime):
        return to_text(value)
    value = value.value if isinstance(value, Enum) else value
    return _URL_LOGIN.sub(rf"\g<scheme>{MASK}@", str(value)[:_MAX_TEXT])
