"""A node is lost in one way after the other: it is shown silent, then dead, and why; and it is well
again as soon as what was wrong is.

How soon is printed; that each comes, in this order and with the right reason, is what counts.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from lab import Host, faults
from lab.yard import Yard

from .agents import agent_image  # noqa: F401 - a fixture

MANIFESTS = "/etc/kubernetes/manifests"
PODS = "ctr -n k8s.io tasks ls -q | sort"


class Told:
    """What screens are told of a node, or of a cluster's API, from now on."""

    def __init__(self, yard: Yard, kind: str, subject: str) -> None:
        self._kind, self._subject = kind, subject
        self._began_s = time.monotonic()
        self.heard: list[tuple[str, str, float]] = []
        """State, reason, and after how many seconds."""
        yard.haechi.bus.on("states", self._hear)

    def _hear(self, _topic: str, data: dict) -> None:
        if (data.get("kind"), data.get("id")) == (self._kind, self._subject):
            after_s = time.monotonic() - self._began_s
            self.heard.append((data["state"], data.get("reason", ""), after_s))

    @property
    def states(self) -> list[str]:
        """Each once, while it lasted."""
        found = [state for state, _, _ in self.heard]
        return [one for n, one in enumerate(found) if n == 0 or found[n - 1] != one]

    def __str__(self) -> str:
        return ", ".join(f"{state} ({why}) {s:.1f} s" for state, why, s in self.heard)


class Scene:
    def __init__(self, yard: Yard, cluster_id: str) -> None:
        self.yard, self.cluster_id = yard, cluster_id

    async def well(self, *hosts: Host) -> None:
        """With their agents, which come after the node itself."""
        for host in hosts:
            await self.yard.until_node(self.cluster_id, host, "ok", "connected")
            await self.yard.until(f"the agent of {host.name} has called in", self._agent(host))

    def _agent(self, host: Host) -> Callable[[], Awaitable[bool]]:
        async def there() -> bool:
            return bool((await self.yard.node(self.cluster_id, host))["agent_connected"])

        return there

    async def api(self, state: str) -> None:
        async def seen() -> bool:
            health = await self.yard.health(self.cluster_id)
            return bool(health["api"] == state)

        await self.yard.until(f"the API is {state}", seen)

    @asynccontextmanager
    async def lost(self, host: Host, why: str) -> AsyncIterator[None]:
        """What is done before the body is over makes the node silent, then dead, because of `why`."""
        told = Told(self.yard, "node", self.yard.devices[host.name])
        yield
        await self.yard.until_node(self.cluster_id, host, "dead", why)
        print(f"{why}: {told}")
        # A machine that is very busy may falter before.
        assert told.states[-2:] == ["silent", "dead"], told


@pytest.fixture
async def scene(site, prepared_hosts, tmp_path, agent_image):  # noqa: F811
    master, worker = await prepared_hosts(2)
    async with Yard.open(site, tmp_path / "data", **{"agents.image": agent_image}) as yard:
        made = Scene(yard, await yard.form([master], [worker]))
        await made.well(master, worker)
        yield made, master, worker


async def test_every_way_in_which_a_node_is_lost(scene):
    made, master, worker = scene

    async with made.lost(worker, "kubelet_dead"):
        await worker.shell("systemctl stop kubelet")
    await worker.shell("systemctl start kubelet")
    await made.well(worker)

    async with made.lost(worker, "runtime_dead"):
        await worker.shell("systemctl stop containerd")
    assert await worker.holds("systemctl is-active --quiet kubelet")
    await worker.shell("systemctl start containerd")
    await made.well(worker)

    async with made.lost(worker, "host_stuck"):
        await worker.pause()
    await worker.resume()
    await made.well(worker)

    # The server alone is cut off: a neighbour reaches the node.
    async with made.lost(worker, "path_down"):
        await faults.partition(worker, made.yard.site.gateway)
    await faults.partition(worker)
    await made.well(worker)

    async with faults.unplugged(worker), made.lost(worker, "unreachable"):
        pass
    await made.well(worker)

    async with made.lost(worker, "unreachable"):
        await worker.kill()
    await worker.start()
    await made.well(worker)

    await _api_away(made, master, worker)


async def _api_away(made: Scene, master: Host, worker: Host) -> None:
    """That is no node's fault, and what runs goes on."""
    told = Told(made.yard, "cluster_api", made.cluster_id)
    before = await worker.shell(PODS)
    await master.shell(f"mv {MANIFESTS}/kube-apiserver.yaml /root/")
    await made.api("away")
    for host in (master, worker):
        await made.yard.until_node(made.cluster_id, host, "ok", "api_away")
    assert await worker.shell(PODS) == before
    await master.shell(f"mv /root/kube-apiserver.yaml {MANIFESTS}/")
    await made.api("ok")
    await made.well(master, worker)
    print(f"API: {told}")
    assert told.states == ["away", "ok"]
