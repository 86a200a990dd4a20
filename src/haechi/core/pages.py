"""Lists by cursor: `?limit=&cursor=` → `{items, next_cursor}` (CONTRACTS 1).

The cursor is opaque to callers: base64 of the last row's sort key, so it stays valid while rows
are added or removed.
"""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

from haechi.core.clock import from_text
from haechi.errors import BadRequest

T = TypeVar("T")
MAX_LIMIT: Final = 1000
DEFAULT_LIMIT: Final = 100


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    items: list[T]
    next_cursor: str | None


def encode_cursor(key: Sequence[str | int]) -> str:
    return base64.urlsafe_b64encode(json.dumps(list(key)).encode()).decode().rstrip("=")


def decode_cursor(cursor: str | None, length: int) -> list[Any] | None:
    """The sort key of the last row seen: texts and numbers that a database takes. Raises BadRequest
    where it is not one of ours.
    """
    if not cursor:
        return None
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        key = json.loads(base64.urlsafe_b64decode(padded))
        json.dumps(key, ensure_ascii=False).encode()  # lone surrogates reach no database
    except (ValueError, binascii.Error) as error:
        raise BadRequest(reason="cursor") from error
    if not isinstance(key, list) or len(key) != length or not all(map(_storable, key)):
        raise BadRequest(reason="cursor")
    return key


def decode_moment_cursor(cursor: str | None) -> tuple[datetime, str] | None:
    """As `decode_cursor`, of lists by time: a moment and the id that breaks a tie."""
    key = decode_cursor(cursor, 2)
    if key is None:
        return None
    try:
        return from_text(str(key[0])), str(key[1])
    except (ValueError, OverflowError) as error:
        raise BadRequest(reason="cursor") from error


def _storable(part: Any) -> bool:
    return isinstance(part, str) or (type(part) is int and -(2**63) <= part < 2**63)


def page_of(rows: Sequence[T], limit: int, key: Callable[[T], Sequence[str | int]]) -> Page[T]:
    """Make a page of `rows`, which were read with `limit + 1`."""
    items = list(rows[:limit])
    more = len(rows) > limit
    return Page(items, encode_cursor(key(items[-1])) if more and items else None)
