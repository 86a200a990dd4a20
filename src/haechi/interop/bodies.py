"""From bytes to a JSON object, or the code that says what is wrong with them. Never raises else.

Numbers with a fraction keep the text they were written in: a version `1.10` given as a number is
"1.10", not "1.1".
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any, Final, Self
from urllib.parse import parse_qsl

from haechi.interop.codes import Refusal

MAX_BODY_BYTES: Final = 1024 * 1024
MAX_DRAIN_BYTES: Final = 64 * 1024 * 1024
MAX_DIGITS: Final = 100

Receive = Callable[[], Awaitable[Any]]


class ClientGone(Exception):
    """The caller hung up: there is nobody to answer."""


class Decimal(float):
    """A JSON number with the text it was written in."""

    text: str

    def __new__(cls, text: str) -> Self:
        made = super().__new__(cls, text)
        made.text = text
        return made


async def read(receive: Receive, declared: int | None) -> bytes:
    """The whole body; one that is too large is read to its end and forgotten, so that the caller
    hears the answer. Raises Refusal 0016, ClientGone.
    """
    parts: list[bytes] = []
    size = 0
    too_large = (declared or 0) > MAX_BODY_BYTES
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part = message.get("body", b"")
        size += len(part)
        too_large = too_large or size > MAX_BODY_BYTES
        if too_large:
            parts.clear()
        else:
            parts.append(part)
        if not message.get("more_body", False) or size > MAX_DRAIN_BYTES:
            break
    if too_large:
        raise Refusal("0016", "본문이 1 MB를 넘습니다.", "The body is larger than 1 MB.")
    return b"".join(parts)


def parse(body: bytes, *, twice_allowed: bool = False) -> tuple[dict[str, Any], bool]:
    """The object, and whether it was encoded twice. Raises Refusal 0021, 0010."""
    if not body.strip(b" \t\r\n\0"):
        raise Refusal("0021", "본문이 없습니다.", "There is no body.")
    try:
        value = _loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise Refusal(
            "0021",
            "본문이 UTF-8로 된 JSON이 아닙니다.",
            "The body is not JSON in UTF-8.",
        ) from error
    twice = twice_allowed and isinstance(value, str)
    if twice:
        try:
            value = _loads(value)
        except (ValueError, RecursionError) as error:
            raise Refusal(
                "0010",
                "두 번 인코딩된 본문의 안쪽이 JSON이 아닙니다.",
                "The body is encoded twice and its inner text is not JSON.",
            ) from error
    if not isinstance(value, dict):
        raise Refusal("0021", "본문이 JSON 객체가 아닙니다.", "The body is not a JSON object.")
    return value, twice


def parse_query(query: bytes) -> dict[str, Any]:
    """The first value of each name. Raises Refusal 0010 where it is not UTF-8."""
    try:
        pairs = parse_qsl(
            query.decode("latin-1"), keep_blank_values=True, errors="strict", max_num_fields=100
        )
    except (UnicodeDecodeError, ValueError) as error:
        raise Refusal(
            "0010", "질의 문자열을 읽을 수 없습니다.", "The query string is not readable."
        ) from error
    found: dict[str, Any] = {}
    for name, value in pairs:
        found.setdefault(name, value)
    return found


def _loads(text: str) -> Any:
    return json.loads(text, parse_float=_decimal, parse_int=_integer, parse_constant=float)


def _decimal(text: str) -> float:
    return Decimal(text) if len(text) <= MAX_DIGITS else float("nan")


def _integer(text: str) -> int | float:
    """Endless digits are no number that anybody means: NaN, which no field accepts."""
    return int(text) if len(text) <= MAX_DIGITS else float("nan")
