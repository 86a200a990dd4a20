"""Hosts that no agent and no cluster speaks for, asked over SSH, on a clock turned by hand."""

import asyncio

import pytest

from haechi.core.bus import Bus
from haechi.core.clock import to_ms
from haechi.domains.clusters import lone_hosts
from haechi.domains.clusters.lone_hosts import AT_ONCE, LoneHost, LoneHosts
from haechi.testing.clock import FakeClock
from haechi.testing.upkeep import FakeAgentsView, FakeProbe

GATE = LoneHost("dev-a", "192.0.2.1", 22)
YARD = LoneHost("dev-b", "192.0.2.2", 2222)


class Site:
    def __init__(self):
        self.clock = FakeClock()
        self.bus = Bus(lambda: to_ms(self.clock.now()))
        self.agents = FakeAgentsView()
        self.probe = FakeProbe()
        self.listed = [GATE, YARD]
        self.lists = 0
        self.nodes = set()
        self.lone = LoneHosts(
            clock=self.clock,
            bus=self.bus,
            agents=self.agents,
            probe=self.probe,
            listed=self.list,
            is_node=self.nodes.__contains__,
        )

    async def list(self):
        self.lists += 1
        return list(self.listed)

    def change(self, change, device_id):
        self.bus.publish("states", {"kind": "device", "id": device_id, "change": change})

    async def asked(self, seconds):
        """How often each address is, in that time."""
        self.probe.asked_ssh.clear()
        for _ in range(seconds * 4):
            await self.clock.advance(0.25)
        return {one: self.probe.asked_ssh.count(one) for one in set(self.probe.asked_ssh)}


@pytest.fixture
async def site():
    made = Site()
    await made.lone.start()
    yield made
    await made.lone.close()


async def test_each_host_is_asked_again_and_again_and_its_answer_is_its_word(site):
    # Less often than once a second: sshd adds a second of penalty for each question, takes one away
    # each second, and would refuse the server after a few other greetings.
    assert await site.asked(25) == {GATE.address: 20, YARD.address: 20}
    assert set(site.agents.noted) == {GATE.device_id, YARD.device_id}
    assert site.lone.reason_word(GATE.device_id) is None
    assert not site.agents.unheard


@pytest.mark.parametrize(
    ("answer", "reason"),
    [("unreachable", "unreachable"), ("refused", "sshd_dead"), ("mute", "host_stuck")],
)
async def test_one_that_does_not_answer_is_silent_and_why(site, answer, reason):
    await site.asked(2)
    site.agents.noted.clear()
    site.probe.sshs[GATE.address] = answer
    await site.asked(2)
    assert site.lone.reason_word(GATE.device_id) == reason
    assert set(site.agents.noted) == {YARD.device_id}
    assert set(site.agents.unheard) == {GATE.device_id}
    site.probe.come_back(GATE.address)
    await site.asked(2)
    assert GATE.device_id in site.agents.noted
    assert site.lone.reason_word(GATE.device_id) is None


async def test_a_dead_one_is_asked_less_often_and_seen_when_it_is_back(site):
    told = []
    site.lone.on_dead.append(told.append)
    site.probe.vanish(GATE.address)
    await site.asked(2)
    assert not told
    site.agents.presences[GATE.device_id] = "dead"
    await site.asked(2)
    assert await site.asked(10) == {GATE.address: 2, YARD.address: 8}
    assert told
    assert set(told) == {GATE}
    site.probe.come_back(GATE.address)
    await site.asked(5)
    assert GATE.device_id in site.agents.noted


async def test_devices_with_an_agent_and_nodes_are_left_to_others(site):
    site.agents.words[GATE.device_id] = 1.0
    site.nodes.add(YARD.device_id)
    await site.asked(1)
    assert await site.asked(3) == {}
    site.nodes.clear()
    assert await site.asked(5) == {YARD.address: 4}
    site.probe.vanish(YARD.address)
    await site.asked(2)
    assert site.lone.reason_word(YARD.device_id) == "unreachable"
    site.nodes.add(YARD.device_id)
    await site.asked(2)
    assert site.lone.reason_word(YARD.device_id) is None


async def test_the_inventory_is_followed_and_read_only_where_it_changed(site):
    await site.asked(6)
    assert site.lists == 1
    moved = LoneHost(GATE.device_id, "192.0.2.9", 22)
    site.listed[:] = [moved]
    site.change("edit", GATE.device_id)
    await site.asked(3)
    assert site.lists == 2
    assert await site.asked(5) == {moved.address: 4}
    # Its label was taken away: what was heard of it means nothing any more.
    assert site.agents.forgotten == [YARD.device_id]


async def test_the_word_of_a_deleted_device_does_not_bring_it_back(site):
    await site.asked(1)
    asking, answer = asyncio.Event(), asyncio.Event()

    async def slow(address, port):
        asking.set()
        await answer.wait()
        return "answers"

    site.probe.ssh = slow
    await site.asked(2)
    assert asking.is_set()
    site.agents.noted.clear()
    site.listed.remove(GATE)
    site.change("delete", GATE.device_id)
    answer.set()
    await site.asked(3)
    assert set(site.agents.noted) == {YARD.device_id}
    assert site.agents.forgotten == []


async def test_who_looks_for_hosts_is_told_of_those_that_are_gone(site):
    await site.asked(1)
    done = []
    site.lone.on_return.append(done.append)
    site.listed.clear()
    site.change("delete", GATE.device_id)
    assert done == [GATE]
    await site.asked(3)
    assert done == [GATE, YARD]


async def test_many_that_go_dark_together_are_asked_a_bounded_number_at_once_and_delay_nobody():
    site = Site()
    many = [LoneHost(f"dev-{n}", f"198.51.100.{n % 250}", 22 + n) for n in range(300)]
    site.listed = [*many, GATE]
    busy, most = 0, 0
    hangs, answer = asyncio.Event(), asyncio.Event()
    ask = site.probe.ssh

    async def hanging(address, port):
        nonlocal busy, most
        if address == GATE.address or not hangs.is_set():
            return await ask(address, port)
        busy += 1
        most = max(most, busy)
        await answer.wait()
        busy -= 1
        return "unreachable"

    site.probe.ssh = hanging
    await site.lone.start()
    await site.asked(2)
    assert len(set(site.agents.noted)) == 301
    hangs.set()  # each round of theirs takes as long as the questions wait
    assert (await site.asked(5))[GATE.address] >= 4
    answer.set()
    await site.asked(1)
    answer.clear()
    # While they are silent no more waits either: one that comes back is seen at once.
    assert (await site.asked(5))[GATE.address] >= 4
    assert busy == 300
    site.agents.presences.update((one.device_id, "dead") for one in many)
    answer.set()
    await site.asked(6)
    answer.clear()
    most = 0
    assert (await site.asked(6))[GATE.address] >= 4
    assert most == AT_ONCE
    site.agents.unheard.clear()
    answer.set()
    await site.asked(6)
    assert set(site.agents.unheard) == {one.device_id for one in many}
    await site.lone.close()


class Names:
    """A name service; names in `hanging` get no answer until that is set."""

    def __init__(self, monkeypatch):
        self.leads = {}
        self.hanging = {}
        self.asked = []
        monkeypatch.setattr(lone_hosts, "look_up", self.look_up)

    async def look_up(self, _pool, name):
        self.asked.append(name)
        if name in self.hanging:
            await self.hanging[name].wait()
        return self.leads.get(name, "")


SHED = LoneHost("dev-c", "shed.local", 22)


async def test_a_name_is_looked_up_before_it_is_asked(site, monkeypatch):
    names = Names(monkeypatch)
    site.listed.append(SHED)
    site.change("create", SHED.device_id)
    await site.asked(8)
    # It leads nowhere: silent, and nothing more is known.
    assert SHED.device_id in site.agents.unheard
    assert site.lone.reason_word(SHED.device_id) is None
    names.leads["shed.local"] = "192.0.2.3"
    await site.asked(6)
    assert (await site.asked(5))["192.0.2.3"] == 4
    assert SHED.device_id in site.agents.noted
    names.leads["shed.local"] = "192.0.2.4"
    site.probe.vanish("192.0.2.3")
    await site.asked(7)
    assert (await site.asked(5))["192.0.2.4"] == 4


async def test_a_name_is_followed_also_while_another_host_answers_at_its_old_address(
    site, monkeypatch
):
    names = Names(monkeypatch)
    names.leads["shed.local"] = "192.0.2.3"
    site.listed.append(SHED)
    site.change("create", SHED.device_id)
    await site.asked(10)
    names.asked.clear()
    names.leads["shed.local"] = "192.0.2.4"
    await site.asked(62)
    assert len(names.asked) in {1, 2}
    assert set(await site.asked(2)) == {GATE.address, YARD.address, "192.0.2.4"}
    # Where nobody knows the name any more, the address that it had is as good as any.
    names.leads.clear()
    await site.asked(62)
    assert "192.0.2.4" in await site.asked(2)


async def test_names_that_get_no_answer_keep_no_other_name_waiting(site, monkeypatch):
    names = Names(monkeypatch)
    answer = asyncio.Event()
    lost = [LoneHost(f"dev-x{n}", f"x{n}.local", 22) for n in range(5)]
    names.hanging = {one.address: answer for one in lost}
    names.leads = {"shed.local": "192.0.2.3", "x0.local": "192.0.2.50"}
    site.listed += [*lost, SHED]
    site.change("create", SHED.device_id)
    await site.asked(10)
    assert (await site.asked(5))["192.0.2.3"] == 4
    assert names.asked.count("x0.local") == 1  # one question at a time
    answer.set()
    await site.asked(2)
    assert "192.0.2.50" in await site.asked(2)
