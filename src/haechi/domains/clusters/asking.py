"""Do its neighbours reach a silent node? Asked of up to two other nodes over SSH, with a ping.

The server may be cut off where the devices are not; then nobody's work is to be moved before
`dead_after_s` (DESIGN 6).
"""

import asyncio
from dataclasses import dataclass
from typing import Final

from haechi.core.clock import Clock
from haechi.core.tasks import Tasks
from haechi.domains.clusters.host.ports import Hosts
from haechi.domains.clusters.model import Member
from haechi.errors import AppError

ASKED: Final = 2
AGAIN_S: Final = 2.0
AGAIN_DEAD_S: Final = 15.0
"""Of a dead one only the reason is still of interest."""
FRESH_S: Final = 25.0
"""A word counts for so long; it is forgotten as soon as the node is back."""
_ASK_S: Final = 5.0


@dataclass(slots=True)
class _Word:
    reach: bool | None
    at_s: float


class AskedNeighbours:
    def __init__(self, hosts: Hosts, clock: Clock) -> None:
        self._hosts = hosts
        self._clock = clock
        self._words: dict[str, _Word] = {}
        self._asking: set[str] = set()
        self._tasks = Tasks("neighbours")

    async def close(self) -> None:
        await self._tasks.close()

    def word(self, device_id: str) -> bool | None:
        """False: all that could be asked do not reach it. None: nobody can say."""
        word = self._words.get(device_id)
        if word is None or self._clock.monotonic() - word.at_s > FRESH_S:
            return None
        return word.reach

    def ask(self, member: Member, others: list[Member], *, again_s: float = AGAIN_S) -> None:
        """In the background, one question about a node at a time."""
        if member.device_id in self._asking or not others or not member.address:
            return
        word = self._words.get(member.device_id)
        if word is not None and self._clock.monotonic() - word.at_s < again_s:
            return
        self._asking.add(member.device_id)
        _ = self._tasks.spawn(member.device_id, self._ask(member, others[:ASKED]))

    def forget(self, device_id: str) -> None:
        self._words.pop(device_id, None)

    async def _ask(self, member: Member, others: list[Member]) -> None:
        try:
            answers = await asyncio.gather(*(self._reach(one, member.address) for one in others))
        finally:
            self._asking.discard(member.device_id)
        said = [one for one in answers if one is not None]
        reach = any(said) if said else None
        self._words[member.device_id] = _Word(reach, self._clock.monotonic())

    async def _reach(self, neighbour: Member, address: str) -> bool | None:
        """None where the neighbour itself could not be asked."""
        argv = ["ping", "-n", "-c", "1", "-W", "1", address]
        try:
            async with asyncio.timeout(_ASK_S), self._hosts.open(neighbour.device_id) as shell:
                ran = await shell.run(argv, timeout_s=3, check=False)
        except (AppError, TimeoutError):
            return None
        return {0: True, 1: False}.get(ran.status)
