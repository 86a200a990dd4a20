"""The domains beneath as playbooks use them: inventory, packages with builds, the registry."""

from collections.abc import Callable
from typing import Final

from haechi.domains.builds.model import BuildState
from haechi.domains.builds.registry import SiteRegistry
from haechi.domains.builds.service import Builds
from haechi.domains.inventory import Inventory
from haechi.domains.packages.manifest import Manifest
from haechi.domains.packages.service import Packages
from haechi.domains.playbooks.model import (
    Host,
    HostGroup,
    NeedsPrivileges,
    NotPlayable,
    PackageToPlay,
    RegistryLogin,
    RegistryToPlay,
)

LOGIN: Final = "playbooks"
_MB: Final = 1024**2


class InventoryHosts:
    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory

    async def hosts(self) -> list[Host]:
        found, cursor = [], None
        while True:
            page = await self._inventory.devices.find(limit=1000, cursor=cursor)
            found += [
                Host(
                    device_id=one.id,
                    name=one.name,
                    host_name=one.host_name,
                    address=one.seen_address or one.address,
                    port=one.port,
                    user=one.ssh_user,
                    role=one.role,
                    platform=one.platform,
                )
                for one in page.items
            ]
            cursor = page.next_cursor
            if cursor is None:
                return found

    async def groups(self) -> list[HostGroup]:
        found, cursor = [], None
        while True:
            page = await self._inventory.groups.find(limit=1000, cursor=cursor)
            found += [HostGroup(one.name, list(one.device_ids)) for one in page.items]
            cursor = page.next_cursor
            if cursor is None:
                return found

    async def group(self, ref: str) -> HostGroup:
        named = await self._inventory.groups.find(name=ref, limit=1)
        one = named.items[0] if named.items else await self._inventory.groups.get(ref)
        return HostGroup(one.name, list(one.device_ids))


class BuiltPackages:
    def __init__(self, packages: Packages, builds: Builds) -> None:
        self._packages = packages
        self._builds = builds

    async def package(self, ref: str, version: str, platform: str | None) -> PackageToPlay:
        found = await self._packages.get_version(ref, version)
        image = await self._image(found.id, platform)
        if image is None:
            raise NotPlayable(version=version)
        return to_play(found.package_name, found.version, image, found.manifest)

    async def _image(self, version_id: str, platform: str | None) -> str | None:
        if platform is not None:
            build = await self._builds.image_of(version_id, platform)
            return None if build is None else build.image
        page = await self._builds.find(version_id=version_id, state=BuildState.SUCCEEDED, limit=1)
        return page.items[0].image if page.items else None


def to_play(name: str, version: str, image: str, manifest: Manifest) -> PackageToPlay:
    """Raises NeedsPrivileges."""
    needs = manifest.needs
    if needs.privileged:
        raise NeedsPrivileges(package=name, version=version)
    return PackageToPlay(
        name=name,
        version=version,
        image=image,
        environment=dict(manifest.environment),
        cpu=needs.cpu,
        memory_bytes=None if needs.memory_mb is None else needs.memory_mb * _MB,
        gpu=needs.gpu,
        camera=needs.camera,
        internet=needs.internet,
    )


class PlaybookLogins:
    """One login of the site registry for whoever runs playbooks."""

    def __init__(self, registry: SiteRegistry, reach: Callable[[], RegistryToPlay]) -> None:
        self._registry = registry
        self._reach = reach

    def registry(self) -> RegistryToPlay:
        return self._reach()

    async def new_login(self) -> RegistryLogin:
        await self._registry.revoke_pull(LOGIN)
        login = await self._registry.pull_login(LOGIN)
        return RegistryLogin(login.name, login.password)
