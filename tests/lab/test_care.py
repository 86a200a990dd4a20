"""A cluster of real hosts is looked after: backups, certificates, its own pods, hosts that join in bad
times, and the ways back.

One cluster for all scenes: forming it takes longest.
"""

import io
import json
import shlex
import tarfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from haechi.core.access import SYSTEM
from haechi.core.operations import Operation
from haechi.domains.clusters import tokens
from haechi.domains.clusters.consent import Consent
from lab import Host, Site, faults, ready
from lab.yard import ACCEPT, KUBECTL, Yard

pytestmark = pytest.mark.asyncio(loop_scope="module")

RUNNING = "ctr -n k8s.io tasks ls | grep -c RUNNING"
SERIAL = "sha256sum /etc/kubernetes/pki/apiserver.crt"
NONE = "/none"
"""A command that no image has."""
JOINS = "systemctl is-active -q haechi-kubeadm"


@dataclass
class Cluster:
    yard: Yard
    id: str
    master: Host
    worker: Host
    spares: list[Host]
    """Of no cluster yet."""

    async def is_well(self, *hosts: Host) -> None:
        for host in hosts or (self.master, self.worker):
            await self.yard.until_node(self.id, host, "ok", "connected")

    async def kubectl(self, words: str) -> str:
        return await self.master.shell(f"{KUBECTL} {words}")

    async def spare(self) -> Host:
        """One more that may become a node."""
        host = self.spares.pop()
        await ready.forget(host)
        await self.yard.device(host)
        return host

    async def are_nodes(self, *hosts: Host) -> None:
        """These, all Ready, and no others."""
        said = await self.kubectl("get nodes --no-headers")
        found = sorted(tuple(line.split()[:2]) for line in said.splitlines())
        assert found == sorted((host.hostname, "Ready") for host in hosts)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(bundle, tmp_path_factory) -> AsyncIterator[Cluster]:
    made = await ready.by_haechi(bundle)
    async with Site() as site:
        master, worker, *spares = await made.add(site, 6)
        async with Yard.open(site, tmp_path_factory.mktemp("care") / "data") as yard:
            cluster_id = await yard.form([master], [worker])
            yield Cluster(yard, cluster_id, master, worker, spares)


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


@dataclass(frozen=True)
class Pods:
    """Of one of the cluster's own daemon sets."""

    namespace: str
    daemonset: str
    label: str
    container: str

    async def of(self, cluster: Cluster, host: Host) -> str:
        """Its pod there."""
        return await self._at(cluster, f"get pods {self._on(host)} -o name")

    def _on(self, host: Host) -> str:
        return f"-l {self.label} --field-selector spec.nodeName={host.hostname}"

    async def anew(self, cluster: Cluster, host: Host) -> None:
        pod = await self.of(cluster, host)
        await cluster.kubectl(f"-n {self.namespace} delete {pod}")

    async def stay_broken(self, cluster: Cluster, host: Host) -> None:
        """An update is begun there and taken back, but not on that host."""
        broken = {"containers": [{"name": self.container, "command": [NONE]}]}
        by_hand = {"updateStrategy": {"type": "OnDelete", "rollingUpdate": None}}
        await self._patch(cluster, {**by_hand, "template": {"spec": broken}})
        await self._until(
            cluster,
            f"get daemonset {self.daemonset} -o "
            "jsonpath='{.metadata.generation} {.status.observedGeneration}'",
            "grep -Ex '([0-9]+) \\1'",
            "the update is seen",
        )
        await self.anew(cluster, host)
        await self._until(
            cluster,
            f"get pods {self._on(host)} -o jsonpath='{{.items[*].spec.containers[*].command}}'",
            f"grep -F {NONE}",
            "its pod is the broken one",
        )
        await self._at(cluster, f"rollout undo daemonset {self.daemonset}")

    async def heal(self, cluster: Cluster, host: Host) -> None:
        await self.anew(cluster, host)
        await self._patch(cluster, {"updateStrategy": {"type": "RollingUpdate"}})

    async def _patch(self, cluster: Cluster, spec: dict[str, Any]) -> None:
        patch = shlex.quote(json.dumps({"spec": spec}))
        await self._at(cluster, f"patch daemonset {self.daemonset} -p {patch}")

    async def _at(self, cluster: Cluster, words: str) -> str:
        return await cluster.kubectl(f"-n {self.namespace} {words}")

    async def _until(self, cluster: Cluster, words: str, says: str, wanted: str) -> None:
        await cluster.master.until(f"{KUBECTL} -n {self.namespace} {words} | {says}", wanted)


PROXY = Pods("kube-system", "kube-proxy", "k8s-app=kube-proxy", "kube-proxy")
FLANNEL = Pods("kube-flannel", "kube-flannel-ds", "app=flannel", "kube-flannel")


async def until_found(cluster: Cluster, wanted: dict[str, str]) -> dict[str, Any]:
    """Its health finds these, each on its host ("" for none), and nothing else."""

    async def seen() -> Any:
        found = {one["name"]: one for one in (await cluster.yard.health(cluster.id))["findings"]}
        fits = {name: one["host"] for name, one in found.items()} == wanted
        return (found,) if fits else None

    (found,) = await cluster.yard.until(f"found is {wanted}", seen)
    return dict(found)


async def test_its_own_pods_are_seen_to_and_hold_no_host_off(cluster: Cluster):
    """One node's are broken, nobody answers for names; a host that joins is blamed for neither."""
    yard, worker = cluster.yard, cluster.worker
    await until_found(cluster, {})
    for pods in (PROXY, FLANNEL):
        await pods.stay_broken(cluster, worker)
    await cluster.kubectl("-n kube-system scale deployment coredns --replicas=0")
    broken = {"services_down": worker.hostname, "pod_network_down": worker.hostname}
    found = await until_found(cluster, {**broken, "names_down": ""})
    for name in broken:
        assert found[name]["device_id"] == yard.devices[worker.name]
        assert found[name]["data"]["reason"] in found[name]["detail"]
    await cluster.is_well()  # no node is lost for it

    left = tokens.token_secret(tokens.new_token(tokens.JOINING), "2099-01-01T00:00:00Z")
    apply = f"{KUBECTL} apply -f -"
    await cluster.master.shell(apply, stdin=json.dumps(left).encode())
    newcomer = await cluster.spare()
    joins = {"device_ids": [yard.devices[newcomer.name]], "role": "worker", "accept": ACCEPT}
    added = await yard.does("POST", f"/clusters/{cluster.id}/nodes", joins)
    log = await yard.log(added)
    for name in (*broken, "names_down"):
        assert found[name]["code"] in log, log
    secrets = await cluster.kubectl("-n kube-system get secrets -o name")
    assert left["metadata"]["name"] not in secrets
    await cluster.are_nodes(cluster.master, worker, newcomer)

    for pods in (PROXY, FLANNEL):
        await pods.heal(cluster, worker)
    await cluster.kubectl("-n kube-system scale deployment coredns --replicas=2")
    await until_found(cluster, {})
    await yard.does("DELETE", f"/clusters/{cluster.id}/nodes/{yard.devices[newcomer.name]}")
    await cluster.are_nodes(cluster.master, worker)


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
