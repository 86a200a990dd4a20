"""Ansible's way to the devices: an inventory and exported playbooks."""

from haechi.app.scheduling import Scheduling
from haechi.core.clock import Clock
from haechi.core.db import Database
from haechi.core.secrets import Keyring
from haechi.domains.playbooks import Playbooks
from haechi.domains.playbooks.model import RegistryToPlay
from haechi.domains.playbooks.neighbours import BuiltPackages, InventoryHosts, PlaybookLogins
from haechi.settings import Loaded


class Automating(Scheduling):
    def __init__(
        self, loaded: Loaded, *, clock: Clock, db: Database, keyring: Keyring, server_id: str
    ) -> None:
        super().__init__(loaded, clock=clock, db=db, keyring=keyring, server_id=server_id)
        self.playbooks = Playbooks(
            db=db,
            audit=self.audit,
            hosts=InventoryHosts(self.inventory),
            packages=BuiltPackages(self.packages, self.builds),
            registry=PlaybookLogins(self.registry, self._registry_to_play),
        )

    def _registry_to_play(self) -> RegistryToPlay:
        parts = self.registry_parts
        host = parts.address.rpartition(":")[0].strip("[]")
        return RegistryToPlay(name=parts.names.pull, host=host, ca_pem=parts.ca_pem)
