"""Lists by cursor: `?limit=&cursor=` → `{items, next_cursor}` (CONTRACTS 1).

The cursor is opaque to callers: base64 of the last row's sort key, so it stays valid while rows
are added or removed.
"""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

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
    """The sort key of the last row seen; raises BadRequest where it is not one of ours."""
    if not cursor:
        return None
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        key = json.loads(base64.urlsafe_b64decode(padded))
        json.dumps(key, ensure_ascii=False).encode()  # lone surrogates reach no database
    except (ValueError, binascii.Error) as error:
        raise BadRequest(reason="cursor") from error
    if not isinstance(key, list) or len(key) != length:
        raise BadRequest(reason="cursor")
    return key


def page_of(rows: Sequence[T], limit: int, key: Callable[[T], Sequence[str | int]]) -> Page[T]:
    """Make a page of `rows`, which were read with `limit + 1`."""
    items = list(rows[:limit])
    more = len(rows) > limit
    return Page(items, encode_cursor(key(items[-1])) if more and items else None)
