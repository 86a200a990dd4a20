"""What policies need: which AIs run where and what else there is, and somebody who acts."""

from typing import Protocol

from haechi.core.access import Principal
from haechi.core.operations import Operation
from haechi.domains.collaboration.model import AiVersion, RunningAi


class Ais(Protocol):
    async def running_on(self, device_id: str) -> list[RunningAi]:
        """The proven ones."""

    async def running_of(self, package_id: str) -> list[RunningAi]:
        """A package's, on every device."""

    async def version(self, version_id: str) -> AiVersion:
        """Raises NotFound."""

    async def built_for(self, family: str, class_: str) -> list[AiVersion]:
        """Every version of the family for the class that is ready to run."""


class Deployer(Protocol):
    """Deploys beside what runs, proves, and rolls back by itself."""

    async def deploy_beside(self, version_id: str, like: RunningAi, by: Principal) -> Operation:
        """With the settings and cameras of `like`, which is left alone."""

    async def replace(
        self, version_id: str, running: list[RunningAi], by: Principal
    ) -> list[Operation]:
        """The same package: each old version goes once the new one is proven."""

    async def remove(self, deployment_id: str, by: Principal) -> Operation | None:
        """None where it is gone already."""
