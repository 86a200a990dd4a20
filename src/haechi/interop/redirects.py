"""Per device: old fixed addresses whose calls its agent leads to its own intake.

Kept as the device's label `redirect`: `192.0.2.10:5231, 192.0.2.10:6432`. Part of the device's
desired state; what is no address is left out and logged.
"""

import logging
from collections.abc import Sequence
from ipaddress import IPv4Address
from typing import Any, Final

from haechi.core.bus import Bus
from haechi.domains.inventory import Inventory
from haechi.interop.ports import AgentLink
from haechi.protocol.desired import Redirect

log = logging.getLogger(__name__)

LABEL: Final = "redirect"


def parse(text: str) -> list[Redirect]:
    """Addresses with ports, separated by commas or blanks."""
    found: list[Redirect] = []
    for part in text.replace(",", " ").split():
        address, _, port = part.rpartition(":")
        try:
            host, number = IPv4Address(address), int(port)
        except ValueError:
            log.warning("the label %s: %r is no address with a port", LABEL, part[:64])
            continue
        if host.is_loopback or host.is_multicast or host.is_unspecified:
            log.warning("the label %s: %r cannot be redirected", LABEL, part[:64])
        elif 0 < number < 65536:
            found.append(Redirect(str(host), number))
    return found


class Redirects:
    def __init__(self, *, inventory: Inventory, agents: AgentLink, bus: Bus) -> None:
        self._inventory = inventory
        self._agents = agents
        agents.register_section("redirects", self._section)
        bus.on("states", self._changed)

    async def _section(self, device_id: str) -> Sequence[Redirect]:
        device = await self._inventory.devices.get(device_id)
        return parse(device.labels.get(LABEL, ""))

    def _changed(self, _topic: str, data: Any) -> None:
        if (data.get("kind"), data.get("change")) == ("device", "edit"):
            self._agents.changed(data["id"])
