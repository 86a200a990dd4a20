"""Addresses change: a worker's, and it is led home; the control plane's, and haechi says what to do;
the server's own, and one command tells every node.
"""

import socket
import time
from pathlib import Path

from lab import Host, Site, faults
from lab.yard import KUBECTL, Yard

from .agents import agent_image  # noqa: F401 - a fixture

PUBLIC_IP = r"flannel\.alpha\.coreos\.com/public-ip"
VTEP = "ip -4 -o address show flannel.1 | awk '{print $4}' | cut -d/ -f1"


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
    def __init__(self, yard: Yard, cluster_id: str, master: Host, worker: Host) -> None:
        self.yard, self.id = yard, cluster_id
        self.master, self.worker = master, worker

    async def home(self, host: Host, address: str) -> None:
        """It is well at this address, and its agent has called from there."""

        async def there() -> bool:
            node = await self.yard.node(self.id, host)
            return (
                node["presence"] == "ok"
                and node["address"] == address
                and node["agent_connected"]
                and node["found_address"] is None
            )

        began_s = time.monotonic()
        await self.yard.until(f"{host.name} is at home at {address}", there)
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


async def test_addresses_that_change(
    site: Site,
    prepared_hosts,
    tmp_path: Path,
    agent_image: str,  # noqa: F811
):
    master, worker = await prepared_hosts(2)
    ports = free_ports(site.gateway, 2)
    here = listening(site.gateway, ports, agent_image)
    async with Yard.open(site, tmp_path / "data", **here) as yard:
        made = Cluster(yard, await yard.form([master], [worker]), master, worker)
        for host in (master, worker):
            await made.home(host, host.address)
        await _a_worker_moves(site, made)
        await _the_control_plane_moves(site, made)
        devices = yard.devices
    async with faults.second_address(site) as elsewhere:
        there = listening(elsewhere, ports, agent_image)
        async with Yard.open(site, tmp_path / "data", **there) as yard:
            yard.devices = devices
            await _the_server_moved(Cluster(yard, made.id, master, worker), elsewhere)


async def _a_worker_moves(site: Site, made: Cluster) -> None:
    """Nobody does anything."""
    new = await faults.readdress(site, made.worker)
    await made.home(made.worker, new)
    (led,) = await made.readdressings()
    assert led["requested_by"] == "system"
    await made.yard.ended(await made.yard.haechi.operations.get(led["id"]))
    await made.network_leads_to(made.worker, made.master)


async def _the_control_plane_moves(site: Site, made: Cluster) -> None:
    """It is found and shown; it moves when somebody says so, and leaves nothing of its old address."""
    yard, master, worker = made.yard, made.master, made.worker
    old = master.address
    new = await faults.readdress(site, master)

    async def found() -> bool:
        node = await yard.node(made.id, master)
        return (node["found_address"], node["reason"]) == (new, "address_changed")

    await yard.until(f"the control plane is found at {new}", found)
    assert "readdress" in (await yard.node(made.id, master))["remedy"]
    await yard.until_node(made.id, worker, "ok", "api_away")
    assert len(await made.readdressings()) == 1
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
