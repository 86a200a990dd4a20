"""Reads samples from the telemetry DB; runs in its reader threads."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import apsw

from haechi.core.clock import from_ms
from haechi.domains.metrics.aggregate import (
    CONTAINERS_OF_RAW,
    CONTAINERS_OF_ROLLED,
    DEVICE_OF_RAW,
    DEVICE_OF_ROLLED,
)
from haechi.domains.metrics.model import (
    HOUR_S,
    MINUTE_S,
    BeforeAfter,
    ContainerPoint,
    Point,
)
from haechi.domains.metrics.store import bytes_to_cores, devices_of

# ruff: noqa: S608 - only names and numbers of this file go into SQL; values are bound

_RAW = """
    at_ms, cpu_per_core, 1, cpu_ratio, cpu_ratio, memory_used_bytes, memory_total_bytes,
    disk_free_bytes, temperature_c, throttled, gpu_use_ratio, gpu_memory_used_bytes, rx_bytes,
    tx_bytes, wifi_dbm, loss_ratio, rtt_ms
"""


def series(
    connection: apsw.Connection, device_id: str, *, from_ms_: int, to_ms: int, step_s: int
) -> list[Point]:
    """Oldest first; steps without a sample are left out, so that a gap shows as one."""
    device = _number(connection, device_id)
    if device is None:
        return []
    rolled_s = HOUR_S if step_s >= HOUR_S else MINUTE_S if step_s >= MINUTE_S else 0
    span = (device, from_ms_, to_ms)
    where = "device = ? AND at_ms >= ? AND at_ms < ?"
    step_ms = step_s * 1000
    bucket = f"at_ms / {step_ms} * {step_ms}"
    if rolled_s:
        where = f"step_s = {rolled_s} AND {where}"
        rows = connection.execute(
            f"SELECT {bucket}, NULL, {DEVICE_OF_ROLLED} FROM sample_rollups WHERE {where}"
            " GROUP BY 1 ORDER BY 1",
            span,
        )
        containers = connection.execute(
            f"SELECT {bucket}, deployment, {CONTAINERS_OF_ROLLED} FROM container_rollups"
            f" WHERE {where} GROUP BY 1, 2",
            span,
        )
    elif step_s > 1:
        rows = connection.execute(
            f"SELECT {bucket}, NULL, {DEVICE_OF_RAW} FROM samples WHERE {where}"
            " GROUP BY 1 ORDER BY 1",
            span,
        )
        containers = connection.execute(
            f"SELECT {bucket}, deployment, {CONTAINERS_OF_RAW} FROM container_samples"
            f" WHERE {where} GROUP BY 1, 2",
            span,
        )
    else:
        rows = connection.execute(f"SELECT {_RAW} FROM samples WHERE {where} ORDER BY at_ms", span)
        containers = connection.execute(
            "SELECT at_ms, deployment, 1, cpu_ratio, cpu_ratio, memory_bytes, restarts,"
            f" frame_lag_ms FROM container_samples WHERE {where}",
            span,
        )
    points = rows.fetchall()
    return _points(connection, points, containers.fetchall())


def _points(
    connection: apsw.Connection, rows: Sequence[Any], container_rows: Sequence[Any]
) -> list[Point]:
    names: dict[int, str] = {}
    containers: dict[int, list[ContainerPoint]] = {}
    for at_ms, deployment, _count, *values in container_rows:
        if deployment not in names:
            names[deployment] = _text(connection, deployment)
        containers.setdefault(at_ms, []).append(ContainerPoint(names[deployment], *values))
    return [_point(row, containers.get(row[0], [])) for row in rows]


def _point(row: Sequence[Any], containers: list[ContainerPoint]) -> Point:
    throttled = None if row[9] is None else bool(row[9])
    values = (from_ms(row[0]), *row[2:5], bytes_to_cores(row[1]), *row[5:9], throttled, *row[10:])
    names = [field.name for field in fields(Point)]
    return Point(**dict(zip(names, (*values, containers), strict=True)))


def before_after(
    connection: apsw.Connection, device_id: str, *, at_ms: int, before_ms: int, after_ms: int
) -> BeforeAfter:
    """From raw samples where they are left, else from minutes."""
    device = _number(connection, device_id)
    if device is None:
        return BeforeAfter(None, None, 0, 0)
    found: list[tuple[float | None, int]] = []
    for low, high in ((at_ms - before_ms, at_ms), (at_ms, at_ms + after_ms)):
        mean, count = _one(
            connection,
            "SELECT avg(cpu_ratio), count(*) FROM samples"
            " WHERE device = ? AND at_ms >= ? AND at_ms < ?",
            (device, low, high),
        )
        if not count:
            mean, count = _one(
                connection,
                "SELECT sum(cpu_ratio * count) / sum(count), coalesce(sum(count), 0)"
                f" FROM sample_rollups WHERE step_s = {MINUTE_S} AND device = ?"
                " AND at_ms >= ? AND at_ms < ?",
                (device, low, high),
            )
        found.append((mean, count))
    (before, before_count), (after, after_count) = found
    return BeforeAfter(before, after, before_count, after_count)


def count_rows(connection: apsw.Connection, *, from_ms_: int) -> int:
    """How many raw samples there are since then."""
    total = 0
    for device in devices_of(connection, "samples"):
        total += _one(
            connection,
            "SELECT count(*), 0 FROM samples WHERE device = ? AND at_ms >= ?",
            (device, from_ms_),
        )[0]
    return total


def _one(connection: apsw.Connection, sql: str, values: tuple[int, ...]) -> Any:
    row = connection.execute(sql, values).fetchone()
    assert row is not None
    return row


def _number(connection: apsw.Connection, text: str) -> int | None:
    row = connection.execute("SELECT number FROM metric_names WHERE text = ?", (text,)).fetchone()
    return None if row is None else int(row[0])


def _text(connection: apsw.Connection, number: int) -> str:
    row = connection.execute("SELECT text FROM metric_names WHERE number = ?", (number,)).fetchone()
    return str(row[0]) if row else ""
