"""Three control planes: what is done with them, and what must be true of them then."""

import json
import time
from dataclasses import dataclass
from typing import Any

from haechi.core.operations import Operation
from haechi.core.secrets import Secret
from haechi.domains.clusters import etcd
from haechi.protocol.desired import ContainerSpec, ContainerStatus
from lab import Host
from lab.yard import KUBECTL, Yard

IMAGE = "registry.k8s.io/pause:3.10.2"
"""Of the bundle, so that it is on every node: what an AI does is of no interest here."""
CONTROL_PLANE = "node-role.kubernetes.io/control-plane"


@dataclass
class Story:
    yard: Yard
    cluster_id: str
    worker: Host

    @property
    def path(self) -> str:
        return f"/clusters/{self.cluster_id}"

    def of(self, host: Host) -> str:
        return self.yard.devices[host.name]

    async def does(self, what: str, method: str, path: str, body: Any = None) -> Operation:
        """Start an operation about the cluster and see it succeed."""
        began_s = time.monotonic()
        done = await self.yard.does(method, f"{self.path}{path}", body)
        print(f"{what} in {time.monotonic() - began_s:.1f} s")
        return done

    # --- AIs

    async def start_ai(self, name: str) -> ContainerStatus:
        spec = ContainerSpec(
            deployment_id=f"dep-{name}",
            package_id="pkg-a",
            version_id="ver-a",
            name=name,
            image=IMAGE,
            camera="none",
        )
        engine = self.yard.haechi.deployments.context.engine
        await engine.start(self.of(self.worker), spec, Secret("token"), [])
        return await self.yard.until(f"{name} runs", lambda: self._running(name))

    async def _running(self, name: str) -> ContainerStatus | None:
        engine = self.yard.haechi.deployments.context.engine
        (status,) = await engine.status(self.of(self.worker), [f"dep-{name}"])
        return status if status.state == "running" else None

    async def process_of(self, ai: ContainerStatus) -> str:
        """`container process state`, as its node's runtime knows it."""
        identity = ai.container_id.rpartition("/")[2]
        tasks = await self.worker.shell("ctr -n k8s.io tasks ls")
        (line,) = [one for one in tasks.splitlines() if one.startswith(identity)]
        return " ".join(line.split())

    # --- the API

    async def write(self, host: Host, name: str) -> float:
        """Have the API keep something, by the node's own proxy; how long that took (s)."""
        began_s = time.monotonic()
        make = f"{KUBECTL} create configmap {name} --from-literal=word=x"
        await host.until(f"{make} || {KUBECTL} get configmap {name}", f"the API keeps {name}", 300)
        return time.monotonic() - began_s

    async def keeps(self, host: Host, name: str) -> bool:
        return await host.holds(f"{KUBECTL} get configmap {name}")

    async def worker_reaches_api(self) -> None:
        """By its own proxy and with its own right, as its kubelet does."""
        ask = f"kubectl --kubeconfig /etc/kubernetes/kubelet.conf get node {self.worker.name}"
        await self.worker.until(ask, "the worker reaches the API", 300)

    async def api_is_well(self) -> None:
        async def well() -> bool:
            return (await self.yard.health(self.cluster_id))["api"] == "ok"

        began_s = time.monotonic()
        await self.yard.until("the API is seen to be well", well)
        print(f"the API is ok in health after {time.monotonic() - began_s:.1f} s")

    # --- nodes

    async def all_well(self, *hosts: Host) -> None:
        for host in hosts:
            await self.yard.until_node(self.cluster_id, host, "ok", "connected")

    async def etcd_is_of(self, *hosts: Host) -> None:
        """These control planes, all of them voting and answering."""
        wanted = {one.name for one in hosts}
        async with self.yard.haechi.hosts.open(self.of(hosts[0])) as shell:
            members = await etcd.members(shell)
            assert {one.name for one in members} == wanted
            assert not [one.name for one in members if one.learner]
            assert await etcd.voters(shell, without="") == etcd.Voters(len(wanted), ())

    async def etcd_is_whole(self, asked: Host, voters: int) -> None:
        """Soon: one that was away has what it missed, and votes."""

        async def whole() -> bool:
            async with self.yard.haechi.hosts.open(self.of(asked)) as shell:
                found = await etcd.voters(shell, without="")
            return bool(found == etcd.Voters(voters, ()))

        await self.yard.until(f"all {voters} of etcd vote", whole)

    async def nodes(self, asked: Host) -> dict[str, bool]:
        """As Kubernetes knows them: is it a control plane, by label and taint?"""
        said = json.loads(await asked.shell(f"{KUBECTL} get nodes -o json"))
        return {
            node["metadata"]["name"]: CONTROL_PLANE in node["metadata"]["labels"]
            and CONTROL_PLANE in {taint["key"] for taint in node["spec"].get("taints", [])}
            for node in said["items"]
        }
