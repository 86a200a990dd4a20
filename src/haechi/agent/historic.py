"""The historic endpoints an old AI package may call at its device (INTERFACES 5, 6, 7.1).

Translation only: every reading becomes a result of the calling deployment. The old wire is kept
as it was (HTTP 200 even for errors, codes as text, bodies encoded twice); what the agent cannot
do alone (switching AIs by weather) is answered with `action: none` until collaboration does it.
"""

import math
from datetime import datetime, timedelta, timezone
from typing import Any, Final

import msgspec

from haechi.core.clock import to_text
from haechi.protocol.results import Result

MESSAGES: Final = {
    "0000": "처리 성공",
    "0004": "ID 유효성 오류",
    "0010": "Parsing 오류",
    "0013": "Invalid 프로토콜 오류",
    "0015": "필수 파라미터 Missing 오류",
    "0016": "길이 초과 오류",
    "0019": "Invalid 코드 값 오류",
    "0021": "헤더정보 누락 오류",
    "9999": "기타 오류",
}
CLASSES: Final = ("00", "01", "02", "03", "04", "05", "06")
FUNCTIONS: Final = {"SUNNY": "01", "RAINY": "02", "RAINY02": "02"}
_NAME_LIMIT: Final = 128
DEFAULT_ZONE: Final = timezone(timedelta(hours=9))
"""Asia/Seoul: times without a zone are the site's."""


class Historic(Exception):
    """An answer of the old wire that is not success."""

    def __init__(self, code: str, detail: str = "") -> None:
        self.code = code
        self.detail = detail
        super().__init__(code, detail)


def reply(code: str, **more: Any) -> bytes:
    return msgspec.json.encode({"code": code, "message": MESSAGES[code], **more})


def read_body(body: bytes) -> tuple[dict[str, Any], bool]:
    """The object of a body, and whether it was encoded twice."""
    if not body.strip():
        raise Historic("0021", "no body")
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if b"NaN" in body or b"Infinity" in body:
            raise Historic("0010", "NaN is not a number") from error
        raise Historic("0021", "not JSON") from error
    except RecursionError as error:
        raise Historic("0021", "nested too deeply") from error
    twice = isinstance(value, str)
    if twice:
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError) as error:
            raise Historic("0010", "the inner text is not JSON") from error
    if not isinstance(value, dict):
        raise Historic("0021", "not an object")
    return value, twice


def ai_result(body: dict[str, Any]) -> Result:
    """`POST /add_newAiResult`."""
    for name in ("sid", "time", "version", "ainame", "class", "class_prob"):
        _required(body, name)
    claimed = {
        name: _text(body[name], name, _NAME_LIMIT)
        for name in ("eid", "sid", "version", "ainame")
        if _is_given(body, name)
    }
    return Result(
        captured_at=_time(body, "time", claimed),
        class_=_class_text(body["class"]),
        class_prob=_ratio(body["class_prob"], "class_prob"),
        claimed=claimed,
    )


def usage(body: dict[str, Any]) -> Result:
    """`POST /usage`: CPU and memory percent, host-wide."""
    attributes: dict[str, str | int | float | bool | None] = {
        "kind": "usage",
        "cpu": _amount(body, "cpu"),
        "memory": _amount(body, "memory"),
    }
    for name in ("func", "version", "username"):
        if _is_given(body, name):
            attributes[name] = _text(body[name], name, _NAME_LIMIT)
    if _is_given(body, "ai_class"):
        attributes["ai_class"] = _class_text(body["ai_class"])
    elif attributes.get("func") in FUNCTIONS:
        attributes["ai_class"] = FUNCTIONS[str(attributes["func"])]
    claimed = {
        name: _text(body[name], name, _NAME_LIMIT)
        for name in ("did", "nid", "eid")
        if _is_given(body, name)
    }
    return Result(attributes=attributes, claimed=claimed)


def weather(body: dict[str, Any]) -> Result:
    """`POST /optimize_by_weather`: the environment AI's reading."""
    for name in ("created_at", "res_class", "res_confidence"):
        _required(body, name)
    name = _text(body["res_class"], "res_class", _NAME_LIMIT)
    if name.isdigit():
        name = name.zfill(2)
    if name not in CLASSES:
        raise Historic("0019", "res_class: 00-06")
    claimed = {}
    if _is_given(body, "nid"):
        claimed["nid"] = _text(body["nid"], "nid", _NAME_LIMIT)
    return Result(
        captured_at=_time(body, "created_at", claimed),
        class_=name,
        class_prob=_ratio(body["res_confidence"], "res_confidence"),
        attributes={"kind": "weather"},
        claimed=claimed,
    )


def _is_given(body: dict[str, Any], name: str) -> bool:
    value = body.get(name)
    return value is not None and value != ""


def _required(body: dict[str, Any], name: str) -> None:
    if not _is_given(body, name):
        raise Historic("0015", name)


def _text(value: Any, name: str, limit: int) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Historic("0010", name)
    text = str(value)
    if len(text) > limit:
        raise Historic("0016", name)
    return text


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Historic("0010", name)
    try:
        number = float(value)
    except (ValueError, OverflowError) as error:
        raise Historic("0010", name) from error
    if not math.isfinite(number):
        raise Historic("0010", name)
    return number


def _ratio(value: Any, name: str) -> float:
    number = _number(value, name)
    if not 0 <= number <= 1:
        raise Historic("0019", name)
    return number


def _amount(body: dict[str, Any], name: str) -> float:
    _required(body, name)
    number = _number(body[name], name)
    if number < 0:
        raise Historic("0019", name)
    return number


def _class_text(value: Any) -> str:
    """A number, a digit string (3 = "03") or a class name."""
    text = _text(value, "class", _NAME_LIMIT)
    if isinstance(value, float):
        if not value.is_integer():
            raise Historic("0010", "class")
        text = str(int(value))
    return text.zfill(2) if text.isdigit() and text.isascii() else text


def _time(body: dict[str, Any], name: str, claimed: dict[str, str]) -> str | None:
    """Through an agent nothing is refused for its date: the arrival counts then, this is kept."""
    captured = _time_or_none(body[name])
    if captured is None:
        claimed[name] = _text(body[name], name, _NAME_LIMIT)
    return captured


def _time_or_none(value: Any) -> str | None:
    """RFC 3339 UTC of an old time: 12 or 14 digits, ISO 8601 or with a space."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(value).strip()
    formats = {12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
    try:
        if text.isdigit() and len(text) in formats:
            at = datetime.strptime(text, formats[len(text)])  # noqa: DTZ007 - zone follows
        else:
            at = datetime.fromisoformat(text)
        return to_text(at if at.tzinfo else at.replace(tzinfo=DEFAULT_ZONE))
    except (ValueError, OverflowError):
        return None
