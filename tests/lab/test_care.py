"""A cluster of real hosts is looked after: backups, certificates, hosts that join in bad times, and the
ways back.

One cluster for all scenes: forming it takes longest.
"""

import io
import tarfile
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from haechi.core.access import SYSTEM
from haechi.core.operations import Operation
from haechi.domains.clusters.consent import Consent
from lab import Host, faults
from lab.yard import ACCEPT, KUBECTL

from .caring import Cluster, opened

pytestmark = pytest.mark.asyncio(loop_scope="module")

RUNNING = "ctr -n k8s.io tasks ls | grep -c RUNNING"
SERIAL = "sha256sum /etc/kubernetes/pki/apiserver.crt"
JOINS = "systemctl is-active -q haechi-kubeadm"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(bundle, tmp_path_factory) -> AsyncIterator[Cluster]:
    async with opened(bundle, tmp_path_factory.mktemp("care") / "data", spares=3) as made:
        yield made


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


async def test_certificates_are_renewed_in_time(cluster: Cluster):
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
    assert "Ready" in await cluster.kubectl("get nodes")
    await cluster.is_well()


async def joining(cluster: Cluster, host: Host) -> Operation:
    """The operation that adds it, in the middle of kubeadm's work, which cannot end: the host does
    not reach the control plane.
    """
    yard = cluster.yard
    device_id = yard.devices[host.name]
    operation: Operation = await yard.haechi.clusters.add_node(
        cluster.id, [device_id], consent=Consent(ACCEPT), by=SYSTEM
    )
    # In time: kubeadm needs a second or two.
    await yard.until_step(operation, "snapshot", "prepare", "join_workers")
    await faults.partition(host, cluster.master.address)
    await host.until(JOINS, "kubeadm is at work", timeout_s=300)
    return operation


async def test_power_lost_while_a_worker_joins(cluster: Cluster):
    """The worker's own, and the control plane's."""
    yard, master, worker = cluster.yard, cluster.master, cluster.worker
    first, second = [await cluster.spare() for _ in range(2)]

    operation = await joining(cluster, first)
    await first.kill()
    await first.start()  # with a network of its own again
    await yard.ended(operation)
    assert "an interrupted try is taken back first" in await yard.log(operation)
    await cluster.are_nodes(master, worker, first)

    operation = await joining(cluster, second)
    await master.kill()
    await faults.partition(second)
    assert not await master.running()
    await master.start()
    await yard.ended(operation)
    await cluster.is_well(master, worker, first, second)
    await cluster.are_nodes(master, worker, first, second)


async def test_another_host_becomes_the_control_plane(cluster: Cluster):
    """Last: the first one is of no cluster any more."""
    yard, master, worker = cluster.yard, cluster.master, cluster.worker
    await made(master, "there", "kept")
    await yard.does("POST", f"/clusters/{cluster.id}/backups")
    running = int(await worker.shell(RUNNING))
    await master.kill()
    spare = await cluster.spare()
    onto = {"onto_device_id": yard.devices[spare.name], "accept": ACCEPT}
    await yard.does("POST", f"/clusters/{cluster.id}/restore", onto)
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
