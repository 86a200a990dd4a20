"""The inventory as clusters use it."""

from haechi.core.access import Principal
from haechi.domains.clusters.ports import ClusterDevice
from haechi.domains.clusters.service import Clusters
from haechi.domains.inventory import Inventory


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


def register_checks(clusters: Clusters, inventory: Inventory) -> None:
    """A device of a cluster cannot be deleted, not even by force."""
    inventory.on_delete_check("device", clusters.book.uses_of_device)
