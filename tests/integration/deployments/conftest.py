"""The deployments domain on a real control DB and operations engine, over a fake engine.

The server can be killed and built anew (`kill`, `revive`); engine and devices are the outside
world and stay.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from haechi.core.access import SYSTEM
from haechi.core.bus import Bus
from haechi.core.clock import SystemClock, to_ms
from haechi.core.db import Database
from haechi.core.operations import Operation, Operations
from haechi.core.secrets import Keyring
from haechi.domains.audit.service import Audit
from haechi.domains.deployments import store
from haechi.domains.deployments.assignments import Assignments
from haechi.domains.deployments.context import Context, Pace
from haechi.domains.deployments.model import Deployment, Wishes
from haechi.domains.deployments.service import Deployments
from haechi.testing.deployments import (
    FakeDevices,
    FakeImages,
    FakePlaces,
    FakeTokens,
    FakeVersions,
    image_reference,
)
from haechi.testing.engine import FakeEngine

PACE = Pace(
    retry_s=0.01,
    away_s=0.3,
    poll_s=0.02,
    uptime_s=0.1,
    within_s=3.0,
    link_s=1.0,
    applied_s=0.2,
    first_result_s=0.3,
    keep_s=0.1,
)


@dataclass
class World:
    path: Path
    engine: FakeEngine = field(default_factory=FakeEngine)
    versions: FakeVersions = field(default_factory=FakeVersions)
    images: FakeImages = field(default_factory=FakeImages)
    places: FakePlaces = field(default_factory=FakePlaces)
    tokens: FakeTokens = field(default_factory=FakeTokens)
    devices: FakeDevices = field(default_factory=FakeDevices)

    async def begin(self) -> None:
        self.db = Database(self.path / "control.db")
        await self.db.create_all()
        for number, version in enumerate(("1", "2", "3"), start=1):
            self.versions.add(f"ver-{number}", version)
            self.images.built.add(f"ver-{number}")
        self.places.devices |= {"dev-a": "gate", "dev-b": "yard"}
        self.places.cameras |= {"cam-1": "dev-a", "cam-2": "dev-a", "cam-3": "dev-b"}
        self.devices.connected |= {"dev-a", "dev-b"}
        await self.revive()

    async def revive(self) -> None:
        """A new server process on the same data."""
        clock = SystemClock()
        self.devices.sections.clear()
        self.devices.state_handlers.clear()
        self.devices.listeners.clear()
        self.bus = Bus(lambda: to_ms(clock.now()))
        self.operations = Operations(self.db, self.bus, clock, self.path / "operations")
        audit = Audit(db=self.db, clock=clock)
        self.assignments = Assignments(
            db=self.db,
            bus=self.bus,
            clock=clock,
            audit=audit,
            places=self.places,
            devices=self.devices,
            handover_s=0.3,
        )
        context = Context(
            db=self.db,
            bus=self.bus,
            clock=clock,
            keyring=Keyring.open(self.path / "keys"),
            engine=self.engine,
            versions=self.versions,
            images=self.images,
            places=self.places,
            tokens=self.tokens,
            devices=self.devices,
            assignments=self.assignments,
            server_url=lambda: "http://127.0.0.1:8420",
            log_dir=self.path / "logs",
            pace=PACE,
        )
        self.deployments = Deployments(context=context, operations=self.operations, audit=audit)
        await self.deployments.start()
        await self.operations.start_engine()

    async def kill(self) -> None:
        """Nothing more is done, nothing is undone: as after SIGKILL."""
        await self.operations.close()
        await self.deployments.close()

    async def end(self) -> None:
        await self.kill()
        await self.db.close()

    async def deploy(self, version: str, *devices: str, **wishes) -> Operation:
        operation = await self.begin_deploy(version, *devices, **wishes)
        return await self.operations.wait(operation.id)

    async def begin_deploy(self, version: str, *devices: str, **wishes) -> Operation:
        return await self.deployments.deploy_package(
            f"ver-{version}", devices or ("dev-a",), by=SYSTEM, wishes=Wishes(**wishes)
        )

    async def running(self, device: str = "dev-a") -> list[Deployment]:
        page = await self.deployments.book.find(device_id=device)
        return [one for one in page.items if one.state == "running"]

    async def assigned(self, **where: str) -> dict[str, str]:
        """Camera → version of the deployment that holds it now."""
        async with self.db.read() as tx:
            found = await store.handed_out(tx, state="active", **where)
            return {
                one.camera_id: (await store.deployment(tx, one.deployment_id)).version
                for one in found
            }

    async def check_one(self, version: str, device: str = "dev-a") -> Deployment:
        """Exactly this version runs, by the book and in the world, and holds the cameras."""
        running = await self.running(device)
        assert [one.version for one in running] == [version]
        one = running[0]
        assert self.engine.running(device) == [one.id]
        await self.devices.push(device)
        desired = self.devices.desired[device]
        assert [spec.deployment_id for spec in desired.deployments] == [one.id]
        return one

    def image(self, version: str) -> str:
        return image_reference(f"ver-{version}")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    await made.begin()
    yield made
    for gate in [*made.engine.hold.values(), *made.engine.hold_after.values()]:
        gate.set()
    await made.end()
