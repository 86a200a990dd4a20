"""Power lost while a worker joins: the worker's own, and the control plane's. One cluster for both."""

from typing import Any

from haechi.core.access import SYSTEM
from lab import Host, faults
from lab.yard import KUBECTL, Yard

JOINS = "systemctl is-active -q haechi-kubeadm"


async def joining(yard: Yard, cluster_id: str, worker: Host, master: Host) -> Any:
    """The operation that adds it, in the middle of kubeadm's work, which cannot end: the worker
    does not reach the control plane.
    """
    device_id = await yard.device(worker)
    operation = await yard.haechi.clusters.add_node(cluster_id, [device_id], by=SYSTEM)
    await yard.until_step(operation, "join_workers")
    await faults.partition(worker, master.address)
    await worker.until(JOINS, "kubeadm is at work", timeout_s=300)
    return operation


async def ready_nodes(master: Host) -> list[str]:
    said = await master.shell(f"{KUBECTL} get nodes --no-headers")
    return sorted(line.split()[0] for line in said.splitlines() if line.split()[1] == "Ready")


async def test_power_lost_while_a_worker_joins(site, prepared_hosts, tmp_path):
    master, first, second = await prepared_hosts(3)
    async with Yard.open(site, tmp_path / "data") as yard:
        for host in (first, second):
            await host.shell("systemctl stop kubelet || :; rm -rf /var/lib/haechi/host")
        cluster_id = await yard.form([master], [])

        operation = await joining(yard, cluster_id, first, master)
        await first.kill()
        await first.start()  # with a network of its own again
        await yard.ended(operation)
        assert "an interrupted try is taken back first" in await yard.log(operation)
        assert await ready_nodes(master) == sorted([master.hostname, first.hostname])

        operation = await joining(yard, cluster_id, second, master)
        await master.kill()
        await faults.partition(second)
        assert not await master.running()
        await master.start()
        await yard.ended(operation)
        for host in (master, first, second):
            await yard.until_node(cluster_id, host, "ok", "connected")
        nodes = sorted(one.hostname for one in (master, first, second))
        assert await ready_nodes(master) == nodes
