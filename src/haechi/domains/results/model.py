"""Results as the server keeps them (CONTRACTS 2), and what can be wrong with them."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from haechi.errors import Invalid, Text

ClockWord = Literal["ok", "uncertain"]
MAX_BODY_BYTES: Final = 10 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Source:
    """Who said it: from the credential, never from the body."""

    device_id: str = ""
    deployment_id: str = ""
    package_id: str = ""
    package_name: str = ""
    version_id: str = ""
    version: str = ""
    image_digest: str = ""


@dataclass(frozen=True, slots=True)
class SeenObject:
    """`box` is (x, y, w, h) of the frame, 0-1, origin top left."""

    box: tuple[float, float, float, float]
    class_: str
    class_prob: float
    track: str | int | None = None


@dataclass(frozen=True, slots=True)
class StoredResult:
    """One frame looked at. Neither class nor objects: "looked, saw nothing"."""

    id: str
    source: Source
    camera_id: str | None
    assignment_id: str | None
    epoch: int | None
    instance: str | None
    seq: int | None
    captured_at: datetime
    received_at: datetime
    stored_at: datetime
    clock: ClockWord
    captured_at_is_arrival: bool
    authoritative: bool
    class_: str | None
    class_prob: float | None
    took_ms: float | None
    objects: list[SeenObject] = field(default_factory=list)
    attributes: dict[str, Any] = field(default_factory=dict)
    claimed: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """One row of a batch that was not taken, with its place in it."""

    index: int
    problem: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a batch, told after it is durable."""

    accepted: int
    repeated: int
    refused: list[RefusedRow]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which results are asked for; all conditions hold together."""

    camera_id: str | None = None
    device_id: str | None = None
    deployment_id: str | None = None
    package_id: str | None = None
    class_: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Bucket:
    """What was looked at and seen within one step of time."""

    at: datetime
    count: int
    """Frames looked at."""
    by_class: dict[str, int]
    """Objects seen; a class of the whole frame counts as one."""


class BadResults(Invalid):
    code = "results.unreadable"
    http_status = 400
    detail = Text("결과를 읽을 수 없습니다: {reason}", "The results cannot be read: {reason}")
    remedy = Text(
        "결과 하나의 JSON 객체 또는 최대 1000개의 목록을 보내세요.",
        "Send one result as a JSON object, or a list of up to 1,000.",
    )


class TooManyRows(Invalid):
    code = "results.too_many_rows"
    http_status = 413
    detail = Text(
        "한 번에 보낼 수 있는 결과는 {limit}개까지입니다 ({count}개 수신).",
        "Up to {limit} results may be sent at once; these are {count}.",
    )
    remedy = Text("나누어 보내세요.", "Send them in parts.")


class BodyTooLarge(Invalid):
    code = "results.body_too_large"
    http_status = 413
    detail = Text(
        "요청 본문이 {limit_bytes}바이트를 넘습니다.",
        "The body is larger than {limit_bytes} bytes.",
    )
    remedy = Text("나누어 보내세요.", "Send it in parts.")


class AllRefused(Invalid):
    code = "results.refused"
    detail = Text(
        "결과가 모두 거부되었습니다. 첫 번째 문제: {first}",
        "Every result was refused; the first problem: {first}",
    )
    remedy = Text(
        "data.refused에 각 결과의 문제가 있습니다. 고쳐서 다시 보내세요.",
        "data.refused names the problem of each; correct and send again.",
    )


class BadPeriod(Invalid):
    code = "results.bad_period"
    detail = Text("조회 기간이 올바르지 않습니다: {reason}", "The period is not valid: {reason}")
    remedy = Text(
        "from은 to보다 앞서야 하며, 짧은 단위의 요약은 짧은 기간만 조회할 수 있습니다.",
        "`from` is before `to`; a fine summary is for a short period only.",
    )
