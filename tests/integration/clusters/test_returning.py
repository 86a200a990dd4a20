"""Hosts that were away when they left: nothing of theirs counts meanwhile, and then they are cleaned
whole.
"""

import json

import pytest

from haechi.core.access import SYSTEM
from haechi.domains.clusters.host.errors import HostAway, HostKeyChanged
from haechi.domains.clusters.host.ports import HostName
from haechi.domains.clusters.marker import MARKER
from haechi.domains.clusters.model import MemberState
from haechi.testing.hosts import FakeFile
from haechi.testing.upkeep import UpkeepSite
from haechi.testing.waiting import eventually

NEW = "192.0.2.77"


class Laid:
    """A hook that lays something on the host."""

    def __init__(self, world, name):
        self.world, self.name = world, name
        self.path = f"/var/lib/{name}"
        self.asked = []

    async def joined(self, cluster_id, device_id, *, log):
        async with self.world.site.hosts.open(device_id) as shell:
            await shell.write(self.path, "laid")

    async def leaving(self, cluster_id, device_id, *, log):
        self.asked.append(device_id)
        async with self.world.site.hosts.open(device_id) as shell:
            del shell.files[self.path]


@pytest.fixture
def hooks(world):
    world.context.hooks += [Laid(world, "first"), Laid(world, "second")]
    return world.context.hooks


def address_of(world, device_id):
    return world.site.hosts.hosts[device_id].host.address


async def removed_while_off(world, cluster_id, device_id):
    world.site.hosts.turn_off(device_id)
    world.probe.vanish(address_of(world, device_id))
    await world.ended(await world.clusters.remove_node(cluster_id, device_id, by=SYSTEM))


def move(world, device_id):
    """Where it comes back."""
    shell = world.site.hosts.hosts[device_id]
    shell.host = HostName(device_id, shell.host.name, NEW)
    world.finder.places[device_id] = NEW


async def test_what_was_laid_last_is_taken_back_first_and_once_where_the_host_is_away(world, hooks):
    cluster_id = await world.formed()
    first, second = hooks
    order = []
    for hook in hooks:
        hook.asked = order
    await world.ended(await world.clusters.remove_node(cluster_id, "dev-a", by=SYSTEM))
    assert order == ["dev-a", "dev-a"]
    assert not {first.path, second.path} & set(world.site.hosts.hosts["dev-a"].files)
    first.asked, second.asked = [], []
    world.site.hosts.turn_off("dev-b")
    await world.ended(await world.clusters.remove_node(cluster_id, "dev-b", by=SYSTEM))
    assert (first.asked, second.asked) == ([], ["dev-b"])


async def test_a_host_that_is_back_is_rid_of_what_hooks_had_laid(world, hooks):
    cluster_id = await world.formed()
    shell = world.site.hosts.hosts["dev-b"]
    await removed_while_off(world, cluster_id, "dev-b")
    assert {one.path for one in hooks} <= set(shell.files)
    await world.upkeep.start()
    world.site.hosts.turn_on("dev-b")
    world.probe.come_back(address_of(world, "dev-b"))

    async def clean():
        return (await world.states(cluster_id))["dev-b"] == MemberState.GONE

    await eventually(clean)
    assert not {one.path for one in hooks} & set(shell.files)


async def test_a_host_that_is_owed_its_cleaning_is_found_under_another_address(world):
    cluster_id = await world.formed()
    await removed_while_off(world, cluster_id, "dev-b")
    move(world, "dev-b")
    await world.upkeep.start()
    world.site.hosts.turn_on("dev-b")

    async def clean():
        return (await world.states(cluster_id))["dev-b"] == MemberState.GONE

    await eventually(clean)
    assert (await world.site.devices.device("dev-b")).address == NEW


async def test_another_host_at_its_old_address_does_not_keep_it_from_being_found(world):
    """It answers there, and is not the one: its key says so."""
    cluster_id = await world.formed()
    old = address_of(world, "dev-b")
    await removed_while_off(world, cluster_id, "dev-b")
    move(world, "dev-b")
    world.probe.come_back(old)
    shell = world.site.hosts.hosts["dev-b"]
    shell.away = HostKeyChanged(
        host="beta", address=old, expected="SHA256:a", fingerprint="SHA256:b"
    )
    readdress = world.site.devices.readdress

    async def reaching_it_there(device_id, address, *, by):
        await readdress(device_id, address, by=by)
        shell.away = None

    world.site.devices.readdress = reaching_it_there
    await world.upkeep.start()

    async def clean():
        return (await world.states(cluster_id))["dev-b"] == MemberState.GONE

    await eventually(clean)
    assert (await world.site.devices.device("dev-b")).address == NEW


async def test_a_host_that_became_another_node_is_not_cleaned(world):
    """Its disk was put into a machine that joined by itself."""
    cluster_id = await world.formed()
    shell = world.site.hosts.hosts["dev-b"]
    await removed_while_off(world, cluster_id, "dev-b")
    marked = json.loads(shell.files[MARKER].content) | {"device_id": "dev-x"}
    shell.files[MARKER] = FakeFile(json.dumps(marked).encode())
    before = dict(shell.files)
    world.site.hosts.turn_on("dev-b")
    world.probe.come_back(address_of(world, "dev-b"))
    await world.upkeep.start()

    async def refused():
        found = {one.device_id: one for one in await world.context.members(cluster_id)}
        return "it says that it is" in found["dev-b"].message

    await eventually(refused)
    assert (await world.states(cluster_id))["dev-b"] == MemberState.CLEANING
    assert shell.files == before


async def test_a_lost_control_plane_is_said_goodbye_to_when_another_takes_its_place(world):
    """Its agent, should the host be in strange hands, is let in no more."""

    class Farewell:
        name = "farewell"
        left: list[str] = []

        async def joined(self, cluster_id, device_id, *, log):
            pass

        async def leaving(self, cluster_id, device_id, *, log):
            self.left.append(device_id)
            raise HostAway(host="master", address="192.0.2.1", reason="off")

    lab = UpkeepSite(world.site)
    for device_id in ("dev-m", "dev-a", "dev-b"):
        lab.prepare(device_id)
    cluster_id = await world.formed()
    world.context.hooks.append(Farewell())
    await world.ended(await world.upkeep.back_up_cluster(cluster_id, by=SYSTEM))
    world.site.hosts.turn_off("dev-m")
    world.site.host("dev-new", name="newcomer")
    lab.prepare("dev-new")
    operation = await world.upkeep.restore_cluster(cluster_id, onto="dev-new", by=SYSTEM)
    ended = await world.ended(operation)
    assert ended.state == "succeeded", await world.log(ended)
    assert Farewell.left == ["dev-m"]
