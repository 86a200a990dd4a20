"""Writes samples and rollups into the telemetry DB; runs in its writer thread."""
# ruff: noqa: S608 - only names and numbers of this package go into SQL; values are bound

from collections.abc import Sequence
from typing import Final, NamedTuple

import apsw

from haechi.domains.metrics.aggregate import (
    CONTAINERS_OF_RAW,
    CONTAINERS_OF_ROLLED,
    DEVICE_OF_RAW,
    DEVICE_OF_ROLLED,
)
from haechi.domains.metrics.model import HOUR_S, MINUTE_S
from haechi.protocol.samples import Sample

_CACHED: Final = 50_000
_SAMPLE: Final = f"INSERT OR IGNORE INTO samples VALUES ({','.join('?' * 18)})"
_CONTAINER: Final = f"INSERT OR IGNORE INTO container_samples VALUES ({','.join('?' * 7)})"
_DIRTY: Final = "INSERT OR IGNORE INTO metric_dirty VALUES (?, ?, ?)"
_SETTLED_MS: Final = 5_000
"""A minute is closed so long after its end; what comes later makes it dirty again."""


class NewSamples(NamedTuple):
    """`at_ms[i]` is the time of `rows[i]` on the server's clock."""

    device_id: str
    at_ms: list[int]
    rows: list[Sample]


class RollUp(NamedTuple):
    """Bring up to `limit` dirty steps up to date, those after `after` = (at_ms, device)."""

    step_s: int
    now_ms: int
    after: tuple[int, int]
    limit: int


class SampleStore:
    def __init__(self) -> None:
        self._names: dict[str, int] = {}
        self._dirty: set[tuple[int, int]] = set()
        """(minute, device) that are known to stand in `metric_dirty`."""

    def forget(self) -> None:
        """After a rollback: what is in memory may not be in the file."""
        self._names.clear()
        self._dirty.clear()

    def insert(self, connection: apsw.Connection, payloads: list[NewSamples]) -> Sequence[None]:
        """Each sample once, by its boot and number."""
        samples: list[tuple[object, ...]] = []
        containers: list[tuple[object, ...]] = []
        dirty: list[tuple[int, int]] = []
        for payload in payloads:
            device = self._number(connection, payload.device_id)
            for at_ms, row in zip(payload.at_ms, payload.rows, strict=True):
                boot = self._number(connection, f"{payload.device_id}/{row.boot_id}")
                samples.append(_values(device, at_ms, boot, row))
                containers += [
                    (
                        device,
                        at_ms,
                        self._number(connection, one.deployment_id),
                        one.cpu_ratio,
                        one.memory_bytes,
                        one.restarts,
                        one.frame_lag_ms,
                    )
                    for one in row.containers
                ]
                minute = (at_ms // 60_000 * 60_000, device)
                if minute not in self._dirty:
                    self._dirty.add(minute)
                    dirty.append(minute)
        connection.executemany(_SAMPLE, samples)
        connection.executemany(_CONTAINER, containers)
        connection.executemany(
            f"INSERT OR IGNORE INTO metric_dirty VALUES ({MINUTE_S}, ?, ?)", dirty
        )
        return [None] * len(payloads)

    def roll_up(
        self, connection: apsw.Connection, asked: list[RollUp]
    ) -> Sequence[tuple[int, int] | None]:
        """Where to go on, or None when nothing is left."""
        return [self._roll_up(connection, one) for one in asked]

    def _roll_up(self, connection: apsw.Connection, asked: RollUp) -> tuple[int, int] | None:
        dirty: list[tuple[int, int]] = connection.execute(  # type: ignore[assignment]
            "SELECT at_ms, device FROM metric_dirty WHERE step_s = ? AND (at_ms, device) > (?, ?)"
            " ORDER BY at_ms, device LIMIT ?",
            (asked.step_s, *asked.after, asked.limit),
        ).fetchall()
        from_raw = asked.step_s == MINUTE_S
        device_columns = DEVICE_OF_RAW if from_raw else DEVICE_OF_ROLLED
        container_columns = CONTAINERS_OF_RAW if from_raw else CONTAINERS_OF_ROLLED
        source = "" if from_raw else f" step_s = {MINUTE_S} AND"
        tables = (
            ("samples", "container_samples")
            if from_raw
            else ("sample_rollups", "container_rollups")
        )
        for at_ms, device in dirty:
            end_ms = at_ms + asked.step_s * 1000
            span = (device, at_ms, end_ms)
            where = f"WHERE{source} device = ? AND at_ms >= ? AND at_ms < ?"
            connection.execute(
                f"INSERT OR REPLACE INTO sample_rollups SELECT {asked.step_s}, {device}, {at_ms},"
                f" {device_columns} FROM {tables[0]} {where} HAVING count(*) > 0",
                span,
            )
            connection.execute(
                f"INSERT OR REPLACE INTO container_rollups SELECT {asked.step_s}, {device},"
                f" {at_ms}, deployment, {container_columns} FROM {tables[1]} {where}"
                " GROUP BY deployment",
                span,
            )
            if from_raw:
                hour_ms = at_ms // 3_600_000 * 3_600_000
                connection.execute(_DIRTY, (HOUR_S, hour_ms, device))
            if end_ms + _SETTLED_MS < asked.now_ms:
                connection.execute(
                    "DELETE FROM metric_dirty WHERE step_s = ? AND at_ms = ? AND device = ?",
                    (asked.step_s, at_ms, device),
                )
                if from_raw:
                    self._dirty.discard((at_ms, device))
        return dirty[-1] if len(dirty) == asked.limit else None

    def _number(self, connection: apsw.Connection, text: str) -> int:
        number = self._names.get(text)
        if number is None:
            if len(self._names) > _CACHED:
                self._names.clear()
            connection.execute("INSERT OR IGNORE INTO metric_names (text) VALUES (?)", (text,))
            found = connection.execute(
                "SELECT number FROM metric_names WHERE text = ?", (text,)
            ).fetchone()
            assert found is not None
            number = self._names[text] = int(found[0])
        return number


def _values(device: int, at_ms: int, boot: int, row: Sample) -> tuple[object, ...]:
    gpu, net = row.gpu, row.net
    return (
        device,
        at_ms,
        boot,
        row.seq,
        row.cpu_ratio,
        cores_to_bytes(row.cpu_per_core),
        row.memory_used_bytes,
        row.memory_total_bytes,
        row.disk_free_bytes,
        row.temperature_c,
        row.throttled,
        gpu and gpu.use_ratio,
        gpu and gpu.memory_used_bytes,
        net and net.rx_bytes,
        net and net.tx_bytes,
        net and net.wifi_dbm,
        net and net.loss_ratio,
        net and net.rtt_ms,
    )


def cores_to_bytes(ratios: list[float]) -> bytes | None:
    """One byte a core: 0-250 for 0-1, more is cut."""
    if not ratios:
        return None
    return bytes(min(max(round(ratio * 250), 0), 255) for ratio in ratios)


def bytes_to_cores(data: bytes | None) -> list[float]:
    return [value / 250 for value in data or b""]


class Retention(NamedTuple):
    """What is older than these goes: raw samples, minutes, hours (all ms since the epoch)."""

    raw_before_ms: int
    minutes_before_ms: int
    hours_before_ms: int
    limit: int


def delete_old(connection: apsw.Connection, asked: list[Retention]) -> Sequence[int]:
    """Delete up to `limit` rows per table and device; says how many went."""
    return [_delete_old(connection, one) for one in asked]


def _delete_old(connection: apsw.Connection, asked: Retention) -> int:
    before = connection.total_changes()
    for device in devices_of(connection, "samples"):
        for table in ("samples", "container_samples"):
            _delete(connection, table, "device = ?", (device,), asked.raw_before_ms, asked.limit)
    bounds = ((MINUTE_S, asked.minutes_before_ms), (HOUR_S, asked.hours_before_ms))
    for step_s, bound_ms in bounds:
        where = "step_s = ? AND device = ?"
        for device in devices_of(connection, "sample_rollups", step_s):
            for table in ("sample_rollups", "container_rollups"):
                _delete(connection, table, where, (step_s, device), bound_ms, asked.limit)
    return connection.total_changes() - before


def devices_of(connection: apsw.Connection, table: str, step_s: int | None = None) -> list[int]:
    """Each device in a table once, by jumping from one to the next in its key."""
    of_step = "" if step_s is None else f"step_s = {step_s} AND"
    first = f"SELECT min(device) FROM {table} WHERE {of_step} device > -1"
    rows = connection.execute(
        f"WITH RECURSIVE one(d) AS ({first} UNION ALL"
        f" SELECT (SELECT min(device) FROM {table} WHERE {of_step} device > one.d) FROM one"
        " WHERE one.d IS NOT NULL) SELECT d FROM one WHERE d IS NOT NULL"
    )
    return [int(row[0]) for row in rows]


def _delete(
    connection: apsw.Connection,
    table: str,
    where: str,
    values: tuple[int, ...],
    before_ms: int,
    limit: int,
) -> None:
    bound = connection.execute(
        f"SELECT max(at_ms) FROM (SELECT at_ms FROM {table} WHERE {where} AND at_ms < ?"
        " ORDER BY at_ms LIMIT ?)",
        (*values, before_ms, limit),
    ).fetchone()
    if bound is not None and bound[0] is not None:
        connection.execute(f"DELETE FROM {table} WHERE {where} AND at_ms <= ?", (*values, bound[0]))
