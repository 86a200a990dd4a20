"""Old AI packages post to a fixed address: their calls are led to this device's intake.

Exactly the given addresses and ports, coming from the device's own container bridge or from its AI
pods, and nothing else: the host's own traffic is never touched, for the old address may be the
control plane's. Two parts: a route inside each AI container (its network is internal and leads
nowhere; a pod has a way out already), and rules that rewrite the destination where its traffic
enters the host. The container's address stays, so the intake knows who calls. Needs root with
`iptables` and `iptables-restore`; where they are missing it says so and goes on.
"""

import asyncio
import ctypes
import ipaddress
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from haechi.adapters.iptables import PREFIX, Argv, Chain, Run, firewall
from haechi.agent import netlink
from haechi.agent.rounds import Rounds
from haechi.protocol.desired import Redirect

log = logging.getLogger(__name__)

MAX_REDIRECTS: Final = 64
_CLONE_NEWNET: Final = 0x40000000


def chain_name(device_id: str) -> str:
    """One chain per device: several may share a machine."""
    return f"{PREFIX}{device_id[-16:].upper()}"


def rules(
    device_id: str, sources: Iterable[Argv], to: tuple[str, int], redirects: Sequence[Redirect]
) -> list[Argv]:
    """The chain's content, as `iptables` wants it: from these sources, each a match of its own, to
    these destinations only."""
    chain, (address, port) = chain_name(device_id), to
    return [
        [
            *("-A", chain, *source, "-p", "tcp"),
            *("-d", f"{one.address}/32", "--dport", str(one.port)),
            *("-j", "DNAT", "--to-destination", f"{address}:{port}"),
        ]
        for source in sources
        for one in redirects
    ]


def allowed(redirects: Iterable[Redirect]) -> list[Redirect]:
    """Those that make sense: IPv4 hosts and ports, each once."""
    found: dict[tuple[str, int], Redirect] = {}
    for one in redirects:
        try:
            address = ipaddress.IPv4Address(one.address)
        except ValueError:
            continue
        odd = address.is_loopback or address.is_multicast or address.is_unspecified
        if not odd and 0 < one.port < 65536:
            found[one.address, one.port] = one
    return sorted(found.values(), key=lambda one: (one.address, one.port))[:MAX_REDIRECTS]


class Redirector:
    """`sources` are where AIs call from, as matches of iptables: `-i BRIDGE` or `-s ADDRESS`;
    `intake` is where the intake listens, None before it does; `pids` are the processes of AI
    containers that need a route.
    """

    def __init__(
        self,
        *,
        device_id: str,
        sources: Callable[[], list[Argv]],
        intake: Callable[[], tuple[str, int] | None],
        pids: Callable[[], Iterable[int]],
        run: Run | None = None,
    ) -> None:
        self._device_id = device_id
        self._sources = sources
        self._intake = intake
        self._pids = pids
        self._chain = Chain("nat", chain_name(device_id), run or firewall)
        self._wanted: list[Redirect] = []
        self._made: list[Argv] | None = None
        """None: what is there is not known."""
        self._routed: dict[int, tuple[int, frozenset[str], str]] = {}
        """Process → (when it started, routed addresses, gateway)."""
        self._rounds = Rounds(
            self.apply,
            forget=self._forget,
            problem="old addresses cannot be led to the intake",
        )

    def want(self, redirects: Iterable[Redirect]) -> None:
        self._wanted = allowed(redirects)
        self.wake()

    def wake(self) -> None:
        """A container or the intake is other than before."""
        self._rounds.wake()

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
        to = self._intake()
        if not self._wanted and self._made == [] and not self._routed:
            return False
        if self._wanted and to is None:
            return True
        content: list[Argv] = []
        if self._wanted and to is not None:
            content = rules(self._device_id, self._sources(), to, self._wanted)
        if content != self._made:
            self._made = None  # where it ends half-way
            await self._chain.fill(content)
            self._made = content
            if content:
                log.info("%d old addresses lead to the intake", len(content))
        await self._route(to[0] if to else "")
        return bool(self._wanted)

    async def _route(self, gateway: str) -> None:
        wanted = frozenset(one.address for one in self._wanted)
        alive: dict[int, tuple[int, frozenset[str], str]] = {}
        for pid in self._pids():
            began = _started(pid)
            if began is None:
                continue
            goal = (began, wanted, gateway)
            known = self._routed.get(pid, (began, frozenset[str](), ""))
            before = known[1] if known[0] == began else frozenset()
            if known != goal and (wanted or before):
                await in_network_of(pid, before - wanted, wanted, gateway)
            if wanted:
                alive[pid] = goal
        self._routed = alive


async def in_network_of(pid: int, remove: Iterable[str], add: Iterable[str], gateway: str) -> None:
    """Routes to single addresses in the network of a process. Raises OSError."""
    loop = asyncio.get_running_loop()
    # The thread enters the other network for good, so it does this one thing and ends.
    with ThreadPoolExecutor(1, thread_name_prefix="netns") as thread:
        await loop.run_in_executor(
            thread, _change_routes, pid, sorted(remove), sorted(add), gateway
        )


def _change_routes(pid: int, remove: list[str], add: list[str], gateway: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    network = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _same_network(network):
            raise OSError(f"process {pid} is in the host's own network")
        if libc.setns(network, _CLONE_NEWNET) != 0:
            code = ctypes.get_errno()
            raise OSError(code, f"setns: {os.strerror(code)}")
    finally:
        os.close(network)
    netlink.change_routes(remove, add, gateway)


def _same_network(network: int) -> bool:
    mine, other = Path("/proc/self/ns/net").stat(), os.fstat(network)
    return (mine.st_dev, mine.st_ino) == (other.st_dev, other.st_ino)


def _started(pid: int) -> int | None:
    """When the process began, in ticks since boot: tells a new process from an old number."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - read each time, cheaply
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
