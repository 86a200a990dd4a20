"""AIs of a node reach their agent and nobody else, unless they were allowed the internet.

A cluster's network lets every pod call everybody, and flannel enforces no NetworkPolicy; so the
node itself refuses what comes from such a pod's address, to others and to its own services alike.
What an AI sends in the moment before its pod is seen (a second) gets out; a connection that was
made then comes to nothing. The rules stay while the agent is away: nothing opens because it
stopped.
"""

import ipaddress
from collections.abc import Callable, Iterable
from typing import Final

from haechi.agent.rules import Argv, Chain, Rounds, Run, firewall

_REFUSED: Final = ("-j", "REJECT", "--reject-with", "icmp-admin-prohibited")


def chain_name(device_id: str) -> str:
    return f"HAECHI-AI-{device_id[-16:].upper()}"


def rules(device_id: str, agent: str, ports: Iterable[int], fenced: Iterable[str]) -> list[Argv]:
    """The chain's content: to these ports of the agent's address and no further, for a host serves
    what it serves (its sshd, kubelet, API) at that address too. IPv4, which is what pods have.
    """
    chain = chain_name(device_id)
    sources = [one for one in fenced if ipaddress.ip_address(one).version == 4]
    if not sources:
        return []
    return [
        *(
            ["-A", chain, "-d", f"{agent}/32", "-p", "tcp", "--dport", str(one), "-j", "RETURN"]
            for one in sorted(ports)
        ),
        *(["-A", chain, "-s", f"{one}/32", *_REFUSED] for one in sources),
    ]


class Fence:
    """`agent` is the address by which pods know the agent, and `ports` are those at which it and
    its media serve there; `fenced` are addresses of AIs, None while nobody has looked for them.
    """

    def __init__(
        self,
        *,
        device_id: str,
        agent: str,
        ports: Callable[[], Iterable[int]],
        fenced: Callable[[], list[str] | None],
        run: Run | None = None,
    ) -> None:
        self._device_id = device_id
        self._agent = agent
        self._ports = ports
        self._fenced = fenced
        # Before all else: what other rules accept is never seen by later ones.
        self._chain = Chain("filter", chain_name(device_id), ["FORWARD", "INPUT"], run or firewall)
        self._made: list[Argv] | None = None
        """None: what is there is not known."""
        self._rounds = Rounds(
            self.apply, forget=self._forget, problem="AIs cannot be kept from calling others"
        )

    def wake(self) -> None:
        """A pod came or went, or a port is another one."""
        self._rounds.wake()

    async def keep(self) -> None:
        """For ever."""
        await self._rounds.keep()

    def _forget(self) -> None:
        self._made = None

    async def apply(self) -> bool:
        """Make it so, once; whether there is anything to look after. Raises OSError."""
        fenced = self._fenced()
        if fenced is None:
            return True  # what an earlier agent laid stays until then
        content = rules(self._device_id, self._agent, self._ports(), fenced)
        if content != self._made:
            await self._chain.fill(content)
            self._made = content
        return bool(content)
