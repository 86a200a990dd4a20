"""Writes results into the telemetry DB; runs in its writer thread, many callers' rows at once."""

import itertools
import secrets
from collections.abc import Sequence
from typing import Final, NamedTuple

import apsw

from haechi.domains.results.model import Source
from haechi.domains.results.schema import ANY_CLASS, ID_BITS, SCOPE

_COUNTER_MASK: Final = (1 << ID_BITS) - 1
_LAST_MS: Final = (1 << (63 - ID_BITS)) - 1
_CACHED: Final = 50_000
_INSERT: Final = "INSERT INTO results VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
_COUNT: Final = """
INSERT INTO result_minutes VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET results = results + excluded.results, objects = objects + excluded.objects
"""


class NewRow(NamedTuple):
    """A checked result on its way into the file; the long texts are encoded already."""

    captured_ms: int
    received_ms: int
    stored_ms: int
    source: Source
    camera_id: str | None
    instance: str | None
    seq: int | None
    assignment_id: str | None
    epoch: int | None
    flags: int
    class_: str | None
    class_prob: float | None
    took_ms: float | None
    seen: dict[str, int]
    """Class → how many objects of it."""
    objects: str | None
    attributes: str | None
    claimed: str | None


class AgentBatch(NamedTuple):
    """`rows[i]` has number `numbers[i]` in the agent's queue; they rise."""

    device_id: str
    queue_id: str
    from_seq: int
    through_seq: int
    lost: int
    numbers: list[int]
    rows: list[NewRow]
    at_ms: int


class AgentStored(NamedTuple):
    through_seq: int
    ids: list[int]


class ResultStore:
    """Keeps the numbers of names it has met; `forget` them when a transaction is rolled back."""

    def __init__(self) -> None:
        self._names: dict[str, int] = {}
        self._sources: dict[Source, int] = {}
        self._newest: dict[int, int] = {}
        """Instance → highest seq stored: a higher one cannot be a repetition."""
        self._counter = itertools.count(secrets.randbelow(_COUNTER_MASK))

    def forget(self) -> None:
        self._names.clear()
        self._sources.clear()
        self._newest.clear()

    def insert(
        self, connection: apsw.Connection, payloads: list[list[NewRow]]
    ) -> Sequence[list[int]]:
        """For each payload the ids given to its rows; 0 for one that was stored before."""
        ids = self._insert(connection, [row for rows in payloads for row in rows])
        answers, at = [], 0
        for rows in payloads:
            answers.append(ids[at : at + len(rows)])
            at += len(rows)
        return answers

    def insert_from_agents(
        self, connection: apsw.Connection, batches: list[AgentBatch]
    ) -> Sequence[AgentStored]:
        """Exactly once: the number reached is stored in the transaction that stores the rows."""
        return [self._insert_batch(connection, batch) for batch in batches]

    def _insert_batch(self, connection: apsw.Connection, batch: AgentBatch) -> AgentStored:
        key = (batch.device_id, batch.queue_id)
        found = connection.execute(
            "SELECT through_seq FROM result_queues WHERE device_id = ? AND queue_id = ?", key
        ).fetchone()
        through = int(found[0]) if found else 0
        if batch.through_seq <= through:
            return AgentStored(through, [0] * len(batch.rows))
        known = sum(number <= through for number in batch.numbers)
        ids = [0] * known + self._insert(connection, batch.rows[known:])
        lost = batch.lost if batch.from_seq > through else 0
        connection.execute(
            "INSERT INTO result_queues VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " through_seq = excluded.through_seq, lost = lost + excluded.lost,"
            " updated_ms = excluded.updated_ms",
            (*key, batch.through_seq, lost, batch.at_ms),
        )
        return AgentStored(batch.through_seq, ids)

    def _insert(self, connection: apsw.Connection, rows: Sequence[NewRow]) -> list[int]:
        ids: list[int] = []
        values: list[tuple[object, ...]] = []
        classes: list[tuple[int, int]] = []
        minutes: dict[tuple[int, int, int, int], list[int]] = {}
        fresh: set[tuple[int, int]] = set()
        number = self._number
        for row in rows:
            source = self._source_number(connection, row.source)
            instance = None
            if row.instance is not None:
                # Within its deployment: nobody can use up another's numbers.
                name = f"{row.source.deployment_id}{SCOPE}{row.instance}"
                instance = number(connection, name)
                if row.seq is not None and not self._is_new(connection, instance, row.seq, fresh):
                    ids.append(0)
                    continue
            camera = None if row.camera_id is None else number(connection, row.camera_id)
            captured_ms = min(max(row.captured_ms, 0), _LAST_MS)
            row_id = captured_ms << ID_BITS | next(self._counter) & _COUNTER_MASK
            minute = captured_ms // 60_000
            class_number = None
            seen = row.seen
            if row.class_ is not None:
                class_number = number(connection, row.class_)
                seen = {**seen, row.class_: seen.get(row.class_, 0) + 1}
            _count(minutes, (camera or 0, minute, source, ANY_CLASS), sum(seen.values()))
            for name, times in seen.items():
                class_seen = number(connection, name)
                classes.append((class_seen, row_id))
                _count(minutes, (camera or 0, minute, source, class_seen), times)
            assignment = row.assignment_id and number(connection, row.assignment_id)
            ids.append(row_id)
            values.append(
                (
                    row_id,
                    source,
                    camera,
                    instance,
                    row.seq if instance is not None else None,
                    assignment or None,
                    row.epoch,
                    row.received_ms,
                    row.stored_ms,
                    row.flags,
                    class_number,
                    row.class_prob,
                    row.took_ms,
                    row.objects,
                    row.attributes,
                    row.claimed,
                )
            )
        connection.executemany(_INSERT, values)
        if classes:
            connection.executemany("INSERT INTO result_classes VALUES (?, ?)", classes)
        connection.executemany(_COUNT, [(*key, *counts) for key, counts in minutes.items()])
        return ids

    def _is_new(
        self,
        connection: apsw.Connection,
        instance: int,
        seq: int,
        fresh: set[tuple[int, int]],
    ) -> bool:
        """False for what was said before, be it in the file or earlier in this batch (`fresh`)."""
        newest = self._newest.get(instance)
        if newest is None:
            found = connection.execute(
                "SELECT max(seq) FROM results WHERE instance = ?", (instance,)
            ).fetchone()
            newest = found[0] if found and found[0] is not None else -1
            if len(self._newest) > _CACHED:
                self._newest.clear()
        if seq <= newest and ((instance, seq) in fresh or _is_stored(connection, instance, seq)):
            return False
        self._newest[instance] = max(seq, newest)
        fresh.add((instance, seq))
        return True

    def _number(self, connection: apsw.Connection, text: str) -> int:
        number = self._names.get(text)
        if number is None:
            if len(self._names) > _CACHED:
                self._names.clear()
            connection.execute("INSERT OR IGNORE INTO result_names (text) VALUES (?)", (text,))
            found = connection.execute(
                "SELECT number FROM result_names WHERE text = ?", (text,)
            ).fetchone()
            assert found is not None
            number = self._names[text] = int(found[0])
        return number

    def _source_number(self, connection: apsw.Connection, source: Source) -> int:
        number = self._sources.get(source)
        if number is None:
            key = (
                source.device_id,
                source.deployment_id,
                source.package_id,
                source.package_name,
                source.version_id,
                source.version,
                source.image_digest,
            )
            connection.execute(
                "INSERT OR IGNORE INTO result_sources (device_id, deployment_id, package_id,"
                " package_name, version_id, version, image_digest) VALUES (?, ?, ?, ?, ?, ?, ?)",
                key,
            )
            found = connection.execute(
                "SELECT number FROM result_sources WHERE device_id = ? AND deployment_id = ? AND"
                " package_id = ? AND package_name = ? AND version_id = ? AND version = ? AND"
                " image_digest = ?",
                key,
            ).fetchone()
            assert found is not None
            number = self._sources[source] = int(found[0])
        return number


def _is_stored(connection: apsw.Connection, instance: int, seq: int) -> bool:
    found = connection.execute(
        "SELECT 1 FROM results WHERE instance = ? AND seq = ?", (instance, seq)
    ).fetchone()
    return found is not None


def _count(
    minutes: dict[tuple[int, int, int, int], list[int]], key: tuple[int, int, int, int], seen: int
) -> None:
    counts = minutes.get(key)
    if counts is None:
        minutes[key] = [1, seen]
    else:
        counts[0] += 1
        counts[1] += seen
