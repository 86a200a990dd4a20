"""How long forming, growing and deleting clusters takes, beside what the bare commands take on
hosts of the same kind in the same run.
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests.benchmarks.figures import Row, row

from haechi.domains.clusters.bundle.model import Bundle
from lab import Host, Site, byhand, ready
from lab.stand import ACCEPT, Stand

BARE = "kubeadm init, flannel, join, wait by hand in the same run"
SETTLE_S = 20.0


def say(line: str) -> None:
    print(f"  {line}", flush=True)


@asynccontextmanager
async def stand(site: Site, bundle: Bundle) -> AsyncIterator[Stand]:
    """A server of its own beside the site; its data goes with it."""
    with tempfile.TemporaryDirectory(prefix="haechi-bench-lab-") as folder:
        async with Stand.open(site, Path(folder), bundle.folder.parent, say=say) as made:
            yield made


async def ready_hosts(site: Site, bundle: Bundle, count: int) -> list[Host]:
    """With programs and images as after haechi's own preparation, which is forgotten."""
    hosts = await (await ready.by_haechi(bundle)).add(site, count)
    await asyncio.gather(*(ready.forget(host) for host in hosts))
    return hosts


async def bare_form_s(bundle: Bundle, clusters: int, workers: int) -> float:
    """So many clusters of one control plane at once, by the bare commands, until all are ready."""
    network = ready.flannel(bundle)
    async with Site() as site:
        hosts = await (await ready.by_hand(bundle)).add(site, clusters * (1 + workers))
        began_s = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(clusters):
                first, *rest = hosts[number * (1 + workers) :][: 1 + workers]
                group.create_task(byhand.form(first, rest, network, bundle.kubernetes))
        return time.monotonic() - began_s


async def form_s(made: Stand, hosts: list[Host], clusters: int) -> tuple[float, list[str]]:
    """Seconds from the first call to the last Ready, and the clusters' ids. By a key and a sudo that
    asks nothing, for the bare commands run as root at once: a sudo that asks takes 50 ms of the
    host's processor for each command, and here all hosts share this machine's.
    """
    size = len(hosts) // clusters
    await made.know(hosts, by_key=True)
    began_s = time.monotonic()
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(made.form(f"bench-{number}", mine[:1], mine[1:]))
            for number in range(clusters)
            for mine in [hosts[number * size :][:size]]
        ]
    return time.monotonic() - began_s, [task.result() for task in tasks]


async def prepared(
    bundle: Bundle, wanted: Collection[str], rounds: int, *, name: str, clusters: int, workers: int
) -> list[Row]:
    """Images are on the hosts already. By turns by hand and by haechi."""
    by_hand, by_haechi, memory = [], [], []
    for _ in range(rounds):
        if name in wanted:
            by_hand.append(await bare_form_s(bundle, clusters, workers))
            say(f"{name}: by hand {by_hand[-1]:.1f} s")
        async with AsyncExitStack() as stack:
            site = await stack.enter_async_context(Site())
            hosts = await ready_hosts(site, bundle, clusters * (1 + workers))
            made = await stack.enter_async_context(stand(site, bundle))
            seconds, _ = await form_s(made, hosts, clusters)
            by_haechi.append(seconds)
            if "server_rss_mb" in wanted:
                await asyncio.sleep(SETTLE_S)  # watching them all, nothing else to do
                memory.append(rss_mb(made))
    rows = []
    if name in wanted:
        rows.append(row(name, by_haechi, "s", BARE, by_hand))
    if memory:
        rows.append(row("server_rss_mb", memory, f"MB, {clusters} clusters of 1+{workers}"))
    return rows


def rss_mb(made: Stand) -> float:
    """Of the server itself; its registry is a process of its own."""
    assert made.process.process is not None
    status = Path(f"/proc/{made.process.process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) / 1024


async def from_sshd(bundle: Bundle, wanted: Collection[str], rounds: int) -> list[Row]:
    """Hosts with nothing but sshd, the bundle sent to them; and all of it taken back, proven."""
    forming, deleting = [], []
    for _ in range(rounds):
        async with Site() as site:
            hosts = await site.add(2)
            async with stand(site, bundle) as made:
                seconds, (cluster_id,) = await form_s(made, hosts, 1)
                forming.append(seconds)
                if "delete_with_proof_s" in wanted:
                    deleting.append(await delete_s(made, cluster_id))
    rows = []
    if "form_bare_hosts_s" in wanted:
        rows.append(row("form_bare_hosts_s", forming, "s", "target", 75))
    if deleting:
        rows.append(row("delete_with_proof_s", deleting, "s", "target", 10))
    return rows


async def delete_s(made: Stand, cluster_id: str) -> float:
    began_s = time.monotonic()
    await made.ended(await made.call("DELETE", f"/clusters/{cluster_id}"))
    seconds = time.monotonic() - began_s
    proof = await made.call("GET", f"/clusters/{cluster_id}/proof")
    if not proof["clean"]:
        raise SystemExit(f"the cluster was deleted and hosts are not as before: {proof}")
    say(f"deleted in {seconds:.1f} s, all hosts proven clean")
    return seconds


async def add_worker(bundle: Bundle, wanted: Collection[str], rounds: int) -> list[Row]:
    del wanted
    times = []
    for _ in range(rounds):
        async with Site() as site:
            *pair, third = await ready_hosts(site, bundle, 3)
            async with stand(site, bundle) as made:
                _, (cluster_id,) = await form_s(made, pair, 1)
                await made.know([third])
                began_s = time.monotonic()
                body = {"device_ids": [made.ids[third.name]], "accept": ACCEPT}
                await made.ended(
                    await made.call("POST", f"/clusters/{cluster_id}/nodes", json=body)
                )
                times.append(time.monotonic() - began_s)
    return [row("add_worker_s", times, "s")]
