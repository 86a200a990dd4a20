"""A control plane that is added: its etcd and those that are there must reach each other, and that is
told before anything is done.
"""

import pytest

from haechi.core.access import SYSTEM
from haechi.domains.clusters.host import firewall
from haechi.domains.clusters.host.errors import CommandFailed
from haechi.domains.clusters.host.findings import SwapOn
from haechi.domains.clusters.ports import HostFinding
from haechi.testing.upkeep import UpkeepSite


@pytest.fixture
async def cluster_id(world):
    lab = UpkeepSite(world.site)
    world.site.host("dev-new", name="newcomer")
    for device_id in ("dev-m", "dev-a", "dev-b", "dev-new"):
        lab.prepare(device_id)
    return await world.formed(workers=("dev-a",))


def close(world, device_id, *ports):
    world.site.work.closed[device_id] = [f"{one}/tcp" for one in ports]
    assert {one.number for one in firewall.OF_NODES} >= set(ports)


async def add(world, cluster_id, role="control_plane"):
    return await world.ended(
        await world.clusters.add_node(cluster_id, ["dev-new"], role=role, by=SYSTEM)
    )


def blamed(ended):
    assert ended.error["code"] == "clusters.hosts_not_fit"
    return {(one["data"]["host"], one["data"]["ports"]) for one in ended.error["data"]["problems"]}


async def test_the_newcomers_firewall_is_told_where_one_is_there(world, cluster_id):
    close(world, "dev-new", 2379, 2380)
    ended = await add(world, cluster_id)
    assert blamed(ended) == {("newcomer", "2379/tcp (etcd), 2380/tcp (etcd)")}
    assert ("prepare", "dev-new") not in world.site.work.acts


async def test_that_of_the_one_that_was_formed_alone_is_told_too(world, cluster_id):
    close(world, "dev-m", 2379, 2380, 10250)
    ended = await add(world, cluster_id)
    assert blamed(ended) == {("master", "2379/tcp (etcd), 2380/tcp (etcd)")}
    assert ("prepare", "dev-new") not in world.site.work.acts


async def test_nothing_else_of_it_hinders(world, cluster_id):
    data = {"host": "master", "swap": "/swapfile"}
    swap = HostFinding("dev-m", "master", "swap_on", SwapOn.level, SwapOn.code, data)
    world.site.work.findings_of.append(swap)
    ended = await add(world, cluster_id)
    assert ended.state == "succeeded", await world.log(ended)


async def test_one_that_cannot_be_looked_at_hinders_nobody(world, cluster_id):
    error = CommandFailed(host="master", command="facts", status=1, message="no")
    world.site.work.failures["report", "dev-m"] = error
    ended = await add(world, cluster_id)
    assert ended.state == "succeeded", await world.log(ended)


async def test_a_worker_needs_none_of_it(world, cluster_id):
    close(world, "dev-m", 2379, 2380)
    close(world, "dev-new", 2379, 2380)
    ended = await add(world, cluster_id, role="worker")
    assert ended.state == "succeeded", await world.log(ended)
    assert world.site.work.acts.count(("report", "dev-m")) == 1, "when it was formed"


async def test_the_check_says_so_beforehand(world, cluster_id):
    close(world, "dev-m", 2380)
    checked = await world.clusters.check_nodes(cluster_id, ["dev-new"], role="control_plane")
    assert [(one.device_id, one.name) for one in checked.hindering] == [
        ("dev-m", "firewall_closed")
    ]
    assert [one.device_id for one in checked.reports] == ["dev-new"]
