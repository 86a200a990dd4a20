"""Clusters are looked after: watched, backed up, renewed, repaired."""

from haechi.adapters.probe_tcp import TcpProbe
from haechi.adapters.ssh_finder import SshFinder
from haechi.app.clustering import Clustering
from haechi.core.clock import Clock
from haechi.core.db import Database
from haechi.core.secrets import Keyring
from haechi.domains.agents.presence import Limits
from haechi.domains.clusters.host.directory import InventoryDirectory
from haechi.domains.clusters.upkeep import Upkeep
from haechi.settings import Loaded


class Upkeeping(Clustering):
    def __init__(
        self, loaded: Loaded, *, clock: Clock, db: Database, keyring: Keyring, server_id: str
    ) -> None:
        super().__init__(loaded, clock=clock, db=db, keyring=keyring, server_id=server_id)
        s = self.settings
        self.probe = TcpProbe()
        self.finder = SshFinder(InventoryDirectory(self.inventory))
        self.upkeep = Upkeep(
            clusters=self.clusters,
            operations=self.operations,
            audit=self.audit,
            agents=self.agents,
            probe=self.probe,
            finder=self.finder,
            limits=Limits(s.agents.silent_after_s, s.agents.dead_after_s),
            settings=lambda: s.clusters,
            folder=s.server.data_dir / "cluster-backups",
        )
        self.agents.use_neighbour_word(self.upkeep.neighbour_word)
        self.agents.use_reason_word(self.upkeep.watching.reason_word)
