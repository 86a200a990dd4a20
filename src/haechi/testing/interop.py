"""The historic interface over real domains and a fake engine: no socket, no Docker.

Inventory, packages, deployments, results, policies and the control DB are real; containers,
builds and the registry are played. `world.post("/path", {...})` is a call from 127.0.0.1.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from sqlalchemy.ext.asyncio import AsyncSession

from haechi.core.access import SYSTEM, Principal
from haechi.core.bus import Bus
from haechi.core.clock import Clock, SystemClock, to_ms
from haechi.core.db import Database
from haechi.core.operations import Definition, Operation, Operations, Run, Step
from haechi.core.secrets import Keyring, token_digest
from haechi.core.telemetry import Telemetry
from haechi.domains.audit.service import Audit
from haechi.domains.collaboration import SwitchByVersion, SwitchByWeather
from haechi.domains.collaboration.neighbours import DeploymentsDeployer, PackagedAis
from haechi.domains.deployments.assignments import Assignments
from haechi.domains.deployments.context import Context, Pace
from haechi.domains.deployments.neighbours import (
    InventoryPlaces,
    PackageVersions,
    register_checks,
)
from haechi.domains.deployments.service import Deployments
from haechi.domains.inventory import Inventory
from haechi.domains.packages.model import BuildFacts
from haechi.domains.packages.service import Packages
from haechi.domains.packages.store import VersionRow
from haechi.domains.results import Results
from haechi.domains.results.neighbours import DeploymentSources
from haechi.domains.results.schema import SCHEMA
from haechi.errors import AppError, Text
from haechi.interop import Interop, RecordedClusters, Services, Vms, create_interop
from haechi.protocol.samples import Sample
from haechi.settings import CollaborationSettings, InteropSettings, PackagesSettings
from haechi.testing.deployments import FakeDevices, FakeImages, FakeTokens
from haechi.testing.engine import FakeEngine

PACE = Pace(
    retry_s=0.01,
    poll_s=0.01,
    uptime_s=0.05,
    within_s=5.0,
    link_s=1.0,
    applied_s=0.2,
    first_result_s=0.1,
)


class FakeBuilds:
    """Builds that take no time; `fail` holds errors of the next ones."""

    def __init__(self, db: Database, operations: Operations, images: FakeImages) -> None:
        self._db = db
        self._operations = operations
        self._images = images
        self.built: dict[str, tuple[str, list[str]]] = {}
        """Version → (zip digest, platforms)."""
        self.fail: list[AppError] = []
        self.count = 0
        step = Step("build", Text("빌드", "Build"), self._build)
        operations.register(Definition("build_version", Text("빌드", "Build"), [step]))

    async def build_version(
        self, version_id: str, platforms: Sequence[str] = (), *, by: Principal = SYSTEM
    ) -> Operation:
        ctx = {"platforms": list(platforms) or ["linux/amd64"]}
        return await self._operations.start("build_version", version_id, ctx, requested_by=by.name)

    async def _build(self, run: Run) -> None:
        self.count += 1
        if self.fail:
            raise self.fail.pop(0)
        async with self._db.read() as tx:
            row = await tx.get(VersionRow, run.subject)
        assert row is not None
        known, platforms = self.built.get(run.subject, ("", []))
        before = platforms if known == row.zip_sha256 else []
        self.built[run.subject] = (row.zip_sha256, sorted({*before, *run.ctx["platforms"]}))
        self._images.built.add(run.subject)

    async def build_facts(
        self, tx: AsyncSession, version_ids: Sequence[str]
    ) -> dict[str, BuildFacts]:
        facts = {}
        for version_id in version_ids:
            row = await tx.get(VersionRow, version_id)
            digest, platforms = self.built.get(version_id, ("", []))
            good = row is not None and row.zip_sha256 == digest
            image = f"sha256:{token_digest(version_id + digest)}" if good else None
            facts[version_id] = BuildFacts(
                "built" if good else "none", image, platforms if good else []
            )
        return facts


class FakeCollector:
    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self.count = 0
        step = Step("collect", Text("정리", "Collect"), self._collect)
        operations.register(Definition("collect_registry", Text("정리", "Collect"), [step]))

    async def collect(self, *, by: Principal) -> Operation:
        return await self._operations.start(
            "collect_registry", "registry", {}, requested_by=by.name
        )

    async def _collect(self, run: Run) -> None:
        del run
        self.count += 1


@dataclass
class InteropWorld:
    path: Path
    clock: Clock = field(default_factory=SystemClock)
    interop_settings: dict[str, Any] = field(default_factory=dict)
    weather_settings: dict[str, Any] = field(default_factory=dict)
    vms: Vms | None = None
    engine: FakeEngine = field(default_factory=FakeEngine)
    images: FakeImages = field(default_factory=FakeImages)
    devices: FakeDevices = field(default_factory=FakeDevices)
    samples: dict[str, tuple[int, Sample]] = field(default_factory=dict)
    principals: dict[str, Principal] = field(default_factory=dict)
    """Token → whose it is."""

    async def begin(self) -> "InteropWorld":
        clock = self.clock
        self.db = Database(self.path / "control.db")
        await self.db.create_all()
        self.bus = Bus(lambda: to_ms(clock.now()))
        self.operations = Operations(self.db, self.bus, clock, self.path / "operations")
        self.audit = audit = Audit(db=self.db, clock=clock)
        keyring = Keyring.open(self.path / "keys")
        self.inventory = Inventory(
            db=self.db, bus=self.bus, clock=clock, keyring=keyring, audit=audit
        )
        self.packages = Packages(
            db=self.db,
            bus=self.bus,
            clock=clock,
            audit=audit,
            folder=self.path / "packages",
            settings=PackagesSettings(min_free_bytes=0),
        )
        self.builds = FakeBuilds(self.db, self.operations, self.images)
        self.packages.built_by(self.builds)
        self.collector = FakeCollector(self.operations)
        self._deployments(keyring)
        await self._telemetry()
        self._interop()
        await self.packages.start()
        await self.deployments.start()
        await self.weather.start()
        await self.operations.start_engine()
        self.interop.start()
        transport = httpx2.ASGITransport(self.interop.app, client=("127.0.0.1", 40000))
        self.client = httpx2.AsyncClient(
            transport=transport, base_url="http://haechi.test", timeout=30
        )
        return self

    def _deployments(self, keyring: Keyring) -> None:
        places = InventoryPlaces(self.inventory)
        assignments = Assignments(
            db=self.db,
            bus=self.bus,
            clock=self.clock,
            audit=self.audit,
            places=places,
            devices=self.devices,
            handover_s=0.1,
        )
        context = Context(
            db=self.db,
            bus=self.bus,
            clock=self.clock,
            keyring=keyring,
            engine=self.engine,
            versions=PackageVersions(self.packages),
            images=self.images,
            places=places,
            tokens=FakeTokens(),
            devices=self.devices,
            assignments=assignments,
            server_url=lambda: "http://127.0.0.1:8420",
            log_dir=self.path / "logs",
            pace=PACE,
        )
        self.deployments = Deployments(
            context=context, operations=self.operations, audit=self.audit
        )
        register_checks(
            self.deployments,
            packages=self.packages,
            inventory=self.inventory,
            registry=_NoRegistry(),  # type: ignore[arg-type]  # only asked to remember a check
        )

    async def _telemetry(self) -> None:
        self.telemetry = Telemetry(self.path / "telemetry.db", schemas=[SCHEMA])
        self.results = Results(
            telemetry=self.telemetry,
            bus=self.bus,
            clock=self.clock,
            sources=DeploymentSources(self.deployments.book),
            stamps=_no_stamps,
        )
        await self.telemetry.open()

    def _interop(self) -> None:
        ais = PackagedAis(self.packages, self.deployments)
        deployer = DeploymentsDeployer(self.deployments, self.operations)
        self.weather = SwitchByWeather(
            db=self.db,
            clock=self.clock,
            operations=self.operations,
            ais=ais,
            deployer=deployer,
            settings=CollaborationSettings(**self.weather_settings),
        )
        self.versions = SwitchByVersion(db=self.db, clock=self.clock, ais=ais, deployer=deployer)
        settings = InteropSettings(
            **{"allow": ["127.0.0.0/8"], "rate_per_s": 100_000, **self.interop_settings}
        )
        self.clusters = RecordedClusters(
            db=self.db, clock=self.clock, inventory=self.inventory, audit=self.audit
        )
        self.interop: Interop = create_interop(
            Services(
                db=self.db,
                bus=self.bus,
                clock=self.clock,
                audit=self.audit,
                operations=self.operations,
                inventory=self.inventory,
                packages=self.packages,
                builds=self.builds,
                registry=self.collector,
                deployments=self.deployments,
                results=self.results,
                agents=self.devices,
                authenticate=self._authenticate,
                weather=self.weather,
                versions=self.versions,
                clusters=self.clusters,
                vms=self.vms,
                settings=lambda: settings,
                inbox=self.path / "inbox",
                samples=lambda: self.samples,
            )
        )

    async def _authenticate(self, token: str, address: str) -> Principal | None:
        del address
        return self.principals.get(token)

    async def end(self) -> None:
        await self.client.aclose()
        await self.interop.close()
        await self.operations.close()
        await self.deployments.close()
        await self.results.close()
        await self.telemetry.close()
        await self.db.close()

    # --- for tests

    async def post(self, path: str, body: Any = None, **headers: str) -> httpx2.Response:
        return await self.client.post(path, json=body, headers=headers)

    async def get(self, path: str, **query: str) -> httpx2.Response:
        return await self.client.get(path, params=query)

    def client_from(self, address: str) -> httpx2.AsyncClient:
        """A caller with another address."""
        transport = httpx2.ASGITransport(self.interop.app, client=(address, 40000))
        return httpx2.AsyncClient(transport=transport, base_url="http://haechi.test")

    async def add_device(self, name: str, ip: str, **fields: Any) -> str:
        """A device that is enrolled and connected; its id as the interface shows it."""
        body = {"name": name, "ip": ip, **fields}
        shown = str((await self.post("/add_newDevice", body)).json()["id"])
        device = await self.inventory.devices.get(shown)
        self.devices.connected.add(device.id)
        async with self.db.write() as tx:
            await self.inventory.devices.set_enrolment(tx, device.id, "enrolled")
        return shown

    async def upload(self, file_name: str, version: str, content: bytes) -> dict[str, Any]:
        """By the inbox folder."""
        (self.path / "inbox" / file_name).write_bytes(content)
        answer = await self.post("/upload_edgeAi", {"filename": file_name, "version": version})
        found: dict[str, Any] = answer.json()
        return found

    async def running(self, device: str) -> list[str]:
        """`package:version` of what runs on a device, by the book; each is checked to be real."""
        device_id = (await self.inventory.devices.get(device)).id
        page = await self.deployments.book.find(device_id=device_id)
        there = [one for one in page.items if one.state == "running"]
        assert sorted(one.id for one in there) == self.engine.running(device_id)
        return sorted(f"{one.package_name}:{one.version}" for one in there)


class _NoRegistry:
    def on_use_check(self, check: Any) -> None:
        del check


def _no_stamps(device_id: str, boot_id: str, monotonic_ms: int, claimed_ms: int) -> Any:
    raise NotImplementedError
