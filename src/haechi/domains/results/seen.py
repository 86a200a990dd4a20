"""Which (`instance`, `seq`) were stored before: ranges per instance, in memory and in the file.

An AI numbers its results without gaps, so an instance is one range that grows; lost or refused
rows leave gaps between ranges. Runs in the telemetry writer thread.
"""

from bisect import bisect_right
from typing import Final

import apsw

_CACHED: Final = 20_000
_MAX_RANGES: Final = 500

Range = list[int]
"""[low, high]."""
Ranges = list[Range]
"""Rising, disjoint, not touching."""


class Seen:
    def __init__(self) -> None:
        self._ranges: dict[int, Ranges] = {}
        self._tails: dict[int, int] = {}
        """Instance → its first range that changed, where those before it did not."""
        self._rewritten: set[int] = set()

    def forget(self) -> None:
        """After a rollback: what is in memory may not be in the file."""
        self._ranges.clear()
        self._tails.clear()
        self._rewritten.clear()

    def newest(self, connection: apsw.Connection, instance: int) -> Range | None:
        """The last range, for a caller who makes it longer by the number that follows it."""
        ranges = self._ranges.get(instance)
        if ranges is None:
            ranges = self._load(connection, instance)
        if not ranges:
            return None
        self._tails.setdefault(instance, len(ranges) - 1)
        return ranges[-1]

    def add(self, connection: apsw.Connection, instance: int, seq: int) -> bool:
        """False where it was there already."""
        ranges = self._ranges.get(instance)
        if ranges is None:
            ranges = self._load(connection, instance)
        if ranges and seq == ranges[-1][1] + 1:
            ranges[-1][1] = seq
            self._tails.setdefault(instance, len(ranges) - 1)
            return True
        if not ranges or seq > ranges[-1][1]:
            self._tails.setdefault(instance, len(ranges))
            ranges.append([seq, seq])
            if len(ranges) > _MAX_RANGES:
                # The oldest gap is closed: rows so late that nobody can still be sending them.
                ranges[0][1] = ranges.pop(1)[1]
                self._rewritten.add(instance)
            return True
        return self._add_late(ranges, instance, seq)

    def _add_late(self, ranges: Ranges, instance: int, seq: int) -> bool:
        at = bisect_right(ranges, seq, key=lambda one: one[0])  # ranges[at - 1][0] <= seq
        if at and seq <= ranges[at - 1][1]:
            return False
        ranges.insert(at, [seq, seq])
        if at + 1 < len(ranges) and ranges[at + 1][0] == seq + 1:
            ranges[at][1] = ranges.pop(at + 1)[1]
        if at and ranges[at - 1][1] == seq - 1:
            ranges[at - 1][1] = ranges.pop(at)[1]
        self._rewritten.add(instance)
        return True

    def save(self, connection: apsw.Connection) -> None:
        """Write what changed; belongs at the end of every batch, in its transaction."""
        rows: list[tuple[int, int, int]] = []
        for instance in self._rewritten:
            connection.execute("DELETE FROM result_seen WHERE instance = ?", (instance,))
            rows += [(instance, low, high) for low, high in self._ranges[instance]]
        for instance, first in self._tails.items():
            if instance not in self._rewritten:
                rows += [(instance, low, high) for low, high in self._ranges[instance][first:]]
        if rows:
            connection.executemany("INSERT OR REPLACE INTO result_seen VALUES (?, ?, ?)", rows)
        self._tails.clear()
        self._rewritten.clear()
        if len(self._ranges) > _CACHED:
            self._ranges.clear()

    def _load(self, connection: apsw.Connection, instance: int) -> Ranges:
        found = connection.execute(
            "SELECT low, high FROM result_seen WHERE instance = ? ORDER BY low", (instance,)
        )
        ranges = [[int(low), int(high)] for low, high in found]
        self._ranges[instance] = ranges
        return ranges
