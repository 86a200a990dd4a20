"""The inventory as clusters use it."""

from collections.abc import Callable

from haechi.core.access import SYSTEM, Principal
from haechi.domains.clusters.host.directory import SSH_PORT
from haechi.domains.clusters.host.ports import bare_key
from haechi.domains.clusters.lone_hosts import LoneHost
from haechi.domains.clusters.ports import ClusterDevice
from haechi.domains.clusters.service import Clusters
from haechi.domains.inventory import Inventory
from haechi.domains.inventory.model import Device


class InventoryDevices:
    def __init__(self, inventory: Inventory) -> None:
        self._devices = inventory.devices

    async def device(self, device_id: str) -> ClusterDevice:
        found = await self._devices.get(device_id)
        return ClusterDevice(
            id=found.id,
            name=found.name,
            host_name=found.host_name,
            address=found.address,
            port=found.port,
            seen_address=found.seen_address,
        )

    async def report_machine(self, device_id: str, *, machine_id: str, platform: str) -> None:
        await self._devices.report(device_id, {"machine_id": machine_id, "platform": platform})

    async def readdress(self, device_id: str, address: str, *, by: Principal) -> None:
        if (await self._devices.get(device_id)).address != address:
            await self._devices.edit(device_id, {"address": address}, by=by)

    async def twins(self, device_id: str) -> list[str]:
        key = bare_key((await self._devices.get(device_id)).ssh_host_key)
        return [
            one.id
            for one in await self._devices.all()
            if key and bare_key(one.ssh_host_key) == key and one.id != device_id
        ]


class InventoryLoneHosts:
    """`is_lone`: which devices are used over SSH, without an agent."""

    def __init__(self, inventory: Inventory, is_lone: Callable[[Device], bool]) -> None:
        self._devices = inventory.devices
        self._is_lone = is_lone

    async def listed(self) -> list[LoneHost]:
        return [
            LoneHost(one.id, one.address, one.port or SSH_PORT)
            for one in await self._devices.all()
            if self._is_lone(one) and one.address
        ]

    async def elsewhere(self, host: LoneHost) -> list[str]:
        seen = (await self._devices.get(host.device_id)).seen_address
        return [seen] if seen and seen != host.address else []

    async def readdress(self, host: LoneHost, address: str) -> bool:
        device = await self._devices.get(host.device_id)
        key, way = bare_key(device.ssh_host_key), _ssh_way(device)
        alike = [one for one in await self._devices.all() if bare_key(one.ssh_host_key) == key]
        # Other logins on the same host go with it: one left behind would take it for a copy.
        its = [one for one in alike if _ssh_way(one) == way]
        copied = any(
            address in {one.address, one.seen_address} for one in alike if _ssh_way(one) != way
        )
        if not key or copied or device.address != host.address:
            return False
        await self._devices.readdress(its, address, by=SYSTEM)
        return True


def _ssh_way(device: Device) -> tuple[str | None, int]:
    return device.address, device.port or SSH_PORT


def register_checks(clusters: Clusters, inventory: Inventory) -> None:
    """A device of a cluster cannot be deleted, not even by force."""
    inventory.on_delete_check("device", clusters.book.uses_of_device)
