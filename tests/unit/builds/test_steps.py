"""The operation on fakes: what fails at each step, and what is left then."""

import asyncio
import errno

import pytest

from haechi.adapters.builder_docker import DockerBuilder
from haechi.adapters.docker_api import DockerApi
from haechi.adapters.docker_errors import EngineUnreachable, RegistryUnreachable
from haechi.core.access import SYSTEM
from haechi.core.bus import Bus
from haechi.core.clock import SystemClock, to_ms
from haechi.core.db import Database
from haechi.core.operations import Operations, State
from haechi.domains.audit.service import Audit
from haechi.domains.builds import steps
from haechi.domains.builds.model import BuildFailed, BuildState, PlatformRefused
from haechi.domains.builds.platforms import PlatformBuilders
from haechi.domains.builds.ports import RegistryNames
from haechi.domains.builds.service import Builds
from haechi.errors import DiskFull
from haechi.settings import BuildsSettings
from haechi.testing.builds import FakeBuilder, FakeRegistry, FakeVersions
from haechi.testing.waiting import eventually

VERSION = "ver-aaaaaaaaaaaaaaaa"


class World:
    def __init__(self, folder, db):
        clock = SystemClock()
        self.folder = folder
        self.registry = FakeRegistry()
        self.builder = FakeBuilder(self.registry)
        self.arm = FakeBuilder(self.registry, platform="linux/arm64", name="arm-host")
        self.arm_known = True
        self.versions = FakeVersions()
        self.settings = {}
        bus = self.bus = Bus(lambda: to_ms(clock.now()))
        self.operations = Operations(db, bus, clock, folder / "operations")
        self.builds = Builds(
            db=db,
            bus=bus,
            clock=clock,
            audit=Audit(db=db, clock=clock),
            operations=self.operations,
            versions=self.versions,
            builders=PlatformBuilders(
                local=self.builder, foreign_platforms=lambda: "refuse", foreign=self._foreign
            ),
            registry=self.registry,
            names=RegistryNames("pull.test:1", "push.test:2"),
            push_login=lambda: None,
            settings=lambda: BuildsSettings(**self.settings),
            folder=folder / "builds",
        )

    async def _foreign(self, platform):
        return self.arm if self.arm_known and platform == "linux/arm64" else None

    async def build(self, *platforms, **more):
        operation = await self.builds.build_version(VERSION, platforms, **more)
        return await self.operations.wait(operation.id)

    async def rows(self):
        return (await self.builds.find(version_id=VERSION)).items

    def left(self):
        local = set(self.builder.local) | set(self.arm.local)
        return [
            *(self.folder / "builds").glob("*"),
            *(n for n in local if n[:13] == "haechi-build:"),
        ]


@pytest.fixture
async def world(tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "RETRY_S", 0.01)
    db = Database(tmp_path / "control.db")
    await db.create_all()
    made = World(tmp_path, db)
    await made.builds.start()
    await made.operations.start_engine()
    yield made
    await made.operations.close()
    await db.close()


async def test_two_platforms_go_to_two_builders_and_into_one_index(world):
    ended = await world.build("linux/amd64", "linux/arm64")
    assert ended.state is State.SUCCEEDED
    assert [plan.platform for plan in world.builder.plans] == ["linux/amd64"]
    assert [plan.platform for plan in world.arm.plans] == ["linux/arm64"]
    index = await world.registry.manifest("fake-package", "1.0")
    assert [child.platform for child in index.children] == ["linux/amd64", "linux/arm64"]
    builds = await world.rows()
    assert all(build.image == f"pull.test:1/fake-package@{build.digest}" for build in builds)
    assert world.left() == []


async def test_a_platform_built_later_joins_the_index(world):
    await world.build("linux/amd64")
    await world.build("linux/arm64")
    index = await world.registry.manifest("fake-package", "1.0")
    assert len(index.children) == 2


async def test_without_a_host_of_the_platform_it_is_refused_at_once(world):
    world.arm_known = False
    with pytest.raises(PlatformRefused):
        await world.build("linux/arm64")
    assert await world.rows() == []


@pytest.mark.parametrize(
    "error",
    [
        EngineUnreachable(engine="fake", reason="gone"),
        RegistryUnreachable(image="x", message="connection refused"),
    ],
)
async def test_what_comes_back_is_waited_for(world, error):
    world.builder.failures = [error, error]
    ended = await world.build()
    assert ended.state is State.SUCCEEDED
    assert "again in" in world.operations.log_path(ended.id).read_text()


async def test_an_engine_that_stays_away_ends_the_build(world, monkeypatch):
    world.builder.down = True
    monkeypatch.setattr(steps, "RETRY_S", 0)
    ended = await world.build()
    assert ended.error["code"] == "engine.unreachable"
    (build,) = await world.rows()
    assert build.state is BuildState.FAILED


async def test_a_registry_that_comes_back_gets_the_image(world):
    world.builder.may_end = asyncio.Event()
    operation = await world.builds.build_version(VERSION)
    await world.builder.building.wait()
    world.registry.down = True
    world.builder.may_end.set()
    log = world.operations.log_path(operation.id)
    async with asyncio.timeout(60):
        while not log.exists() or "registry_down" not in log.read_text():
            await world.operations.flush_log(operation.id)
            await asyncio.sleep(0)
    world.registry.down = False
    assert (await world.operations.wait(operation.id)).state is State.SUCCEEDED


@pytest.mark.parametrize(
    "error",
    [BuildFailed(step="[2/2] RUN x", reason="exit code: 1", lines=["no"]), DiskFull(where="x")],
)
async def test_a_failed_build_leaves_nothing(world, error):
    world.arm.failures = [error]
    ended = await world.build("linux/amd64", "linux/arm64")
    assert ended.error["code"] == error.code
    assert {build.state for build in await world.rows()} == {BuildState.FAILED}
    assert world.left() == []
    assert await world.registry.repositories() == []


async def test_a_disk_that_fills_up_while_unpacking(world):
    def fill(target):
        raise OSError(errno.ENOSPC, "no space", str(target))

    world.versions.on_extract = fill
    ended = await world.build()
    assert ended.error["code"] == "core.disk_full"
    assert world.left() == []


async def test_cancelled_in_the_middle(world):
    world.builder.may_end = asyncio.Event()
    operation = await world.builds.build_version(VERSION)
    await world.builder.building.wait()
    await world.operations.cancel(operation.id)
    ended = await world.operations.wait(operation.id)
    assert ended.state is State.CANCELLED
    (build,) = await world.rows()
    assert build.state is BuildState.CANCELLED
    assert world.left() == []


async def test_a_missing_base_names_image_line_and_what_to_map(world):
    world.versions.dockerfile = "FROM scratch\nCOPY --from=tool:1 /a /b\n"
    ended = await world.build()
    error = ended.error
    assert (error["code"], error["data"]["image"], error["data"]["line"]) == (
        "builds.base_image_missing",
        "tool:1",
        2,
    )


async def test_a_changed_map_is_another_recipe(world):
    world.versions.dockerfile = "FROM base:1\n"
    world.builder.images = {"base:1", "other:2"}
    await world.build()
    await world.build()
    assert len(world.builder.plans) == 1
    _, stored = await world.builds.map_base_image("base:1", "other:2", by=SYSTEM)
    await world.operations.wait(stored.id)
    await world.build()
    assert len(world.builder.plans) == 2
    (build, *_) = await world.rows()
    assert [(use.source, use.used) for use in build.base_images] == [("base:1", "other:2")]


async def test_an_image_lost_from_the_registry_is_built_again(world):
    await world.build()
    world.registry.manifests.clear()
    ended = await world.build()
    assert ended.state is State.SUCCEEDED
    assert len(world.builder.plans) == 2


async def test_deployments_join_a_running_build(world):
    world.builder.may_end = asyncio.Event()
    first = await world.builds.ensure_built(VERSION, "linux/amd64")
    await world.builder.building.wait()
    second = await world.builds.ensure_built(VERSION, "linux/amd64")
    assert second.id == first.id
    world.builder.may_end.set()
    await world.operations.wait(first.id)


async def test_a_version_whose_build_was_just_accepted_cannot_go(world):
    """Before the first step has run, nothing but the operation says that there is a build."""

    async def uses():
        async with world.builds._db.read() as tx:
            return await world.builds.uses_of_version(tx, VERSION)

    assert await uses() == []
    world.builder.may_end = asyncio.Event()
    operation = await world.builds.build_version(VERSION, ["linux/amd64"], by=SYSTEM)
    [use] = await uses()
    assert use.blocking, "not even by force"
    await world.builder.building.wait()
    assert [use.kind for use in await uses()] == ["build"]
    world.builder.may_end.set()
    await world.operations.wait(operation.id)
    assert await uses() == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("enabled\ninterpreter /usr/bin/qemu\nflags: POCF\noffset 0\n", {"linux/arm64"}),
        ("enabled\ninterpreter /usr/bin/qemu\nflags: OCF\n", set()),
        ("disabled\nflags: POCF\n", set()),
    ],
)
def test_emulation_counts_only_with_the_right_flags(tmp_path, text, found):
    (tmp_path / "qemu-aarch64").write_text(text)
    builder = DockerBuilder(DockerApi("/none"), clock=SystemClock(), binfmt=tmp_path)
    assert builder._emulated() == found


async def test_a_followed_log_ends_with_the_server(world):
    async def endless(plan, log, progress):
        log("begun")
        await asyncio.Event().wait()

    world.builder.build = endless
    await world.builds.build_version(VERSION)
    build = (await eventually(world.rows))[0]
    async with asyncio.timeout(60):
        async for piece in world.builds.follow_log(build.id):
            if b"begun" in piece:
                world.bus.close()
