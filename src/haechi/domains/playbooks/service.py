"""Playbooks as others use them: the inventory, an export, a login for pulling."""

from typing import Any

from haechi.core.access import Principal
from haechi.core.db import Database
from haechi.domains.audit.ports import AuditTrail
from haechi.domains.playbooks.export import files_of, zip_of
from haechi.domains.playbooks.inventory import inventory_of
from haechi.domains.playbooks.model import Host, HostGroup, RegistryLogin, TwoPlatforms
from haechi.domains.playbooks.ports import Hosts, PackageImages, PullOnly


class Playbooks:
    def __init__(
        self,
        *,
        db: Database,
        audit: AuditTrail,
        hosts: Hosts,
        packages: PackageImages,
        registry: PullOnly,
    ) -> None:
        self._db = db
        self._audit = audit
        self._hosts = hosts
        self._packages = packages
        self._registry = registry

    async def inventory(self) -> dict[str, Any]:
        """The site in Ansible's JSON."""
        return inventory_of(await self._hosts.hosts(), await self._hosts.groups())

    async def export_playbook(
        self, package_ref: str, version: str, group_ref: str, *, by: Principal
    ) -> tuple[str, bytes]:
        """(file name, zip). Raises NotFound, NotPlayable, NeedsPrivileges, TwoPlatforms."""
        group = await self._hosts.group(group_ref)
        platform = _platform(await self._hosts.hosts(), group)
        package = await self._packages.package(package_ref, version, platform)
        inventory = await self.inventory()
        files = files_of(package, self._registry.registry(), group, inventory)
        async with self._db.write() as tx:
            details = {"version": version, "group": group.name}
            await self._audit.record(tx, by, "export_playbook", package.name, details)
        return f"{package.name}-{package.version}-playbooks.zip", zip_of(files)

    async def new_registry_login(self, *, by: Principal) -> RegistryLogin:
        """For pulling only, the same for all playbooks; an earlier one ends."""
        login = await self._registry.new_login()
        async with self._db.write() as tx:
            await self._audit.record(tx, by, "create_playbook_login", login.user)
        return login


def _platform(hosts: list[Host], group: HostGroup) -> str | None:
    members = [host for host in hosts if host.device_id in group.device_ids]
    known = sorted({host.platform for host in members if host.platform})
    if len(known) > 1:
        raise TwoPlatforms(platforms=", ".join(known))
    return known[0] if known else None
