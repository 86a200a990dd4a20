"""The whole server: its API and listeners, and the order in which its parts start and end."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

from fastapi import FastAPI
from starlette.types import ASGIApp

from haechi.app.old_interface import OldInterface
from haechi.core.clock import Clock
from haechi.core.db import Database
from haechi.core.secrets import Keyring
from haechi.domains.agents import api as agents_api
from haechi.domains.audit import api as audit_api
from haechi.domains.auth import api as auth_api
from haechi.domains.builds import api as builds_api
from haechi.domains.clusters import api as clusters_api
from haechi.domains.clusters import upkeep_api
from haechi.domains.clusters.agent import api as host_agents_api
from haechi.domains.clusters.host import api as hosts_api
from haechi.domains.deployments import api as deployments_api
from haechi.domains.inventory import api as inventory_api
from haechi.domains.metrics import api as metrics_api
from haechi.domains.packages import api as packages_api
from haechi.domains.playbooks import api as playbooks_api
from haechi.domains.results import api as results_api
from haechi.domains.schedules import api as schedules_api
from haechi.domains.video import api as video_api
from haechi.settings import Loaded
from haechi.web import operations as operations_api
from haechi.web import settings as settings_api
from haechi.web.agents import create_agents_app
from haechi.web.app import Front, create_api
from haechi.web.connections import Connections, Limits
from haechi.web.errors import problem_response
from haechi.web.idempotency import Idempotency
from haechi.web.ingest import PATH as RESULTS_PATH
from haechi.web.ingest import IngestEndpoint
from haechi.web.security import Shield
from haechi.web.server import Listener
from haechi.web.tls import (
    HttpProtocol,
    ListenerTls,
    WebSocketProtocol,
    own_hosts,
)

log = logging.getLogger(__name__)

STATIC_DIR: Final = Path(__file__).parent.parent / "web" / "static"
_HOUSEKEEPING_S: Final = 3600.0
_KEEP_DEPLOYMENTS: Final = timedelta(days=365)
_KEEP_AUDIT: Final = timedelta(days=2 * 365)


class Haechi(OldInterface):
    """Every service of a server. Build with `create`, then `start`, serve `app`, `close`."""

    def __init__(
        self, loaded: Loaded, *, clock: Clock, db: Database, keyring: Keyring, server_id: str
    ) -> None:
        super().__init__(loaded, clock=clock, db=db, keyring=keyring, server_id=server_id)
        self.dashboard_settings = settings_api.SettingsStore(
            db=db, clock=clock, audit=self.audit, loaded=loaded
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

    def _api(self) -> FastAPI:
        return create_api(
            routers=[
                audit_api.router(self.audit),
                auth_api.router(self.auth),
                inventory_api.router(self.inventory),
                packages_api.router(self.packages),
                agents_api.router(self.agents),
                hosts_api.router(self.hosts),
                host_agents_api.router(self.host_agents),
                clusters_api.router(self.clusters),
                upkeep_api.router(self.upkeep),
                builds_api.router(self.builds, self.registry, self.packages),
                deployments_api.router(self.deployments, self.places),
                schedules_api.router(self.schedules),
                playbooks_api.router(self.playbooks),
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
        bounds = Connections(
            Limits(
                head_s=s.server.head_s,
                body_idle_s=s.server.body_idle_s,
                anonymous=s.server.anonymous_connections,
                language=s.server.language,
            )
        )
        return [
            Listener(self.app, s.server.listen, server_context, connections=bounds),
            Listener(
                agents_app,
                s.agents.listen,
                agents_tls.context,
                HttpProtocol,
                WebSocketProtocol,
                connections=bounds,
            ),
            *(
                Listener(self.interop.app, address, connections=bounds)
                for address in s.interop.listen
            ),
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
        await self.clusters.start()
        await self.upkeep.start()
        await self.lone_hosts.start()
        await self.deployments.start()
        self.node_trust.start()
        self.results.start()
        self.metrics.start()
        self.interop.start()
        await self.weather.start()
        await self.operations.start_engine()
        self.schedules.start()
        self.tasks.forever("housekeeping", self._keep_house)

    async def close(self) -> None:
        """In the order of dependence: no new work, then the work, then the stores."""
        await self.tasks.close()
        await self.interop.close()
        await self.schedules.close()
        await self.lone_hosts.close()
        await self.lone_finding.close()
        await self.upkeep.close()
        await self.probe.close()
        await self.operations.close()
        await self.node_trust.close()
        await self.deployments.close()
        await self.docker_hosts.close()
        await self.kubes.close()
        await self.hosts.close()
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
            "schedules": self.schedules.forget_old,
            "audit": lambda: self.audit.forget(older_than=_KEEP_AUDIT),
        }
        while True:
            for name, duty in duties.items():
                try:
                    await duty()
                except Exception:
                    log.exception("housekeeping of %s failed; tried again in an hour", name)
            await self.clock.sleep(_HOUSEKEEPING_S)
