"""Nodes that moved while their cluster's API was away: their pods' network follows by itself, in
whatever order everything comes back. On a clock turned by hand.
"""

from dataclasses import replace

import pytest

from haechi.core.access import SYSTEM
from haechi.core.operations import Definition, Step
from haechi.domains.agents.presence import Limits
from haechi.domains.clusters import announcing
from haechi.domains.clusters.announcing import Announcing
from haechi.domains.clusters.finding import Finding
from haechi.domains.clusters.host.ports import HostName
from haechi.domains.clusters.watching import Watching
from haechi.errors import Text
from haechi.testing.clock import FakeClock
from haechi.testing.upkeep import FakeNeighbours, UpkeepSite
from haechi.testing.waiting import eventually

MOVED = {"dev-m": "192.0.2.70", "dev-a": "192.0.2.77", "dev-b": "192.0.2.78"}


class Site:
    """A formed cluster that is watched, and whose hosts can be given other addresses."""

    def __init__(self, world, cluster_id):
        self.world, self.cluster_id = world, cluster_id
        self.kube = world.site.kubes.of(cluster_id)
        self.clock = FakeClock()
        context = replace(world.context, clock=self.clock)
        self.watching = Watching(
            context,
            agents=world.agents,
            probe=world.probe,
            neighbours=FakeNeighbours(),
            limits=Limits(3.0, 8.0),
        )
        self.finding = Finding(context, self.watching, world.finder, world.operations)
        self.announcing = Announcing(context, self.watching, world.operations)
        self.watching.on_away.append(self.finding.away)
        self.watching.on_return.append(self.finding.returned)

    async def start(self):
        await self.watching.start()
        self.announcing.start()
        await self.until(lambda: self.presences() == {"ok"})

    async def close(self):
        await self.announcing.close()
        await self.finding.close()
        await self.watching.close()

    async def until(self, true):
        """Time goes on until it is so, however long real reads take."""

        async def step():
            await self.clock.advance(0.25)
            found = true()
            return await found if hasattr(found, "__await__") else found

        await eventually(step)

    def presences(self):
        return {one.presence for one in self.watching.nodes(self.cluster_id)}

    def renumber(self, *device_ids):
        """A router that gives out other addresses: each kubelet tells its own by itself."""
        for device_id in device_ids:
            shell = self.world.site.hosts.hosts[device_id]
            self.world.probe.vanish(shell.host.address)
            shell.host = HostName(device_id, shell.host.name, MOVED[device_id])
            self.world.finder.places[device_id] = MOVED[device_id]
            for name, node in self.kube.nodes_by_name.items():
                if node.device_id == device_id:
                    self.kube.nodes_by_name[name] = replace(node, addresses=(MOVED[device_id],))

    async def at_home(self, *device_ids):
        members = {
            one.device_id: one.address for one in await self.world.context.members(self.cluster_id)
        }
        return all(members[one] == MOVED[one] for one in device_ids)

    async def led_home(self, *device_ids):
        """Recorded, and nothing is at work any more."""

        async def led():
            active = await self.world.operations.active_on(self.cluster_id)
            return active is None and await self.at_home(*device_ids)

        await self.until(led)

    async def take_up_the_control_plane(self):
        """As the operator does."""
        self.kube.down = False
        operation = await self.world.upkeep.readdress_node(
            self.cluster_id, "dev-m", address=MOVED["dev-m"], by=SYSTEM
        )
        ended = await self.world.ended(operation)
        assert ended.state == "succeeded", await self.world.log(ended)

    def announced(self):
        return {one.device_id: one.network_address for one in self.kube.nodes_by_name.values()}

    async def readdressings(self):
        found = await self.world.operations.find(subject=self.cluster_id)
        return [one for one in found.items if one.kind == "readdress_node"]


@pytest.fixture
async def site(world):
    lab = UpkeepSite(world.site)
    for device_id in MOVED:
        lab.prepare(device_id)
    made = Site(world, await world.formed())
    await made.start()
    yield made
    await made.close()


async def test_a_worker_that_moves_while_the_api_is_away(site):
    site.kube.down = True
    await site.until(lambda: site.watching.api(site.cluster_id).state == "away")
    site.renumber("dev-a")
    await site.led_home("dev-a")
    (led,) = await site.readdressings()
    assert led.state == "succeeded", "its own part is done, and nothing is waited for"
    assert site.announced()["dev-a"] != MOVED["dev-a"]
    site.kube.down = False
    await site.until(lambda: site.announced()["dev-a"] == MOVED["dev-a"])


async def test_all_are_renumbered_and_workers_come_home_first(site):
    """A worker that waited for the API would keep the operator from what brings the API back."""
    site.kube.down = True
    site.renumber(*MOVED)
    await site.led_home("dev-a", "dev-b")
    assert site.finding.found["dev-m"] == MOVED["dev-m"]
    await site.take_up_the_control_plane()
    await site.until(lambda: site.announced() == MOVED)


async def test_all_are_renumbered_and_the_control_plane_comes_home_first(site):
    site.kube.down = True
    places, site.world.finder.places = site.world.finder.places, {}
    site.renumber(*MOVED)
    await site.take_up_the_control_plane()
    places |= MOVED
    site.world.finder.places = places
    await site.led_home("dev-a", "dev-b")
    await site.until(lambda: site.announced() == MOVED)


async def test_what_an_earlier_server_left_is_seen_to(site):
    """Nothing is remembered: what the cluster itself says counts."""
    name, node = next(one for one in site.kube.nodes_by_name.items() if one[0] == "alpha")
    site.kube.nodes_by_name[name] = replace(node, network_address="192.0.2.250")
    await site.until(lambda: site.announced()["dev-a"] == node.addresses[0])
    assert await site.readdressings() == []


async def test_it_keeps_out_of_the_way_of_an_operation(site):
    going_on = []

    async def wait(run):
        del run
        await eventually(lambda: going_on)

    site.world.operations.register(
        Definition(kind="busy", title=Text("일", "Work"), steps=[Step("wait", Text("", ""), wait)])
    )
    operation = await site.world.operations.start("busy", site.cluster_id, {}, requested_by="kim")
    name, node = next(one for one in site.kube.nodes_by_name.items() if one[0] == "alpha")
    site.kube.nodes_by_name[name] = replace(node, network_address="192.0.2.250")
    listed = site.watching.api(site.cluster_id)
    await site.until(lambda: listed.nodes["alpha"].network_address == "192.0.2.250")
    for _ in range(8):
        await site.clock.advance(announcing.LOOK_S)
    assert site.announced()["dev-a"] == "192.0.2.250"
    going_on.append(True)
    await site.world.ended(operation)
    await site.until(lambda: site.announced()["dev-a"] == node.addresses[0])


async def test_a_host_of_two_networks_is_not_disturbed_again_and_again(site):
    """Its pods' network and its kubelet may each have reasons for another address."""
    name, node = next(one for one in site.kube.nodes_by_name.items() if one[0] == "alpha")
    site.kube.announces[name] = "198.51.100.9"
    site.kube.nodes_by_name[name] = replace(node, network_address="198.51.100.9")
    await site.until(lambda: site.kube.restarted == ["kube-flannel-ds-alpha"])
    for _ in range(30):
        await site.clock.advance(announcing.LOOK_S)
    assert site.kube.restarted == ["kube-flannel-ds-alpha"]


async def test_the_server_does_so(world, monkeypatch):
    monkeypatch.setattr(announcing, "LOOK_S", 0.05)
    kube = world.site.kubes.of(await world.formed())
    node = kube.nodes_by_name["alpha"]
    kube.nodes_by_name["alpha"] = replace(node, network_address="192.0.2.250")
    await world.upkeep.start()
    await eventually(lambda: kube.nodes_by_name["alpha"].network_address == node.addresses[0])
