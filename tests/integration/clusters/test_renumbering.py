"""So many control planes have other addresses that etcd has no majority."""

import asyncio
import hashlib
import json
from dataclasses import replace

import pytest

from haechi.core.access import SYSTEM
from haechi.domains.clusters import etcd
from haechi.domains.clusters.errors import KubeUnreachable
from haechi.domains.clusters.host.ports import HostName, Ran
from haechi.domains.clusters.model import MemberState
from haechi.domains.clusters.upkeep_errors import ControlPlanesMoved
from haechi.testing.waiting import eventually

THREE = ("dev-m", "dev-n", "dev-o")
NEW = {"dev-m": "192.0.2.101", "dev-n": "192.0.2.102", "dev-o": "192.0.2.103"}
REWRITES = "haechi-rewrite "
REVISIONS = {"dev-m": 40, "dev-n": 44, "dev-o": 42}


def shell_of(world, device_id):
    return world.site.hosts.hosts[device_id]


@pytest.fixture
async def moved(world, lab, three):
    """All three are elsewhere, `dev-n` knows most, and etcd decides nothing until it is restored on
    each of them.
    """
    kube = world.site.kubes.of(three)
    kube.down = True
    for device_id in THREE:
        move(world, lab, device_id)
    return three


def move(world, lab, device_id):
    shell, new = shell_of(world, device_id), NEW[device_id]
    shell.host = HostName(device_id, shell.host.name, new)
    world.finder.places[device_id] = new
    shell.put(etcd.RESTING_FILE, f"etcd of {device_id}", 0o600)
    facts = {"hash": 1, "revision": REVISIONS[device_id], "totalKey": 7, "totalSize": 99}
    shell.on(lambda line: "snapshot status" in line, stdout=json.dumps(facts))

    def decides(_call):
        staying = set(THREE) - {one for one in THREE if shell_of(world, one).away}
        if set(lab.restored) >= staying:
            return Ran(0)
        return Ran(1, "", "Error: context deadline exceeded")

    def start(_call):
        if set(lab.restored) >= {one for one in THREE if not shell_of(world, one).away}:
            for kube in world.site.kubes.clusters.values():
                kube.down = False

    def tell(_call):
        for kube in world.site.kubes.clusters.values():
            for name, node in kube.nodes_by_name.items():
                if node.device_id == device_id:
                    kube.nodes_by_name[name] = replace(node, addresses=(new,))

    shell.on(lambda line: "endpoint health" in line, do=decides)
    shell.on(lambda line: "haechi-release" in line, do=start)
    shell.on("systemctl restart kubelet", do=tell)


async def renumbered(world, cluster_id, **given):
    started = await world.upkeep.readdress_control_planes(cluster_id, by=SYSTEM, **given)
    return await world.ended(started)


async def addresses(world, cluster_id):
    members = await world.context.members(cluster_id)
    return {one.device_id: one.address for one in members if one.is_control_plane}


def order_of(world, device_id):
    words = {
        "haechi-hold": "hold",
        REWRITES: "rewrite",
        "certs etcd-peer": "certificates",
        "haechi-swap": "restore",
        "haechi-put-back": "put back",
        "haechi-release": "release",
    }
    lines = shell_of(world, device_id).commands()
    return [said for line in lines for word, said in words.items() if word in line]


async def test_they_go_on_as_one_etcd_from_the_data_of_the_one_that_knows_most(world, lab, moved):
    old = await addresses(world, moved)
    ended = await renumbered(world, moved)
    assert ended.state == "succeeded", await world.log(ended)
    assert ended.ctx["result"]["addresses"] == NEW
    assert await addresses(world, moved) == NEW
    clusters = {
        word
        for words in lab.restored.values()
        for word in words
        if word.startswith("--initial-cluster=")
    }
    (told,) = clusters
    for device_id in THREE:
        assert (await world.site.devices.device(device_id)).address == NEW[device_id]
        assert f"https://{NEW[device_id]}:2380" in told
        rewrite = next(x for x in shell_of(world, device_id).commands() if REWRITES in x)
        assert f"{old[device_id]} {NEW[device_id]}" in rewrite
        assert order_of(world, device_id) == [
            *("hold", "rewrite", "certificates", "restore", "release")
        ]
        assert not [path for path in shell_of(world, device_id).files if "haechi-backup" in path]
    for device_id in (*THREE, "dev-a", "dev-b"):
        proxy = shell_of(world, device_id).text("/etc/haechi/api-proxy.cfg")
        assert all(f"{one}:6443" in proxy for one in NEW.values())
        assert not [one for one in old.values() if f"{one}:6443" in proxy]
    assert not list((world.path / "cluster-backups").iterdir())


async def test_what_is_sent_is_a_snapshot_of_the_newest_by_its_digest(world, lab, moved):
    sent = {}
    for device_id in THREE:
        shell = shell_of(world, device_id)

        def keep(call, shell=shell, device_id=device_id):
            path = call.command.partition("haechi-etcd ")[2].split()[3]
            sent[device_id] = shell.files[path].content
            lab.restored[device_id] = call.command.partition("haechi-etcd ")[2].split()

        shell.on(lambda line: "snapshot restore" in line, do=keep)
    ended = await renumbered(world, moved)
    assert ended.state == "succeeded", await world.log(ended)
    data = b"etcd of dev-n"
    assert set(sent) == set(THREE)
    assert set(sent.values()) == {data + hashlib.sha256(data).digest()}


async def test_one_alone_is_refused_as_nobody_could_be_told(world, lab, moved):
    world.upkeep._finding.found.update(NEW)
    with pytest.raises(ControlPlanesMoved) as refused:
        await world.upkeep.readdress_node(moved, "dev-m", by=SYSTEM)
    assert set(refused.value.data["hosts"].split(", ")) == {"master", "cp-n", "cp-o"}


async def test_so_many_are_those_that_are_elsewhere_now(world, lab, three):
    world.upkeep._finding.found["dev-n"] = NEW["dev-n"]
    with pytest.raises(ControlPlanesMoved):
        await world.upkeep.readdress_node(three, "dev-m", by=SYSTEM)
    # What an operator says of one is taken, and an old finding is none.
    world.upkeep._finding.found["dev-n"] = (await addresses(world, three))["dev-n"]
    world.finder.places["dev-m"] = NEW["dev-m"]
    started = await world.upkeep.readdress_node(three, "dev-m", by=SYSTEM)
    assert (await world.ended(started)).ctx["address"]


async def test_it_is_refused_where_etcd_decides(world, lab, three):
    before = await addresses(world, three)
    world.finder.places["dev-n"] = "192.0.2.102"
    ended = await renumbered(world, three)
    assert ended.error["code"] == "clusters.etcd_decides"
    assert await addresses(world, three) == before
    assert (await world.site.devices.device("dev-n")).address == before["dev-n"]
    assert not [x for one in THREE for x in order_of(world, one)]


async def test_one_that_is_away_stops_it_before_it_begins(world, lab, moved):
    before = {one: (await world.site.devices.device(one)).address for one in THREE}
    world.site.hosts.turn_off("dev-o")
    ended = await renumbered(world, moved)
    assert ended.error["code"] == "clusters.control_planes_away"
    assert {one: (await world.site.devices.device(one)).address for one in THREE} == before
    assert not [x for one in THREE for x in order_of(world, one)]


async def test_one_that_is_left_out_must_not_live(world, lab, moved):
    """The server is cut off from it; a worker is not."""
    world.site.hosts.turn_off("dev-o")
    shell_of(world, "dev-a").on("timeout 3 bash -c")
    ended = await renumbered(world, moved, leave_out_away=True)
    assert ended.error["code"] == "clusters.control_plane_lives"
    assert not [x for one in THREE for x in order_of(world, one)]


async def test_one_that_is_lost_is_left_out(world, lab, moved):
    shell_of(world, "dev-a").on("timeout 3 bash -c", status=1)
    world.site.hosts.turn_off("dev-o")
    ended = await renumbered(world, moved, leave_out_away=True)
    assert ended.state == "succeeded", await world.log(ended)
    assert set(lab.restored) == {"dev-m", "dev-n"}
    states = await world.states(moved)
    assert states["dev-o"] == MemberState.CLEANING
    proxy = shell_of(world, "dev-a").text("/etc/haechi/api-proxy.cfg")
    assert NEW["dev-m"] in proxy
    assert NEW["dev-o"] not in proxy


async def test_one_whose_data_cannot_be_read_takes_it_from_the_others(world, lab, moved):
    shell_of(world, "dev-n").on(lambda line: "snapshot status" in line, status=1, stderr="corrupt")
    ended = await renumbered(world, moved)
    assert ended.state == "succeeded", await world.log(ended)
    assert "etcd revision 42" in await world.log(ended)
    assert set(lab.restored) == set(THREE)


async def test_what_only_a_minority_has_kept_is_not_taken(world, lab, moved):
    for device_id in ("dev-n", "dev-o"):
        shell_of(world, device_id).on(lambda line: "snapshot status" in line, status=1)
    ended = await renumbered(world, moved)
    assert ended.error["code"] == "clusters.etcd_failed"
    assert not lab.restored


async def test_data_of_different_restores_is_not_compared(world, lab, moved):
    facts = {"hash": 1, "revision": etcd.BUMP_REVISION + 50, "totalKey": 7, "totalSize": 99}
    shell_of(world, "dev-o").on(lambda line: "snapshot status" in line, stdout=json.dumps(facts))
    ended = await renumbered(world, moved)
    assert ended.error["code"] == "clusters.etcd_histories_differ"
    assert ended.error["data"] == {"host": "cp-o", "other": "master"}
    assert not lab.restored


async def test_one_that_has_not_moved_stays_whatever_else_its_host_is_called(world, lab, moved):
    before = (await addresses(world, moved))["dev-o"]
    shell_of(world, "dev-o").host = HostName("dev-o", "cp-o", before)

    async def find(device_id, known, there=world.finder.find):
        still = device_id == "dev-o" and before in known
        return before if still else await there(device_id, known)

    world.finder.find = find
    ended = await renumbered(world, moved)
    assert ended.ctx["addresses"] == {**NEW, "dev-o": before}
    assert await addresses(world, moved) == {**NEW, "dev-o": before}
    assert "rewrite" not in order_of(world, "dev-o")


async def test_one_that_was_found_before_need_not_be_found_again(world, lab, moved):
    world.finder.places.clear()
    world.upkeep._finding.found.update(NEW)
    started = await world.upkeep.readdress_control_planes(moved, by=SYSTEM)
    assert started.ctx["addresses"] == NEW
    await world.ended(started)


async def test_what_the_operator_says_of_an_address_counts(world, lab, moved):
    devices = world.site.devices
    devices.devices["dev-n"] = replace(await devices.device("dev-n"), address="192.0.2.222")
    started = await world.upkeep.readdress_control_planes(moved, by=SYSTEM)
    assert started.ctx["addresses"] == {**NEW, "dev-n": "192.0.2.222"}
    await world.ended(started)


async def test_a_node_that_does_not_get_ready_leaves_nothing_to_clear_up(world, lab, moved):
    shell_of(world, "dev-o").on("systemctl restart kubelet")
    ended = await renumbered(world, moved)
    assert ended.error["code"] == "clusters.node_not_ready"
    assert await addresses(world, moved) == NEW
    for device_id in THREE:
        assert f"rm -rf {etcd.DATA_DIR}.before-restore" in shell_of(world, device_id).commands()
        assert "put back" not in order_of(world, device_id)


async def test_what_an_earlier_try_wrote_is_written_anew(world, lab, moved):
    """It was cut, and the hosts have moved on since."""
    shell_of(world, "dev-n").on(
        lambda line: "haechi-addressed" in line, stdout="192.0.2.150\n192.0.2.150\n"
    )
    old = (await addresses(world, moved))["dev-n"]
    ended = await renumbered(world, moved)
    assert ended.state == "succeeded", await world.log(ended)
    rewrites = [line for line in shell_of(world, "dev-n").commands() if REWRITES in line]
    assert [
        f"{one} {NEW['dev-n']}" in line
        for one, line in zip(sorted([old, "192.0.2.150"]), rewrites, strict=True)
    ] == [True, True]


async def test_cancelled_on_the_way_it_can_be_begun_again(world, lab, moved):
    shell = shell_of(world, "dev-o")
    going_on = asyncio.Event()
    shell.on(lambda line: REWRITES in line, hold=going_on, times=1)
    started = await world.upkeep.readdress_control_planes(moved, by=SYSTEM)
    await eventually(shell.held.is_set)
    await world.operations.cancel(started.id)
    ended = await world.ended(started)
    assert ended.state == "cancelled"
    for device_id in THREE:
        assert order_of(world, device_id)[-1] == "release"
    for device_id in THREE:
        move(world, lab, device_id)
    ended = await renumbered(world, moved)
    assert ended.state == "succeeded", await world.log(ended)
    assert await addresses(world, moved) == NEW


@pytest.mark.parametrize("word", ["snapshot status", REWRITES, "haechi-swap"])
async def test_a_server_that_dies_on_the_way_goes_on(world, lab, moved, word):
    shell = shell_of(world, "dev-o")
    shell.on(lambda line: word in line, hold=asyncio.Event(), times=1)
    started = await world.upkeep.readdress_control_planes(moved, by=SYSTEM)
    await eventually(shell.held.is_set)
    await world.kill()
    await world.revive()
    ended = await world.ended(started)
    assert ended.state == "succeeded", await world.log(ended)
    assert await addresses(world, moved) == NEW


async def test_what_was_there_is_put_back_where_it_does_not_come_up_and_again_it_does(
    world, lab, moved
):
    for device_id in THREE:
        shell_of(world, device_id).on(lambda line: "haechi-release" in line)
    ended = await renumbered(world, moved)
    assert ended.error["code"] == KubeUnreachable.code
    for device_id in THREE:
        assert order_of(world, device_id)[-3:] == ["hold", "put back", "release"]
    # They are where they are; the next try begins with that.
    assert await addresses(world, moved) == NEW
    lab.restored.clear()
    for device_id in THREE:
        move(world, lab, device_id)
    ended = await renumbered(world, moved)
    assert ended.state == "succeeded", await world.log(ended)
