"""Whoever writes to the control DB may be cancelled at any moment, twice over: those after it write
on, and what is kept in memory beside the DB says what the DB says.
"""

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa

from haechi.core.db import Database, after_commit
from haechi.core.tasks import whole

LIMIT_S = 4.0
"""Less than a writer waits for a locked file."""
ROUNDS = 30
INSERT = sa.text("INSERT INTO said VALUES (:n)")
COUNT = sa.text("SELECT count(*) FROM said")


@pytest.fixture
async def db(tmp_path):
    database = Database(tmp_path / "control.db")
    async with database.write() as tx:
        await tx.execute(sa.text("CREATE TABLE said (n INTEGER)"))
    yield database
    await database.close()


async def count(db: Database) -> int:
    async with db.read() as tx:
        return int((await tx.execute(COUNT)).scalar_one())


async def test_those_after_some_that_are_cancelled_write_on(db):
    known: list[int] = []

    async def write(n: int) -> None:
        async with db.write() as tx:
            await tx.execute(INSERT, {"n": n})
            await tx.execute(COUNT)
            after_commit(tx, lambda: known.append(n))

    loop = asyncio.get_running_loop()
    for n in range(ROUNDS):
        writers = [loop.create_task(write(n)) for _ in range(3)]
        await asyncio.sleep(n * 0.0003)
        for writer in writers:
            for again in range(3):  # also while it takes back what it began
                writer.cancel()
                await asyncio.sleep(again * (n % 7) * 0.0001)
        _, stuck = await asyncio.wait(writers, timeout=LIMIT_S)
        assert not stuck, n
        async with asyncio.timeout(LIMIT_S):
            assert await count(db) == len(known), n
    async with asyncio.timeout(LIMIT_S):
        await write(ROUNDS)
    assert known[-1] == ROUNDS


async def test_one_that_is_cancelled_as_it_commits_has_committed_and_is_known(db):
    known: list[str] = []

    async def write() -> None:
        async with db.write() as tx:
            await tx.execute(INSERT, {"n": 1})
            after_commit(tx, lambda: known.append("committed"))
            asyncio.current_task().cancel()

    with pytest.raises(asyncio.CancelledError):
        await asyncio.get_running_loop().create_task(write())
    assert (known, await count(db)) == (["committed"], 1)


async def test_one_that_is_cancelled_as_it_writes_has_written_nothing(db):
    async def write() -> None:
        async with db.write() as tx:
            await tx.execute(INSERT, {"n": 1})
            asyncio.current_task().cancel()
            await asyncio.sleep(0)

    with pytest.raises(asyncio.CancelledError):
        await asyncio.get_running_loop().create_task(write())
    assert await count(db) == 0


async def test_a_statement_that_somebody_still_holds_keeps_no_file_locked(db):
    held: list[Any] = []

    async def write() -> None:
        async with db.write() as tx:
            await tx.execute(INSERT, {"n": 1})
            raw = await (await tx.connection()).get_raw_connection()
            held.append(await raw.driver_connection.execute("SELECT 1 UNION SELECT 2"))
            asyncio.current_task().cancel()
            await tx.execute(COUNT)

    with pytest.raises(asyncio.CancelledError):
        await asyncio.get_running_loop().create_task(write())
    async with asyncio.timeout(LIMIT_S), db.write() as tx:
        await tx.execute(INSERT, {"n": 2})
    assert await count(db) == 1
    assert held


async def test_a_step_that_fails_after_a_cancellation_says_both():
    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError

    task = asyncio.get_running_loop().create_task(whole(fails()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as cancelled:
        await task
    assert isinstance(cancelled.value.__cause__, ValueError)
