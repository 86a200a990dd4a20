"""Real hosts for the tests of this tier. Each test has a site of its own; all of it goes with it.

`LabError` at the start says in one line why a machine cannot run them.
"""

import platform
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from haechi.adapters.ssh_asyncssh import AsyncsshHosts
from haechi.core.access import Principal
from haechi.core.secrets import Secret
from haechi.domains.clusters import manifests
from haechi.domains.clusters.bundle.model import Bundle
from haechi.domains.clusters.bundle.shelf import Shelf
from haechi.domains.clusters.host import prepare
from haechi.domains.clusters.host.ports import Shell, Target
from haechi.settings import BundleSettings
from lab import Host, Site, byhand, engine, images, profile
from lab.prepared import prepared

PLATFORMS = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}


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
async def prepared_hosts(
    site: Site, bundle: Bundle, reach: Reach
) -> Callable[..., Awaitable[list[Host]]]:
    """`await prepared_hosts(2)`: hosts that haechi has prepared, as control plane and worker alike.

    Done once for each bundle and each state of the code that prepares, then started from there.
    """

    async def do(_site: Site, host: Host) -> None:
        wanted = prepare.Preparation(bundle, "control_plane", profile.CONTAINERD)
        async with await reach.shell(host) as shell:
            await prepare.prepare(shell, wanted, log=print, progress=lambda _: None)

    code = sorted(Path(prepare.__file__).parent.rglob("*.*"))
    texts = [file.read_text() for file in code if file.suffix in {".py", ".sh"}]
    ready = await prepared("prepared", [bundle.digest, *texts, str(profile.CONTAINERD)], do)

    async def add(count: int, to: Site = site, **settings: object) -> list[Host]:
        return await ready.add(to, count, **settings)

    return add


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    """The newest offline bundle for this machine's platform; `make test-lab` makes one first."""
    shelf = Shelf(BundleSettings().folder.expanduser())
    fitting = [one for one in shelf.bundles() if one.platform == PLATFORMS[platform.machine()]]
    assert fitting, "no bundle: haechi bundle create"
    return fitting[-1]


@pytest.fixture
def flannel(bundle: Bundle) -> bytes:
    """The pods' network as the product applies it, in YAML; but it finds the API by its service, for
    a cluster made by hand has no proxy of ours on its nodes.
    """
    image = f"ghcr.io/flannel-io/flannel:v{bundle.versions['flannel']}"
    objects = manifests.flannel(image=image, pod_cidr="10.244.0.0/16", pull_policy="Never")
    ours = {"KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"}
    for one in objects:
        if one["kind"] == "DaemonSet":
            for container in one["spec"]["template"]["spec"]["containers"]:
                container["env"] = [it for it in container["env"] if it["name"] not in ours]
    return yaml.safe_dump_all(objects).encode()


@pytest.fixture
async def installed_hosts(site: Site, bundle: Bundle) -> Callable[..., Awaitable[list[Host]]]:
    """`await installed_hosts(2)`: the bundle installed by hand, images too, no cluster yet.

    `lab.byhand.form` makes one of them. For what needs a cluster but not the product's forming.
    """
    ready = await prepared(
        "byhand",
        [(bundle.folder / "bundle.toml").read_text(), Path(byhand.__file__).read_text()],
        lambda _site, host: byhand.install(host, bundle.folder),
    )

    async def add(count: int, to: Site = site, **settings: object) -> list[Host]:
        return await ready.add(to, count, **settings)

    return add
