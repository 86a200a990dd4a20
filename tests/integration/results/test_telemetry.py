"""The telemetry DB: nothing acknowledged is lost, nobody suffers from another's row."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import apsw
import pytest

from haechi.core.db import AlreadyServed
from haechi.core.telemetry import (
    NewerTelemetry,
    QueryTooLong,
    Schema,
    Telemetry,
    TelemetryBroken,
)
from haechi.errors import DiskFull, Overloaded

NUMBERS = Schema("numbers", ("CREATE TABLE numbers (n INTEGER PRIMARY KEY) STRICT",))


def insert(connection: apsw.Connection, payloads: list[list[int]]) -> list[int]:
    for numbers in payloads:
        connection.executemany("INSERT INTO numbers VALUES (?)", [(n,) for n in numbers])
    return [len(numbers) for numbers in payloads]


def count(connection: apsw.Connection) -> int:
    return connection.execute("SELECT count(*) FROM numbers").fetchall()[0][0]


@pytest.fixture
async def telemetry(tmp_path: Path):
    telemetry = Telemetry(tmp_path / "t.db", schemas=[NUMBERS], max_queue_rows=100)
    await telemetry.open()
    yield telemetry
    await telemetry.close()


async def test_many_callers_share_commits_and_each_gets_his_answer(telemetry):
    answers = await asyncio.gather(*(telemetry.write(insert, [n]) for n in range(80)))
    assert answers == [1] * 80
    assert await telemetry.read(count) == 80
    assert telemetry.commits < 80
    assert telemetry.queued_rows == 0


async def test_a_bad_row_spoils_only_its_own_callers_batch(telemetry):
    forgotten = []
    telemetry.on_rollback(lambda: forgotten.append(True))
    await telemetry.write(insert, [5])
    jobs = [telemetry.write(insert, [n]) for n in (1, 5, 2, 3)]
    outcomes = await asyncio.gather(*jobs, return_exceptions=True)
    assert [isinstance(outcome, BaseException) for outcome in outcomes] == [0, 1, 0, 0]
    assert await telemetry.read(count) == 4
    assert forgotten


async def test_beyond_its_bounds_callers_are_sent_away_and_nothing_acknowledged_is_lost(telemetry):
    accepted = [telemetry.submit(insert, [n], rows=1) for n in range(100)]
    for n in range(200):
        with pytest.raises(Overloaded) as refused:
            telemetry.submit(insert, [n], rows=1)
        assert refused.value.retry_after_s
    assert telemetry.overloads == 200
    await asyncio.gather(*accepted)
    assert await telemetry.read(count) == 100
    await telemetry.write(insert, [1000])


async def test_a_request_larger_than_the_queue_still_fits_an_empty_one(telemetry):
    assert await telemetry.write(insert, list(range(500)), rows=500) == 500


async def test_a_caller_who_left_does_not_disturb(telemetry):
    telemetry.submit(insert, [1]).cancel()
    await telemetry.write(insert, [2])
    assert await telemetry.read(count) == 2


async def test_closing_commits_what_was_accepted(tmp_path):
    path = tmp_path / "t.db"
    telemetry = Telemetry(path, schemas=[NUMBERS])
    await telemetry.open()
    waiting = [telemetry.submit(insert, [n]) for n in range(50)]
    await telemetry.close()
    assert all(future.result() == 1 for future in waiting)
    await telemetry.close()


async def test_one_process_only(telemetry, tmp_path):
    with pytest.raises(AlreadyServed):
        await Telemetry(tmp_path / "t.db", schemas=[NUMBERS]).open()


async def test_parts_are_brought_up_to_date_and_never_back(tmp_path):
    path = tmp_path / "t.db"
    newer = Schema("numbers", (*NUMBERS.steps, "ALTER TABLE numbers ADD COLUMN note TEXT"))
    for schema in (NUMBERS, newer, newer):
        telemetry = Telemetry(path, schemas=[schema])
        await telemetry.open()
        await telemetry.close()
    with pytest.raises(NewerTelemetry):
        await Telemetry(path, schemas=[NUMBERS]).open()
    again = Telemetry(path, schemas=[newer])
    await again.open()
    await again.close()


async def test_a_file_that_is_no_database_is_said_to_be_broken(tmp_path):
    path = tmp_path / "t.db"
    path.write_bytes(b"this is no database at all " * 100)
    with pytest.raises(TelemetryBroken):
        await Telemetry(path, schemas=[NUMBERS]).open()


async def test_an_endless_query_is_ended_and_the_reader_lives(telemetry):
    def endless(connection: apsw.Connection):
        return connection.execute(
            "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT max(n) FROM c"
        ).fetchall()

    with pytest.raises(QueryTooLong):
        await telemetry.read(endless, timeout_s=0.1)
    assert await telemetry.read(count) == 0


async def test_readers_cannot_write(telemetry):
    with pytest.raises(apsw.ReadOnlyError):
        await telemetry.read(lambda c: c.execute("INSERT INTO numbers VALUES (1)"))


async def test_a_full_disk_is_told_and_passes(telemetry):
    def limit(connection: apsw.Connection, pages: list[int]):
        return [connection.execute(f"PRAGMA max_page_count={n}").fetchall() for n in pages]

    def bulk(connection: apsw.Connection, payloads: list[int]):
        connection.execute("CREATE TABLE IF NOT EXISTS bulk (data BLOB)")
        connection.execute("INSERT INTO bulk VALUES (zeroblob(1000000))")
        return payloads

    def unlimit(connection: apsw.Connection, payloads: list[int]):
        connection.execute("PRAGMA max_page_count=1000000").fetchall()
        return payloads

    await telemetry.write(insert, [1])
    await telemetry.write(limit, 20)
    with pytest.raises(DiskFull):
        await telemetry.write(bulk, 1)
    assert await telemetry.read(count) == 1
    await telemetry.write(unlimit, 1)
    await telemetry.write(bulk, 1)


async def test_what_was_acknowledged_survives_kill_9(tmp_path):
    program = textwrap.dedent("""
        import asyncio, sys
        from pathlib import Path
        from haechi.core.telemetry import Schema, Telemetry

        def insert(connection, payloads):
            connection.executemany("INSERT INTO numbers VALUES (?)", [(n,) for n in payloads])
            return payloads

        async def main():
            schema = Schema("numbers", ("CREATE TABLE numbers (n INTEGER PRIMARY KEY) STRICT",))
            telemetry = Telemetry(Path(sys.argv[1]), schemas=[schema])
            await telemetry.open()
            async def client(first):
                for n in range(first, 10**9, 8):
                    print(await telemetry.write(insert, n), flush=True)
            await asyncio.gather(*(client(first) for first in range(8)))

        asyncio.run(main())
        """)
    path = tmp_path / "t.db"
    process = subprocess.Popen(
        [sys.executable, "-c", program, path],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    acknowledged = [int(process.stdout.readline()) for _ in range(500)]
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read().split(b"\n")[:-1]
    acknowledged += [int(line) for line in rest]
    process.stdout.close()
    process.wait()

    telemetry = Telemetry(path, schemas=[NUMBERS])
    await telemetry.open()
    stored = await telemetry.read(lambda c: {n for (n,) in c.execute("SELECT n FROM numbers")})
    await telemetry.close()
    assert set(acknowledged) <= stored
