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
