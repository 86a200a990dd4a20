"""A cluster of real hosts that is looked after."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from haechi.domains.clusters.bundle.model import Bundle
from lab import Host, Site, ready
from lab.yard import KUBECTL, Yard


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


@asynccontextmanager
async def opened(bundle: Bundle, folder: Path, *, spares: int) -> AsyncIterator[Cluster]:
    made = await ready.by_haechi(bundle)
    async with Site() as site:
        master, worker, *others = await made.add(site, 2 + spares)
        async with Yard.open(site, folder) as yard:
            cluster_id = await yard.form([master], [worker])
            yield Cluster(yard, cluster_id, master, worker, others)
