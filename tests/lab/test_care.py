"""A cluster of real hosts is looked after: backups, certificates, and the ways back.

One cluster for all scenes: forming it takes longest.
"""

import io
import tarfile
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from lab import Host, Site, ready
from lab.yard import KUBECTL, Yard

from .expiry import PKI, let_control_plane_end, let_kubelet_end

pytestmark = pytest.mark.asyncio(loop_scope="module")

RUNNING = "ctr -n k8s.io tasks ls | grep -c RUNNING"
SERIAL = f"sha256sum {PKI}/apiserver.crt"


@dataclass
class Cluster:
    yard: Yard
    id: str
    master: Host
    worker: Host
    spare: Host
    """Of no cluster yet."""

    async def is_well(self) -> None:
        for host in (self.master, self.worker):
            await self.yard.until_node(self.id, host, "ok", "connected")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(bundle, tmp_path_factory) -> AsyncIterator[Cluster]:
    made = await ready.by_haechi(bundle)
    async with Site() as site:
        master, worker, spare = await made.add(site, 3)
        async with Yard.open(site, tmp_path_factory.mktemp("care") / "data") as yard:
            cluster_id = await yard.form([master], [worker])
            yield Cluster(yard, cluster_id, master, worker, spare)


async def made(host: Host, name: str, content: str) -> None:
    await host.shell(f"{KUBECTL} create configmap {name} --from-literal=word={content}")


async def word(host: Host, name: str) -> str | None:
    said = await host.tries(f"{KUBECTL} get configmap {name} -o jsonpath='{{.data.word}}'")
    return said.out if said.status == 0 else None


async def test_a_backup_brings_one_control_plane_back(cluster: Cluster):
    yard, master = cluster.yard, cluster.master
    path = f"/clusters/{cluster.id}"
    await made(master, "before", "kept")
    done = await yard.does("POST", f"{path}/backups")
    backup_id = done.ctx["result"]["backup_id"]
    print(f"backup of {done.ctx['result']['size_bytes']} bytes")
    content = await yard.server.client.get(f"{path}/backups/{backup_id}/content")
    with tarfile.open(fileobj=io.BytesIO(content.content), mode="r:gz") as tar:
        names = set(tar.getnames())
    assert {"etcd.db", "etc/kubernetes/pki/ca.key", "etc/kubernetes/admin.conf"} <= names
    await made(master, "after", "lost")
    await yard.does("POST", f"{path}/restore", {"backup_id": backup_id})
    assert await word(master, "before") == "kept"
    assert await word(master, "after") is None
    await cluster.is_well()
    assert not await master.holds("test -e /var/lib/haechi-backup")
    assert not await master.holds("test -e /var/lib/etcd.before-restore")


async def test_certificates_are_renewed_in_time_or_after_it(cluster: Cluster):
    yard, master = cluster.yard, cluster.master
    path = f"/clusters/{cluster.id}/certificates"
    shown = (await yard.server.client.get(path, timeout=120)).json()
    names = {one["name"] for one in shown["certificates"]}
    assert {"apiserver", "etcd-server", "admin.conf", "kubelet"} <= names
    assert shown["not_reached"] == []

    before = await master.shell(SERIAL)
    done = await yard.does("POST", f"{path}/renew", {})
    assert done.ctx["result"]["renewed"] == [yard.devices[master.name]]
    assert await master.shell(SERIAL) != before
    assert "Ready" in await master.shell(f"{KUBECTL} get nodes")
    await cluster.is_well()

    await _a_host_was_off_for_long(cluster)
    await _the_site_was_off_for_long(cluster)


async def _a_host_was_off_for_long(cluster: Cluster) -> None:
    """Its kubelet can neither log in nor ask for another certificate, and starts nothing."""
    yard, master, worker = cluster.yard, cluster.master, cluster.worker
    await let_kubelet_end(worker, master)
    await worker.kill()
    await worker.start()
    await yard.until_node(cluster.id, worker, "dead", "kubelet_dead")
    done = await yard.does("POST", f"/clusters/{cluster.id}/certificates/renew", {"every": False})
    assert done.ctx["result"]["renewed"] == []
    assert done.ctx["result"]["kubelets"] == [yard.devices[worker.name]]
    await yard.until_node(cluster.id, worker, "ok", "connected")


async def _the_site_was_off_for_long(cluster: Cluster) -> None:
    """Nothing of it may talk to anything else of it."""
    yard, master, worker = cluster.yard, cluster.master, cluster.worker
    await let_kubelet_end(worker, master)
    await let_kubelet_end(master, master)
    await let_control_plane_end(master)
    for host in (worker, master):
        await host.kill()
        await host.start()
    for host in (worker, master):
        await yard.until_node(cluster.id, host, "dead", "kubelet_dead")
    done = await yard.does("POST", f"/clusters/{cluster.id}/certificates/renew", {"every": False})
    assert done.ctx["result"]["renewed"] == [yard.devices[master.name]]
    both = sorted(yard.devices[host.name] for host in (master, worker))
    assert done.ctx["result"]["kubelets"] == both
    await cluster.is_well()
    await master.until(f"{KUBECTL} get nodes | grep -c ' Ready ' | grep -x 2", "both are Ready")


async def test_another_host_becomes_the_control_plane(cluster: Cluster):
    """Last: the first one is of no cluster any more."""
    yard, master, worker, spare = cluster.yard, cluster.master, cluster.worker, cluster.spare
    await made(master, "there", "kept")
    await yard.does("POST", f"/clusters/{cluster.id}/backups")
    running = int(await worker.shell(RUNNING))
    await master.kill()
    await ready.forget(spare)
    spare_id = await yard.device(spare)
    await yard.does("POST", f"/clusters/{cluster.id}/restore", {"onto_device_id": spare_id})
    assert await word(spare, "there") == "kept"
    for host in (spare, worker):
        await yard.until_node(cluster.id, host, "ok", "connected")
    nodes = await spare.shell(f"{KUBECTL} get nodes")
    assert master.name not in nodes
    assert int(await worker.shell(RUNNING)) >= running
    # The old one, should it come back, is cleaned: there is one truth.
    await master.start()
    await master.until(
        "! test -e /etc/kubernetes/manifests/etcd.yaml", "the old one is cleaned", 300
    )
