"""A cluster of real hosts is looked after in rarer trouble: its own pods broken, and hosts, then the
whole site, back after their certificates have ended.

One cluster for all scenes: forming it takes longest.
"""

import json
import shlex
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from tests.lab.caring import Cluster, opened

from haechi.domains.clusters import tokens
from lab import Host
from lab.yard import ACCEPT, KUBECTL

from .expiry import let_control_plane_end, let_kubelet_end

pytestmark = pytest.mark.asyncio(loop_scope="module")

NONE = "/none"
"""A command that no image has."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(bundle, tmp_path_factory) -> AsyncIterator[Cluster]:
    async with opened(bundle, tmp_path_factory.mktemp("upkeep") / "data", spares=1) as made:
        yield made


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


async def renewed(cluster: Cluster) -> dict[str, Any]:
    """What renewing what has ended did."""
    path = f"/clusters/{cluster.id}/certificates/renew"
    done = await cluster.yard.does("POST", path, {"every": False})
    return dict(done.ctx["result"])


async def test_a_host_that_was_off_for_long(cluster: Cluster):
    """Its kubelet can neither log in nor ask for another certificate, and starts nothing."""
    yard, master, worker = cluster.yard, cluster.master, cluster.worker
    await let_kubelet_end(worker, master)
    await worker.kill()
    await worker.start()
    await yard.until_node(cluster.id, worker, "dead", "kubelet_dead")
    done = await renewed(cluster)
    assert done["renewed"] == []
    assert done["kubelets"] == [yard.devices[worker.name]]
    await yard.until_node(cluster.id, worker, "ok", "connected")


async def test_a_site_that_was_off_for_long(cluster: Cluster):
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
    done = await renewed(cluster)
    assert done["renewed"] == [yard.devices[master.name]]
    assert done["kubelets"] == sorted(yard.devices[host.name] for host in (master, worker))
    await cluster.is_well()
    await master.until(f"{KUBECTL} get nodes | grep -c ' Ready ' | grep -x 2", "both are Ready")
