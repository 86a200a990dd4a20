"""Three control planes: their certificates are renewed, and one is moved to another address. API and
AIs stay.
"""

from pathlib import Path

from tests.lab.control_planes import Story

from haechi.domains.clusters import etcd
from lab import Host, faults
from lab.yard import Yard


async def test_renewed_and_moved(site, prepared_hosts, tmp_path: Path):
    one, two, three, worker = await prepared_hosts(4)
    async with Yard.open(site, tmp_path / "data") as yard:
        cluster_id = await yard.form([one, two, three], [worker])
        story = Story(yard, cluster_id, worker)
        ai = await story.start_ai("watch")
        process = await story.process_of(ai)
        await certificates_are_renewed(story, [one, two, three])
        await changes_its_address(story, two, [one, three])
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
