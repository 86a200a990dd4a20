"""The only place that wires adapters into domains and mounts web and interop.

Read it from top to bottom to see what haechi is made of: stores first, then the domains from the
lowest to the highest, then the faces.
"""

import asyncio
import logging
import os
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from starlette.types import ASGIApp

from haechi import migrations, settings
from haechi.adapters.builder_docker import DockerBuilder
from haechi.adapters.docker_api import DockerApi
from haechi.adapters.engine_agent import AgentEngine
from haechi.adapters.registry_process import hash_password
from haechi.adapters.registry_setup import make_registry
from haechi.core import memory
from haechi.core.bus import Bus
from haechi.core.clock import Clock, SystemClock, to_ms
from haechi.core.db import Database, ProcessLock
from haechi.core.ids import new_secret
from haechi.core.operations import Operations
from haechi.core.pki import SiteCa
from haechi.core.secrets import Keyring
from haechi.core.tasks import Tasks
from haechi.core.telemetry import Telemetry
from haechi.domains.agents import api as agents_api
from haechi.domains.agents.directory import InventoryDirectory
from haechi.domains.agents.service import Agents
from haechi.domains.audit import api as audit_api
from haechi.domains.audit.service import Audit
from haechi.domains.auth import api as auth_api
from haechi.domains.auth.model import Peer
from haechi.domains.auth.service import Auth
from haechi.domains.builds import api as builds_api
from haechi.domains.builds.platforms import PlatformBuilders
from haechi.domains.builds.registry import SiteRegistry
from haechi.domains.builds.service import Builds
from haechi.domains.builds.versions import PackageVersions as VersionsToBuild
from haechi.domains.collaboration import SwitchByVersion, SwitchByWeather
from haechi.domains.collaboration.neighbours import DeploymentsDeployer, PackagedAis
from haechi.domains.deployments import api as deployments_api
from haechi.domains.deployments.assignments import Assignments
from haechi.domains.deployments.context import Context
from haechi.domains.deployments.neighbours import (
    BuiltImages,
    InventoryPlaces,
    PackageVersions,
    register_checks,
)
from haechi.domains.deployments.service import Deployments
from haechi.domains.inventory import Inventory
from haechi.domains.inventory import api as inventory_api
from haechi.domains.metrics import Metrics, figures
from haechi.domains.metrics import api as metrics_api
from haechi.domains.metrics.exposition import Exposition
from haechi.domains.metrics.schema import SCHEMA as METRICS_SCHEMA
from haechi.domains.packages import Packages
from haechi.domains.packages import api as packages_api
from haechi.domains.results import Results
from haechi.domains.results import api as results_api
from haechi.domains.results.neighbours import DeploymentSources
from haechi.domains.results.schema import SCHEMA as RESULTS_SCHEMA
from haechi.domains.video import Video
from haechi.domains.video import api as video_api
from haechi.domains.video.agent_stills import AgentStills
from haechi.interop import RecordedClusters, Vms, create_interop
from haechi.interop import Services as InteropServices
from haechi.protocol.commands import RegistryAccess
from haechi.settings import Loaded
from haechi.web import operations as operations_api
from haechi.web import settings as settings_api
from haechi.web.agents import create_agents_app
from haechi.web.app import Front, create_api
from haechi.web.errors import problem_response
from haechi.web.idempotency import Idempotency
from haechi.web.ingest import PATH as RESULTS_PATH
from haechi.web.ingest import IngestEndpoint
from haechi.web.security import Gate, Shield
from haechi.web.server import Listener, Servers, split_address
from haechi.web.tls import (
    HttpProtocol,
    ListenerTls,
    WebSocketProtocol,
    local_addresses,
    own_hosts,
)

log = logging.getLogger(__name__)

STATIC_DIR: Final = Path(__file__).parent / "web" / "static"
_HOUSEKEEPING_S: Final = 3600.0
_KEEP_DEPLOYMENTS: Final = timedelta(days=365)
_KEEP_AUDIT: Final = timedelta(days=2 * 365)
_LOOPBACK: Final = ("127.", "localhost:", "[::1]:")


class Haechi:
    """Every service of a server. Build with `create`, then `start`, serve `app`, `close`."""

    def __init__(
        self, loaded: Loaded, *, clock: Clock, db: Database, keyring: Keyring, server_id: str
    ) -> None:
        s = loaded.settings
        data_dir = s.server.data_dir
        self.settings = s
        self.clock = clock
        self.db = db
        self.tasks = Tasks("server")
        self.bus = Bus(lambda: to_ms(clock.now()))
        self.ca = SiteCa.open(data_dir / "pki", server_id=server_id, keyring=keyring, clock=clock)
        self.operations = Operations(db, self.bus, clock, data_dir / "operations")

        self.audit = Audit(db=db, clock=clock)
        self.auth = Auth(
            db=db,
            clock=clock,
            audit=self.audit,
            ca=self.ca,
            data_dir=data_dir,
            session_hours=s.auth.session_hours,
            max_failures=s.auth.max_failures,
        )
        self.inventory = Inventory(
            db=db, bus=self.bus, clock=clock, keyring=keyring, audit=self.audit
        )
        self.packages = Packages(
            db=db,
            bus=self.bus,
            clock=clock,
            audit=self.audit,
            folder=data_dir / "packages",
            settings=s.packages,
        )
        self.agents = Agents(
            db=db,
            bus=self.bus,
            clock=clock,
            audit=self.audit,
            machines=self.auth.machines,
            directory=InventoryDirectory(self.inventory, clock),
            settings=s.agents,
            server_id=server_id,
            ca_pem=self.ca.pem,
            ca_fingerprint=self.ca.fingerprint,
            address=lambda: s.agents.address or s.agents.listen,
        )
        self._wire_builds(keyring)
        self._wire_deployments(keyring)
        self._wire_telemetry()
        self._wire_interop()
        self.dashboard_settings = settings_api.SettingsStore(
            db=db, clock=clock, audit=self.audit, loaded=loaded
        )

        self.gate = Gate(
            authenticator=self.auth.authenticator, allowed_origins=s.server.allowed_origins
        )
        self.api = self._api()
        self.fast: dict[tuple[str, str], ASGIApp] = {
            ("POST", RESULTS_PATH): IngestEndpoint(
                intake=self.results,
                identify=self.gate.identify,
                render=problem_response,
                app=self.api,
            )
        }
        self.app: ASGIApp = Shield(
            Front(Idempotency(self.api, db, clock), self.fast),
            gate=self.gate,
            render=problem_response,
            api=self.api,
        )

    def _wire_builds(self, keyring: Keyring) -> None:
        s, data_dir = self.settings, self.settings.server.data_dir
        self.registry_parts = make_registry(
            s.registry, data_dir=data_dir, ca=self.ca, clock=self.clock
        )
        parts = self.registry_parts
        local = DockerBuilder(DockerApi(s.builds.docker_socket), clock=self.clock, limit_steps=True)
        self.builds = Builds(
            db=self.db,
            bus=self.bus,
            clock=self.clock,
            audit=self.audit,
            operations=self.operations,
            versions=VersionsToBuild(self.packages),
            builders=PlatformBuilders(
                local=local, foreign_platforms=lambda: s.builds.foreign_platforms
            ),
            registry=parts.client,
            names=parts.names,
            push_login=lambda: parts.process.push_login,
            settings=lambda: s.builds,
            folder=data_dir / "builds",
            min_free_bytes=s.packages.min_free_bytes,
            parallel=s.builds.parallel,
        )
        self.registry = SiteRegistry(
            db=self.db,
            bus=self.bus,
            clock=self.clock,
            audit=self.audit,
            operations=self.operations,
            registry=parts.client,
            process=parts.process,
            names=parts.names,
            keyring=keyring,
            hash_password=hash_password,
            new_secret=new_secret,
        )
        self.packages.built_by(self.builds)
        self.packages.on_delete_check(self.builds.uses_of_version)
        self.packages.on_delete(self.builds.forget_version)

    def _wire_deployments(self, keyring: Keyring) -> None:
        parts = self.registry_parts
        self.places = InventoryPlaces(self.inventory)
        self.assignments = Assignments(
            db=self.db,
            bus=self.bus,
            clock=self.clock,
            audit=self.audit,
            places=self.places,
            devices=self.agents,
        )
        images = BuiltImages(
            builds=self.builds,
            registry=self.registry,
            operations=self.operations,
            bus=self.bus,
            access=lambda: RegistryAccess(
                name=parts.names.pull, address=parts.address, ca_pem=parts.ca_pem
            ),
        )
        self.deployments = Deployments(
            context=Context(
                db=self.db,
                bus=self.bus,
                clock=self.clock,
                keyring=keyring,
                engine=AgentEngine(self.agents),
                versions=PackageVersions(self.packages),
                images=images,
                places=self.places,
                tokens=self.auth.machines,
                devices=self.agents,
                assignments=self.assignments,
                server_url=self._server_url,
                log_dir=self.settings.server.data_dir / "logs",
            ),
            operations=self.operations,
            audit=self.audit,
        )
        register_checks(
            self.deployments,
            packages=self.packages,
            inventory=self.inventory,
            registry=self.registry,
        )
        self.inventory.watched_by(self.agents)
        self.inventory.on_delete("device", self.agents.delete_device)
        self.inventory.on_delete("device", self.registry.delete_device)
        self.agents.on_revoked(self.registry.revoke_pull)

    def _wire_telemetry(self) -> None:
        s = self.settings
        self.telemetry = Telemetry(
            s.server.data_dir / "telemetry.db",
            schemas=[RESULTS_SCHEMA, METRICS_SCHEMA],
            max_queue_rows=s.results.max_queue_rows,
        )
        self.results = Results(
            telemetry=self.telemetry,
            bus=self.bus,
            clock=self.clock,
            sources=DeploymentSources(self.deployments.book),
            stamps=self.agents.stamp,
            only_camera=self.assignments.only_camera,
            authority=self.assignments.authoritative,
            retention_days=s.results.retention_days,
        )
        self.agents.on_results(self.results.ingest_from_agent)
        self.metrics = Metrics(
            telemetry=self.telemetry,
            bus=self.bus,
            clock=self.clock,
            stamps=self.agents.stamp,
            raw_hours=s.metrics.raw_hours,
            minute_days=s.metrics.minute_days,
            hour_days=s.metrics.hour_days,
        )
        self.agents.on_samples(self.metrics.ingest)
        self.exposition = Exposition()
        figures.register(
            self.exposition, metrics=self.metrics, telemetry=self.telemetry, clock=self.clock
        )
        self.exposition.counter(
            "haechi_results_stored",
            "Results stored since the start.",
            ("device_id", "package"),
            lambda: list(self.results.accepted.items()),
        )
        self.video = Video(
            cameras=self.inventory.cameras, stills=AgentStills(self.agents), clock=self.clock
        )

    def _wire_interop(self) -> None:
        s = self.settings
        ais = PackagedAis(self.packages, self.deployments)
        deployer = DeploymentsDeployer(self.deployments, self.operations)
        self.weather = SwitchByWeather(
            db=self.db,
            clock=self.clock,
            operations=self.operations,
            ais=ais,
            deployer=deployer,
            settings=s.collaboration,
        )
        authenticator = self.auth.authenticator
        services = InteropServices(
            db=self.db,
            bus=self.bus,
            clock=self.clock,
            audit=self.audit,
            operations=self.operations,
            inventory=self.inventory,
            packages=self.packages,
            builds=self.builds,
            registry=self.registry,
            deployments=self.deployments,
            results=self.results,
            agents=self.agents,
            samples=self.metrics.newest,
            authenticate=lambda token, address: authenticator.by_token(
                token, Peer(address=address)
            ),
            weather=self.weather,
            versions=SwitchByVersion(db=self.db, clock=self.clock, ais=ais, deployer=deployer),
            clusters=RecordedClusters(
                db=self.db, clock=self.clock, inventory=self.inventory, audit=self.audit
            ),
            vms=Vms(s.interop.vms_url) if s.interop.vms_url else None,
            settings=lambda: s.interop,
            inbox=s.interop.inbox or s.server.data_dir / "inbox",
        )
        self.interop = create_interop(services)

    @property
    def _https(self) -> bool:
        s = self.settings.server
        return s.tls == "on" or (s.tls == "auto" and not s.listen.startswith(_LOOPBACK))

    def _server_url(self) -> str:
        """Where a client beside the server calls: HAECHI_MASTER_URL of AI containers."""
        listen = self.settings.server.listen
        host, port = split_address(listen)
        if host in {"0.0.0.0", "::"}:  # noqa: S104 - recognised, not bound
            listen = f"{next(iter(local_addresses()), '127.0.0.1')}:{port}"
        return f"{'https' if self._https else 'http'}://{listen}"

    def _api(self) -> FastAPI:
        return create_api(
            routers=[
                audit_api.router(self.audit),
                auth_api.router(self.auth),
                inventory_api.router(self.inventory),
                packages_api.router(self.packages),
                agents_api.router(self.agents),
                builds_api.router(self.builds, self.registry, self.packages),
                deployments_api.router(self.deployments, self.places),
                results_api.router(self.results),
                metrics_api.router(self.metrics),
                video_api.router(self.video),
                operations_api.router(self.operations),
                settings_api.router(self.dashboard_settings),
            ],
            root_routers=[metrics_api.root_router(self.exposition)],
            guard=self.gate,
            bus=self.bus,
            default_language=self.settings.server.language,
            static_dir=STATIC_DIR,
        )

    def listeners(self) -> list[Listener]:
        """What to bind: dashboard and API, and the agents' door."""
        s = self.settings
        agents_tls = ListenerTls(
            self.ca,
            "agents",
            lambda: own_hosts(s.agents.listen, s.agents.address),
            clients="optional",
        )
        self.tasks.forever("agents-tls", lambda: agents_tls.keep_fresh(self.clock))
        server_context = None
        if self._https:
            server_tls = ListenerTls(self.ca, "server", lambda: own_hosts(s.server.listen))
            self.tasks.forever("server-tls", lambda: server_tls.keep_fresh(self.clock))
            server_context = server_tls.context
        agents_app = Shield(
            create_agents_app(self.agents, lambda connection: self.gate.identify(connection.scope)),
            gate=self.gate,
            render=problem_response,
            api=self.api,
        )
        return [
            Listener(self.app, s.server.listen, server_context),
            Listener(
                agents_app, s.agents.listen, agents_tls.context, HttpProtocol, WebSocketProtocol
            ),
            *(Listener(self.interop.app, address) for address in s.interop.listen),
        ]

    async def start(self, environment: Mapping[str, str]) -> None:
        """Lowest first; operations last: they resume what needs all the others."""
        await self.telemetry.open()
        await self.auth.start(environment)
        await self.packages.start()
        await self.registry_parts.wire_this_machine()
        await self.registry.start()
        await self.builds.start()
        await self.agents.start()
        await self.deployments.start()
        self.results.start()
        self.metrics.start()
        self.interop.start()
        await self.weather.start()
        await self.operations.start_engine()
        self.tasks.forever("housekeeping", self._keep_house)

    async def close(self) -> None:
        """In the order of dependence: no new work, then the work, then the stores."""
        await self.tasks.close()
        await self.interop.close()
        await self.operations.close()
        await self.deployments.close()
        await self.video.close()
        await self.agents.close()
        await self.results.close()
        await self.metrics.close()
        await self.registry.close()
        await self.registry_parts.client.close()
        await self.telemetry.close()

    async def _keep_house(self) -> None:
        """Each of them for itself: one that fails must not starve the others."""
        keep = timedelta(days=self.settings.operations.retention_days)
        duties: dict[str, Callable[[], Awaitable[object]]] = {
            "operations": lambda: self.operations.forget_ended(older_than=keep),
            "sessions": self.auth.sessions.forget_expired,
            "deployments": lambda: self.deployments.book.forget_old(older_than=_KEEP_DEPLOYMENTS),
            "audit": lambda: self.audit.forget(older_than=_KEEP_AUDIT),
        }
        while True:
            for name, duty in duties.items():
                try:
                    await duty()
                except Exception:
                    log.exception("housekeeping of %s failed; tried again in an hour", name)
            await self.clock.sleep(_HOUSEKEEPING_S)


async def create(
    *, flags: Mapping[str, Any], file: Path | None, environment: Mapping[str, str], clock: Clock
) -> Haechi:
    """Open the stores, take up what was set in the dashboard, and build everything."""
    first = settings.load(flags=flags, file=file, environment=environment)
    data_dir = first.settings.server.data_dir
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    db = Database(data_dir / "control.db")
    try:
        await migrations.upgrade(db)
        async with db.read() as tx:
            saved = await settings_api.saved(tx)
        loaded = settings.load(flags=flags, file=file, environment=environment, dashboard=saved)
        # A key made anew would fit nothing that is there already.
        fresh = not (data_dir / "pki" / "ca.key").exists()
        keyring = Keyring.open(data_dir / "keyring", create=fresh)
        server_id = await settings_api.server_id(db, clock)
        return Haechi(loaded, clock=clock, db=db, keyring=keyring, server_id=server_id)
    except BaseException:
        await db.close()
        raise


async def run(*, flags: Mapping[str, Any], file: Path | None) -> None:
    """`haechi serve`: until a signal."""
    environment = dict(os.environ)
    os.environ.pop("HAECHI_ADMIN_PASSWORD", None)  # children must not inherit it
    os.umask(0o077)
    first = settings.load(flags=flags, file=file, environment=environment)
    lock = ProcessLock(first.settings.server.data_dir / "lock")
    lock.acquire()
    async with AsyncExitStack() as stack:
        stack.callback(lock.release)
        haechi = await create(flags=flags, file=file, environment=environment, clock=SystemClock())
        stack.push_async_callback(haechi.db.close)
        stack.push_async_callback(haechi.close)
        servers = Servers(haechi.listeners(), stopping=haechi.bus.close)
        stack.callback(servers.close)
        stack.enter_context(servers.signals())  # one that comes while it starts counts too
        await haechi.start(environment)
        scheme = "https" if servers.secure[0] else "http"
        host, port = servers.addresses[0]
        memory.settle()
        log.info("haechi is ready: %s://%s:%d", scheme, host, port)
        await servers.run()


def describe_api() -> dict[str, Any]:
    """The OpenAPI document, made in a scratch folder without starting anything."""

    async def describe() -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            haechi = await create(
                flags={"server.data_dir": Path(folder)},
                file=None,
                environment={},
                clock=SystemClock(),
            )
            try:
                return haechi.api.openapi()
            finally:
                await haechi.close()
                await haechi.db.close()

    return asyncio.run(describe())
