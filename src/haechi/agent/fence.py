"""AIs reach their agent and nobody else, unless they were allowed the internet.

A cluster's network lets every pod call everybody, and flannel enforces no NetworkPolicy; a Docker
host answers its containers at every address and port that it has, even those on an internal
network. So the device itself refuses what comes from an AI, to others and to its own services
alike. What an AI on a node sends in the moment before its pod is seen (a second) gets out; a
connection that was made then comes to nothing. The rules stay while the agent is away: nothing
opens because it stopped.
"""

import asyncio
from collections.abc import Callable, Iterable

from haechi.adapters.fence_rules import Door, chain_name, rules
from haechi.adapters.iptables import Argv, Chain, Run, firewall
from haechi.agent.rounds import Rounds


class Fence:
    """`doors` are those of the agent and its media; `fenced` are where AIs call from, None while
    nobody has looked for them.
    """

    def __init__(
        self,
        *,
        device_id: str,
        doors: Callable[[], Iterable[Door]],
        fenced: Callable[[], list[Argv] | None],
        run: Run | None = None,
    ) -> None:
        self._device_id = device_id
        self._doors = doors
        self._fenced = fenced
        self._chain = Chain("filter", chain_name(device_id), run or firewall)
        self._made: list[Argv] | None = None
        """None: what is there is not known."""
        self._applying = asyncio.Lock()
        self._rounds = Rounds(
            self.apply, forget=self._forget, problem="AIs cannot be kept from calling others"
        )

    def wake(self) -> None:
        """An AI came or went, or a port is another one."""
        self._rounds.wake()

    async def lay(self) -> None:
        """Now, before an AI begins or is told where to call. What hinders it is told by the rounds,
        which try again; the AI begins all the same."""
        try:
            _ = await self.apply()
        except OSError:
            self.wake()

    @property
    def chain(self) -> str:
        return self._chain.name

    async def keep(self) -> None:
        """For ever."""
        await self._rounds.keep()

    def _forget(self) -> None:
        self._made = None

    async def apply(self) -> bool:
        """Make it so, once; whether there is anything to look after. Raises OSError."""
        async with self._applying:
            fenced = self._fenced()
            if fenced is None:
                return True  # what an earlier agent laid stays until then
            content = rules(self.chain, self._doors(), fenced)
            if content != self._made:
                self._made = None  # where it ends half-way
                await self._chain.fill(content)
                self._made = content
            return bool(content)
