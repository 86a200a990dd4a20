"""Two operations at once: what one is at work on, no other touches, whichever came first."""

import asyncio

import pytest

from haechi.core.access import SYSTEM
from haechi.core.operations import Definition, Step
from haechi.domains.clusters.errors import HostBusy
from haechi.errors import Busy, Text

WORK = Text("다른 일", "Other work")
KINDS = {"update_agent": "dev-a", "deploy_to_device": "dev-a/pkg-1"}


@pytest.fixture
def other(world):
    """Begins other work on a device; it lasts until the test lets go."""
    gate = asyncio.Event()

    async def do(run):
        await gate.wait()

    async def begin(kind, subject):
        if world.operations.definition(kind) is None:
            world.operations.register(Definition(kind, WORK, [Step("do", WORK, do)]))
        return await world.operations.start(kind, subject, {}, requested_by="kim")

    begin.let_go = gate.set
    return begin


async def remove(world, cluster_id):
    return await world.clusters.remove_node(cluster_id, "dev-a", by=SYSTEM)


async def delete(world, cluster_id):
    return await world.clusters.delete_cluster(cluster_id, by=SYSTEM)


@pytest.mark.parametrize("end", [remove, delete])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_node_that_something_is_at_work_on_does_not_leave(world, other, end, kind):
    cluster_id = await world.formed()
    first = await other(kind, KINDS[kind])
    with pytest.raises(HostBusy) as caught:
        await end(world, cluster_id)
    assert caught.value.http_status == 409
    assert caught.value.data == {"host": "alpha", "operation_id": first.id, "kind": kind}
    assert (await world.states(cluster_id))["dev-a"] == "ready"
    assert await world.operations.active_on(cluster_id) is None
    other.let_go()
    await world.operations.wait(first.id)
    assert (await world.ended(await end(world, cluster_id))).state == "succeeded"


@pytest.mark.parametrize("end", [remove, delete])
@pytest.mark.parametrize("kind", KINDS)
async def test_nothing_begins_on_a_node_that_leaves(world, other, end, kind):
    cluster_id = await world.formed()
    slow = world.site.work.hold["clean", "dev-a"] = asyncio.Event()
    leaving = await end(world, cluster_id)
    with pytest.raises(Busy) as caught:
        await other(kind, KINDS[kind])
    assert caught.value.http_status == 409
    assert caught.value.data["operation_id"] == leaving.id
    slow.set()
    await world.ended(leaving)
    other.let_go()
    begun = await other(kind, KINDS[kind])
    assert (await world.operations.wait(begun.id)).state == "succeeded"


async def test_work_on_another_node_hinders_no_removal(world, other):
    cluster_id = await world.formed()
    await other("update_agent", "dev-b")
    assert (await world.ended(await remove(world, cluster_id))).state == "succeeded"
    other.let_go()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("device_id", ["dev-a", "dev-c"])
async def test_no_node_is_replaced_while_something_is_at_work(world, other, kind, device_id):
    world.site.host("dev-c", name="gamma")
    cluster_id = await world.formed()
    first = await other(kind, KINDS[kind].replace("dev-a", device_id))
    with pytest.raises(HostBusy) as caught:
        await world.upkeep.replace_node(cluster_id, "dev-a", "dev-c", force=True, by=SYSTEM)
    assert caught.value.data["operation_id"] == first.id
    other.let_go()


@pytest.mark.parametrize("kind", KINDS)
async def test_no_cluster_is_formed_of_a_host_that_something_is_at_work_on(world, other, kind):
    first = await other(kind, KINDS[kind])
    with pytest.raises(HostBusy) as caught:
        await world.form()
    assert caught.value.data["operation_id"] == first.id
    other.let_go()
