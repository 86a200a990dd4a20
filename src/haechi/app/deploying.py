"""Images become running AIs: engines, assignments and deployments."""

from haechi.adapters.engine_agent import AgentEngine
from haechi.app.building import Building
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
from haechi.domains.deployments.service import Deployments
from haechi.protocol.commands import RegistryAccess
from haechi.settings import Loaded


class Deploying(Building):
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
