"""A new router: three control planes and their worker have other addresses, all at once. etcd has no
majority then, so that nobody could be told of one of them. One of them lost its power meanwhile, and
its etcd cannot even start: the address that it is to listen at is not there.
"""

import asyncio
from pathlib import Path

from tests.lab.control_planes import Story

from haechi.domains.clusters import etcd
from lab import faults
from lab.yard import Yard


async def test_control_planes_that_all_move_are_led_home_together(
    site, prepared_hosts, tmp_path: Path
):
    *control_planes, worker = await prepared_hosts(4)
    hosts = [*control_planes, worker]
    async with Yard.open(site, tmp_path / "data") as yard:
        cluster_id = await yard.form(control_planes, [worker])
        story = Story(yard, cluster_id, worker)
        ai = await story.start_ai("watch")
        process = await story.process_of(ai)
        await story.write(control_planes[0], "before-moving")
        old = {host.name: host.address for host in hosts}
        await control_planes[2].kill()
        others = (str(site.subnet[number]) for number in range(100, 100 + len(hosts)))
        await asyncio.gather(
            *(faults.readdress(site, *pair) for pair in zip(hosts, others, strict=True))
        )
        new = {host.name: host.address for host in hosts}
        await control_planes[2].start()

        async def found() -> bool:
            nodes = [await yard.node(cluster_id, one) for one in control_planes]
            return all(
                node["found_address"] == new[host.name]
                for node, host in zip(nodes, control_planes, strict=True)
            )

        await yard.until("all control planes are found", found)
        await worker_is_home(story, new[worker.name])
        alone = f"{story.path}/nodes/{story.of(control_planes[0])}/readdress"
        refused = await yard.server.client.post(alone, json={})
        assert (refused.status_code, refused.json()["code"]) == (
            409,
            "clusters.control_planes_moved",
        )
        done = await story.does("renumbered", "POST", "/control-planes/readdress", {})
        assert done.ctx["result"]["addresses"] == {
            story.of(one): new[one.name] for one in control_planes
        }
        await story.etcd_is_of(*control_planes)
        await story.all_well(*hosts)
        await story.api_is_well()
        await story.worker_reaches_api()
        assert await story.keeps(control_planes[1], "before-moving")
        async with yard.haechi.hosts.open(story.of(control_planes[0])) as shell:
            for member in await etcd.members(shell):
                assert member.is_at(new[member.name])
        for host in hosts:
            proxy = await host.shell("cat /etc/haechi/api-proxy.cfg")
            for one in control_planes:
                assert f"{new[one.name]}:6443" in proxy
                assert f"{old[one.name]}:6443" not in proxy
        assert await story.process_of(ai) == process
        # And it goes on as a cluster does: what is written now is there with one of them off.
        await story.write(control_planes[2], "after-moving")
        await control_planes[0].kill()
        await story.write(control_planes[2], "without-the-first")


async def worker_is_home(story: Story, address: str) -> None:
    """By itself, without an API."""
    yard = story.yard

    async def home() -> bool:
        members = (await yard.server.client.get(story.path)).json()["members"]
        (worker,) = [one for one in members if one["device_id"] == story.of(story.worker)]
        busy = await yard.haechi.operations.active_on(story.cluster_id)
        return worker["address"] == address and busy is None

    await yard.until("the worker is led home", home)
