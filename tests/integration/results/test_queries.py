"""How results are found: by an index and no more rows than asked for; also in an older file."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from haechi.core.telemetry import Schema, Telemetry
from haechi.domains.results import queries
from haechi.domains.results.model import Filter, Source
from haechi.domains.results.schema import ID_BITS, SCHEMA
from haechi.domains.results.store import NewRow, ResultStore

START_MS = 1_772_000_000_000
CAMERAS = 6
SOURCES = [
    Source("dev-1", "dep-1", "pkg-1", "detector", "ver-1", "1", "d1"),
    Source("dev-2", "dep-2", "pkg-1", "detector", "ver-2", "2", "d2"),
    Source("dev-1", "dep-3", "pkg-2", "weather", "ver-3", "1", "d3"),
]
STEP_MS = 5_000


def rows(count: int) -> list[NewRow]:
    """One every five seconds, cameras and AIs in turn; some without a camera; mostly persons,
    a car every 50th time, a whole-frame class now and then."""
    made = []
    for number in range(count):
        seen = (("person", 1 + number % 2),) if number % 3 else ()
        if number % 50 == 0:
            seen = (*seen, ("car", 1))
        parts = [f'[0.1,0.1,0.2,0.2,"{c}",0.9]' for c, times in seen for _ in range(times)]
        at_ms = START_MS + number * STEP_MS
        made.append(
            NewRow(
                captured_ms=at_ms,
                received_ms=at_ms,
                stored_ms=at_ms,
                source=SOURCES[number % 3],
                camera_id=None if number % 11 == 0 else f"cam-{number % CAMERAS}",
                instance=f"i-{number % 3}",
                seq=number,
                assignment_id=None,
                epoch=None,
                flags=0,
                class_="rain" if number % 40 == 0 else None,
                class_prob=0.6 if number % 40 == 0 else None,
                took_ms=None,
                seen=seen,
                objects=f"[{','.join(parts)}]" if parts else None,
                attributes=None,
                claimed=None,
            )
        )
    return made


def says(row: NewRow, asked: Filter) -> bool:
    classes = {name for name, _ in row.seen} | {row.class_}
    return (
        asked.camera_id in {None, row.camera_id}
        and asked.device_id in {None, row.source.device_id}
        and asked.deployment_id in {None, row.source.deployment_id}
        and asked.package_id in {None, row.source.package_id}
        and (asked.class_ is None or asked.class_ in classes)
        and (asked.from_ms is None or row.captured_ms >= asked.from_ms)
        and (asked.to_ms is None or row.captured_ms < asked.to_ms)
    )


MIDDLE_MS = START_MS + 900 * STEP_MS
ASKED = [
    Filter(),
    Filter(camera_id="cam-1"),
    Filter(device_id="dev-1"),
    Filter(deployment_id="dep-2"),
    Filter(package_id="pkg-1"),
    Filter(class_="person"),
    Filter(class_="rain"),
    Filter(class_="car"),
    Filter(class_="person", camera_id="cam-2"),
    Filter(class_="car", device_id="dev-2"),
    Filter(camera_id="cam-3", package_id="pkg-1"),
    Filter(from_ms=MIDDLE_MS),
    Filter(from_ms=MIDDLE_MS - 500_001, to_ms=MIDDLE_MS - 7),
    Filter(camera_id="cam-0", to_ms=MIDDLE_MS),
    Filter(class_="rain", from_ms=MIDDLE_MS - 2_000_003, to_ms=MIDDLE_MS + 12_345),
    Filter(class_="person", device_id="dev-1", to_ms=MIDDLE_MS + 1),
]
ids = [repr(f).removeprefix("Filter") for f in ASKED]


def opened(path: Path, steps: tuple[str, ...] = SCHEMA.steps) -> apsw.Connection:
    connection = apsw.Connection(str(path))
    for step in steps:
        connection.execute(step)
    return connection


def stored(count: int) -> apsw.Connection:
    connection = opened(Path(":memory:"))
    with connection:
        ResultStore().insert(connection, [rows(count)])
    return connection


@pytest.fixture(scope="module")
def small():
    return stored(1_500)


@pytest.fixture(scope="module")
def large():
    """The same and seven times as many after it."""
    return stored(12_000)


@pytest.mark.parametrize("asked", ASKED, ids=ids)
def test_what_is_found_is_what_was_said(small, asked):
    expected = [row.captured_ms for row in rows(1_500) if says(row, asked)][::-1]
    got = queries.find(small, asked, limit=10_000, before_id=None)
    assert [int(row.id) >> ID_BITS for row in got] == expected
    assert expected
    first = queries.find(small, asked, limit=5, before_id=None)
    rest = queries.find(small, asked, limit=10_000, before_id=int(first[-1].id))
    assert [row.id for row in first + rest] == [row.id for row in got]


def steps_of(connection: apsw.Connection, asked: Filter) -> int:
    """Of SQLite's machine, for one page."""
    count = 0

    def step() -> bool:
        nonlocal count
        count += 1
        return False

    connection.set_progress_handler(step, 1)
    found = queries.find(connection, asked, limit=10, before_id=None)
    connection.set_progress_handler(None)
    assert len(found) == 10
    return count


@pytest.mark.parametrize("asked", ASKED[:11], ids=ids[:11])
def test_a_page_costs_the_same_however_much_is_stored(small, large, asked):
    assert steps_of(large, asked) <= 1.3 * steps_of(small, asked)


@pytest.mark.parametrize("asked", ASKED, ids=ids)
def test_no_question_reads_a_whole_table(large, asked):
    statements = []

    def trace(_cursor, sql, bindings):
        statements.append((sql, bindings))
        return True

    large.exec_trace = trace
    queries.find(large, asked, limit=10, before_id=None)
    if asked.from_ms is None:
        period = {"from_ms": START_MS + 600_000, "to_ms": START_MS + 900_000}
        whole = Filter(**{**{n: getattr(asked, n) for n in asked.__slots__}, **period})
        queries.summary(large, whole, bucket_ms=1_000)
    large.exec_trace = None
    assert len(statements) > 1
    for sql, bindings in statements:
        for _, _, _, what in large.execute("EXPLAIN QUERY PLAN " + sql, bindings):
            assert not what.startswith(("SCAN r", "SCAN results", "SCAN result_")), (what, sql)


async def test_an_older_file_is_read_as_before(tmp_path):
    """Rows that an earlier release stored, with the indexes it had."""
    path = tmp_path / "t.db"
    before = Telemetry(path, schemas=[Schema(SCHEMA.name, SCHEMA.steps[:2])])
    await before.open()
    made = rows(300)
    await before.write(ResultStore().insert, made, rows=300)
    await before.close()

    now = Telemetry(path, schemas=[SCHEMA])
    await now.open()
    try:
        for asked in (
            Filter(),
            Filter(camera_id="cam-1"),
            Filter(class_="car"),
            Filter(class_="rain"),
        ):
            got = await now.read(lambda c, a=asked: queries.find(c, a, limit=999, before_id=None))
            expected = [row.captured_ms for row in made if says(row, asked)][::-1]
            assert [int(row.id) >> ID_BITS for row in got] == expected
        again = ResultStore()
        assert await now.write(again.insert, made, rows=300) == [0] * 300, "known as they were"
    finally:
        await now.close()
