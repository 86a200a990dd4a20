"""What playbooks need: devices and groups, packages with their images, the registry."""

from typing import Protocol

from haechi.domains.playbooks.model import (
    Host,
    HostGroup,
    PackageToPlay,
    RegistryLogin,
    RegistryToPlay,
)


class Hosts(Protocol):
    async def hosts(self) -> list[Host]: ...

    async def groups(self) -> list[HostGroup]:
        """Of the inventory and of clusters; names may need to be made fit for Ansible."""

    async def group(self, ref: str) -> HostGroup:
        """One of the inventory's. Raises NotFound."""


class PackageImages(Protocol):
    async def package(self, ref: str, version: str, platform: str | None) -> PackageToPlay:
        """For the platform; None: the one that there is. Raises NotFound, NotPlayable,
        NeedsPrivileges."""


class PullOnly(Protocol):
    def registry(self) -> RegistryToPlay: ...

    async def new_login(self) -> RegistryLogin:
        """Made anew: an earlier one ends."""
