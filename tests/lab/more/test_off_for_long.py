"""A host, then a whole site, comes back after its certificates have ended. One cluster for both."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from lab import Host, Site, ready
from lab.yard import KUBECTL, Yard

from .expiry import let_control_plane_end, let_kubelet_end

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Cluster:
    def __init__(self, yard: Yard, id_: str, master: Host, worker: Host) -> None:
        self.yard, self.id = yard, id_
        self.master, self.worker = master, worker

    async def renewed(self) -> dict:
        """What renewing what has ended did."""
        path = f"/clusters/{self.id}/certificates/renew"
        done = await self.yard.does("POST", path, {"every": False})
        return dict(done.ctx["result"])

    async def is_well(self) -> None:
        for host in (self.master, self.worker):
            await self.yard.until_node(self.id, host, "ok", "connected")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(bundle, tmp_path_factory) -> AsyncIterator[Cluster]:
    made = await ready.by_haechi(bundle)
    async with Site() as site:
        master, worker = await made.add(site, 2)
        async with Yard.open(site, tmp_path_factory.mktemp("off") / "data") as yard:
            cluster_id = await yard.form([master], [worker])
            yield Cluster(yard, cluster_id, master, worker)


async def test_a_host_that_was_off_for_long(cluster: Cluster):
    """Its kubelet can neither log in nor ask for another certificate, and starts nothing."""
    yard, master, worker = cluster.yard, cluster.master, cluster.worker
    await let_kubelet_end(worker, master)
    await worker.kill()
    await worker.start()
    await yard.until_node(cluster.id, worker, "dead", "kubelet_dead")
    done = await cluster.renewed()
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
    done = await cluster.renewed()
    assert done["renewed"] == [yard.devices[master.name]]
    assert done["kubelets"] == sorted(yard.devices[host.name] for host in (master, worker))
    await cluster.is_well()
    await master.until(f"{KUBECTL} get nodes | grep -c ' Ready ' | grep -x 2", "both are Ready")
