"""A cluster of real hosts is looked after: backups and the ways back."""

import io
import tarfile

import pytest

from lab.yard import KUBECTL, Yard


async def made(host, name, content):
    await host.shell(f"{KUBECTL} create configmap {name} --from-literal=word={content}")


async def word(host, name):
    said = await host.tries(f"{KUBECTL} get configmap {name} -o jsonpath='{{.data.word}}'")
    return said.out if said.status == 0 else None


@pytest.fixture
async def pair(site, prepared_hosts, tmp_path):
    hosts = await prepared_hosts(2)
    async with Yard.open(site, tmp_path / "data") as yard:
        yield yard, *hosts


async def test_a_backup_brings_one_control_plane_back(pair):
    yard, master, worker = pair
    cluster_id = await yard.form([master], [worker])
    await made(master, "before", "kept")
    done = await yard.does("POST", f"/clusters/{cluster_id}/backups")
    backup_id = done.ctx["result"]["backup_id"]
    print(f"backup of {done.ctx['result']['size_bytes']} bytes")
    content = await yard.server.client.get(f"/clusters/{cluster_id}/backups/{backup_id}/content")
    with tarfile.open(fileobj=io.BytesIO(content.content), mode="r:gz") as tar:
        names = set(tar.getnames())
    assert {"etcd.db", "etc/kubernetes/pki/ca.key", "etc/kubernetes/admin.conf"} <= names
    await made(master, "after", "lost")
    await yard.does("POST", f"/clusters/{cluster_id}/restore", {"backup_id": backup_id})
    assert await word(master, "before") == "kept"
    assert await word(master, "after") is None
    for host in (master, worker):
        await yard.until_node(cluster_id, host, "ok", "connected")
    assert not await master.holds("test -e /var/lib/haechi-backup")
    assert not await master.holds("test -e /var/lib/etcd.before-restore")


async def test_another_host_becomes_the_control_plane(site, prepared_hosts, tmp_path):
    master, worker, spare = await prepared_hosts(3)
    async with Yard.open(site, tmp_path / "data") as yard:
        cluster_id = await yard.form([master], [worker])
        await made(master, "before", "kept")
        await yard.does("POST", f"/clusters/{cluster_id}/backups")
        running = await worker.shell("ctr -n k8s.io tasks ls | grep -c RUNNING")
        await master.kill()
        await spare.shell("systemctl stop kubelet || :; rm -rf /var/lib/haechi/host")
        spare_id = await yard.device(spare)
        await yard.does("POST", f"/clusters/{cluster_id}/restore", {"onto_device_id": spare_id})
        assert await word(spare, "before") == "kept"
        for host in (spare, worker):
            await yard.until_node(cluster_id, host, "ok", "connected")
        nodes = await spare.shell(f"{KUBECTL} get nodes")
        assert master.name not in nodes
        assert await worker.shell("ctr -n k8s.io tasks ls | grep -c RUNNING") >= running
        # The old one, should it come back, is cleaned: there is one truth.
        await master.start()
        await master.until(
            "! test -e /etc/kubernetes/manifests/etcd.yaml", "the old one is cleaned", 300
        )
