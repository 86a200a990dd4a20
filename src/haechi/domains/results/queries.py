"""Reads results from the telemetry DB; runs in its reader threads.

Every question walks one index by row number, which is time: class, camera, or source. Conditions
beside the one that was walked are prefixed with `+`, so that SQLite does not choose another way.
"""
# ruff: noqa: S608 - only names and placeholders of this file go into SQL; values are bound

import json
from collections.abc import Sequence
from typing import Any, Final

import apsw

from haechi.core.clock import from_ms
from haechi.domains.results.model import Bucket, Filter, SeenObject, Source, StoredResult
from haechi.domains.results.schema import (
    ANY_CLASS,
    ARRIVAL,
    ID_BITS,
    NOT_AUTHORITATIVE,
    SCOPE,
    UNCERTAIN,
)

_MANY_SOURCES: Final = 64
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
        table, walked, value = "result_classes k JOIN results r ON r.id = k.id", "k.class", class_
        key = "k.id"
    elif camera is not None:
        table, walked, value, key = "results r", "r.camera", camera, "r.id"
    elif sources is not None and len(sources) <= _MANY_SOURCES:
        return _ids_of_sources(connection, sources, low, high, limit)
    else:
        table, walked, value, key = "results r NOT INDEXED", "", 0, "r.id"
    conditions, values = [f"{key} BETWEEN ? AND ?"], [low, high]
    if walked:
        conditions.append(f"{walked} = ?")
        values.append(value)
    if camera is not None and walked != "r.camera":
        conditions.append("+r.camera = ?")
        values.append(camera)
    if sources is not None:
        conditions.append(f"+r.source IN ({_marks(sources)})")
        values += sources
    rows = connection.execute(
        f"SELECT {key} FROM {table} WHERE {' AND '.join(conditions)} ORDER BY {key} DESC LIMIT ?",
        (*values, limit),
    )
    return [int(row[0]) for row in rows]


def _bounds(from_ms: int, to_ms: int | None) -> tuple[int, int]:
    """First and last id of a period; times beyond what an id can hold (year 2248) mean its end."""
    last = _MAX_ID if to_ms is None else (to_ms << ID_BITS) - 1
    return min(from_ms << ID_BITS, _MAX_ID), min(last, _MAX_ID)


def _ids_of_sources(
    connection: apsw.Connection, sources: list[int], low: int, high: int, limit: int
) -> list[int]:
    """The newest of each, merged: a walk by several sources at once would have to sort all."""
    ids: list[int] = []
    for source in sources:
        rows = connection.execute(
            "SELECT id FROM results WHERE source = ? AND id BETWEEN ? AND ?"
            " ORDER BY id DESC LIMIT ?",
            (source, low, high, limit),
        )
        ids += [int(row[0]) for row in rows]
    return sorted(ids, reverse=True)[:limit]


def _name(connection: apsw.Connection, text: str | None) -> int | None:
    if text is None:
        return None
    row = connection.execute("SELECT number FROM result_names WHERE text = ?", (text,)).fetchone()
    if row is None:
        raise NothingMatches
    return int(row[0])


def _sources(connection: apsw.Connection, asked: Filter) -> list[int] | None:
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
    numbers = [int(row[0]) for row in rows]
    if not numbers:
        raise NothingMatches
    return numbers


def _marks(values: Sequence[object]) -> str:
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
    sources: list[int] | None,
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


def _each(connection: apsw.Connection, column: str, table: str) -> list[int]:
    """Each value of an index's first column once, by jumping from one to the next."""
    rows = connection.execute(
        f"WITH RECURSIVE one(v) AS (SELECT min({column}) FROM {table} UNION ALL"
        f" SELECT (SELECT min({column}) FROM {table} WHERE {column} > one.v) FROM one"
        " WHERE one.v IS NOT NULL) SELECT v FROM one WHERE v IS NOT NULL"
    )
    return [int(row[0]) for row in rows]


def _by_rows(
    connection: apsw.Connection,
    from_ms: int,
    to_ms: int,
    bucket_ms: int,
    camera: int | None,
    sources: list[int] | None,
) -> list[Any]:
    conditions, values = ["r.id BETWEEN ? AND ?"], list(_bounds(from_ms, to_ms))
    if camera is not None:
        conditions.append("r.camera = ?")
        values.append(camera)
    if sources:
        conditions.append(f"+r.source IN ({_marks(sources)})")
        values += sources
    where = " AND ".join(conditions)
    bucket = f"(r.id >> {ID_BITS}) / {bucket_ms}"
    looks = connection.execute(
        f"SELECT {bucket}, {ANY_CLASS}, count(*), 0 FROM results r WHERE {where} GROUP BY 1",
        tuple(values),
    ).fetchall()
    whole = connection.execute(
        f"SELECT {bucket}, r.class, count(*), count(*) FROM results r"
        f" WHERE {where} AND r.class IS NOT NULL GROUP BY 1, 2",
        tuple(values),
    ).fetchall()
    parts = connection.execute(
        f"SELECT {bucket}, (SELECT number FROM result_names WHERE text = o.value ->> 4),"
        f" count(DISTINCT r.id), count(*) FROM results r, json_each(r.objects) o"
        f" WHERE {where} AND r.objects IS NOT NULL GROUP BY 1, 2",
        tuple(values),
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
        for class_ in _each(connection, "class", "result_classes"):
            connection.execute(
                "DELETE FROM result_classes WHERE class = ? AND id <= ?", (class_, last[0])
            )
    if deleted < limit:
        for camera in _each(connection, "camera", "result_minutes"):
            connection.execute(
                "DELETE FROM result_minutes WHERE camera = ? AND minute < ?",
                (camera, before_ms // 60_000),
            )
    return deleted
