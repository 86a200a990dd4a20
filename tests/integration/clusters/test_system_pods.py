"""System pods watched: what lasts is told, on a clock turned by hand."""

import asyncio
from dataclasses import replace

import pytest

from haechi.core.access import SYSTEM
from haechi.core.bus import Bus
from haechi.core.clock import to_ms
from haechi.domains.agents.presence import Limits
from haechi.domains.clusters.host.errors import HostDiskFull
from haechi.domains.clusters.system_watching import SystemWatching
from haechi.domains.clusters.watching import Watching
from haechi.testing.clock import FakeClock
from haechi.testing.upkeep import FakeNeighbours
from haechi.testing.waiting import eventually


class Watcher:
    """A world's clusters and their system pods, with a clock of their own."""

    def __init__(self, world, cluster_id):
        self.cluster_id = cluster_id
        self.kube = world.site.kubes.of(cluster_id)
        self.clock = FakeClock()
        bus = Bus(lambda: to_ms(self.clock.now()))
        self.told = []
        bus.on("states", self._hear)
        context = replace(world.context, clock=self.clock, bus=bus)
        self.watching = Watching(
            context,
            agents=world.agents,
            probe=world.probe,
            neighbours=FakeNeighbours(),
            limits=Limits(3.0, 8.0),
        )
        self.system = SystemWatching(context, self.watching)

    def _hear(self, _topic, data):
        if data["kind"] == "cluster_system":
            assert data["id"] == self.cluster_id
            self.told.append(data["state"])

    async def looks(self, times):
        """What so many looks see, however long real reads take."""
        wanted = self.kube.listed["kube-system"] + times

        async def looked():
            await self.clock.advance(0.5)
            return self.kube.listed["kube-system"] >= wanted

        await eventually(looked)
        await self.clock.advance(0.5)
        return self.found

    @property
    def found(self):
        return [(one.host, one.name) for one in self.system.findings(self.cluster_id)]


@pytest.fixture
async def cluster_id(world):
    return await world.formed(workers=("dev-a",))


@pytest.fixture
async def watcher(world, cluster_id):
    made = Watcher(world, cluster_id)
    await made.watching.start()
    made.system.start()

    async def seen():
        await made.clock.advance(0.25)
        return [one.presence for one in made.watching.nodes(cluster_id)] == ["ok", "ok"]

    await eventually(seen)
    yield made
    await made.system.close()
    await made.watching.close()


async def test_what_lasts_is_told_until_it_is_well_again(watcher):
    assert await watcher.looks(3) == []
    watcher.kube.ailing["kube-proxy-alpha"] = "CrashLoopBackOff"
    assert await watcher.looks(1) == [], "one that has just started again is no news"
    assert await watcher.looks(1) == [("alpha", "services_down")]
    watcher.kube.ailing.clear()
    assert await watcher.looks(1) == [("alpha", "services_down")], "one that crashes runs at times"
    assert await watcher.looks(3) == []
    assert watcher.told == ["lacking", "ok"]


async def test_a_pod_that_crashes_again_and_again_is_told_all_the_while(watcher):
    watcher.kube.ailing["kube-flannel-ds-alpha"] = "CrashLoopBackOff"
    await watcher.looks(2)
    for _ in range(3):
        watcher.kube.ailing.clear()
        assert await watcher.looks(1) == [("alpha", "pod_network_down")]
        watcher.kube.ailing["kube-flannel-ds-alpha"] = "CrashLoopBackOff"
        assert await watcher.looks(1) == [("alpha", "pod_network_down")]
    assert watcher.told == ["lacking"]


async def test_names_are_the_clusters(watcher):
    watcher.kube.ailing |= {"coredns-1": "Unschedulable", "coredns-2": "Unschedulable"}
    assert await watcher.looks(2) == [("master", "names_down")]


async def test_a_lost_node_has_its_own_reason_and_an_api_that_is_away_says_nothing(watcher, world):
    watcher.kube.ailing["kube-proxy-alpha"] = "Error"
    assert await watcher.looks(2) == [("alpha", "services_down")]
    watcher.kube.down = True

    async def away():
        await watcher.clock.advance(0.5)
        return watcher.watching.api(watcher.cluster_id).state == "away"

    await eventually(away)
    assert watcher.found == []
    watcher.kube.down = False
    assert await watcher.looks(3) == [("alpha", "services_down")]
    world.probe.vanish(world.site.hosts.hosts["dev-a"].host.address)

    async def lost():
        await watcher.clock.advance(0.5)
        return watcher.watching.presence("dev-a").presence == "dead"

    await eventually(lost)
    assert watcher.found == []
    assert await watcher.looks(5) == []


async def test_a_node_that_is_joining_is_not_asked_about(watcher, world):
    """Its pods are not there yet: the cluster is as well as it was."""
    held = world.site.work.hold["prepare", "dev-b"] = asyncio.Event()
    adding = await world.clusters.add_node(watcher.cluster_id, ["dev-b"], by=SYSTEM)
    await eventually(lambda: ("prepare", "dev-b") in world.site.work.acts)
    watcher.kube.nodes_by_name["beta"] = replace(
        watcher.kube.nodes_by_name["alpha"], name="beta", device_id="dev-b"
    )
    watcher.kube.ailing["kube-proxy-beta"] = "ContainerCreating"
    assert await watcher.looks(3) == []
    world.site.work.failures["prepare", "dev-b"] = HostDiskFull(host="beta", path="/var")
    held.set()
    await world.ended(adding)
    assert await watcher.looks(3) == []
    assert watcher.told == []
