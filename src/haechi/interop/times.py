"""The clock forms of old programs: 12 or 14 digits, ISO 8601 with `T` or a space. Pure."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

FIRST: Final = datetime(2020, 1, 1, tzinfo=UTC)
AHEAD: Final = timedelta(hours=24)
_FORMATS: Final = {12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
_MAX_CHARACTERS: Final = 40


def zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("Asia/Seoul")


def parse(text: str, default: ZoneInfo) -> datetime | None:
    """Aware UTC; None where it is no date. A time without a zone is in `default`."""
    text = text.strip()
    if len(text) > _MAX_CHARACTERS or not text.isascii():
        return None
    try:
        if text.isdigit():
            at = datetime.strptime(text, _FORMATS.get(len(text), "?"))  # noqa: DTZ007 - zone follows
        elif "-" in text[:8]:
            at = datetime.fromisoformat(text)
        else:
            return None
        if at.tzinfo is None:
            at = at.replace(tzinfo=default)
        return at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def plausible(at: datetime, now: datetime) -> bool:
    """Late is fine; a clock that was never set, or runs far ahead, is not."""
    return FIRST <= at <= now + AHEAD


def as_text(value: Any) -> str | None:
    """Digits come as number or string."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value)
