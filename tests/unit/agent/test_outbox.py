"""The durable queue: numbers, duplicates, limits, and a writer that is killed."""

import asyncio
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from haechi.agent.errors import QueueFull
from haechi.agent.outbox import WAITING_ROWS, Outbox
from haechi.protocol.results import AgentResult, Result
from haechi.protocol.samples import Sample
from haechi.testing.waiting import eventually


def row(seq: int, instance: str = "ins-1", size: int = 0) -> AgentResult:
    return AgentResult(
        result=Result(instance=instance, seq=seq, attributes={"x": "y" * size} if size else {}),
        deployment_id="dep-1",
        received_ms=1,
        monotonic_ms=1,
        boot_id="boot",
    )


def sample(seq: int) -> Sample:
    return Sample("boot", seq, seq, seq, 0.5, 1, 2, 3, cpu_per_core=[0.1] * 8)


@pytest.fixture
async def outbox(tmp_path: Path) -> AsyncIterator[Outbox]:
    made = Outbox(tmp_path / "queue.db")
    await made.open()
    yield made
    await made.close()


async def reopened(outbox: Outbox, path: Path) -> Outbox:
    await outbox.close()
    again = Outbox(path)
    await again.open()
    return again


async def test_numbers_have_no_gaps_and_repeats_are_known(outbox: Outbox, tmp_path: Path) -> None:
    first = await outbox.add([row(1), row(2)])
    assert (first.accepted, first.repeated) == (2, 0)
    second = await outbox.add([row(2), row(3), row(1, "ins-2")])
    assert second.numbers == [0, 3, 4]
    again = await reopened(outbox, tmp_path / "queue.db")
    assert again.queue_id == outbox.queue_id
    third = await again.add([row(3), row(4)])
    assert third.numbers == [0, 5]
    batch = await again.read(0, max_rows=10, max_bytes=10_000)
    assert batch is not None
    assert (batch.from_seq, batch.through, batch.lost) == (1, 5, 0)
    assert [one.result.seq for one in batch.rows] == [1, 2, 3, 1, 4]
    await again.close()


async def test_what_is_acknowledged_is_forgotten_for_good(outbox: Outbox, tmp_path: Path) -> None:
    await outbox.add([row(number) for number in range(1, 11)])
    await outbox.ack(7)
    again = await reopened(outbox, tmp_path / "queue.db")
    assert (again.acked, again.last_seq, again.backlog) == (7, 10, 3)
    await again.ack(99)
    final = await reopened(again, tmp_path / "queue.db")
    assert (final.acked, final.last_seq) == (10, 10)
    assert (await final.add([row(11)])).numbers == [11]
    await final.close()


async def as_after_a_crash(path: Path, to: Path) -> Outbox:
    """What somebody finds who loses power now."""
    to.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", to / f"{path.name}{suffix}")
    found = Outbox(to / path.name)
    await found.open()
    return found


async def test_what_is_acknowledged_is_forgotten_together_with_the_next_results(
    outbox: Outbox, tmp_path: Path
) -> None:
    await outbox.add([row(number) for number in range(1, 11)])
    await outbox.ack(7)
    await outbox.add([row(11)])
    after = await as_after_a_crash(tmp_path / "queue.db", tmp_path / "crash")
    assert (after.acked, after.last_seq) == (7, 11)
    batch = await after.read(0, max_rows=99, max_bytes=10_000)
    assert batch is not None
    assert batch.from_seq == 8
    await after.close()


async def test_what_is_acknowledged_last_is_forgotten_by_itself(
    outbox: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("haechi.agent.outbox.ACK_ALONE_S", 0.01)
    await outbox.add([row(1), row(2)])
    await outbox.ack(2)

    async def forgotten() -> bool:
        folder = tmp_path / f"crash-{len(list(tmp_path.iterdir()))}"
        after = await as_after_a_crash(tmp_path / "queue.db", folder)
        await after.close()
        return after.acked == 2

    await eventually(forgotten)


async def test_results_are_heard_of_also_where_nobody_waits_for_their_answer(
    outbox: Outbox,
) -> None:
    adding = asyncio.get_running_loop().create_task(outbox.add([row(1)]))
    waiting = asyncio.get_running_loop().create_task(outbox.wait(0))
    await asyncio.sleep(0)
    adding.cancel()
    async with asyncio.timeout(60):
        await waiting
    batch = await outbox.read(0, max_rows=9, max_bytes=10_000)
    assert batch is not None
    assert batch.through == 1


async def test_from_memory_and_from_disk_the_same(outbox: Outbox, tmp_path: Path) -> None:
    await outbox.add([row(1), row(2, size=3000), row(3, size=9000), row(4)])
    warm = await outbox.read(3, max_rows=10, max_bytes=100_000)
    cold = await outbox.read(0, max_rows=10, max_bytes=100_000)
    assert warm is not None
    assert cold is not None
    assert cold.rows[3:] == warm.rows
    limited = await outbox.read(0, max_rows=10, max_bytes=5_000)
    assert limited is not None
    assert len(limited.rows) == 2


async def test_at_the_limit_samples_are_thinned_first_then_oldest_results_go(
    tmp_path: Path,
) -> None:
    outbox = Outbox(tmp_path / "queue.db", limit_bytes=200_000)
    await outbox.open()
    await outbox.keep_samples([sample(number) for number in range(400)])
    for start in range(1, 201, 20):
        await outbox.add([row(number, size=900) for number in range(start, start + 20)])
    ids, kept = await outbox.newest_samples(1000)
    assert len(ids) < 100
    assert kept[0].seq == 399
    outbox = await reopened(outbox, tmp_path / "queue.db")
    batch = await outbox.read(0, max_rows=1000, max_bytes=10**7)
    assert batch is not None
    assert batch.lost == batch.from_seq - 1 > 0
    assert batch.through == 200
    await outbox.close()


async def test_a_flood_is_refused_not_kept_in_memory(outbox: Outbox) -> None:
    big = [row(number) for number in range(WAITING_ROWS + 1)]
    with pytest.raises(QueueFull) as refused:
        await outbox.add(big)
    assert refused.value.retry_after_s == 2
    assert (await outbox.add(big[:10])).accepted == 10


async def test_waiters_hear_of_new_results(outbox: Outbox) -> None:
    waiting = asyncio.get_running_loop().create_task(outbox.wait(0))
    await outbox.add([row(1)])
    async with asyncio.timeout(60):
        await waiting


async def test_samples_come_newest_first(outbox: Outbox) -> None:
    await outbox.keep_samples([sample(1), sample(2), sample(3)])
    ids, rows = await outbox.newest_samples(2)
    assert [one.seq for one in rows] == [3, 2]
    await outbox.drop_samples(ids)
    assert [one.seq for one in (await outbox.newest_samples(9))[1]] == [1]


async def test_a_damaged_file_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    path.write_bytes(b"this is no database" * 400)
    outbox = Outbox(path)
    await outbox.open()
    assert (await outbox.add([row(1)])).numbers == [1]
    assert (tmp_path / "queue.db.bad").exists()
    await outbox.close()


WRITER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from haechi.agent.outbox import Outbox
from haechi.protocol.results import AgentResult, Result
async def main():
    outbox = Outbox(Path(sys.argv[1]))
    await outbox.open()
    n = 0
    while True:
        n += 1
        rows = [AgentResult(Result(instance="w", seq=n * 10 + k), "dep", 1, 1, "b") for k in range(10)]
        await outbox.add(rows)
        print(n, flush=True)
asyncio.run(main())
"""


async def test_nothing_answered_is_lost_when_the_writer_is_killed(tmp_path: Path) -> None:
    source = str(Path(__file__).parents[3] / "src")
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "queue.db"), source],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout is not None
    for _ in range(40):
        writer.stdout.readline()
    writer.kill()
    answered = 40 + len(writer.stdout.read().splitlines())
    writer.wait(5)
    writer.stdout.close()
    outbox = Outbox(tmp_path / "queue.db")
    await outbox.open()
    assert outbox.last_seq >= answered * 10
    batch = await outbox.read(0, max_rows=10**6, max_bytes=10**9)
    assert batch is not None
    assert batch.from_seq == 1
    assert len(batch.rows) == outbox.last_seq
    assert [one.result.seq for one in batch.rows[: answered * 10]] == list(
        range(10, 10 + answered * 10)
    )
    await outbox.close()
