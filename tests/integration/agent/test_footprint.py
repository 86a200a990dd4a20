"""What an agent with two working AIs costs. Memory is asserted; CPU is shown (-s), not judged."""

import asyncio
import os
import time
from pathlib import Path

from haechi.protocol import commands as c

from .conftest import Edge, ScriptedServer
from .test_containers import image, spec_of, token_of  # noqa: F401 - fixture

LIMIT_MB = 40
SECONDS = float(os.environ.get("FOOTPRINT_S", "8"))


def rss_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def test_memory_with_two_working_ais(
    server: ScriptedServer,
    docker_edge: Edge,
    image,  # noqa: F811
) -> None:
    edge = docker_edge
    edge.start()
    await server.until(lambda: server.samples)
    for spec in (spec_of(image), spec_of(image)):
        await server.order("container.start", c.StartContainer(spec, token_of(spec)))
    await server.until(lambda: len({row.deployment_id for _n, row in server.results}) == 2)
    assert edge.process is not None
    pid = edge.process.pid
    await asyncio.sleep(2)
    began, used = time.monotonic(), cpu_s(pid)
    count = len(server.results)
    await asyncio.sleep(SECONDS)
    took = time.monotonic() - began
    percent = 100 * (cpu_s(pid) - used) / took
    rate = (len(server.results) - count) / took
    print(f"\nagent: {rss_mb(pid):.1f} MB, {percent:.2f} % of a core, {rate:.1f} results/s")
    assert rss_mb(pid) <= LIMIT_MB
