"""Three control planes: their certificates are renewed, one is moved to another address, one that
has lost its power is replaced, and one leaves and joins again. API and AIs stay.
"""

from pathlib import Path

from tests.lab.control_planes import Story

from haechi.domains.clusters import etcd
from lab import Host, faults, ready
from lab.yard import ACCEPT, Yard


async def test_renewed_moved_and_replaced(site, prepared_hosts, tmp_path: Path):
    one, two, three, spare, worker = await prepared_hosts(5)
    async with Yard.open(site, tmp_path / "data") as yard:
        cluster_id = await yard.form([one, two, three], [worker])
        story = Story(yard, cluster_id, worker)
        ai = await story.start_ai("watch")
        process = await story.process_of(ai)
        await certificates_are_renewed(story, [one, two, three])
        await changes_its_address(story, two, [one, three])
        await one.kill()
        await yard.until_node(cluster_id, one, "dead")
        await is_replaced(story, one, spare, [two, three])
        await leaves_and_joins_again(story, three, [two, spare])
        assert await story.process_of(ai) == process


async def certificates_are_renewed(story: Story, control_planes: list[Host]) -> None:
    look = "sha256sum /etc/kubernetes/pki/apiserver.crt /etc/kubernetes/pki/etcd/peer.crt"
    before = [await host.shell(look) for host in control_planes]
    done = await story.does("renewed", "POST", "/certificates/renew", {})
    assert set(done.ctx["result"]["renewed"]) == {story.of(host) for host in control_planes}
    for host, was in zip(control_planes, before, strict=True):
        assert not set(was.splitlines()) & set((await host.shell(look)).splitlines())
    await story.etcd_is_of(*control_planes)
    await story.all_well(*control_planes, story.worker)


async def changes_its_address(story: Story, moved: Host, others: list[Host]) -> None:
    """It is found; it moves when somebody says so, and the others lead to it where it is now."""
    yard, old = story.yard, moved.address
    new = await faults.readdress(yard.site, moved)

    async def found() -> bool:
        return bool((await yard.node(story.cluster_id, moved))["found_address"] == new)

    await yard.until(f"{moved.name} is found at {new}", found)
    await story.write(others[0], "while-moving")
    await story.does("readdressed", "POST", f"/nodes/{story.of(moved)}/readdress", {})
    await story.etcd_is_of(*others, moved)
    await story.all_well(*others, moved, story.worker)
    async with yard.haechi.hosts.open(story.of(others[0])) as shell:
        (member,) = [one for one in await etcd.members(shell) if one.name == moved.name]
    assert member.is_at(new)
    for host in (*others, moved, story.worker):
        proxy = await host.shell("cat /etc/haechi/api-proxy.cfg")
        assert f"{new}:6443" in proxy
        assert f"{old}:6443" not in proxy


async def is_replaced(story: Story, dead: Host, spare: Host, others: list[Host]) -> None:
    yard = story.yard
    await ready.forget(spare)
    spare_id = await yard.device(spare)
    place = f"/nodes/{story.of(dead)}/replace"
    await story.does("replaced", "POST", place, {"device_id": spare_id, "accept": ACCEPT})
    await story.etcd_is_of(*others, spare)
    await story.all_well(*others, spare, story.worker)
    control_planes = {host.name: True for host in [*others, spare]}
    assert await story.nodes(spare) == {**control_planes, story.worker.name: False}
    # The old one has its power again: it is cleaned, and does not come between.
    await dead.start()
    await dead.until("! test -e /etc/kubernetes/manifests/etcd.yaml", "it is cleaned", 300)

    async def free() -> bool:
        members = (await yard.server.client.get(story.path)).json()["members"]
        return {"gone"} == {m["state"] for m in members if m["device_id"] == story.of(dead)}

    await yard.until("the replaced one is free", free)
    await story.etcd_is_of(*others, spare)


async def leaves_and_joins_again(story: Story, host: Host, others: list[Host]) -> None:
    await story.does("removed", "DELETE", f"/nodes/{story.of(host)}")
    await story.etcd_is_of(*others)
    assert host.name not in await story.nodes(others[0])
    await story.all_well(*others, story.worker)
    joins = {"device_ids": [story.of(host)], "role": "control_plane", "accept": ACCEPT}
    await story.does("joined again", "POST", "/nodes", joins)
    await story.etcd_is_of(*others, host)
    await story.all_well(*others, host, story.worker)
