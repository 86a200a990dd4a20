"""Backups of clusters, and the ways back: in place, and onto another host."""

import io
import tarfile
from dataclasses import replace

import pytest

from haechi.core.access import SYSTEM
from haechi.core.operations import State
from haechi.core.operations import store as operations_store
from haechi.domains.clusters.backups.model import BackupNotFound, NoBackup
from haechi.domains.clusters.errors import ClusterNotFound, KubeRefused
from haechi.domains.clusters.etcd import DATA_DIR
from haechi.domains.clusters.host.ports import HostName
from haechi.domains.clusters.model import MemberState
from haechi.errors import Busy
from haechi.settings import ClustersSettings
from haechi.testing.hosts import FakeFile

THREE = ("dev-m", "dev-n", "dev-o")


async def backed_up(world, cluster_id):
    operation = await world.ended(await world.upkeep.back_up_cluster(cluster_id, by=SYSTEM))
    assert operation.state == "succeeded", await world.log(operation)
    return operation.ctx["backup_id"]


def sealed(world):
    folder = world.path / "cluster-backups"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


async def test_a_backup_is_kept_encrypted_and_leaves_nothing_on_the_host(world, lab, cluster_id):
    backup_id = await backed_up(world, cluster_id)
    backup = await world.upkeep.backup(cluster_id, backup_id)
    assert (backup.revision, backup.total_keys, backup.device_id) == (42, 7, "dev-m")
    assert [one.node_name for one in backup.control_planes] == ["master"]
    assert sealed(world) == [f"{backup_id}.sealed"]
    content = (world.path / "cluster-backups" / f"{backup_id}.sealed").read_bytes()
    assert b"etcd of" not in content
    assert b"content of ca.key" not in content
    shell = world.site.hosts.hosts["dev-m"]
    assert not [path for path in shell.files if "haechi-backup" in path]
    found = await world.upkeep.download_backup(cluster_id, backup_id, by=SYSTEM)
    with tarfile.open(fileobj=io.BytesIO(b"".join(found.pieces)), mode="r:gz") as tar:
        assert tar.extractfile("etcd.db").read() == b"etcd of dev-m"
        assert "etc/kubernetes/pki/ca.key" in tar.getnames()


async def test_a_backup_listed_before_a_crash_keeps_its_key(world, lab, cluster_id):
    """The step runs again: a file sealed anew would not fit the key that is listed."""
    operation = await world.ended(await world.upkeep.back_up_cluster(cluster_id, by=SYSTEM))
    backup_id = operation.ctx["backup_id"]
    found = await world.upkeep.download_backup(cluster_id, backup_id, by=SYSTEM)
    content = b"".join(found.pieces)
    folder = f"/var/lib/haechi-backup/{operation.id}"
    world.site.hosts.hosts["dev-m"].files[f"{folder}/backup.tar.gz"] = FakeFile(content, 0o600)
    async with world.db.write() as tx:
        await operations_store.update(
            tx, operation.id, state=State.RUNNING, done=["snapshot"], ended_at=None
        )
    await world.kill()
    await world.revive()
    assert (await world.ended(operation)).state == "succeeded"
    again = await world.upkeep.download_backup(cluster_id, backup_id, by=SYSTEM)
    assert b"".join(again.pieces) == content


async def test_the_oldest_are_forgotten(world, lab, cluster_id):
    world.settings = ClustersSettings(backups_kept=2)
    made = [await backed_up(world, cluster_id) for _ in range(3)]
    page = await world.upkeep.backups(cluster_id)
    assert [one.id for one in page.items] == [made[2], made[1]]
    assert sealed(world) == sorted(f"{one}.sealed" for one in made[1:])


async def test_deleting_one_removes_its_file(world, lab, cluster_id):
    backup_id = await backed_up(world, cluster_id)
    await world.upkeep.delete_backup(cluster_id, backup_id, by=SYSTEM)
    assert sealed(world) == []
    with pytest.raises(BackupNotFound):
        await world.upkeep.backup(cluster_id, backup_id)


async def test_a_cluster_that_never_was_has_none(world, lab, cluster_id):
    assert (await world.upkeep.backups(cluster_id)).items == []
    with pytest.raises(ClusterNotFound):
        await world.upkeep.backups("clu-nothing")


async def test_one_of_another_cluster_is_not_found(world, lab, cluster_id):
    backup_id = await backed_up(world, cluster_id)
    with pytest.raises(BackupNotFound):
        await world.upkeep.backup("clu-other", backup_id)
    with pytest.raises(BackupNotFound):
        await world.upkeep.restore_cluster(cluster_id, backup_id="bkp-none", by=SYSTEM)


async def test_a_control_plane_that_lives_is_taken(world, lab, three):
    world.site.hosts.turn_off("dev-m")
    backup_id = await backed_up(world, three)
    assert (await world.upkeep.backup(three, backup_id)).device_id in THREE[1:]


async def test_no_living_control_plane_is_said(world, lab, cluster_id):
    world.site.hosts.turn_off("dev-m")
    operation = await world.ended(await world.upkeep.back_up_cluster(cluster_id, by=SYSTEM))
    assert operation.state == "failed"
    assert operation.error["code"] == "clusters.no_living_control_plane"
    assert operation.error["data"]["hosts"][0]["host"] == "master"
    assert sealed(world) == []


async def test_a_killed_server_leaves_nothing_in_clear(world, lab, cluster_id):
    folder = world.path / "cluster-backups"
    folder.mkdir()
    (folder / "op-x.clear").write_text("keys")
    (folder / "bkp-x.sealed.part").write_text("half")
    (folder / "bkp-unknown.sealed").write_text("nobody knows it")
    backup_id = await backed_up(world, cluster_id)
    await world.kill()
    await world.revive()
    await world.upkeep.start()
    assert sealed(world) == [f"{backup_id}.sealed"]


async def test_restoring_needs_a_backup(world, lab, cluster_id):
    with pytest.raises(NoBackup):
        await world.upkeep.restore_cluster(cluster_id, by=SYSTEM)


async def restored(world, cluster_id, **given):
    operation = await world.upkeep.restore_cluster(cluster_id, by=SYSTEM, **given)
    ended = await world.ended(operation)
    assert ended.state == "succeeded", await world.log(operation)
    return ended


async def test_one_control_plane_is_restored(world, lab, cluster_id):
    await backed_up(world, cluster_id)
    ended = await restored(world, cluster_id)
    words = lab.restored["dev-m"]
    assert f"--initial-cluster-token={ended.id}" in words
    assert any(word.startswith("--initial-cluster=master=https://") for word in words)
    shell = world.site.hosts.hosts["dev-m"]
    assert not [path for path in shell.files if "haechi-backup" in path]
    lines = [line for line in shell.commands() if "haechi-" in line or DATA_DIR in line]
    order = [
        line
        for line in lines
        if any(w in line for w in ("haechi-hold", "haechi-swap", "haechi-release"))
    ]
    assert ["hold" in order[0], "swap" in order[1], "release" in order[2]] == [True] * 3
    assert f"rm -rf {DATA_DIR}.before-restore" in shell.commands()
    assert "systemctl restart kubelet" in world.site.hosts.hosts["dev-a"].commands()


async def test_three_control_planes_become_one_etcd_again(world, lab, three):
    backup_id = await backed_up(world, three)
    await restored(world, three, backup_id=backup_id)
    assert set(lab.restored) == set(THREE)
    clusters = {
        word for words in lab.restored.values() for word in words if "--initial-cluster=" in word
    }
    assert len(clusters) == 1
    assert clusters.pop().count("https://") == 3
    names = {word for words in lab.restored.values() for word in words if "--name=" in word}
    assert names == {"--name=master", "--name=cp-n", "--name=cp-o"}


async def test_a_missing_control_plane_stops_a_restore_before_it_begins(world, lab, three):
    await backed_up(world, three)
    world.site.hosts.turn_off("dev-o")
    operation = await world.ended(await world.upkeep.restore_cluster(three, by=SYSTEM))
    assert operation.error["code"] == "clusters.control_planes_away"
    assert "cp-o" in operation.error["data"]["away"]
    assert lab.restored == {}
    assert not [
        line for line in world.site.hosts.hosts["dev-m"].commands() if "haechi-hold" in line
    ]


async def test_a_restore_that_does_not_live_is_taken_back(world, lab, cluster_id):
    await backed_up(world, cluster_id)
    world.site.kubes.of(cluster_id).down = True
    operation = await world.ended(await world.upkeep.restore_cluster(cluster_id, by=SYSTEM))
    assert operation.state == "failed"
    shell = world.site.hosts.hosts["dev-m"]
    lines = [line for line in shell.commands() if "haechi-put-back" in line]
    assert len(lines) == 1
    assert any("haechi-release" in line for line in shell.commands()[-3:])


async def test_an_api_that_refuses_at_first_is_waited_for(world, lab, cluster_id, monkeypatch):
    """A server that has just started does not know its own rules for a moment."""
    await backed_up(world, cluster_id)
    kube, refusals = world.site.kubes.of(cluster_id), [1, 2]
    answer = kube.version

    async def version():
        if refusals:
            refusals.pop()
            raise KubeRefused(cluster_id=cluster_id, status=403, reason="forbidden")
        return await answer()

    monkeypatch.setattr(kube, "version", version)
    await restored(world, cluster_id)


async def test_nodes_that_the_backup_knows_and_the_cluster_does_not_go(world, lab, cluster_id):
    await backed_up(world, cluster_id)
    kube = world.site.kubes.of(cluster_id)
    kube.nodes_by_name["long-gone"] = replace(kube.nodes_by_name["beta"], name="long-gone")
    await restored(world, cluster_id)
    assert "long-gone" not in kube.nodes_by_name


async def test_another_host_becomes_the_control_plane(world, lab, cluster_id):
    backup_id = await backed_up(world, cluster_id)
    world.site.hosts.turn_off("dev-m")
    world.site.host("dev-new", name="newcomer")
    shell = lab.prepare("dev-new")
    ended = await restored(world, cluster_id, backup_id=backup_id, onto="dev-new")
    assert shell.text("/etc/kubernetes/pki/ca.key") == "content of ca.key"
    assert shell.files["/etc/kubernetes/pki/ca.key"].mode == 0o600
    assert shell.text("/etc/kubernetes/pki/etcd/ca.crt") == "content of etcd/ca.crt"
    address = shell.host.address
    assert f"--initial-cluster=newcomer=https://{address}:2380" in lab.restored["dev-new"]
    states = await world.states(cluster_id)
    assert states["dev-new"] == MemberState.READY
    assert states["dev-m"] == MemberState.CLEANING
    proxy = world.site.hosts.hosts["dev-a"].text("/etc/haechi/api-proxy.cfg")
    assert f"{address}:6443" in proxy
    assert world.site.hosts.hosts["dev-m"].host.address not in proxy
    nodes = world.site.kubes.of(cluster_id).nodes_by_name
    assert "master" not in nodes
    assert nodes["newcomer"].control_plane
    access = await world.context.access(cluster_id)
    assert [one.device_id for one in access.servers] == ["dev-new"]
    assert ended.ctx["result"]["failed"] == 0


def etcd_stops(world, device_id):
    shell = world.site.hosts.hosts[device_id]
    shell.on(lambda line: "endpoint status" in line, status=1, stderr="Error: connection refused")


async def onto_newcomer(world, lab, cluster_id):
    """The ended operation, and the host that was to become the control plane."""
    world.site.host("dev-new", name="newcomer")
    shell = lab.prepare("dev-new")
    started = await world.upkeep.restore_cluster(cluster_id, onto="dev-new", by=SYSTEM)
    return await world.ended(started), shell


async def test_a_cluster_that_still_answers_gets_no_second_control_plane(world, lab, cluster_id):
    """Two clusters would answer under one name."""
    await backed_up(world, cluster_id)
    operation, _ = await onto_newcomer(world, lab, cluster_id)
    assert operation.state == "failed"
    assert operation.error["code"] == "clusters.control_plane_lives"
    assert "master" in operation.error["data"]["hosts"]
    assert "dev-new" not in await world.states(cluster_id)
    assert not [act for act in world.site.work.acts if act[1] == "dev-new"]


async def test_nor_one_whose_etcd_alone_answers(world, lab, cluster_id):
    await backed_up(world, cluster_id)
    world.site.kubes.of(cluster_id).down = True
    operation, _ = await onto_newcomer(world, lab, cluster_id)
    assert operation.error["code"] == "clusters.control_plane_lives"
    assert "etcd" in operation.error["data"]["hosts"]


async def test_nor_one_that_only_its_workers_reach(world, lab, cluster_id):
    """The server is cut off, the cluster lives."""
    await backed_up(world, cluster_id)
    world.site.hosts.turn_off("dev-m")
    worker = world.site.hosts.hosts["dev-a"]
    worker.on(lambda line: line.startswith("timeout 3 bash -c"))
    operation, _ = await onto_newcomer(world, lab, cluster_id)
    assert operation.error["code"] == "clusters.control_plane_lives"
    assert "alpha" in operation.error["data"]["hosts"]


async def test_another_one_that_has_the_address_now_is_no_control_plane_that_lives(
    world, lab, cluster_id
):
    """The site gave the address of the dead one to somebody else, who has a port 6443 too."""
    await backed_up(world, cluster_id)
    world.site.hosts.turn_off("dev-m")
    for device_id in ("dev-a", "dev-b"):
        world.site.hosts.hosts[device_id].on(lambda line: line.startswith("timeout 3 bash -c"))
    world.site.kubes.others.add(world.site.hosts.hosts["dev-m"].host.address)
    operation, _ = await onto_newcomer(world, lab, cluster_id)
    assert operation.state == "succeeded", await world.log(operation)
    assert "6443" in await world.log(operation)
    assert (await world.states(cluster_id))["dev-new"] == MemberState.READY


async def test_a_host_that_is_on_and_runs_neither_is_lost(world, lab, cluster_id):
    await backed_up(world, cluster_id)
    kube = world.site.kubes.of(cluster_id)
    kube.down = True
    etcd_stops(world, "dev-m")
    for device_id in ("dev-a", "dev-b"):
        world.site.hosts.hosts[device_id].on(
            lambda line: line.startswith("timeout 3 bash -c"), status=1
        )
    world.site.host("dev-new", name="newcomer")
    shell = lab.prepare("dev-new")
    shell.on(lambda line: "haechi-swap" in line, do=lambda _: setattr(kube, "down", False))
    await restored(world, cluster_id, onto="dev-new")
    assert (await world.states(cluster_id))["dev-m"] == MemberState.CLEANING


async def test_what_answers_at_the_old_ones_address_may_be_the_new_host(world, lab, cluster_id):
    """It does when the server died on the way and begins the step again."""
    await backed_up(world, cluster_id)
    old = world.site.hosts.hosts["dev-m"].host
    world.site.host("dev-new", name="newcomer").host = HostName("dev-new", "newcomer", old.address)
    lab.prepare("dev-new")
    known = world.site.devices.devices
    known["dev-new"] = replace(known["dev-new"], address=old.address)
    await restored(world, cluster_id, onto="dev-new")


async def test_one_that_comes_back_meanwhile_goes_on_alone(world, lab, cluster_id):
    await backed_up(world, cluster_id)
    world.site.hosts.turn_off("dev-m")
    world.site.host("dev-new", name="newcomer").on(
        lambda line: "haechi-backup" in line, do=lambda _: world.site.hosts.turn_on("dev-m")
    )
    started = await world.upkeep.restore_cluster(cluster_id, onto="dev-new", by=SYSTEM)
    operation = await world.ended(started)
    assert operation.error["code"] == "clusters.control_plane_lives"
    states = await world.states(cluster_id)
    assert (states["dev-m"], states["dev-new"]) == (MemberState.READY, MemberState.FAILED)
    assert ("init", "dev-new") not in world.site.calls


async def test_a_backup_without_its_authorities_cannot_be_rebuilt_from(world, lab, cluster_id):
    lab.leave_out = {"etcd/ca.key"}
    await backed_up(world, cluster_id)
    world.site.hosts.turn_off("dev-m")
    world.site.host("dev-new", name="newcomer")
    lab.prepare("dev-new")
    operation = await world.ended(
        await world.upkeep.restore_cluster(cluster_id, onto="dev-new", by=SYSTEM)
    )
    assert operation.error["code"] == "clusters.backup_incomplete"
    assert (await world.states(cluster_id))["dev-new"] == MemberState.FAILED
    assert "/etc/kubernetes/pki/ca.key" not in world.site.hosts.hosts["dev-new"].files


async def test_two_operations_on_one_cluster_are_refused(world, lab, cluster_id):
    operation = await world.upkeep.back_up_cluster(cluster_id, by=SYSTEM)
    with pytest.raises(Busy):
        await world.upkeep.back_up_cluster(cluster_id, by=SYSTEM)
    await world.ended(operation)
