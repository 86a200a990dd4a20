"""The clusters domain on a real control DB and operations engine, over a site in memory.

The server can be killed and built anew (`kill`, `revive`); hosts and APIs are the outside world and
stay.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from haechi.core.access import SYSTEM
from haechi.core.bus import Bus
from haechi.core.clock import SystemClock, to_ms
from haechi.core.db import Database
from haechi.core.operations import Operation, Operations
from haechi.core.secrets import Keyring
from haechi.domains.agents.presence import Limits
from haechi.domains.audit.service import Audit
from haechi.domains.clusters import system_watching
from haechi.domains.clusters.context import Context, Pace
from haechi.domains.clusters.model import FormOptions
from haechi.domains.clusters.service import Clusters
from haechi.domains.clusters.upkeep import Upkeep
from haechi.settings import ClustersSettings
from haechi.testing.clusters import FakeSite
from haechi.testing.server import running_server
from haechi.testing.upkeep import (
    FakeAgentsView,
    FakeFinder,
    FakeMover,
    FakeProbe,
    UpkeepSite,
)

THREE = ("dev-m", "dev-n", "dev-o")
PACE = Pace(retry_s=0.01, away_s=0.3, poll_s=0.01, api_s=0.5, ready_s=0.5, drain_s=0.1, grace_s=1)


@dataclass
class World:
    path: Path
    site: FakeSite = field(default_factory=FakeSite)
    agents: FakeAgentsView = field(default_factory=FakeAgentsView)
    probe: FakeProbe = field(default_factory=FakeProbe)
    finder: FakeFinder = field(default_factory=FakeFinder)
    mover: FakeMover = field(default_factory=FakeMover)
    settings: ClustersSettings = field(default_factory=ClustersSettings)
    limits: Limits = field(default_factory=lambda: Limits(3.0, 8.0))

    async def begin(self) -> None:
        self.db = Database(self.path / "control.db")
        await self.db.create_all()
        for device_id, name in (("dev-m", "master"), ("dev-a", "alpha"), ("dev-b", "beta")):
            self.site.host(device_id, name=name)
        await self.revive()

    async def revive(self) -> None:
        """A new server process on the same data."""
        clock = SystemClock()
        self.bus = Bus(lambda: to_ms(clock.now()))
        self.operations = Operations(self.db, self.bus, clock, self.path / "operations")
        self.keyring = Keyring.open(self.path / "keys")
        site = self.site
        self.context = Context(
            db=self.db,
            bus=self.bus,
            clock=clock,
            keyring=self.keyring,
            operations=self.operations,
            devices=site.devices,
            hosts=site.hosts,
            work=site.work,
            releases=site.releases,
            kubes=site.kubes,
            pace=PACE,
        )
        audit = Audit(db=self.db, clock=clock)
        self.clusters = Clusters(context=self.context, operations=self.operations, audit=audit)
        self.upkeep = Upkeep(
            clusters=self.clusters,
            operations=self.operations,
            audit=audit,
            agents=self.agents,
            probe=self.probe,
            finder=self.finder,
            limits=self.limits,
            settings=lambda: self.settings,
            folder=self.path / "cluster-backups",
        )
        self.upkeep.moves_work_by(self.mover)
        await self.clusters.start()
        await self.operations.start_engine()

    async def kill(self) -> None:
        """Nothing more is done, nothing is undone."""
        await self.upkeep.close()
        await self.operations.close()

    async def end(self) -> None:
        await self.kill()
        await self.db.close()

    async def form(
        self,
        name: str = "site",
        masters: tuple[str, ...] = ("dev-m",),
        workers: tuple[str, ...] = ("dev-a", "dev-b"),
        **options,
    ) -> Operation:
        formed = await self.clusters.form_cluster(
            name, masters, workers, FormOptions(**options), by=SYSTEM
        )
        return formed.operation

    async def formed(self, **given) -> str:
        """The id of a cluster that is ready."""
        operation = await self.ended(await self.form(**given))
        assert operation.state == "succeeded", await self.log(operation)
        return operation.subject

    async def formed_of_three(self, prepare: Callable[[str], object]) -> str:
        """Control planes `master`, `cp-n`, `cp-o` and two workers."""
        for device_id in THREE[1:]:
            self.site.host(device_id, name=device_id.replace("dev", "cp"))
            prepare(device_id)
        return await self.formed(masters=THREE)

    async def ended(self, operation: Operation) -> Operation:
        return await self.operations.wait(operation.id)

    async def log(self, operation: Operation) -> str:
        await self.operations.flush_log(operation.id)
        return self.operations.log_path(operation.id).read_text()

    async def states(self, cluster_id: str) -> dict[str, str]:
        view = await self.clusters.book.get(cluster_id)
        return {one.device_id: one.state.value for one in view.members}

    async def state(self, cluster_id: str) -> str:
        return (await self.clusters.book.get(cluster_id)).cluster.state.value


@pytest.fixture
async def world(tmp_path) -> AsyncIterator[World]:
    made = World(tmp_path)
    await made.begin()
    yield made
    await made.end()


@pytest.fixture
def lab(world):
    made = UpkeepSite(world.site)
    for device_id in ("dev-m", "dev-a", "dev-b"):
        made.prepare(device_id)
    return made


@pytest.fixture
async def cluster_id(world, lab):
    """Of one control plane and two workers."""
    return await world.formed()


@pytest.fixture
async def three(world, lab):
    return await world.formed_of_three(lab.prepare)


FAST = Pace(retry_s=0.01, away_s=0.3, poll_s=0.01, api_s=5.0, ready_s=5.0, drain_s=0.1, grace_s=1)


@pytest.fixture
async def rest(tmp_path, monkeypatch):
    """A server whose devices `master` and `edge` are hosts of a site in memory."""
    for name, seconds in (("LOOK_S", 0.1), ("LASTS_S", 0.05), ("OVER_S", 0.3)):
        monkeypatch.setattr(system_watching, name, seconds)
    async with running_server(tmp_path) as server:
        site = FakeSite()
        context = server.haechi.clusters.context
        context.hosts, context.work, context.kubes = site.hosts, site.work, site.kubes
        context.releases, context.pace = site.releases, FAST
        context.hooks.clear()
        server.haechi.upkeep.watching.probe = server.probe = FakeProbe()
        server.site, server.ids = site, {}
        for name in ("master", "edge"):
            made = await server.client.post(
                "/devices", json={"name": name, "host_name": name, "address": "192.0.2.7"}
            )
            server.ids[name] = made.json()["id"]
            site.host(made.json()["id"], name=name)
        yield server
