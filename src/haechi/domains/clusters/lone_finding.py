"""Looks for a dead lone host under another address: after a while away, DHCP may have given it one.

Only the pinned host key says that it is the one; nothing is logged in to. Found, the device's
address is changed at once, as a worker node's is: nothing on the host depends on it. A host that
was registered by a name is followed by its name instead.
"""

import asyncio
import logging
from typing import Final, Protocol

from haechi.core.clock import Clock
from haechi.core.tasks import Tasks
from haechi.domains.clusters.finding import Finder
from haechi.domains.clusters.lone_hosts import LoneHost, is_ip
from haechi.domains.clusters.pauses import Pauses
from haechi.errors import AppError

log = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 30.0
LAST_PAUSE_S: Final = 600.0
"""A look greets every SSH server of the network."""


class Book(Protocol):
    """The inventory's part."""

    async def elsewhere(self, host: LoneHost) -> list[str]:
        """Other addresses at which it was seen."""

    async def readdress(self, host: LoneHost, address: str) -> bool:
        """Audited; other logins on the same host go with it. False where it was edited meanwhile,
        or a device with the same key, but from elsewhere, is registered there: a copied disk is not
        the host that is looked for.
        """


class LoneFinding:
    def __init__(self, *, clock: Clock, finder: Finder, book: Book) -> None:
        self._finder = finder
        self._book = book
        self._pauses = Pauses(clock, first_s=FIRST_PAUSE_S, last_s=LAST_PAUSE_S)
        self._looks: dict[str, asyncio.Task[None]] = {}
        self._turn = asyncio.Lock()
        self._tasks = Tasks("lone-finding")

    async def close(self) -> None:
        await self._tasks.close()

    def dead(self, host: LoneHost) -> None:
        """A handler of `LoneHosts.on_dead`: begins a look, unless one was made lately."""
        device_id = host.device_id
        if not is_ip(host.address) or device_id in self._looks or self._pauses.lasts(device_id):
            return
        self._looks[device_id] = self._tasks.spawn(device_id, self._look(host))

    def returned(self, host: LoneHost) -> None:
        """A handler of `LoneHosts.on_return`."""
        self._pauses.forget(host.device_id)
        look = self._looks.get(host.device_id)
        if look is not None:
            look.cancel()

    async def _look(self, host: LoneHost) -> None:
        try:
            async with self._turn:  # where a whole site is dark, one network scan at a time
                self._pauses.begin(host.device_id)  # only now: the wait for the turn is no pause
                found = await self._find(host)
            if found is not None and await self._book.readdress(host, found):
                log.info("host %s is at %s now, not at %s", host.device_id, found, host.address)
        except AppError as error:
            log.info("host %s was not found elsewhere: %s", host.device_id, error)
        finally:
            del self._looks[host.device_id]

    async def _find(self, host: LoneHost) -> str | None:
        found = await self._finder.find(host.device_id, await self._book.elsewhere(host))
        return found or await self._finder.search(host.device_id, host.address)
