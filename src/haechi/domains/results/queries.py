"""Reads results from the telemetry DB; runs in its reader threads.

Every question walks by row number, which is time: the rows themselves, or one index that has each
camera's rows of each source together, as many walks as there are such streams, merged while they
are read. A class is looked up in the minutes in which it was counted; only rows of those are read.
"""
# ruff: noqa: S608 - only names and placeholders of this file go into SQL; values are bound

import heapq
import json
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import Any, Final

import apsw

from haechi.core.clock import from_ms
from haechi.domains.results.model import Bucket, Filter, SeenObject, Source, StoredResult
from haechi.domains.results.schema import (
    ANY_CLASS,
    ARRIVAL,
    ID_BITS,
    NOT_AUTHORITATIVE,
    OTHER_CLASS,
    SCOPE,
    UNCERTAIN,
)

_MAX_ID: Final = (1 << 63) - 1
_COLUMNS: Final = """
    r.id, r.received_ms, r.stored_ms, r.flags, r.class_prob, r.took_ms, r.seq, r.epoch,
    r.objects, r.attributes, r.claimed,
    (SELECT text FROM result_names WHERE number = r.camera),
    (SELECT text FROM result_names WHERE number = r.instance),
    (SELECT text FROM result_names WHERE number = r.assignment),
    (SELECT text FROM result_names WHERE number = r.class),
    s.device_id, s.deployment_id, s.package_id, s.package_name, s.version_id, s.version,
    s.image_digest
"""
_OF_STREAM: Final = "r.camera IS ? AND r.source = ? AND r.id BETWEEN ? AND ?"
_SAYS_CLASS: Final = """
AND (r.class = ? OR EXISTS (SELECT 1 FROM json_each(r.objects) o WHERE o.value ->> 4 = ?))
"""
_SAYS_ANOTHER: Final = """
AND (r.class = ? OR EXISTS (
    SELECT 1 FROM json_each(r.objects) o WHERE o.value ->> 4 = ? OR NOT EXISTS (
        SELECT 1 FROM result_names n JOIN result_minutes m ON m.class = n.number
        WHERE n.text = o.value ->> 4 AND m.camera = ? AND m.source = ? AND m.minute = ?
    )
))
"""
"""Of `OTHER_CLASS`: one that was not counted under its own name."""

Stream = tuple[int | None, int]
"""(camera, source)."""


class NothingMatches(Exception):
    """A name that never occurred: the answer is empty without looking."""


def find(
    connection: apsw.Connection, asked: Filter, *, limit: int, before_id: int | None
) -> list[StoredResult]:
    """Newest first; `before_id` is the last id of the page before."""
    try:
        ids = _ids(connection, asked, limit, before_id)
    except NothingMatches:
        return []
    found = []
    for row_id in ids:
        row = connection.execute(
            f"SELECT {_COLUMNS} FROM results r JOIN result_sources s ON s.number = r.source"
            " WHERE r.id = ?",
            (row_id,),
        ).fetchone()
        if row is not None:
            found.append(_stored(row))
    return found


def _ids(
    connection: apsw.Connection, asked: Filter, limit: int, before_id: int | None
) -> list[int]:
    low, high = _bounds(asked.from_ms or 0, asked.to_ms)
    if before_id is not None:
        high = min(high, before_id - 1)
    camera = _name(connection, asked.camera_id)
    sources = _sources(connection, asked)
    class_ = _name(connection, asked.class_)
    if class_ is not None:
        walks = [
            _walk_class(connection, (class_, str(asked.class_)), stream, low, high)
            for stream in _streams(connection, camera, sources)
        ]
    elif camera is not None or sources is not None:
        walks = [
            _walk(connection, _OF_STREAM, (*stream, low, high))
            for stream in _streams(connection, camera, sources)
        ]
    else:
        walks = [_walk(connection, "r.id BETWEEN ? AND ?", (low, high))]
    return list(islice(heapq.merge(*walks, reverse=True), limit))


def _walk(
    connection: apsw.Connection, condition: str, values: tuple[int | str | None, ...]
) -> Iterator[int]:
    """Row numbers, newest first, read as they are asked for."""
    for (row_id,) in connection.execute(
        f"SELECT r.id FROM results r WHERE {condition} ORDER BY r.id DESC", values
    ):
        yield int(row_id)


def _walk_class(
    connection: apsw.Connection, class_: tuple[int, str], stream: Stream, low: int, high: int
) -> Iterator[int]:
    number, text = class_
    counted = (stream[0] or 0, stream[1])
    minutes = connection.execute(
        "SELECT minute FROM result_minutes WHERE class = ? AND camera = ? AND source = ?"
        " AND minute BETWEEN ? AND ? ORDER BY minute DESC",
        (number, *counted, _minute_of(low), _minute_of(high)),
    )
    for (minute,) in minutes:
        first, last = _bounds(minute * 60_000, (minute + 1) * 60_000)
        values = (*stream, max(first, low), min(last, high), number, text)
        if text == OTHER_CLASS:
            yield from _walk(connection, _OF_STREAM + _SAYS_ANOTHER, (*values, *counted, minute))
        else:
            yield from _walk(connection, _OF_STREAM + _SAYS_CLASS, values)


def _streams(
    connection: apsw.Connection, camera: int | None, sources: set[int] | None
) -> list[Stream]:
    """Those of one camera, or of all and of those without one."""
    cameras = [camera] if camera is not None else [None, *_each(connection, "camera", "results")]
    return [
        (one, source)
        for one in cameras
        for source in _each(connection, "source", "results", "camera IS ?", (one,))
        if sources is None or source in sources
    ]


def _minute_of(row_id: int) -> int:
    return (row_id >> ID_BITS) // 60_000


def _bounds(from_ms: int, to_ms: int | None) -> tuple[int, int]:
    """First and last id of a period; times beyond what an id can hold (year 2248) mean its end."""
    last = _MAX_ID if to_ms is None else (to_ms << ID_BITS) - 1
    return min(from_ms << ID_BITS, _MAX_ID), min(last, _MAX_ID)


def _name(connection: apsw.Connection, text: str | None) -> int | None:
    if text is None:
        return None
    row = connection.execute("SELECT number FROM result_names WHERE text = ?", (text,)).fetchone()
    if row is None:
        raise NothingMatches
    return int(row[0])


def _sources(connection: apsw.Connection, asked: Filter) -> set[int] | None:
    conditions = {
        "device_id": asked.device_id,
        "deployment_id": asked.deployment_id,
        "package_id": asked.package_id,
    }
    given = {name: value for name, value in conditions.items() if value is not None}
    if not given:
        return None
    rows = connection.execute(
        "SELECT number FROM result_sources WHERE " + " AND ".join(f"{name} = ?" for name in given),
        tuple(given.values()),
    )
    numbers = {int(row[0]) for row in rows}
    if not numbers:
        raise NothingMatches
    return numbers


def _marks(values: Collection[object]) -> str:
    return ",".join("?" * len(values))


def _stored(row: Sequence[Any]) -> StoredResult:
    (row_id, received_ms, stored_ms, flags, class_prob, took_ms, seq, epoch) = row[:8]
    (objects, attributes, claimed, camera, instance, assignment, class_) = row[8:15]
    return StoredResult(
        id=str(row_id),
        source=Source(*row[15:22]),
        camera_id=camera,
        assignment_id=assignment,
        epoch=epoch,
        instance=None if instance is None else instance.partition(SCOPE)[2],
        seq=seq,
        captured_at=from_ms(row_id >> ID_BITS),
        received_at=from_ms(received_ms),
        stored_at=from_ms(stored_ms),
        clock="uncertain" if flags & UNCERTAIN else "ok",
        captured_at_is_arrival=bool(flags & ARRIVAL),
        authoritative=not flags & NOT_AUTHORITATIVE,
        class_=class_,
        class_prob=class_prob,
        took_ms=took_ms,
        objects=objects_of(objects),
        attributes=json.loads(attributes) if attributes else {},
        claimed=json.loads(claimed) if claimed else {},
    )


def objects_of(text: str | None) -> list[SeenObject]:
    """The compact column read back (`rows.encode_objects`)."""
    return [
        SeenObject((x, y, w, h), class_, prob, more[0] if more else None)
        for x, y, w, h, class_, prob, *more in (json.loads(text) if text else ())
    ]


def summary(connection: apsw.Connection, asked: Filter, *, bucket_ms: int) -> list[Bucket]:
    """Counts per bucket, oldest first; buckets without a look are left out.

    Whole minutes come from the running counts; finer or unaligned ones from the rows themselves.
    """
    assert asked.from_ms is not None
    assert asked.to_ms is not None
    try:
        camera = _name(connection, asked.camera_id)
        sources = _sources(connection, asked)
        class_ = _name(connection, asked.class_)
    except NothingMatches:
        return []
    from_minutes = all(ms % 60_000 == 0 for ms in (bucket_ms, asked.from_ms, asked.to_ms))
    count = _by_minutes if from_minutes else _by_rows
    rows = count(connection, asked.from_ms, asked.to_ms, bucket_ms, camera, sources)
    looks: dict[int, int] = {}
    seen: dict[int, dict[str, int]] = {}
    for bucket, class_number, results, objects in rows:
        if class_number == (ANY_CLASS if class_ is None else class_):
            looks[bucket] = looks.get(bucket, 0) + results
        if class_number != ANY_CLASS and class_ in {None, class_number}:
            by_class = seen.setdefault(bucket, {})
            name = _text(connection, class_number)
            by_class[name] = by_class.get(name, 0) + objects
    return [
        Bucket(from_ms(bucket * bucket_ms), looks[bucket], seen.get(bucket, {}))
        for bucket in sorted(looks)
    ]


def _text(connection: apsw.Connection, number: int) -> str:
    row = connection.execute("SELECT text FROM result_names WHERE number = ?", (number,)).fetchone()
    return str(row[0]) if row else ""


def _by_minutes(
    connection: apsw.Connection,
    from_ms: int,
    to_ms: int,
    bucket_ms: int,
    camera: int | None,
    sources: set[int] | None,
) -> list[Any]:
    minutes_per_bucket = bucket_ms // 60_000
    cameras = [camera] if camera is not None else _each(connection, "camera", "result_minutes")
    narrowed = f" AND source IN ({_marks(sources)})" if sources else ""
    rows: list[Any] = []
    for one in cameras:
        rows += connection.execute(
            "SELECT minute / ?, class, sum(results), sum(objects) FROM result_minutes"
            f" WHERE camera = ? AND minute >= ? AND minute < ?{narrowed} GROUP BY 1, 2",
            (minutes_per_bucket, one, from_ms // 60_000, to_ms // 60_000, *(sources or ())),
        )
    return rows


def _each(
    connection: apsw.Connection,
    column: str,
    table: str,
    within: str = "true",
    values: tuple[int | None, ...] = (),
) -> list[int]:
    """Each value of an index's first column once, or of its second `within` one value of the first,
    by jumping from one to the next."""
    rows = connection.execute(
        f"WITH RECURSIVE one(v) AS (SELECT min({column}) FROM {table} WHERE {within} UNION ALL"
        f" SELECT (SELECT min({column}) FROM {table} WHERE {within} AND {column} > one.v) FROM one"
        " WHERE one.v IS NOT NULL) SELECT v FROM one WHERE v IS NOT NULL",
        (*values, *values),
    )
    return [int(row[0]) for row in rows]


def _by_rows(
    connection: apsw.Connection,
    from_ms: int,
    to_ms: int,
    bucket_ms: int,
    camera: int | None,
    sources: set[int] | None,
) -> list[Any]:
    period = _bounds(from_ms, to_ms)
    if camera is None and sources is None:
        return _buckets(connection, bucket_ms, "r.id BETWEEN ? AND ?", period)
    return [
        row
        for stream in _streams(connection, camera, sources)
        for row in _buckets(connection, bucket_ms, _OF_STREAM, (*stream, *period))
    ]


def _buckets(
    connection: apsw.Connection, bucket_ms: int, where: str, values: tuple[int | None, ...]
) -> list[Any]:
    """(bucket, class, looks, objects) of the rows that match."""
    bucket = f"(r.id >> {ID_BITS}) / {bucket_ms}"
    looks = connection.execute(
        f"SELECT {bucket}, {ANY_CLASS}, count(*), 0 FROM results r WHERE {where} GROUP BY 1",
        values,
    ).fetchall()
    whole = connection.execute(
        f"SELECT {bucket}, r.class, count(*), count(*) FROM results r"
        f" WHERE {where} AND r.class IS NOT NULL GROUP BY 1, 2",
        values,
    ).fetchall()
    parts = connection.execute(
        f"SELECT {bucket}, (SELECT number FROM result_names WHERE text = o.value ->> 4),"
        f" count(DISTINCT r.id), count(*) FROM results r, json_each(r.objects) o"
        f" WHERE {where} AND r.objects IS NOT NULL GROUP BY 1, 2",
        values,
    ).fetchall()
    return [*looks, *whole, *parts]


def delete_before(connection: apsw.Connection, before_ms: int, limit: int) -> int:
    """Delete up to `limit` of the oldest results taken before that time; says how many."""
    last = connection.execute(
        "SELECT max(id) FROM (SELECT id FROM results WHERE id < ? ORDER BY id LIMIT ?)",
        (before_ms << ID_BITS, limit),
    ).fetchone()
    deleted = 0
    if last is not None and last[0] is not None:
        connection.execute("DELETE FROM results WHERE id <= ?", last)
        deleted = connection.changes()
    if deleted < limit:
        for camera in _each(connection, "camera", "result_minutes"):
            connection.execute(
                "DELETE FROM result_minutes WHERE camera = ? AND minute < ?",
                (camera, before_ms // 60_000),
            )
    return deleted
