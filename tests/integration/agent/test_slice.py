"""A device that is a limited slice of this machine: its own capacity, its containers inside."""

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from haechi.core import ids
from haechi.protocol import commands as c
from haechi.protocol.samples import Sample

from .conftest import Edge, ScriptedServer, holds
from .test_containers import image, spec_of, token_of  # noqa: F401 - fixture

ROOT = Path("/sys/fs/cgroup")
MEMORY_BYTES = 512 * 1024 * 1024
CORES = 0.5
USED_S = 3.0
"""CPU time that the busy container must have had."""


def used_s(name: str) -> float:
    """CPU time of the slice by the kernel's own book."""
    return int((ROOT / "cpuacct" / name / "cpuacct.usage").read_text()) / 1e9


def shown_s(samples: list[Sample], deployment_id: str) -> tuple[float, float]:
    """CPU time of device and container by what the agent said each second."""
    device_s = container_s = 0.0
    for before, now in itertools.pairwise(samples):
        took_s = (now.monotonic_ms - before.monotonic_ms) / 1000
        device_s += now.cpu_ratio * CORES * took_s
        for one in now.containers:
            if one.deployment_id == deployment_id:
                container_s += one.cpu_ratio * CORES * took_s
    return device_s, container_s


@pytest.fixture
def slice_name() -> Iterator[str]:
    """cgroup v1, as on this machine; v2 is covered by unit tests."""
    name = f"haechi-test-{ids.new_id('device')[4:]}"
    folders = [ROOT / controller / name for controller in ("cpu", "cpuacct", "memory")]
    try:
        for folder in folders:
            folder.mkdir(exist_ok=True)
        (ROOT / "cpu" / name / "cpu.cfs_quota_us").write_text(str(int(CORES * 100_000)))
        (ROOT / "memory" / name / "memory.limit_in_bytes").write_text(str(MEMORY_BYTES))
    except OSError as error:
        pytest.skip(f"no cgroup v1 that may be written: {error}")
    yield name
    for controller in ROOT.iterdir():
        with contextlib.suppress(OSError):
            (controller / name).rmdir()


async def test_a_slice(
    slice_name: str,
    server: ScriptedServer,
    docker_edge: Edge,
    docker,
    image,  # noqa: F811
) -> None:
    docker_edge.start(cgroup=slice_name)
    await server.until(lambda: server.samples)
    capacity = server.hellos[0].capacity
    assert capacity is not None
    assert (capacity.cpu_cores, capacity.memory_bytes) == (CORES, MEMORY_BYTES)
    assert server.samples[0].memory_total_bytes == MEMORY_BYTES
    busy = spec_of(image, "while True: pass")
    before_s, first = used_s(slice_name), len(server.samples)
    await server.order("container.start", c.StartContainer(busy, token_of(busy)))
    # How fast it gets its CPU depends on who else wants some; how much it got, the kernel knows.
    await holds(lambda: used_s(slice_name) - before_s > USED_S, timeout_s=240)
    so_far = len(server.samples)
    await server.until(lambda: len(server.samples) > so_far + 2, timeout_s=240)
    after_s = used_s(slice_name) - before_s
    device_s, container_s = shown_s(server.samples[first - 1 :], busy.deployment_id)
    assert 0.7 * USED_S < device_s <= 1.1 * after_s
    assert 0.7 * USED_S < container_s <= 1.1 * after_s
    assert server.samples[-1].memory_used_bytes < MEMORY_BYTES
    await server.order("container.remove", c.RemoveContainer(busy.deployment_id, 0))
