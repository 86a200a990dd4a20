"""Hosts over SSH, and haechi's agent on them."""

from haechi.adapters.agent_images import DockerAgentImages
from haechi.adapters.docker_api import DockerApi
from haechi.adapters.ssh_asyncssh import AsyncsshHosts
from haechi.app.building import Building
from haechi.core.clock import Clock
from haechi.core.db import Database
from haechi.core.secrets import Keyring
from haechi.domains.clusters.agent.service import HostAgents
from haechi.domains.clusters.host.directory import InventoryDirectory
from haechi.settings import Loaded


class Hosting(Building):
    def __init__(
        self, loaded: Loaded, *, clock: Clock, db: Database, keyring: Keyring, server_id: str
    ) -> None:
        super().__init__(loaded, clock=clock, db=db, keyring=keyring, server_id=server_id)
        s = self.settings
        self.hosts = AsyncsshHosts(
            InventoryDirectory(self.inventory), owner=server_id, clock=self.clock
        )
        self.host_agents = HostAgents(
            db=self.db,
            clock=self.clock,
            hosts=self.hosts,
            agents=self.agents,
            images=DockerAgentImages(
                DockerApi(s.builds.docker_socket),
                image=lambda: s.agents.image,
                archive=lambda: s.agents.image_archive,
                folder=s.server.data_dir / "agent-images",
            ),
            devices=self.inventory.devices,
            operations=self.operations,
            audit=self.audit,
        )
