"""Hosts that were away when they left: nothing of theirs counts meanwhile, and then they are cleaned
whole.
"""

import pytest

from haechi.core.access import SYSTEM
from haechi.domains.clusters.model import MemberState
from haechi.testing.waiting import eventually


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
    world.site.hosts.turn_off("dev-b")
    world.probe.vanish(address_of(world, "dev-b"))
    await world.ended(await world.clusters.remove_node(cluster_id, "dev-b", by=SYSTEM))
    assert {one.path for one in hooks} <= set(shell.files)
    await world.upkeep.start()
    world.site.hosts.turn_on("dev-b")
    world.probe.come_back(address_of(world, "dev-b"))

    async def clean():
        return (await world.states(cluster_id))["dev-b"] == MemberState.GONE

    await eventually(clean)
    assert not {one.path for one in hooks} & set(shell.files)
