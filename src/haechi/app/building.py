"""Packages become images: builders, builds and the site registry."""

from haechi.adapters.builder_docker import DockerBuilder
from haechi.adapters.docker_api import DockerApi
from haechi.adapters.registry_process import hash_password
from haechi.adapters.registry_setup import make_registry
from haechi.app.base import Base
from haechi.core.clock import Clock
from haechi.core.db import Database
from haechi.core.ids import new_secret
from haechi.core.secrets import Keyring
from haechi.domains.builds.platforms import PlatformBuilders
from haechi.domains.builds.registry import SiteRegistry
from haechi.domains.builds.service import Builds
from haechi.domains.builds.versions import PackageVersions as VersionsToBuild
from haechi.settings import Loaded


class Building(Base):
    def __init__(
        self, loaded: Loaded, *, clock: Clock, db: Database, keyring: Keyring, server_id: str
    ) -> None:
        super().__init__(loaded, clock=clock, db=db, keyring=keyring, server_id=server_id)
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
