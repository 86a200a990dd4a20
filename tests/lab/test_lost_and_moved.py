"""A node is lost in one way after the other: it is shown silent, then dead, and why; and it is well
again as soon as what was wrong is. Then addresses change: a worker's, and it is led home; the
control plane's with the worker's, and haechi says what to do; the server's own, and one command tells
every node.

How soon is printed; that each comes, in this order and with the right reason, is what counts. One
cluster for all scenes: forming it takes longest.
"""

import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from lab import Host, Site, faults, ready
from lab.yard import KUBECTL, Yard

from .agents import agent_image  # noqa: F401 - a fixture

pytestmark = pytest.mark.asyncio(loop_scope="module")

MANIFESTS = "/etc/kubernetes/manifests"
PODS = "ctr -n k8s.io tasks ls -q | sort"
PUBLIC_IP = r"flannel\.alpha\.coreos\.com/public-ip"
VTEP = "ip -4 -o address show flannel.1 | awk '{print $4}' | cut -d/ -f1"


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


def free_ports(address: str, count: int) -> list[int]:
    sockets = [socket.create_server((address, 0)) for _ in range(count)]
    found = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return found


def listening(address: str, ports: list[int], image: str) -> dict[str, str]:
    agents, registry = ports
    return {
        "server.listen": f"{address}:0",
        "agents.listen": f"{address}:{agents}",
        "registry.listen": f"{address}:{registry}",
        "agents.image": image,
    }


class Cluster:
    """Of a master and a worker with their agents, and its server, which may move."""

    def __init__(self, site: Site, folder: Path, image: str, hosts: list[Host]) -> None:
        self.site = site
        self.master, self.worker = hosts
        self.id = ""
        self._folder, self._image = folder, image
        self._ports = free_ports(site.gateway, 2)
        self._devices: dict[str, str] = {}
        self._running = AsyncExitStack()

    async def serve(self, address: str) -> None:
        """The server is at this address from now on."""
        await self.stop()
        given = listening(address, self._ports, self._image)
        opening = Yard.open(self.site, self._folder, **given)
        self.yard = await self._running.enter_async_context(opening)
        self.yard.devices = self._devices

    async def stop(self) -> None:
        await self._running.aclose()

    async def well(self, *hosts: Host) -> None:
        """With their agents, which come after the node itself."""
        for host in hosts:
            await self.yard.until_node(self.id, host, "ok", "connected")
            await self.yard.until(f"the agent of {host.name} has called in", self._agent(host))

    def _agent(self, host: Host) -> Callable[[], Awaitable[bool]]:
        async def there() -> bool:
            return bool((await self.yard.node(self.id, host))["agent_connected"])

        return there

    async def api(self, state: str) -> None:
        async def seen() -> bool:
            health = await self.yard.health(self.id)
            return bool(health["api"] == state)

        await self.yard.until(f"the API is {state}", seen)

    @asynccontextmanager
    async def lost(self, host: Host, why: str) -> AsyncIterator[None]:
        """What is done before the body is over makes the node silent, then dead, because of `why`."""
        told = Told(self.yard, "node", self.yard.devices[host.name])
        yield
        await self.yard.until_node(self.id, host, "dead", why)
        print(f"{why}: {told}")
        # A machine that is very busy may falter before.
        assert told.states[-2:] == ["silent", "dead"], told

    async def home(self, host: Host, address: str) -> None:
        """It is well at this address, and its agent has called from there."""
        node: dict[str, Any] = {}

        async def there() -> bool:
            node.update(await self.yard.node(self.id, host))
            return (
                node["presence"] == "ok"
                and node["address"] == address
                and node["agent_connected"]
                and node["found_address"] is None
            )

        began_s = time.monotonic()
        try:
            await self.yard.until(f"{host.name} is at home at {address}", there)
        except AssertionError:
            print(node)
            raise
        print(f"{host.name} is at home at {address} after {time.monotonic() - began_s:.1f} s")
        device = await self.yard.server.client.get(f"/devices/{self.yard.devices[host.name]}")
        assert device.json()["address"] == address

    async def readdressings(self) -> list[dict]:
        params = {"subject": self.id}
        found = await self.yard.server.client.get("/operations", params=params)
        return [one for one in found.json()["items"] if one["kind"] == "readdress_node"]

    async def network_leads_to(self, host: Host, other: Host) -> None:
        """The pods' network: from the other node through the tunnel to this one."""
        said = f"{KUBECTL} get node {host.name} -o jsonpath='{{.metadata.annotations.{PUBLIC_IP}}}'"
        await self.master.until(f"{said} | grep -xF {host.address}", "flannel says so", 300)
        end = await host.shell(VTEP)
        await other.until(f"ping -n -c 1 -W 1 {end}", f"the pods' network leads to {host.name}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(bundle, tmp_path_factory, agent_image) -> AsyncIterator[Cluster]:  # noqa: F811
    prepared = await ready.by_haechi(bundle, agent=agent_image)
    async with Site() as site:
        hosts = await prepared.add(site, 2)
        made = Cluster(site, tmp_path_factory.mktemp("server") / "data", agent_image, hosts)
        try:
            await made.serve(site.gateway)
            made.id = await made.yard.form([made.master], [made.worker])
            await made.well(*hosts)
            yield made
        finally:
            await made.stop()


async def test_every_way_in_which_a_node_is_lost(cluster: Cluster):
    made, master, worker = cluster, cluster.master, cluster.worker
    await made.yard.until_all_run(master)
    pods = len((await worker.shell(PODS)).split())

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

    again = f"test $({PODS} | wc -l) = {pods}"
    await worker.until(again, "all that ran there runs again", 300)
    await _api_away(made, master, worker)


async def _api_away(made: Cluster, master: Host, worker: Host) -> None:
    """That is no node's fault, and what runs goes on."""
    told = Told(made.yard, "cluster_api", made.id)
    before = set((await worker.shell(PODS)).split())
    await master.shell(f"mv {MANIFESTS}/kube-apiserver.yaml /root/")
    try:
        await made.api("away")
        for host in (master, worker):
            await made.yard.until_node(made.id, host, "ok", "api_away")
        # One that had not come back yet may have come meanwhile.
        assert before <= set((await worker.shell(PODS)).split())
    finally:
        await master.shell(f"mv /root/kube-apiserver.yaml {MANIFESTS}/")
    await made.api("ok")
    await made.well(master, worker)
    print(f"API: {told}")
    assert told.states == ["away", "ok"]


async def test_addresses_that_change(cluster: Cluster):
    """Last: another server is there at its end."""
    await cluster.api("ok")
    for host in (cluster.master, cluster.worker):
        await cluster.home(host, host.address)
    await _a_worker_moves(cluster)
    await _the_control_plane_moves(cluster)
    async with faults.second_address(cluster.site) as elsewhere:
        await cluster.serve(elsewhere)
        await _the_server_moved(cluster, elsewhere)
        await cluster.stop()


async def _a_worker_moves(made: Cluster) -> None:
    """Nobody does anything."""
    new = await faults.readdress(made.site, made.worker)
    await made.home(made.worker, new)
    (led,) = await made.readdressings()
    assert led["requested_by"] == "system"
    await made.yard.ended(await made.yard.haechi.operations.get(led["id"]))
    await made.network_leads_to(made.worker, made.master)


async def _the_control_plane_moves(made: Cluster) -> None:
    """It is found and shown; it moves when somebody says so, and leaves nothing of its old address."""
    yard, master, worker = made.yard, made.master, made.worker
    old = master.address
    new = await faults.readdress(made.site, master)

    async def found() -> bool:
        node = await yard.node(made.id, master)
        return (node["found_address"], node["reason"]) == (new, "address_changed")

    await yard.until(f"the control plane is found at {new}", found)
    assert "readdress" in (await yard.node(made.id, master))["remedy"]
    await yard.until_node(made.id, worker, "ok", "api_away")
    assert len(await made.readdressings()) == 1
    # As where a router is replaced: the worker moves too, while the API can be told nothing.
    await made.home(worker, await faults.readdress(made.site, worker))
    path = f"/clusters/{made.id}/nodes/{yard.devices[master.name]}/readdress"
    done = await yard.does("POST", path, {})
    assert (done.ctx["result"]["old"], done.ctx["result"]["address"]) == (old, new)
    for host in (master, worker):
        await made.home(host, host.address)
        proxy = await host.shell("cat /etc/haechi/api-proxy.cfg")
        assert f"{new}:6443" in proxy
        assert old not in proxy
    assert (await master.tries(f"grep -rlwF {old} /etc/kubernetes")).out == ""
    ends = f"{KUBECTL} get endpointslices -n default kubernetes -o jsonpath='{{.endpoints}}'"
    await master.until(f"{ends} | grep -wF {new}", "pods reach the API at its new address")
    await master.until(f"! {ends} | grep -wF {old}", "and are not sent to the old one")
    await made.network_leads_to(master, worker)
    await made.network_leads_to(worker, master)


async def _the_server_moved(made: Cluster, elsewhere: str) -> None:
    """Registry and agents know it by names of their own; one command says where they lead."""
    yard = made.yard
    name = yard.haechi.registry_parts.names.pull.partition(":")[0]
    done = await yard.does("POST", "/server/readdress")
    await yard.haechi.operations.flush_log(done.id)
    log = yard.haechi.operations.log_path(done.id).read_text()
    assert log.count("was reached, trusted and entered") == 2, log
    for host in (made.master, made.worker):
        assert (await host.shell(f"getent hosts {name}")).split()[0] == elsewhere
        await made.home(host, host.address)
