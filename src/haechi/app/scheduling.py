"""What happens at a time: schedules over deployments and clusters."""

from haechi.app.deploying import Deploying
from haechi.core.clock import Clock
from haechi.core.db import Database
from haechi.core.secrets import Keyring
from haechi.domains.schedules import Schedules
from haechi.domains.schedules import neighbours as schedules_neighbours
from haechi.settings import Loaded


class Scheduling(Deploying):
    def __init__(
        self, loaded: Loaded, *, clock: Clock, db: Database, keyring: Keyring, server_id: str
    ) -> None:
        super().__init__(loaded, clock=clock, db=db, keyring=keyring, server_id=server_id)
        self.schedules = Schedules(
            db=db,
            bus=self.bus,
            clock=clock,
            audit=self.audit,
            operations=self.operations,
            site=schedules_neighbours.InventorySite(self.inventory),
        )
        schedules_neighbours.register(
            self.schedules,
            deployments=self.deployments,
            places=self.places,
            packages=self.packages,
            inventory=self.inventory,
            clusters=self.clusters,
            upkeep=self.upkeep,
            operations=self.operations,
        )
