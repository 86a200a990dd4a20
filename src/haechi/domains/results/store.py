"""Writes results into the telemetry DB; runs in its writer thread, many callers' rows at once."""

import itertools
import secrets
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

import apsw

from haechi.domains.results.model import Source
from haechi.domains.results.schema import (
    ANY_CLASS,
    CLASSES_A_DAY,
    DAY_MS,
    ID_BITS,
    OTHER_CLASS,
    SCOPE,
)
from haechi.domains.results.seen import Range, Seen

_COUNTER_MASK: Final = (1 << ID_BITS) - 1
_CACHED: Final = 50_000
_INSERT: Final = "INSERT INTO results VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
_NAME: Final = """
INSERT INTO result_names (text, used_day) VALUES (?, ?)
ON CONFLICT (text) DO UPDATE SET used_day = max(used_day, excluded.used_day) RETURNING number
"""
_FORGET: Final = """
DELETE FROM result_names AS n WHERE used_day < ?
 AND number < (SELECT max(number) FROM result_names)  -- numbers are never given again
 AND NOT EXISTS (SELECT 1 FROM results WHERE camera = n.number)
 AND NOT EXISTS (SELECT 1 FROM result_minutes WHERE class = n.number)
 AND NOT EXISTS (SELECT 1 FROM result_minutes WHERE camera = n.number)
RETURNING number
"""
_COUNT: Final = """
INSERT INTO result_minutes VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET results = results + excluded.results, objects = objects + excluded.objects
"""


Numbers = tuple[int, int | None, int | None, int | None]
"""Of source, camera, instance, assignment."""
Tallied = tuple[int, int, int, str | None, tuple[tuple[str, int], ...]]
"""Camera, minute, source, class and objects: rows alike in these are counted together."""


class NewRow(NamedTuple):
    """A checked result on its way into the file; the long texts are encoded already."""

    captured_ms: int
    """0 to LAST_MS."""
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
    seen: tuple[tuple[str, int], ...]
    """(class, how many objects of it)."""
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
    """Keeps the numbers of names it has met; `forget` them when a transaction is rolled back.

    They are kept for a day at most: a name is marked as used on each day that it is.
    """

    def __init__(self) -> None:
        self._day = 0
        self._names: dict[str, int] = {}
        self._new_classes: Counter[int] = Counter()
        """Source → how many classes of it were new today."""
        self._streams: dict[tuple[Source, str | None, str | None, str | None], Numbers] = {}
        self._seen = Seen()
        self._counter = itertools.count(secrets.randbelow(_COUNTER_MASK))

    def forget(self) -> None:
        self._names.clear()
        self._streams.clear()
        self._new_classes.clear()
        self._seen.forget()

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
        tally: dict[Tallied, int] = {}
        if rows and rows[0].stored_ms // DAY_MS != self._day:
            self.forget()
            self._day = rows[0].stored_ms // DAY_MS
        counter = self._counter
        last: tuple[Source, str | None, str | None, str | None] | None = None
        source, camera, instance, assignment = 0, None, None, None
        newest: Range | None = None
        for row in rows:
            # Taken apart at once and without a call for the usual row: this loop is what a batch
            # costs.
            (
                captured_ms,
                received_ms,
                stored_ms,
                said_by,
                camera_id,
                instance_id,
                seq,
                assignment_id,
                epoch,
                flags,
                class_,
                class_prob,
                took_ms,
                seen,
                objects,
                attributes,
                claimed,
            ) = row
            stream = (said_by, camera_id, instance_id, assignment_id)
            if stream != last:  # mostly the same AI says one after the other
                source, camera, instance, assignment = self._numbers_of(connection, *stream)
                newest = None if instance is None else self._seen.newest(connection, instance)
                last = stream
            if instance is not None and seq is not None:
                if newest is not None and seq == newest[1] + 1:
                    newest[1] = seq
                elif self._seen.add(connection, instance, seq):
                    newest = self._seen.newest(connection, instance)
                else:
                    ids.append(0)
                    continue
            row_id = captured_ms << ID_BITS | next(counter) & _COUNTER_MASK
            ids.append(row_id)
            key = (camera or 0, captured_ms // 60_000, source, class_, seen)
            tally[key] = tally.get(key, 0) + 1
            values.append(
                (
                    row_id,
                    source,
                    camera,
                    instance,
                    seq,
                    assignment,
                    epoch,
                    received_ms,
                    stored_ms,
                    flags,
                    None if class_ is None else self._class(connection, source, class_),
                    class_prob,
                    took_ms,
                    objects,
                    attributes,
                    claimed,
                )
            )
        if values:
            connection.executemany(_INSERT, values)
            connection.executemany(_COUNT, self._counts(connection, tally))
            self._seen.save(connection)
        return ids

    def _counts(
        self, connection: apsw.Connection, tally: dict[Tallied, int]
    ) -> list[tuple[int, ...]]:
        """Lines for `result_minutes`: each look, and each class that was seen."""
        minutes: dict[tuple[int, int, int, int], list[int]] = {}
        for (camera, minute, source, class_, seen), looks in tally.items():
            times = dict(seen)
            if class_ is not None:  # one of the whole frame counts as one object more
                times[class_] = times.get(class_, 0) + 1
            counted = {ANY_CLASS: sum(times.values())}
            for name, objects in times.items():
                number = self._class(connection, source, name)
                counted[number] = counted.get(number, 0) + objects
            for number, objects in counted.items():
                line = minutes.setdefault((camera, minute, source, number), [0, 0])
                line[0] += looks
                line[1] += looks * objects
        return [(*key, *line) for key, line in minutes.items()]

    def _numbers_of(
        self,
        connection: apsw.Connection,
        source: Source,
        camera_id: str | None,
        instance: str | None,
        assignment_id: str | None,
    ) -> Numbers:
        """The numbers of what stays the same from one result of an AI to its next."""
        key = (source, camera_id, instance, assignment_id)
        known = self._streams.get(key)
        if known is None:
            # An instance counts within its deployment: nobody can use up another's numbers.
            scoped = None if instance is None else f"{source.deployment_id}{SCOPE}{instance}"
            texts = (camera_id, scoped, assignment_id)
            camera, number, assignment = (
                None if text is None else self._number(connection, text) for text in texts
            )
            if len(self._streams) > _CACHED:
                self._streams.clear()
            source_number = self._source_number(connection, source)
            known = self._streams[key] = (source_number, camera, number, assignment)
        return known

    def _number(self, connection: apsw.Connection, text: str) -> int:
        number = self._names.get(text)
        if number is None:
            if len(self._names) > _CACHED:
                self._names.clear()
            found = connection.execute(_NAME, (text, self._day)).fetchone()
            assert found is not None
            number = self._names[text] = int(found[0])
        return number

    def _class(self, connection: apsw.Connection, source: int, text: str) -> int:
        """An AI that makes up names without end has those counted together: the row keeps what it
        said of its objects, lists and charts do not grow.
        """
        known = self._names.get(text)
        if known is not None:
            return known
        self._new_classes[source] += 1
        if self._new_classes[source] > CLASSES_A_DAY:
            text = OTHER_CLASS
        return self._number(connection, text)

    def _source_number(self, connection: apsw.Connection, source: Source) -> int:
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
        return int(found[0])

    def forget_names(self, connection: apsw.Connection, befores: list[int]) -> Sequence[int]:
        """Delete names not used since that day (days since the epoch) and by no row that is left;
        with an instance goes what is known of its numbers. Says how many.
        """
        deleted = [connection.execute(_FORGET, (before,)).fetchall() for before in befores]
        gone = [row for rows in deleted for row in rows]
        connection.executemany("DELETE FROM result_seen WHERE instance = ?", gone)
        if gone:
            self.forget()
        return [len(rows) for rows in deleted]
