"""A real registry, the machine's real Docker, and the real packages domain, over a scratch folder."""

import contextlib
import os
import socket
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from haechi.adapters.builder_docker import DockerBuilder
from haechi.adapters.docker_api import DockerApi
from haechi.adapters.docker_trust import unwire_docker_host
from haechi.adapters.registry_process import hash_password
from haechi.adapters.registry_setup import (
    HOSTS_FILE,
    PULL_NAME,
    PUSH_NAME,
    RegistryParts,
    make_registry,
    split_listen,
)
from haechi.core.access import SYSTEM
from haechi.core.bus import Bus
from haechi.core.clock import SystemClock, to_ms
from haechi.core.db import Database
from haechi.core.ids import new_secret
from haechi.core.operations import Operations
from haechi.core.pki import SiteCa
from haechi.core.secrets import Keyring
from haechi.domains.audit.service import Audit
from haechi.domains.builds.platforms import PlatformBuilders
from haechi.domains.builds.registry import SiteRegistry
from haechi.domains.builds.service import Builds
from haechi.domains.builds.versions import PackageVersions
from haechi.domains.packages.service import Packages
from haechi.settings import BuildsSettings, PackagesSettings, RegistrySettings
from haechi.testing.packages import zip_of

SOCKET = "/var/run/docker.sock"
BASE = "haechi/python:3.11-slim"


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    missing = not Path(SOCKET).exists() or os.geteuid() != 0
    for item in items:
        if here in Path(item.fspath).parents:
            item.add_marker(pytest.mark.docker)
            if missing:
                item.add_marker(pytest.mark.skip(reason="needs Docker and root"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Site:
    """What a test needs of a server; `settings` may be changed between builds."""

    db: Database
    operations: Operations
    packages: Packages
    builds: Builds
    registry: SiteRegistry
    parts: RegistryParts
    docker: DockerApi
    settings: dict = field(default_factory=dict)
    free_bytes: dict = field(default_factory=dict)

    async def upload(self, files: dict, name: str, version: str = "1.0"):
        async def pieces():
            yield zip_of(files)

        uploaded = await self.packages.upload(
            pieces(), file_name=f"{name}.zip", name=name, version=version, by=SYSTEM
        )
        return uploaded.version

    async def replace(self, files: dict, name: str, version: str = "1.0"):
        async def pieces():
            yield zip_of(files)

        await self.packages.upload(
            pieces(), file_name=f"{name}.zip", name=name, version=version, by=SYSTEM, replace=True
        )

    async def build(self, version, *platforms: str, **more):
        operation = await self.builds.build_version(version.id, platforms, **more)
        return await self.operations.wait(operation.id)

    async def build_of(self, version):
        return (await self.builds.find(version_id=version.id)).items[0]

    def log(self, operation) -> str:
        return self.operations.log_path(operation.id).read_text()


@contextlib.asynccontextmanager
async def open_site(folder: Path, ports: tuple[int, int] | None = None):
    """Like `haechi.app`, for these domains. May be opened again over the same folder."""
    clock = SystemClock()
    folder.mkdir(parents=True, exist_ok=True)
    pull, push = ports or (free_port(), free_port())
    db = Database(folder / "control.db")
    await db.create_all()
    bus = Bus(lambda: to_ms(clock.now()))
    audit = Audit(db=db, clock=clock)
    operations = Operations(db, bus, clock, folder / "operations")
    keyring = Keyring.open(folder / "keyring")
    ca = SiteCa.open(folder / "pki", server_id="srv-test", keyring=keyring, clock=clock)
    registry_settings = RegistrySettings(
        listen=f"127.0.0.1:{pull}", push_listen=f"127.0.0.1:{push}"
    )
    parts = make_registry(registry_settings, data_dir=folder, ca=ca, clock=clock)
    packages = Packages(
        db=db,
        bus=bus,
        clock=clock,
        audit=audit,
        folder=folder / "packages",
        settings=PackagesSettings(min_free_bytes=0),
    )
    docker = DockerApi(SOCKET)
    changed: dict = {}
    free: dict = {}

    def settings() -> BuildsSettings:
        return BuildsSettings(**({"timeout_s": 120} | changed))

    builders = PlatformBuilders(
        local=DockerBuilder(docker, clock=clock, limit_steps=True),
        foreign_platforms=lambda: settings().foreign_platforms,
    )
    builds = Builds(
        db=db,
        bus=bus,
        clock=clock,
        audit=audit,
        operations=operations,
        versions=PackageVersions(packages),
        builders=builders,
        registry=parts.client,
        names=parts.names,
        push_login=lambda: parts.process.push_login,
        settings=settings,
        folder=folder / "builds",
        min_free_bytes=1000,
        free_bytes=lambda _: free.get("bytes", 10**12),
    )
    registry = SiteRegistry(
        db=db,
        bus=bus,
        clock=clock,
        audit=audit,
        operations=operations,
        registry=parts.client,
        process=parts.process,
        names=parts.names,
        keyring=keyring,
        hash_password=hash_password,
        new_secret=new_secret,
    )
    packages.built_by(builds)
    packages.on_delete_check(builds.uses_of_version)
    packages.on_delete(builds.forget_version)
    site = Site(db, operations, packages, builds, registry, parts, docker, changed, free)
    try:
        await packages.start()
        await parts.wire_this_machine()
        await registry.start()
        await builds.start()
        await operations.start_engine()
        yield site
    finally:
        await operations.close()
        await registry.close()
        await parts.client.close()
        await db.close()
        for name, listen in ((PULL_NAME, pull), (PUSH_NAME, push)):
            # The hosts lines are the same for every site of this machine: they stay.
            (Path("/etc/docker/certs.d") / f"{name}:{listen}" / "ca.crt").unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                (Path("/etc/docker/certs.d") / f"{name}:{listen}").rmdir()


@pytest.fixture(scope="session", autouse=True)
def _hosts_as_before():
    """Take our lines out of the hosts file again, where they were not there before."""
    before = HOSTS_FILE.read_text() if HOSTS_FILE.exists() else ""
    yield
    for name in (PULL_NAME, PUSH_NAME):
        if name not in before.split():
            unwire_docker_host(
                config_home=Path("/nonexistent"), hosts_file=HOSTS_FILE, name=name, port=1
            )


@pytest.fixture
async def site(tmp_path):
    async with open_site(tmp_path) as opened:
        yield opened
        await remove_images(opened.docker)


async def remove_images(docker: DockerApi) -> None:
    for image in await docker.images({"label": ["haechi.build"]}):
        for tag in image.get("RepoTags") or []:
            if tag.startswith(("haechi-build/t-", "haechi-build:")):
                await docker.remove_image(tag, force=True)


@pytest.fixture
async def base(site):
    if not await site.docker.has_image(BASE):
        pytest.skip(f"{BASE} was not made on this machine")
    return BASE


__all__ = ["Site", "open_site", "split_listen"]
