"""Real hosts for the tests of this tier. Each test has a site of its own; all of it goes with it.

`LabError` at the start says in one line why a machine cannot run them.
"""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from lab import Host, Site, engine, images


@pytest.fixture(scope="session", autouse=True)
def _lab_can_run() -> None:
    if reason := engine.missing():
        pytest.exit(reason, returncode=3)


@pytest.fixture
async def site(_lab_can_run) -> AsyncIterator[Site]:
    """An empty network: `await site.host("nuc-1")`, `await site.add(3)`."""
    async with Site() as made:
        yield made


@pytest.fixture
async def bare_host(site: Site) -> Host:
    """One host with sshd and two users that may use sudo; nothing else."""
    return await site.host("bare-1")


@pytest.fixture
def bare_hosts(site: Site) -> Callable[[int], Awaitable[list[Host]]]:
    """`await bare_hosts(4)`."""
    return site.add


@pytest.fixture
async def docker_host(site: Site) -> Host:
    """A host with Debian's Docker running; `keeper` and `robot` reach it with sudo."""
    host = await site.host("docker-1", image=images.docker())
    await host.until("docker info > /dev/null", "Docker runs")
    return host
