"""Three control planes: their certificates are renewed, one is moved to another address, one loses its
power, another takes its place, one leaves and joins again, and all of them go back to a backup. API
and AIs stay.

One story of one cluster, for forming it takes longest.
"""

import asyncio
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from haechi.core.operations import Operation
from haechi.core.secrets import Secret
from haechi.domains.clusters import etcd
from haechi.protocol.desired import ContainerSpec, ContainerStatus
from lab import Host, faults, ready
from lab.yard import ACCEPT, KUBECTL, Yard

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

    async def nodes(self, asked: Host) -> dict[str, bool]:
        """As Kubernetes knows them: is it a control plane, by label and taint?"""
        said = json.loads(await asked.shell(f"{KUBECTL} get nodes -o json"))
        return {
            node["metadata"]["name"]: CONTROL_PLANE in node["metadata"]["labels"]
            and CONTROL_PLANE in {taint["key"] for taint in node["spec"].get("taints", [])}
            for node in said["items"]
        }


async def test_three_control_planes(site, prepared_hosts, tmp_path: Path):
    one, two, three, spare, worker = await prepared_hosts(5)
    async with Yard.open(site, tmp_path / "data") as yard:
        cluster_id = await yard.form([one, two, three], [worker])
        story = Story(yard, cluster_id, worker)
        await story.etcd_is_of(one, two, three)
        await story.all_well(one, two, three, worker)
        ai = await story.start_ai("watch")
        process = await story.process_of(ai)
        await certificates_are_renewed(story, [one, two, three])
        await changes_its_address(story, two, [one, three])
        assert await story.process_of(ai) == process
        await story.write(one, "before")
        done = await story.does("backed up", "POST", "/backups")
        backup_id = done.ctx["result"]["backup_id"]

        await loses_its_power(story, one, [two, three])
        await is_replaced(story, one, spare, [two, three])
        await leaves_and_joins_again(story, three, [two, spare])
        assert await story.process_of(ai) == process

        await story.write(two, "after")
        await story.does("restored", "POST", "/restore", {"backup_id": backup_id})
        await goes_back(story, [two, three, spare])
        assert await story.process_of(ai) == process
        assert (await story._running("watch")).restarts == ai.restarts

        await story.does("deleted", "DELETE", "")
        proof = (await yard.server.client.get(f"{story.path}/proof")).json()
        names = {device_id: name for name, device_id in yard.devices.items()}
        left = {names[h["device_id"]]: h for h in proof["hosts"] if h["state"] != "clean"}
        assert left == {}


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


async def loses_its_power(story: Story, dead: Host, others: list[Host]) -> None:
    """The one by which haechi and the others reached the API, all at once."""
    yard = story.yard
    await dead.kill()
    took = await asyncio.gather(*(story.write(host, f"by-{host.name}") for host in others))
    print(f"the API keeps things again after {[f'{one:.1f} s' for one in took]}")
    await story.worker_reaches_api()
    await yard.until_node(story.cluster_id, dead, "dead")
    await story.api_is_well()
    await story.all_well(*others, story.worker)
    # Scheduler and controllers were taken over too.
    await story.start_ai("second")

    # Of the two that are left neither may go.
    answer = await yard.server.client.delete(f"{story.path}/nodes/{story.of(others[0])}")
    refused = await yard.haechi.operations.get(answer.json()["operation_id"])
    refused = await yard.ended(refused, state="failed")
    assert refused.error is not None
    assert refused.error["code"] == "clusters.etcd_majority_needed"
    assert refused.error["data"]["away"] == dead.name
    await story.all_well(*others)


async def is_replaced(story: Story, dead: Host, spare: Host, others: list[Host]) -> None:
    yard = story.yard
    await ready.forget(spare)
    spare_id = await yard.device(spare)
    place = f"/nodes/{story.of(dead)}/replace"
    await story.does("replaced", "POST", place, {"device_id": spare_id, "accept": ACCEPT})
    await story.etcd_is_of(*others, spare)
    await story.all_well(*others, spare, story.worker)
    control_planes = {host.name: True for host in [*others, spare]}
    assert await story.nodes(spare) == {**control_planes, story.worker.name: False}
    # The old one has its power again: it is cleaned, and does not come between.
    await dead.start()
    await dead.until("! test -e /etc/kubernetes/manifests/etcd.yaml", "it is cleaned", 300)

    async def free() -> bool:
        members = (await yard.server.client.get(story.path)).json()["members"]
        return {"gone"} == {m["state"] for m in members if m["device_id"] == story.of(dead)}

    await yard.until("the replaced one is free", free)
    await story.etcd_is_of(*others, spare)


async def leaves_and_joins_again(story: Story, host: Host, others: list[Host]) -> None:
    await story.does("removed", "DELETE", f"/nodes/{story.of(host)}")
    await story.etcd_is_of(*others)
    assert host.name not in await story.nodes(others[0])
    await story.all_well(*others, story.worker)
    joins = {"device_ids": [story.of(host)], "role": "control_plane", "accept": ACCEPT}
    await story.does("joined again", "POST", "/nodes", joins)
    await story.etcd_is_of(*others, host)
    await story.all_well(*others, host, story.worker)


async def goes_back(story: Story, control_planes: list[Host]) -> None:
    """The backup knows one that is gone, and does not know one that came since."""
    await story.etcd_is_of(*control_planes)
    await story.all_well(*control_planes, story.worker)
    for host in control_planes:
        assert await story.keeps(host, "before")
        assert not await story.keeps(host, "after")
        assert not await host.holds(
            "test -e /var/lib/haechi-backup -o -e /var/lib/etcd.before-restore"
        )
    wanted = {host.name: True for host in control_planes}
    assert await story.nodes(control_planes[0]) == {**wanted, story.worker.name: False}
    await story.api_is_well()
