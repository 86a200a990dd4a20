"""Devices become Kubernetes clusters: bundles, what is done to hosts, and the clusters' APIs."""

from haechi.adapters.kube_lightkube import LightKubes
from haechi.app.hosting import Hosting
from haechi.core.clock import Clock
from haechi.core.db import Database
from haechi.core.secrets import Keyring
from haechi.domains.clusters import neighbours as clusters_neighbours
from haechi.domains.clusters.bundle.shelf import Shelf
from haechi.domains.clusters.context import Context
from haechi.domains.clusters.host.work import BundledHostWork
from haechi.domains.clusters.releases import ShelfReleases
from haechi.domains.clusters.service import Clusters
from haechi.settings import Loaded


class Clustering(Hosting):
    def __init__(
        self, loaded: Loaded, *, clock: Clock, db: Database, keyring: Keyring, server_id: str
    ) -> None:
        super().__init__(loaded, clock=clock, db=db, keyring=keyring, server_id=server_id)
        shelf = Shelf(self.settings.bundle.folder.expanduser())
        self.kubes = LightKubes()
        self.clusters = Clusters(
            context=Context(
                db=self.db,
                bus=self.bus,
                clock=self.clock,
                keyring=keyring,
                operations=self.operations,
                devices=clusters_neighbours.InventoryDevices(self.inventory),
                hosts=self.hosts,
                work=BundledHostWork(shelf, self.clock),
                releases=ShelfReleases(shelf),
                kubes=self.kubes,
                hooks=[self.host_agents],
            ),
            operations=self.operations,
            audit=self.audit,
        )
        clusters_neighbours.register_checks(self.clusters, self.inventory)
