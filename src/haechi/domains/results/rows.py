"""From the wire to rows ready to store: decoding, checking, telling which row of a batch is bad.

The common case (every row good) costs one decode of the whole batch; only a batch with something
wrong in it is taken apart row by row.
"""

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from haechi.domains.results.model import BadResults, RefusedRow, TooManyRows
from haechi.protocol.results import (
    MAX_ATTRIBUTES_BYTES,
    MAX_BATCH,
    DetectedObject,
    Result,
    problem_of,
)

_IDENTITY: Final = ("device_id", "deployment_id", "package_id", "version_id", "image_digest")
_CLAIM_CHARACTERS: Final = 128
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class _Claiming(Result):
    """A result with the identities a body may claim; they are kept beside it, never believed."""

    device_id: Any = None
    deployment_id: Any = None
    package_id: Any = None
    version_id: Any = None
    image_digest: Any = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[_Claiming] | _Claiming).decode


def decode(body: bytes) -> tuple[Sequence[Result], list[RefusedRow]]:
    """Rows of a request body, good ones and refused ones. Raises BadResults, TooManyRows."""
    try:
        document = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _row_by_row(body)
    rows = document if isinstance(document, list) else [document]
    if len(rows) > MAX_BATCH:
        raise TooManyRows(limit=MAX_BATCH, count=len(rows))
    return check(rows)


def check(rows: Sequence[Result]) -> tuple[Sequence[Result], list[RefusedRow]]:
    """Split rows into good and refused by what their types cannot say."""
    refused: list[RefusedRow] = []
    for index, row in enumerate(rows):
        problem = problem_of(row)
        if problem is None and row.claimed:
            problem = _claims_problem(row)
        if problem is not None:
            refused.append(RefusedRow(index, problem))
    if not refused:
        return rows, refused
    bad = {row.index for row in refused}
    return [row for index, row in enumerate(rows) if index not in bad], refused


def claims_of(row: Result) -> dict[str, str]:
    """Identities that the body gave for itself."""
    if not isinstance(row, _Claiming) or (
        row.device_id is None
        and row.deployment_id is None
        and row.package_id is None
        and row.version_id is None
        and row.image_digest is None
    ):
        return row.claimed
    told = {
        name: str(value)[:_CLAIM_CHARACTERS]
        for name in _IDENTITY
        if (value := getattr(row, name)) is not None
    }
    return {**row.claimed, **told}


def _row_by_row(body: bytes) -> tuple[list[Result], list[RefusedRow]]:
    """Slow, for batches with something wrong: Python's parser also reads NaN and Infinity."""
    try:
        document: Any = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadResults(reason=str(error)[:200]) from error
    raw_rows = document if isinstance(document, list) else [document]
    if len(raw_rows) > MAX_BATCH:
        raise TooManyRows(limit=MAX_BATCH, count=len(raw_rows))
    good: list[Result] = []
    refused: list[RefusedRow] = []
    for index, raw in enumerate(raw_rows):
        try:
            row = msgspec.convert(raw, _Claiming)
        except msgspec.ValidationError as error:
            refused.append(RefusedRow(index, str(error)))
            continue
        problem = problem_of_row(row)
        if problem is None:
            good.append(row)
        else:
            refused.append(RefusedRow(index, problem))
    return good, refused


def problem_of_row(row: Result) -> str | None:
    """As `problem_of`, for rows that did not come as JSON: NaN passes a type's limits there."""
    numbers = [row.class_prob, row.took_ms, *(found.class_prob for found in row.objects)]
    if any(number is not None and number != number for number in numbers):  # noqa: PLR0124 - NaN
        return "a probability or time is not a number"
    return problem_of(row) or _claims_problem(row)


def _claims_problem(row: Result) -> str | None:
    if row.claimed and len(msgspec.json.encode(row.claimed)) > MAX_ATTRIBUTES_BYTES:
        return f"claimed is larger than {MAX_ATTRIBUTES_BYTES} bytes"
    return None


def captured_ms(text: str | None) -> int | None:
    """`captured_at` in ms since the epoch; None where there is none or it is no time."""
    if text is None:
        return None
    try:
        since = datetime.fromisoformat(text) - _EPOCH
    except (ValueError, TypeError, OverflowError):
        return None
    return since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000


def classes_of(objects: list[DetectedObject]) -> tuple[tuple[str, int], ...]:
    """How many objects of each class; the names are shared with all other rows."""
    if len(objects) == 1:
        return ((sys.intern(objects[0].class_), 1),)
    counts: dict[str, int] = {}
    for found in objects:
        counts[found.class_] = counts.get(found.class_, 0) + 1
    return tuple((sys.intern(name), count) for name, count in counts.items())


def encode_objects(objects: list[DetectedObject]) -> str | None:
    """Compact JSON: [[x, y, w, h, class, prob], …], a seventh value where there is a track."""
    if not objects:
        return None
    if len(objects) == 1 and objects[0].track is None:  # the usual, without a comprehension's cost
        found = objects[0]
        return _encode(((*found.box, found.class_, found.class_prob),)).decode()
    return _encode(
        [
            (*found.box, found.class_, found.class_prob)
            if found.track is None
            else (*found.box, found.class_, found.class_prob, found.track)
            for found in objects
        ]
    ).decode()
