"""Images become running AIs: engines, assignments and deployments."""

from typing import Final

from haechi.adapters.engine_agent import AgentEngine
from haechi.adapters.engine_docker_ssh import DockerSshEngine
from haechi.adapters.engine_router import EngineRouter
from haechi.app.clustering import Clustering
from haechi.core.clock import Clock
from haechi.core.db import Database
from haechi.core.secrets import Keyring
from haechi.domains.deployments.assignments import Assignments
from haechi.domains.deployments.context import Context
from haechi.domains.deployments.neighbours import (
    BuiltImages,
    InventoryPlaces,
    PackageVersions,
    register_checks,
)
from haechi.domains.deployments.ports import Engine
from haechi.domains.deployments.service import Deployments
from haechi.protocol.commands import RegistryAccess
from haechi.settings import Loaded
from haechi.web.server import split_address
from haechi.web.tls import local_addresses

ENGINE_LABEL: Final = "engine"
"""Of a device: `docker-ssh` reaches its Docker over SSH instead of through an agent."""


class Deploying(Clustering):
    def __init__(
        self, loaded: Loaded, *, clock: Clock, db: Database, keyring: Keyring, server_id: str
    ) -> None:
        super().__init__(loaded, clock=clock, db=db, keyring=keyring, server_id=server_id)
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
        self.docker_hosts = DockerSshEngine(
            self.hosts,
            server_url=self._server_url,
            ca_pem=lambda: self.ca.pem if self._https else "",
            usage_url=self._usage_url,
        )
        engines: list[Engine] = [AgentEngine(self.agents), self.docker_hosts]
        self.deployments = Deployments(
            context=Context(
                db=self.db,
                bus=self.bus,
                clock=self.clock,
                keyring=keyring,
                engine=EngineRouter(self._engine_of, {one.name: one for one in engines}),
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

    async def _engine_of(self, device_id: str) -> str:
        """The agent's Docker, unless the device's label asks for its Docker over SSH."""
        device = await self.inventory.devices.get(device_id)
        asked = device.labels.get(ENGINE_LABEL, "")
        return DockerSshEngine.name if asked == DockerSshEngine.name else AgentEngine.name

    def _usage_url(self) -> str:
        """Where programs of the old days that have no agent report usage: the first old listener
        that others than this machine reach."""
        for listen in self.settings.interop.listen:
            host, port = split_address(listen)
            if host in {"0.0.0.0", "::"}:  # noqa: S104 - recognised, not bound
                host = next(iter(local_addresses()), "")
            if host and not host.startswith("127."):
                return f"http://{host}:{port}/usage"
        return ""
