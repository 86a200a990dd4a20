"""In what order hosts are cleaned when a cluster is deleted, and what goes on side by side."""

import asyncio

from haechi.core.access import SYSTEM
from haechi.testing.waiting import eventually


def was_reset(world, device_id: str) -> bool:
    commands = world.site.hosts.hosts[device_id].commands()
    return any("kubeadm reset" in command for command in commands)


async def test_no_control_plane_goes_before_every_worker_has_left(world):
    cluster_id = await world.formed()
    slow = asyncio.Event()
    host = world.site.hosts.hosts["dev-b"]
    host.on(lambda command: "kubeadm reset" in command, hold=slow)
    operation = await world.clusters.delete_cluster(cluster_id, by=SYSTEM)
    await eventually(lambda: host.held.is_set() and was_reset(world, "dev-a"))
    assert not was_reset(world, "dev-m")
    slow.set()
    assert (await world.ended(operation)).state == "succeeded"
    assert was_reset(world, "dev-m")


async def test_a_worker_that_has_left_is_cleaned_beside_the_control_plane(world):
    cluster_id = await world.formed()
    slow = world.site.work.hold["clean", "dev-a"] = asyncio.Event()
    operation = await world.clusters.delete_cluster(cluster_id, by=SYSTEM)
    await eventually(lambda: ("clean", "dev-m") in world.site.work.acts)
    assert (await world.states(cluster_id))["dev-a"] == "leaving"
    slow.set()
    assert (await world.ended(operation)).state == "succeeded"
    assert {one.state for one in await world.clusters.book.proof(cluster_id)} == {"clean"}


async def test_a_server_killed_in_between_cleans_what_has_left(world):
    cluster_id = await world.formed()
    world.site.work.hold["clean", "dev-a"] = asyncio.Event()
    operation = await world.clusters.delete_cluster(cluster_id, by=SYSTEM)
    await eventually(lambda: ("clean", "dev-a") in world.site.work.acts)
    await world.kill()
    del world.site.work.hold["clean", "dev-a"]
    await world.revive()
    assert (await world.ended(operation)).state == "succeeded"
    assert {one.state for one in await world.clusters.book.proof(cluster_id)} == {"clean"}
