"""Calls that take long: joined, refused, answered early, alive without their caller."""

import asyncio

import pytest

from haechi.errors import ObjectNotFound
from haechi.interop.bodies import ClientGone
from haechi.interop.codes import Refusal, reply
from haechi.interop.held import HeldCalls, key_of
from haechi.interop.limits import Rates
from haechi.testing.clock import FakeClock


class Work:
    def __init__(self, error=None):
        self.gate = asyncio.Event()
        self.count = 0
        self.error = error

    async def __call__(self, progress):
        self.count += 1
        progress.operation("op-1")
        await self.gate.wait()
        if self.error:
            raise self.error
        return reply("0000", operation_id=progress.operation_id, state="done")


async def stays():
    await asyncio.Event().wait()


async def hangs_up():
    return None


@pytest.fixture
async def held():
    made = HeldCalls(lambda: 0.0)
    yield made
    await made.close()


async def both(*waiting):
    tasks = [asyncio.get_running_loop().create_task(one) for one in waiting]
    await asyncio.sleep(0.01)
    return tasks


async def test_the_same_call_joins(held):
    work = Work()
    tasks = await both(*(held.run("k", ["s"], work, disconnected=stays) for _ in range(20)))
    assert not any(task.done() for task in tasks)
    work.gate.set()
    replies = await asyncio.gather(*tasks)
    assert work.count == 1
    assert all(one == replies[0] for one in replies)
    assert replies[0]["operation_id"] == "op-1"


async def test_another_call_on_a_busy_subject_is_told_who_holds_it(held):
    work = Work()
    (task,) = await both(held.run("k", ["s", "t"], work, disconnected=stays))
    with pytest.raises(Refusal) as caught:
        await held.run("other", ["t"], Work(), disconnected=stays)
    assert (caught.value.code, caught.value.more) == ("9999", {"busy_with": "op-1"})
    work.gate.set()
    await task
    free = Work()
    free.gate.set()
    assert (await held.run("other", ["t"], free, disconnected=stays))["code"] == "0000"


async def test_after_the_wait_it_is_running_and_can_be_joined():
    held = HeldCalls(lambda: 0.01)
    work = Work()
    first = await held.run("k", ["s"], work, disconnected=stays)
    assert first == {
        "code": "0000",
        "message": "처리 성공",
        "operation_id": "op-1",
        "state": "running",
    }
    work.gate.set()
    second = await held.run("k", ["s"], work, disconnected=stays)
    assert (second["state"], work.count) == ("done", 1)
    await held.close()


async def test_a_dropped_connection_does_not_stop_the_work(held):
    work = Work()
    with pytest.raises(ClientGone):
        await held.run("k", ["s"], work, disconnected=hangs_up)
    assert held.is_running("s")
    (task,) = await both(held.run("k", ["s"], work, disconnected=stays))
    work.gate.set()
    assert (await task)["state"] == "done"
    assert work.count == 1


async def test_failure_reaches_everybody_with_the_operation(held):
    work = Work(ObjectNotFound(kind="device", id="x"))
    tasks = await both(*(held.run("k", ["s"], work, disconnected=stays) for _ in range(3)))
    work.gate.set()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(outcome, Refusal)
        assert outcome.code == "0004"
        assert outcome.more == {"operation_id": "op-1", "state": "failed"}


def test_keys_know_the_order_of_nothing():
    assert key_of("p", {"a": 1, "b": "한"}) == key_of("p", {"b": "한", "a": 1})
    assert key_of("p", {"a": 1}) != key_of("q", {"a": 1})


async def test_rates_are_per_address():
    clock = FakeClock()
    rates = Rates(clock, per_s=2)
    assert [rates.take("a") for _ in range(6)] == [True] * 4 + [False] * 2
    assert rates.take("b")
    await clock.advance(1)
    assert [rates.take("a") for _ in range(3)] == [True, True, False]
