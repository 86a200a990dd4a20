"""Looks for a node that went away under its address: perhaps it has another one now.

Looked at, in this order: what the Kubernetes API says of the node, from where its agent called, and
after a while all of the network around the old address. Only the pinned host key says that it is
the one. A worker is then led home at once (`readdress_node`); a control plane's new address is
shown, and taken up when somebody says so, since that restarts its part of the API. A host that is a
node no more and is owed its cleaning is from then on asked at its new address.
"""

import asyncio
import logging
from typing import Final, Protocol

from haechi.core.access import SYSTEM
from haechi.core.operations import Operations
from haechi.core.tasks import Tasks
from haechi.domains.clusters.cleaning import refuse_others
from haechi.domains.clusters.context import Context
from haechi.domains.clusters.model import Member, MemberState
from haechi.domains.clusters.pauses import Pauses
from haechi.domains.clusters.readdressing import KIND
from haechi.domains.clusters.watching import Watching
from haechi.errors import AppError, Busy

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 5.0
SEARCH_AFTER_S: Final = 12.0
SEARCH_EVERY_S: Final = 60.0
FIRST_RETRY_S: Final = 30.0
LAST_RETRY_S: Final = 3600.0
"""Before a node that could not be led home is tried again: each try is a login on its host. Before
one that is owed its cleaning is looked for again: it may never come.
"""


class Finder(Protocol):
    """Looks for a device by its pinned host key; bounded in time."""

    async def find(self, device_id: str, addresses: list[str]) -> str | None: ...

    async def search(self, device_id: str, near: str) -> str | None:
        """Everywhere in the network around an address."""


class Finding:
    def __init__(
        self, context: Context, watching: Watching, finder: Finder, operations: Operations
    ) -> None:
        self._c = context
        self._watching = watching
        self._finder = finder
        self._operations = operations
        self._looked_s: dict[str, float] = {}
        self._searched_s: dict[str, float] = {}
        self._busy: set[str] = set()
        self._pauses = Pauses(context.clock, first_s=FIRST_RETRY_S, last_s=LAST_RETRY_S)
        self._owed = Pauses(context.clock, first_s=FIRST_RETRY_S, last_s=LAST_RETRY_S)
        self._turn = asyncio.Lock()
        self._tasks = Tasks("finding")
        self.found: dict[str, str] = {}
        """Device → the address at which it is now, where that is not its recorded one."""

    async def close(self) -> None:
        await self._tasks.close()

    def returned(self, member: Member) -> None:
        self.found.pop(member.device_id, None)
        self._pauses.forget(member.device_id)

    def away(self, member: Member, away_s: float) -> None:
        """An `AwayHandler` of watching."""
        if member.state == MemberState.CLEANING:
            if away_s >= SEARCH_AFTER_S:
                self.follow(member)
            return
        now_s = self._c.clock.monotonic()
        device_id = member.device_id
        if device_id in self._busy or now_s - self._looked_s.get(device_id, -1e9) < LOOK_EVERY_S:
            return
        self._looked_s[device_id] = now_s
        search = (
            away_s >= SEARCH_AFTER_S
            and now_s - self._searched_s.get(device_id, -1e9) >= SEARCH_EVERY_S
        )
        if search:
            self._searched_s[device_id] = now_s
        self._busy.add(device_id)
        _ = self._tasks.spawn(device_id, self._look(member, search=search))

    def follow(self, member: Member) -> None:
        """It is owed its cleaning and could not be cleaned where it was."""
        if member.device_id in self._busy or self._owed.lasts(member.device_id):
            return
        self._busy.add(member.device_id)
        _ = self._tasks.spawn(member.device_id, self._follow(member))

    async def _follow(self, member: Member) -> None:
        c, device_id = self._c, member.device_id
        try:
            async with self._turn:  # where a whole site is dark, one network scan at a time
                self._owed.begin(device_id)
                before = (await c.devices.device(device_id)).address
                found = await self._elsewhere(member)
                # It may have been edited meanwhile.
                if found is None or (await c.devices.device(device_id)).address != before:
                    return
                await self._ask_there(member, found, before or member.address)
            self._owed.forget(device_id)
            log.info("host %s, to be cleaned, is at %s now", member.node_name, found)
        except AppError as error:
            log.info("host %s was not found elsewhere: %s", member.node_name, error)
        finally:
            self._busy.discard(device_id)

    async def _elsewhere(self, member: Member) -> str | None:
        still = await self._finder.find(member.device_id, [member.address])
        return None if still else await self.look_for(member)

    async def _ask_there(self, member: Member, address: str, before: str) -> None:
        """From now on, if it bears what is to be cleaned: a key may be that of many machines."""
        c = self._c
        await c.devices.readdress(member.device_id, address, by=SYSTEM)
        try:
            await refuse_others(c, member, must_bear=True)
        except AppError:
            await c.devices.readdress(member.device_id, before, by=SYSTEM)
            raise
        await c.change_member(member, address=address)

    async def look_for(self, member: Member, *, search: bool = True) -> str | None:
        """Where it is now, other than where it was."""
        device = await self._c.devices.device(member.device_id)
        node = self._watching.seen_node(member.cluster_id, member.node_name)
        known = self.found.get(member.device_id)
        told = [known, *(node.addresses if node else ()), device.seen_address, device.address]
        candidates = [one for one in dict.fromkeys(told) if one and one != member.address]
        found = await self._finder.find(member.device_id, candidates) if candidates else None
        if found is None and search:
            found = await self._finder.search(member.device_id, member.address)
        return found

    async def place_of(self, member: Member) -> str:
        """Where it is said to be; else where it was, if it is there; else where it is found, or was
        before.
        """
        device = await self._c.devices.device(member.device_id)
        if device.address and device.address != member.address:
            return device.address
        still = await self._finder.find(member.device_id, [member.address])
        # On a busy network a look may miss one that an earlier look has found.
        earlier = self.found.get(member.device_id)
        return still or await self.look_for(member) or earlier or member.address

    async def _look(self, member: Member, *, search: bool) -> None:
        try:
            if await self._operations.active_on(member.cluster_id) is not None:
                return
            found = await self.look_for(member, search=search)
            if found is not None:
                await self._take_up(member, found)
        except AppError as error:
            log.info("node %s was not found elsewhere: %s", member.node_name, error)
        finally:
            self._busy.discard(member.device_id)

    async def _take_up(self, member: Member, address: str) -> None:
        known, self.found[member.device_id] = self.found.get(member.device_id), address
        if known != address:
            log.info("node %s is at %s now", member.node_name, address)
            data = {
                "kind": "node",
                "id": member.device_id,
                "cluster_id": member.cluster_id,
                "state": self._state(member),
                "reason": "address_changed",
                "detail": f"{member.address} → {address}",
            }
            self._c.bus.publish("states", data)
            self._pauses.forget(member.device_id)
        if member.is_control_plane or self._pauses.lasts(member.device_id):
            return
        self._pauses.begin(member.device_id)
        try:
            _ = await self._operations.start(
                KIND,
                member.cluster_id,
                {"device_id": member.device_id, "address": address},
                requested_by="system",
            )
        except Busy as error:
            log.info("node %s waits: %s", member.node_name, error)

    def _state(self, member: Member) -> str:
        judgement = self._watching.presence(member.device_id)
        return judgement.presence if judgement else "silent"
