"""Three control planes: one loses its power and comes back, one leaves, another joins, and all of them
go back to a backup. API and AIs stay.

One story of one cluster, for forming it takes longest.
"""

import asyncio
from pathlib import Path

from lab import Host, ready
from lab.yard import ACCEPT, Yard

from .control_planes import Story


async def test_three_control_planes(site, prepared_hosts, tmp_path: Path):
    one, two, three, spare, worker = await prepared_hosts(5)
    async with Yard.open(site, tmp_path / "data") as yard:
        cluster_id = await yard.form([one, two, three], [worker])
        story = Story(yard, cluster_id, worker)
        await story.etcd_is_of(one, two, three)
        await story.all_well(one, two, three, worker)
        ai = await story.start_ai("watch")
        process = await story.process_of(ai)
        await story.write(one, "before")
        done = await story.does("backed up", "POST", "/backups")
        backup_id = done.ctx["result"]["backup_id"]

        await loses_its_power(story, one, [two, three])
        await has_it_again(story, one, [two, three])
        await leaves_and_another_joins(story, three, spare, [one, two])
        assert await story.process_of(ai) == process

        await story.write(two, "after")
        await story.does("restored", "POST", "/restore", {"backup_id": backup_id})
        await goes_back(story, [one, two, spare])
        assert await story.process_of(ai) == process
        assert (await story._running("watch")).restarts == ai.restarts

        await story.does("deleted", "DELETE", "")
        proof = (await yard.server.client.get(f"{story.path}/proof")).json()
        names = {device_id: name for name, device_id in yard.devices.items()}
        left = {names[h["device_id"]]: h for h in proof["hosts"] if h["state"] != "clean"}
        assert left == {}


async def loses_its_power(story: Story, dead: Host, others: list[Host]) -> None:
    """The one by which haechi and the others reached the API, all at once."""
    yard = story.yard
    await dead.kill()
    took = await asyncio.gather(*(story.write(host, f"by-{host.name}") for host in others))
    print(f"the API keeps things again after {[f'{one:.1f} s' for one in took]}")
    await story.worker_reaches_api()
    await yard.until_node(story.cluster_id, dead, "dead")
    await story.api_is_well()
    await story.all_well(*others, story.worker)
    # Scheduler and controllers were taken over too.
    await story.start_ai("second")

    # Of the two that are left neither may go.
    answer = await yard.server.client.delete(f"{story.path}/nodes/{story.of(others[0])}")
    refused = await yard.haechi.operations.get(answer.json()["operation_id"])
    refused = await yard.ended(refused, state="failed")
    assert refused.error is not None
    assert refused.error["code"] == "clusters.etcd_majority_needed"
    assert refused.error["data"]["away"] == dead.name
    await story.all_well(*others)


async def has_it_again(story: Story, back: Host, others: list[Host]) -> None:
    """It is where it was, and what it missed it has."""
    await back.start()
    await story.etcd_is_whole(others[0], len(others) + 1)
    await story.etcd_is_of(*others, back)
    await story.all_well(back, *others, story.worker)
    assert await story.keeps(back, f"by-{others[0].name}")


async def leaves_and_another_joins(
    story: Story, leaves: Host, spare: Host, others: list[Host]
) -> None:
    await story.does("removed", "DELETE", f"/nodes/{story.of(leaves)}")
    await story.etcd_is_of(*others)
    assert leaves.name not in await story.nodes(others[0])
    await story.all_well(*others, story.worker)
    await ready.forget(spare)
    spare_id = await story.yard.device(spare)
    joins = {"device_ids": [spare_id], "role": "control_plane", "accept": ACCEPT}
    await story.does("joined", "POST", "/nodes", joins)
    await story.etcd_is_of(*others, spare)
    await story.all_well(*others, spare, story.worker)


async def goes_back(story: Story, control_planes: list[Host]) -> None:
    """The backup knows one that is gone, and does not know one that came since."""
    await story.etcd_is_of(*control_planes)
    await story.all_well(*control_planes, story.worker)
    for host in control_planes:
        assert await story.keeps(host, "before")
        assert not await story.keeps(host, "after")
        assert not await host.holds(
            "test -e /var/lib/haechi-backup -o -e /var/lib/etcd.before-restore"
        )
    wanted = {host.name: True for host in control_planes}
    assert await story.nodes(control_planes[0]) == {**wanted, story.worker.name: False}
    await story.api_is_well()
