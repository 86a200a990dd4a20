"""Where is the host with this key? For devices whose address changed.

Only the start of an SSH handshake is made, up to the host key; nothing is logged in to.
"""

import asyncio
import ipaddress
from collections.abc import Sequence
from typing import Final

import asyncssh

from haechi.adapters.ssh_login import dial, host_key_algs, public_of
from haechi.domains.clusters.host.ports import Directory, Target, bare_key

_DIAL_S: Final = 0.7
_KEY_S: Final = 5.0
_AT_ONCE: Final = 48
_PREFIX: Final = 24


class SshFinder:
    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    async def find(self, device_id: str, addresses: Sequence[str]) -> str | None:
        """The first of the addresses at which the host shows the device's pinned key; None where
        none does, or no key is pinned.
        """
        target = await self._directory.target(device_id)
        if target.host_key is None:
            return None
        slots = asyncio.Semaphore(_AT_ONCE)

        async def look(address: str) -> bool:
            async with slots:
                return await _shows(target, address)

        answers = await asyncio.gather(*(look(one) for one in addresses))
        return next((one for one, good in zip(addresses, answers, strict=True) if good), None)

    async def search(self, device_id: str, near: str) -> str | None:
        """All of the /24 around an IPv4 address."""
        try:
            network = ipaddress.IPv4Network(f"{near}/{_PREFIX}", strict=False)
        except ValueError:
            return None
        others = [str(one) for one in network.hosts() if str(one) != near]
        return await self.find(device_id, others)


async def _shows(target: Target, address: str) -> bool:
    pinned = bare_key(target.host_key)
    try:
        dialled = await dial(address, target.port, _DIAL_S)
    except (OSError, TimeoutError):
        return False
    with dialled:
        try:
            async with asyncio.timeout(_KEY_S):
                key = await asyncssh.get_server_host_key(
                    address,
                    target.port,
                    sock=dialled,
                    config=None,
                    server_host_key_algs=host_key_algs(target.host_key),
                )
        except (asyncssh.Error, OSError, TimeoutError):
            return False
    return key is not None and public_of(key) == pinned
