"""Nodes watched: silence, death and their reasons, on a clock turned by hand."""

import asyncio
from dataclasses import replace

import pytest

from haechi.core.access import SYSTEM
from haechi.core.bus import Bus
from haechi.core.clock import to_ms
from haechi.domains.agents.presence import Limits
from haechi.domains.clusters.asking import AskedNeighbours
from haechi.domains.clusters.host.ports import Ran
from haechi.domains.clusters.ports import NodeCondition
from haechi.domains.clusters.watched import SSH_ASK_S
from haechi.domains.clusters.watching import Watching
from haechi.testing.clock import FakeClock
from haechi.testing.upkeep import FakeNeighbours, UpkeepSite
from haechi.testing.waiting import eventually


class Watcher:
    """The world's clusters, watched with a clock of their own."""

    def __init__(self, world):
        self.world = world
        self.clock = FakeClock()
        self.bus = Bus(lambda: to_ms(self.clock.now()))
        self.told = []
        self.bus.on("states", lambda _topic, data: self.told.append(data))
        self.neighbours = FakeNeighbours()
        self.watching = Watching(
            replace(world.context, clock=self.clock, bus=self.bus),
            agents=world.agents,
            probe=world.probe,
            neighbours=self.neighbours,
            limits=Limits(3.0, 8.0),
        )

    async def go_on(self, seconds):
        """In small steps, and as long as real reads take."""
        for _ in range(round(seconds / 0.25)):
            await self.clock.advance(0.25)
            await asyncio.sleep(0.002)

    async def until(self, true):
        """Where real reads lie between: time goes on until it is so."""

        async def step():
            await self.clock.advance(0.25)
            return true()

        await eventually(step)

    def node(self, cluster_id, device_id):
        found = {one.device_id: one for one in self.watching.nodes(cluster_id)}
        return found[device_id].presence, found[device_id].reason

    def address(self, device_id):
        return self.world.site.hosts.hosts[device_id].host.address


@pytest.fixture
async def cluster_id(world):
    lab = UpkeepSite(world.site)
    for device_id in ("dev-m", "dev-a", "dev-b"):
        lab.prepare(device_id)
    return await world.formed()


@pytest.fixture
async def watcher(world, cluster_id):
    made = Watcher(world)
    await made.watching.start()

    async def all_seen():
        await made.clock.advance(0.25)
        seen = [made.node(cluster_id, one) for one in ("dev-m", "dev-a", "dev-b")]
        return seen == [("ok", "connected")] * 3

    await eventually(all_seen)
    yield made
    await made.watching.close()


async def test_a_host_that_is_gone_is_silent_within_three_seconds_and_dead_after_eight(
    watcher, cluster_id
):
    watcher.world.probe.vanish(watcher.address("dev-a"))
    await watcher.go_on(1.5)
    assert watcher.node(cluster_id, "dev-a") == ("ok", "connected")
    await watcher.go_on(2.5)
    assert watcher.node(cluster_id, "dev-a") == ("silent", "unreachable")
    assert "dev-a" in watcher.neighbours.asked
    await watcher.go_on(6)
    assert watcher.node(cluster_id, "dev-a") == ("dead", "unreachable")
    assert watcher.node(cluster_id, "dev-b") == ("ok", "connected")
    told = [
        one["state"] for one in watcher.told if one.get("id") == "dev-a" and one["kind"] == "node"
    ]
    assert told[-2:] == ["silent", "dead"]
    watcher.world.probe.come_back(watcher.address("dev-a"))
    await watcher.go_on(2)
    assert watcher.node(cluster_id, "dev-a") == ("ok", "connected")


async def test_a_node_that_died_while_the_server_was_away_is_dead(world, cluster_id):
    watcher = Watcher(world)
    world.probe.vanish(watcher.address("dev-a"))
    await watcher.watching.start()
    try:
        await watcher.until(lambda: watcher.node(cluster_id, "dev-a") == ("dead", "unreachable"))
        assert watcher.node(cluster_id, "dev-b") == ("ok", "connected")
    finally:
        await watcher.watching.close()


async def test_neighbours_that_do_not_reach_it_either_end_the_wait(watcher, cluster_id):
    watcher.world.probe.vanish(watcher.address("dev-a"))
    watcher.neighbours.words["dev-a"] = False
    await watcher.go_on(4)
    assert watcher.node(cluster_id, "dev-a") == ("dead", "unreachable")


async def test_a_server_that_is_cut_off_is_told_from_a_dead_device(watcher, cluster_id):
    watcher.world.probe.vanish(watcher.address("dev-a"))
    watcher.neighbours.words["dev-a"] = True
    await watcher.go_on(4)
    assert watcher.node(cluster_id, "dev-a") == ("silent", "path_down")


async def test_a_dead_kubelet_is_not_a_dead_host(watcher, cluster_id):
    probe = watcher.world.probe
    probe.kubelets[watcher.address("dev-a")] = "refused"
    await watcher.go_on(4)
    assert watcher.node(cluster_id, "dev-a") == ("silent", "kubelet_dead")
    assert probe.asked_ssh
    assert "dev-a" in watcher.world.agents.noted
    await watcher.go_on(6)
    assert watcher.node(cluster_id, "dev-a") == ("dead", "kubelet_dead")


async def test_ssh_is_asked_more_slowly_than_sshd_takes_amiss(watcher, cluster_id):
    """A kubelet that stays silent on a host without an agent."""
    probe = watcher.world.probe
    probe.kubelets[watcher.address("dev-a")] = "refused"
    await watcher.go_on(40)
    assert 20 <= len(probe.asked_ssh) <= 40 / SSH_ASK_S + 1


async def test_ssh_is_not_asked_of_hosts_that_are_well(watcher, cluster_id):
    await watcher.go_on(4)
    assert watcher.world.probe.asked_ssh == []


async def test_what_the_node_says_of_its_runtime_is_shown(watcher, cluster_id):
    kube = watcher.world.site.kubes.of(cluster_id)
    down = NodeCondition("Ready", "False", "KubeletNotReady", "container runtime is down")
    kube.nodes_by_name["alpha"] = replace(
        kube.nodes_by_name["alpha"], ready=False, conditions=(down,)
    )
    await watcher.until(lambda: watcher.node(cluster_id, "dev-a")[1] == "runtime_dead")
    assert watcher.node(cluster_id, "dev-a")[0] in {"silent", "dead"}


async def test_a_runtime_that_its_agent_does_not_see_is_dead(watcher, cluster_id):
    watcher.world.agents.runtimes["dev-a"] = False
    await watcher.go_on(0.5)
    assert watcher.node(cluster_id, "dev-a") == ("silent", "runtime_dead")
    await watcher.go_on(8)
    assert watcher.node(cluster_id, "dev-a") == ("dead", "runtime_dead")
    watcher.world.agents.runtimes["dev-a"] = True
    await watcher.go_on(0.5)
    assert watcher.node(cluster_id, "dev-a") == ("ok", "connected")


async def test_an_api_that_is_away_is_said_and_held_against_no_node(watcher, cluster_id):
    watcher.world.site.kubes.of(cluster_id).down = True
    await watcher.until(lambda: watcher.watching.api(cluster_id).state == "away")
    await watcher.go_on(1)
    assert watcher.node(cluster_id, "dev-a") == ("ok", "api_away")
    assert {"kind": "cluster_api", "id": cluster_id, "state": "away"}.items() <= next(
        one for one in watcher.told if one["kind"] == "cluster_api" and one["state"] == "away"
    ).items()
    watcher.world.site.kubes.of(cluster_id).down = False
    await watcher.until(lambda: watcher.watching.api(cluster_id).state == "ok")


async def test_the_servers_own_absence_is_nobodys_silence(watcher, cluster_id):
    watcher.clock._monotonic += 60
    watcher.watching.judge()
    assert watcher.node(cluster_id, "dev-a") == ("ok", "connected")


async def test_a_device_without_an_agent_is_known_by_what_is_heard_here(watcher, cluster_id):
    assert {"dev-m", "dev-a", "dev-b"} <= set(watcher.world.agents.noted)
    watcher.world.probe.vanish(watcher.address("dev-b"))
    await watcher.go_on(4)
    assert watcher.watching.reason_word("dev-b") == "unreachable"
    assert watcher.watching.reason_word("dev-unknown") is None
    # Also one that was never heard: it would be said to be new for ever.
    assert set(watcher.world.agents.unheard) == {"dev-b"}


async def test_a_removed_node_is_not_watched_any_more(watcher, cluster_id):
    world = watcher.world
    await world.ended(await world.clusters.remove_node(cluster_id, "dev-b", by=SYSTEM))

    async def gone():
        await watcher.clock.advance(0.5)
        return "dev-b" not in {one.device_id for one in watcher.watching.nodes(cluster_id)}

    await eventually(gone)
    assert watcher.address("dev-b") in world.probe.forgotten
    # Nobody asks it any more: without an agent it would be dead for ever.
    assert world.agents.forgotten == ["dev-b"]


async def test_neighbours_are_asked_with_a_ping(world, cluster_id):
    clock = FakeClock()
    asked = AskedNeighbours(world.site.hosts, clock)
    members = {one.device_id: one for one in await world.context.members(cluster_id)}
    for device_id, status in (("dev-m", 1), ("dev-b", 1)):
        world.site.hosts.hosts[device_id].on("ping", status=status)
    others = [members["dev-m"], members["dev-b"]]
    asked.ask(members["dev-a"], others)
    await eventually(lambda: asked.word("dev-a") is False)
    world.site.hosts.hosts["dev-b"].on("ping", do=lambda _: Ran(0))
    await clock.advance(3)
    asked.ask(members["dev-a"], others)
    await eventually(lambda: asked.word("dev-a") is True)
    await clock.advance(30)
    assert asked.word("dev-a") is None
    world.site.hosts.turn_off("dev-m")
    world.site.hosts.turn_off("dev-b")
    asked.ask(members["dev-a"], others)
    await asyncio.sleep(0.01)
    assert asked.word("dev-a") is None
    await asked.close()
