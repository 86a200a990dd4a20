"""Logins of hosts, from the inventory: `ports.Directory`."""

from typing import Final

from haechi.core.access import Principal
from haechi.domains.clusters.host.errors import NoAddress
from haechi.domains.clusters.host.ports import Target
from haechi.domains.inventory.service import Inventory

SSH_PORT: Final = 22


class InventoryDirectory:
    """The entered address first; where its agent called from last is tried next, because a device
    that got a new address may have told only there. The pinned key says whether it is the device.
    """

    def __init__(self, inventory: Inventory) -> None:
        self._devices = inventory.devices

    async def target(self, device_id: str) -> Target:
        device = await self._devices.get(device_id)
        addresses = tuple(dict.fromkeys(filter(None, (device.address, device.seen_address))))
        if not addresses:
            raise NoAddress(host=device.name)
        login = await self._devices.host_login(device.id)
        return Target(
            device_id=device.id,
            name=device.name,
            addresses=addresses,
            port=device.port or SSH_PORT,
            user=login.user or "root",
            password=login.password,
            key=login.key,
            host_key=device.ssh_host_key,
        )

    async def pin(self, device_id: str, host_key: str, *, by: Principal) -> None:
        await self._devices.pin_host_key(device_id, host_key, by=by)
