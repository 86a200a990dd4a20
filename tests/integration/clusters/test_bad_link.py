"""A radio link that comes and goes: what is under way on a host outlives it, within bounds."""

import asyncio
from dataclasses import replace

import pytest

from haechi.domains.clusters.host.errors import HostConnectionLost
from haechi.testing.clock import FakeClock
from haechi.testing.waiting import eventually

AWAY_S = 90.0
LONG_S = 600.0


class Bench:
    """`on_host` of dev-a with a clock of its own; `cuts`: after how long each try loses the link."""

    def __init__(self, world):
        self.clock = FakeClock()
        pace = replace(world.context.pace, away_s=AWAY_S, retry_s=3.0)
        self.context = replace(world.context, clock=self.clock, pace=pace)
        self.site = world.site
        self.tries = 0
        self.log = []

    async def begin(self, cuts, **more):
        async def act(_shell):
            self.tries += 1
            if cuts:
                await self.clock.sleep(cuts.pop(0))
                raise HostConnectionLost(host="alpha", address="", what="apt-get", reason="cut")
            return "done"

        loop = asyncio.get_running_loop()
        return loop.create_task(self.context.on_host("dev-a", act, log=self.log.append, **more))

    async def turn(self, task, limit_s=100_000.0):
        """Let time pass until the task has ended; how long it took."""
        passed = 0.0
        while not task.done() and passed < limit_s:
            await self.clock.advance(1.0)
            passed += 1.0
        return passed


@pytest.fixture
def bench(world):
    return Bench(world)


async def test_a_link_that_is_cut_after_a_long_while_is_waited_for(bench):
    """Ten minutes of work are not lost because the link is away for a moment then."""
    task = await bench.begin([LONG_S, LONG_S])
    await bench.turn(task)
    assert await task == "done"
    assert bench.tries == 3


async def test_a_host_that_stays_away_is_given_up(bench):
    task = await bench.begin([LONG_S])
    await eventually(lambda: bench.tries == 1)
    bench.site.hosts.turn_off("dev-a")
    took_s = await bench.turn(task)
    with pytest.raises(Exception, match="cannot be reached"):
        await task
    assert AWAY_S <= took_s - LONG_S <= AWAY_S + 10


async def test_a_link_that_is_cut_again_and_again_is_given_up(bench):
    task = await bench.begin([1.0] * 1000)
    await bench.turn(task)
    with pytest.raises(HostConnectionLost):
        await task
    assert 3 < bench.tries < 100


async def test_where_nobody_waits_the_first_cut_counts(bench):
    task = await bench.begin([LONG_S], away_s=0)
    await bench.turn(task)
    with pytest.raises(HostConnectionLost):
        await task
    assert bench.tries == 1
