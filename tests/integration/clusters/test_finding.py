"""A node that is at another address: found, led home, and not tried without end."""

import json
from dataclasses import replace

import pytest

from haechi.core.access import SYSTEM
from haechi.domains.clusters import finding as findings
from haechi.domains.clusters.finding import Finding
from haechi.domains.clusters.host.errors import LoginRefused
from haechi.domains.clusters.host.ports import HostName
from haechi.domains.clusters.marker import MARKER
from haechi.domains.clusters.ports import Pod
from haechi.testing.clock import FakeClock
from haechi.testing.hosts import FakeFile
from haechi.testing.upkeep import UpkeepSite
from haechi.testing.waiting import eventually

NEW = "192.0.2.77"


class Search:
    """The world's nodes looked for, on a clock turned by hand."""

    def __init__(self, world, cluster_id):
        self.world, self.cluster_id = world, cluster_id
        self.clock = FakeClock()
        self.finding = Finding(
            replace(world.context, clock=self.clock),
            world.upkeep.watching,
            world.finder,
            world.operations,
        )

    async def member(self, device_id):
        found = await self.world.context.members(self.cluster_id)
        return next(one for one in found if one.device_id == device_id)

    async def look(self, device_id, away_s=20.0):
        """As watching says each second that it is away; one look is over when it returns."""
        await self.clock.advance(findings.LOOK_EVERY_S)
        self.finding.away(await self.member(device_id), away_s)
        await eventually(lambda: not self.finding._busy)

    async def tries(self):
        found = await self.world.operations.find(subject=self.cluster_id)
        return [one for one in found.items if one.kind == "readdress_node"]

    async def ended(self):
        for one in await self.tries():
            await self.world.operations.wait(one.id)


@pytest.fixture
async def search(world):
    lab = UpkeepSite(world.site)
    for device_id in ("dev-m", "dev-a", "dev-b"):
        lab.prepare(device_id)
    made = Search(world, await world.formed())
    yield made
    await made.finding.close()


def move(world, device_id):
    """The host is there now, and its kubelet says so when it starts."""
    shell = world.site.hosts.hosts[device_id]
    shell.host = HostName(device_id, shell.host.name, NEW)
    world.finder.places[device_id] = NEW

    def tell(_call):
        for kube in world.site.kubes.clusters.values():
            for name, node in kube.nodes_by_name.items():
                if node.device_id == device_id:
                    kube.nodes_by_name[name] = replace(node, addresses=(NEW,))

    shell.on("systemctl restart kubelet", do=tell)


async def removed_while_off(world, search, device_id):
    """Its address as a member."""
    world.site.hosts.turn_off(device_id)
    operation = await world.clusters.remove_node(search.cluster_id, device_id, by=SYSTEM)
    await world.ended(operation)
    return (await search.member(device_id)).address


async def removed_and_moved(world, search, device_id):
    """It is back, and somewhere else."""
    before = await removed_while_off(world, search, device_id)
    world.site.hosts.turn_on(device_id)
    world.finder.places[device_id] = NEW
    return before


async def test_a_worker_is_led_home_at_once(world, search):
    move(world, "dev-a")
    await search.look("dev-a")
    await search.ended()
    (done,) = await search.tries()
    assert (done.state, done.requested_by) == ("succeeded", "system")
    assert (await search.member("dev-a")).address == NEW


async def test_the_whole_network_is_searched_only_after_a_while_and_seldom(world, search):
    await search.look("dev-a", away_s=3.0)
    assert world.finder.searched == []
    for _ in range(3):
        await search.look("dev-a")
    assert len(world.finder.searched) == 1


async def test_a_host_that_is_owed_its_cleaning_is_looked_for_ever_more_seldom(world, search):
    """It may have been thrown away."""
    await removed_while_off(world, search, "dev-b")
    for _ in range(24):  # two minutes
        await search.look("dev-b")
    assert 1 <= len(world.finder.searched) <= 3
    world.site.hosts.turn_on("dev-b")
    world.finder.places["dev-b"] = NEW
    await search.clock.advance(findings.LAST_RETRY_S)
    await search.look("dev-b")
    assert (await search.member("dev-b")).address == NEW
    assert await search.tries() == []


async def places(world, search, device_id):
    member, device = await search.member(device_id), await world.site.devices.device(device_id)
    return member.address, device.address


async def test_where_another_node_has_its_key_nothing_is_to_be_cleaned(world, search):
    """Its disk lives in that one now."""
    before = await removed_and_moved(world, search, "dev-b")
    world.site.devices.twins_of["dev-b"] = ["dev-a"]
    await search.look("dev-b")
    assert await places(world, search, "dev-b") == (before, before)


async def test_another_login_on_the_same_host_is_no_other_host(world, search):
    await removed_and_moved(world, search, "dev-b")
    world.site.host("dev-docker", name="docker")
    world.site.devices.twins_of["dev-b"] = ["dev-docker"]
    await search.look("dev-b")
    assert await places(world, search, "dev-b") == (NEW, NEW)


@pytest.mark.parametrize("there", [None, {"device_id": "dev-x"}, {"cluster_id": "clu-x"}])
async def test_one_that_has_its_key_and_not_what_is_to_be_cleaned_is_not_the_one(
    world, search, there
):
    before = await removed_and_moved(world, search, "dev-b")
    files = world.site.hosts.hosts["dev-b"].files
    marked = json.loads(files.pop(MARKER).content)
    if there is not None:
        files[MARKER] = FakeFile(json.dumps(marked | there).encode())
    await search.look("dev-b")
    assert await places(world, search, "dev-b") == (before, before)


async def test_an_address_that_was_entered_meanwhile_stays(world, search):
    before = await removed_and_moved(world, search, "dev-b")
    look = world.finder.search

    async def search_slowly(device_id, near):
        await world.site.devices.readdress(device_id, "192.0.2.99", by=SYSTEM)
        return await look(device_id, near)

    world.finder.search = search_slowly
    await search.look("dev-b")
    assert await places(world, search, "dev-b") == (before, "192.0.2.99")


async def test_one_that_is_where_it_was_stays_there(world, search):
    """It is only not clean yet."""
    before = await removed_while_off(world, search, "dev-b")
    world.finder.places["dev-b"] = before
    await search.look("dev-b")
    assert world.finder.searched == []
    assert (await search.member("dev-b")).address == before


async def test_a_control_planes_address_is_shown_and_left_to_the_operator(world, search):
    move(world, "dev-m")
    await search.look("dev-m")
    assert search.finding.found == {"dev-m": NEW}
    assert await search.tries() == []
    search.finding.returned(await search.member("dev-m"))
    assert search.finding.found == {}


async def test_a_host_that_lets_nobody_in_is_not_asked_every_few_seconds(world, search):
    """Found by its key, but the login is another one now: each look would begin one more operation
    for ever, and each is a refused login in the host's log.
    """
    move(world, "dev-a")
    shell = world.site.hosts.hosts["dev-a"]
    shell.away = LoginRefused(host="alpha", address=NEW, user="robot", method="key")
    for _ in range(12):  # a minute
        await search.look("dev-a")
        await search.ended()
    assert len(await search.tries()) <= 2
    shell.away = None
    await search.clock.advance(findings.LAST_RETRY_S)
    await search.look("dev-a")
    await search.ended()
    assert (await search.member("dev-a")).address == NEW


async def test_an_address_that_changed_again_is_tried_at_once(world, search):
    move(world, "dev-a")
    shell = world.site.hosts.hosts["dev-a"]
    shell.away = LoginRefused(host="alpha", address=NEW, user="robot", method="key")
    await search.look("dev-a")
    await search.ended()
    world.finder.places["dev-a"] = "192.0.2.78"
    await search.clock.advance(findings.SEARCH_EVERY_S)
    await search.look("dev-a")
    assert len(await search.tries()) == 2


async def test_an_address_at_which_nobody_is_does_not_stay(world, search):
    """All that goes to the host by SSH would look for it there."""
    before = (await world.site.devices.device("dev-a")).address
    world.site.hosts.turn_off("dev-a")
    operation = await world.upkeep.readdress_node(
        search.cluster_id, "dev-a", address="192.0.2.250", by=SYSTEM
    )
    assert (await world.ended(operation)).state == "failed"
    assert (await world.site.devices.device("dev-a")).address == before
    assert (await search.member("dev-a")).address == before


async def test_it_is_home_once_its_pods_network_is(world, search):
    """Announced by a pod that starts anew: until then nobody reaches its AIs at the new address."""
    world.context.pace = replace(world.context.pace, ready_s=60.0)
    move(world, "dev-a")
    kube = world.site.kubes.of(search.cluster_id)
    network = Pod("kube-flannel", "flannel-x", "alpha", "Pending", ready=False, restarts=0)
    asked = []

    async def pods(*, namespace=None, node=None, labels=None):
        asked.append(node)
        return [replace(network, ready=len(asked) > 4)]

    kube.pods = pods
    operation = await world.upkeep.readdress_node(
        search.cluster_id, "dev-a", address=NEW, by=SYSTEM
    )
    ended = await world.ended(operation)
    assert ended.state == "succeeded", ended.error
    assert len(asked) > 4
