"""From an AI's body to rows of the queue: each row judged on its own (CONTRACTS 2).

A bad row is refused with its index and the rest is kept. Identities are the caller's; other ones
claimed in a body are only kept as `claimed`. Knows no HTTP and no queue.
"""

import math
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from haechi.agent import boot
from haechi.agent.board import Board
from haechi.agent.deployments import Deployment
from haechi.agent.errors import BadBody
from haechi.core.clock import from_text, to_ms
from haechi.protocol.results import MAX_BATCH, AgentResult, Result, problem_of

Claim = Annotated[str, Meta(max_length=200)] | int | float | None

CLAIM_NAMES: Final = (
    "device_id",
    "deployment_id",
    "package_id",
    "version_id",
    "package",
    "version",
    "eid",
    "sid",
    "ainame",
    "did",
    "nid",
    "aid",
)


class _Claims(Struct):
    """Identities that a body may claim; none of them counts."""

    device_id: Claim = None
    deployment_id: Claim = None
    package_id: Claim = None
    version_id: Claim = None
    package: Claim = None
    version: Claim = None
    eid: Claim = None
    sid: Claim = None
    ainame: Claim = None
    did: Claim = None
    nid: Claim = None
    aid: Claim = None


_NOTHING_CLAIMED: Final = _Claims()


class Refusal(Struct, omit_defaults=True):
    index: int
    code: str
    detail: str


_many: msgspec.json.Decoder[list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw])
_one: msgspec.json.Decoder[Result] = msgspec.json.Decoder(Result)
_claims: msgspec.json.Decoder[_Claims] = msgspec.json.Decoder(_Claims)


def split(body: bytes) -> tuple[list[Any], bool]:
    """The rows of a body, each still encoded (or, where NaN had to be read, decoded), and
    whether it was a list."""
    text = body.lstrip()
    if not text:
        raise BadBody(problem="empty body")
    try:
        if text[:1] == b"[":
            rows: list[Any] = list(_many.decode(text))
            many = True
        else:
            rows, many = [msgspec.json.decode(text, type=msgspec.Raw)], False
    except RecursionError as error:
        raise BadBody(problem="nested too deeply") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if b"NaN" not in text and b"Infinity" not in text:
            raise BadBody(problem=str(error)) from error
        rows, many = _lenient(text, error)
    if len(rows) > MAX_BATCH:
        raise BadBody(problem=f"{len(rows)} rows; at most {MAX_BATCH} in one request")
    return rows, many


def _lenient(text: bytes, cause: Exception) -> tuple[list[Any], bool]:
    """NaN is no JSON, but only its own row shall suffer: read as Python does, judge per row."""
    import json

    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadBody(problem=str(error)) from cause
    return (value, True) if isinstance(value, list) else ([value], False)


def decode(row: Any) -> Result:
    """One row; raises ValueError saying what is wrong with it."""
    try:
        if isinstance(row, msgspec.Raw):
            result = _one.decode(row)
            claims = _claims.decode(row)
        else:
            result = msgspec.convert(row, Result)
            claims = msgspec.convert(row, _Claims)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    if not isinstance(row, msgspec.Raw):  # JSON itself has neither
        for number in (result.class_prob, result.took_ms, *(o.class_prob for o in result.objects)):
            if number is not None and not math.isfinite(number):
                raise ValueError("NaN or infinity")
    problem = problem_of(result)
    if problem is not None:
        raise ValueError(problem)
    if claims != _NOTHING_CLAIMED:
        for name in CLAIM_NAMES:
            value = getattr(claims, name)
            if value is not None:
                result.claimed = {**result.claimed, name: str(value)}
    if len(result.claimed) > 2 * len(CLAIM_NAMES):
        raise ValueError("too many claimed identities")
    return result


def finish(
    result: Result, deployment: Deployment, board: Board, *, device_id: str, now_ms: int
) -> AgentResult:
    """Fill in what the agent knows: identity for de-duplication, camera, assignment, times."""
    spec = deployment.kept.spec
    if result.instance is None or result.seq is None:
        deployment.seq += 1
        result.instance, result.seq = deployment.instance, deployment.seq
    if result.camera_id is None and result.assignment_id is None:
        result.camera_id = spec.camera_id or board.only_camera(spec.deployment_id)
    assignment = board.find(
        spec.deployment_id, assignment_id=result.assignment_id, camera_id=result.camera_id
    )
    if assignment is not None:
        result.camera_id = result.camera_id or assignment.camera_id
        if result.assignment_id is None:
            result.assignment_id = assignment.id
        if result.epoch is None and result.assignment_id == assignment.id:
            result.epoch = assignment.epoch
    if result.claimed:
        known = {
            "deployment_id": spec.deployment_id,
            "package_id": spec.package_id,
            "version_id": spec.version_id,
            **dict.fromkeys(("device_id", "eid", "did", "nid"), device_id),
        }
        result.claimed = {k: v for k, v in result.claimed.items() if known.get(k) != v}
    return AgentResult(
        result=result,
        deployment_id=spec.deployment_id,
        received_ms=now_ms,
        monotonic_ms=boot.monotonic_ms(),
        boot_id=_BOOT_ID,
        captured_ms=_captured_ms(result.captured_at),
    )


def _captured_ms(text: str | None) -> int | None:
    """None where there is none or it is nonsense: nothing is refused for its date."""
    if text is None:
        return None
    try:
        return to_ms(from_text(text))
    except (ValueError, OverflowError):
        return None


_BOOT_ID: Final = boot.boot_id()
