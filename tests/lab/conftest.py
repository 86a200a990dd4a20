"""Real hosts for the tests of this tier. Each test has a site of its own; all of it goes with it.

`LabError` at the start says in one line why a machine cannot run them.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from haechi.adapters.ssh_asyncssh import AsyncsshHosts
from haechi.core.access import Principal
from haechi.core.secrets import Secret
from haechi.domains.clusters.bundle.model import Bundle
from haechi.domains.clusters.host.ports import Shell, Target
from lab import Host, Site, engine, images, ready

LONGEST = (
    "test_care",
    "test_deploy_faults",
    "test_high_availability",
    "test_lost_and_moved",
    "test_docker_ssh",
    "test_ansible",
    "test_deploy",
    "test_distribution",
    "test_form",
    "test_prepare",
    # Of more/
    "test_control_planes_anew",
    "test_upkeep",
    "test_deploying_to_the_dead",
    "test_howto",
    "test_agents",
    "test_node_cameras",
    "test_interop",
    "test_kube_engine",
    "test_docker_https",
)
"""Begun first, so that at the end none of them is left alone while all else is done."""


Site.etcd_in_memory = True  # nothing is measured here

SHARED = 'scope="module"'
"""In a file whose scenes are played on one cluster, one after the other."""


class Scenes(LoadScopeScheduling):
    """Each scene to whoever is free; those of a file that share something stay together."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if SHARED in (self.config.rootpath / file).read_text() else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scenes:
    return Scenes(config, log)


LEFT_TO_COLLECT = (r"<function _SelectorTransport\.__del__", r"<socket\.socket .*, 6443\)")
"""httpx2 leaves a connection to the collector when it is cancelled in its TLS handshake, and API
servers die in the middle of one here. Without hosts nothing of this kind is overlooked.
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))
    for item in (one for one in items if one.path.is_relative_to(Path(__file__).parent)):
        for left in LEFT_TO_COLLECT:
            ignored = f"ignore:Exception ignored in. {left}:pytest.PytestUnraisableExceptionWarning"
            item.add_marker(pytest.mark.filterwarnings(ignored))


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


@dataclass
class Logins:
    """The lab's hosts as the inventory would tell of them: by name, with a login and a pinned key."""

    targets: dict[str, Target] = field(default_factory=dict)

    async def add(self, host: Host, *, keeper: bool = False) -> str:
        """Log in as `robot` (key, sudo asks nothing) or as `keeper` (password, sudo asks)."""
        login = host.keeper if keeper else host.robot
        self.targets[host.name] = Target(
            device_id=host.name,
            name=host.name,
            addresses=(host.address,),
            port=22,
            user=login.user,
            password=Secret(login.password) if login.password else None,
            key=Secret(login.key_file.read_text()) if login.key_file else None,
            host_key=await host.host_key(),
        )
        return host.name

    async def target(self, device_id: str) -> Target:
        return self.targets[device_id]

    async def pin(self, device_id: str, host_key: str, *, by: Principal) -> None:
        self.targets[device_id] = self.targets[device_id]._replace(host_key=host_key)


@dataclass
class Reach:
    """haechi's own way to lab hosts: `async with await reach.shell(host) as shell`."""

    logins: Logins
    hosts: AsyncsshHosts

    async def shell(
        self, host: Host, *, keeper: bool = False
    ) -> AbstractAsyncContextManager[Shell]:
        return self.hosts.open(await self.logins.add(host, keeper=keeper))


@pytest.fixture
async def reach() -> AsyncIterator[Reach]:
    logins = Logins()
    hosts = AsyncsshHosts(logins)
    yield Reach(logins, hosts)
    await hosts.close()


@pytest.fixture
async def prepared_hosts(site: Site, bundle: Bundle) -> Callable[..., Awaitable[list[Host]]]:
    """`await prepared_hosts(2)`: hosts that haechi has prepared, as control plane and worker alike.

    Done once for each bundle and each state of the code that prepares, then started from there.
    """
    made = await ready.by_haechi(bundle)

    async def add(count: int, to: Site = site, **settings: object) -> list[Host]:
        return await made.add(to, count, **settings)

    return add


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    """The newest offline bundle for this machine's platform; `make test-lab` makes one first."""
    return ready.bundle()
