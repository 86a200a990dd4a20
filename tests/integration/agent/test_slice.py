"""A device that is a limited slice of this machine: its own capacity, its containers inside."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from haechi.core import ids
from haechi.protocol import commands as c

from .conftest import Edge, ScriptedServer
from .test_containers import image, spec_of, token_of  # noqa: F401 - fixture

ROOT = Path("/sys/fs/cgroup")
MEMORY_BYTES = 512 * 1024 * 1024


@pytest.fixture
def slice_name() -> Iterator[str]:
    """cgroup v1, as on this machine; v2 is covered by unit tests."""
    name = f"haechi-test-{ids.new_id('device')[4:]}"
    folders = [ROOT / controller / name for controller in ("cpu", "cpuacct", "memory")]
    try:
        for folder in folders:
            folder.mkdir(exist_ok=True)
        (ROOT / "cpu" / name / "cpu.cfs_quota_us").write_text("50000")
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
    assert (capacity.cpu_cores, capacity.memory_bytes) == (0.5, MEMORY_BYTES)
    assert server.samples[0].memory_total_bytes == MEMORY_BYTES
    busy = spec_of(image, "while True: pass")
    await server.order("container.start", c.StartContainer(busy, token_of(busy)))
    await server.until(lambda: server.samples[-1].cpu_ratio > 0.5)
    mine = server.samples[-1].containers[0]
    assert mine.deployment_id == busy.deployment_id
    assert mine.cpu_ratio > 0.3
    assert server.samples[-1].memory_used_bytes < MEMORY_BYTES
    await server.order("container.remove", c.RemoveContainer(busy.deployment_id, 0))
