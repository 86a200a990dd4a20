"""A dead lone host looked for under another address, on a clock turned by hand."""

import asyncio

import pytest

from haechi.domains.clusters.host.errors import NoAddress
from haechi.domains.clusters.lone_finding import FIRST_PAUSE_S, LAST_PAUSE_S, LoneFinding
from haechi.domains.clusters.lone_hosts import LoneHost
from haechi.testing.clock import FakeClock
from haechi.testing.upkeep import FakeFinder

GATE = LoneHost("dev-a", "192.0.2.1", 22)
YARD = LoneHost("dev-b", "192.0.2.2", 22)
NEW = "192.0.2.77"


class Book:
    def __init__(self):
        self.seen = {}
        self.moved = []
        self.refused = False

    async def elsewhere(self, host):
        return self.seen.get(host.device_id, [])

    async def readdress(self, host, address):
        if self.refused:
            return False
        self.moved.append((host.device_id, address))
        return True


class Search:
    def __init__(self):
        self.clock = FakeClock()
        self.finder = FakeFinder()
        self.book = Book()
        self.finding = LoneFinding(clock=self.clock, finder=self.finder, book=self.book)

    def hold(self):
        """Each search waits from now on: what lets them go on, and near which addresses they began."""
        go_on, began = asyncio.Event(), []

        async def slow(_device_id, near):
            began.append(near)
            await go_on.wait()

        self.finder.search = slow
        return go_on, began

    async def dead(self, host, seconds):
        """As it is told each five seconds."""
        for _ in range(0, seconds, 5):
            self.finding.dead(host)
            await self.clock.advance(5)


@pytest.fixture
async def search():
    made = Search()
    yield made
    await made.finding.close()


async def test_found_by_its_key_it_gets_its_new_address(search):
    search.finder.places[GATE.device_id] = NEW
    await search.dead(GATE, 5)
    assert search.finder.searched == [GATE.address]
    assert search.book.moved == [(GATE.device_id, NEW)]


async def test_where_it_was_seen_is_looked_at_before_the_whole_network(search):
    search.finder.places[GATE.device_id] = NEW
    search.book.seen[GATE.device_id] = [NEW]
    await search.dead(GATE, 5)
    assert search.finder.searched == []
    assert search.book.moved == [(GATE.device_id, NEW)]


async def test_the_network_is_searched_seldom_until_it_is_back(search):
    await search.dead(GATE, int(FIRST_PAUSE_S))
    assert len(search.finder.searched) == 1
    await search.dead(GATE, 3600)
    searched = len(search.finder.searched)
    assert 3600 / LAST_PAUSE_S <= searched <= 3600 / LAST_PAUSE_S + 6
    search.finding.returned(GATE)
    await search.dead(GATE, 5)
    assert len(search.finder.searched) == searched + 1


async def test_one_network_at_a_time_and_none_for_a_host_that_is_back(search):
    go_on, began = search.hold()
    await search.dead(GATE, 5)
    await search.dead(YARD, 5)
    assert began == [GATE.address]
    search.finding.returned(YARD)
    go_on.set()
    await search.clock.advance(5)
    assert began == [GATE.address]


async def test_a_host_that_waited_for_its_turn_is_not_looked_for_again_at_once(search):
    go_on, began = search.hold()
    await search.dead(GATE, 5)
    await search.dead(YARD, int(FIRST_PAUSE_S) + 10)
    go_on.set()
    await search.dead(YARD, int(FIRST_PAUSE_S) - 5)
    assert began == [GATE.address, YARD.address]
    await search.dead(YARD, 10)
    assert began == [GATE.address, YARD.address, YARD.address]


async def test_a_name_is_not_replaced_by_an_address(search):
    named = LoneHost("dev-c", "shed.local", 22)
    search.finder.places[named.device_id] = NEW
    await search.dead(named, 60)
    assert search.book.moved == []


async def test_what_cannot_be_looked_for_is_tried_again_later(search):
    async def refuse(device_id, near):
        raise NoAddress(host="gate")

    search.finder.search, good = refuse, search.finder.search
    await search.dead(GATE, 5)
    assert search.book.moved == []
    search.finder.search = good
    search.finder.places[GATE.device_id] = NEW
    await search.dead(GATE, 60)
    assert search.book.moved[0] == (GATE.device_id, NEW)
