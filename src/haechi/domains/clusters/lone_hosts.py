"""Hosts that neither an agent nor a cluster speaks for, asked over SSH every 1.25 s.

Their word is told to `agents`, which judge them as they judge every device: silent within 3 s, dead
by the one rule. Only whether an SSH server answers is asked here; nothing is logged in to.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Final, Protocol

from haechi.core.bus import Bus
from haechi.core.clock import Clock
from haechi.core.tasks import Tasks
from haechi.domains.agents.model import Presence
from haechi.domains.clusters.judging import Answer, why_silent
from haechi.domains.clusters.reasons import Reason
from haechi.domains.clusters.watched import SSH_ASK_S

ASK_DEAD_S: Final = 5.0
"""Each question to a dead one waits for its whole time limit."""
AT_ONCE: Final = 128
"""Of those that are dead or were never asked. No other waits for its turn: hosts that go dark
together would keep those that answer waiting until they are silent, too.
"""
FOLLOW_S: Final = 2.0
"""Changes of the inventory are taken up so late."""
NAMES_S: Final = 5.0
NAMES_OK_S: Final = 60.0
"""Of hosts that answer: another one may have taken the old address."""
NAMES_AT_ONCE: Final = 16
"""A name service that is away holds each thread for some ten seconds, whatever the asker does."""


@dataclass(frozen=True, slots=True)
class LoneHost:
    device_id: str
    address: str
    """IP or name."""
    port: int


class Probe(Protocol):
    async def ssh(self, address: str, port: int) -> Answer:
        """Bounded in time."""


class Words(Protocol):
    """The agents domain, to which the word of these hosts is told."""

    def last_word_s(self, device_id: str) -> float | None:
        """None: it has no agent, or one that never called."""

    def device_presence(self, device_id: str) -> Presence: ...

    def note_word(self, device_id: str) -> None: ...

    def note_silence(self, device_id: str) -> None: ...

    def forget_word(self, device_id: str) -> None: ...


@dataclass(slots=True)
class _Asked:
    host: LoneHost
    at: str | None
    """The IP address to ask at; None until its name was looked up, empty where that leads nowhere.
    """
    answer: Answer | None = None


class LoneHosts:
    """`listed` gives all hosts that may be asked; those with an agent that has called, and nodes
    of clusters (`is_node`), are left to whoever watches them.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        bus: Bus,
        agents: Words,
        probe: Probe,
        listed: Callable[[], Awaitable[Sequence[LoneHost]]],
        is_node: Callable[[str], bool],
    ) -> None:
        self._clock = clock
        self._agents = agents
        self._probe = probe
        self._listed = listed
        self._is_node = is_node
        self._asked: dict[str, _Asked] = {}
        self._loops: dict[str, list[asyncio.Task[None]]] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._stale = True
        # Not the pool that the whole server shares: names without an answer would use it up.
        self._names = ThreadPoolExecutor(NAMES_AT_ONCE, "lone-hosts-names")
        self._tasks = Tasks("lone-hosts")
        self.on_dead: list[Callable[[LoneHost], None]] = []
        """Called at each question that a dead host leaves open; quick."""
        self.on_return: list[Callable[[LoneHost], None]] = []
        """Called when nobody has to look for a host: it answers after it did not, or first of all,
        or it is not asked any more; quick.
        """
        bus.on("states", self._on_change)

    async def start(self) -> None:
        await self._take_up()
        self._tasks.forever("follow", self._follow)

    async def close(self) -> None:
        await self._tasks.close()
        self._names.shutdown(wait=False, cancel_futures=True)

    def reason_word(self, device_id: str) -> Reason | None:
        """For `agents`: why a silent host is silent. None: nothing is known of it here."""
        asked = self._asked.get(device_id)
        if asked is None or asked.answer in {None, "answers"}:
            return None
        return why_silent({asked.answer}, None)

    # --- which

    def _on_change(self, _topic: str, data: Any) -> None:
        if not isinstance(data, dict) or data.get("kind") != "device" or "change" not in data:
            return
        self._stale = True
        if data["change"] == "delete":  # its word must not bring it back
            self._drop(str(data["id"]))

    async def _follow(self) -> None:
        while True:
            await self._clock.sleep(FOLLOW_S)
            if self._stale:
                await self._take_up()

    async def _take_up(self) -> None:
        self._stale = False  # before: what changes meanwhile is read the next time
        try:
            wanted = {one.device_id: one for one in await self._listed()}
        except Exception:
            self._stale = True
            raise
        for device_id in self._asked.keys() - wanted.keys():
            self._drop(device_id)
            if self._is_ours(device_id):
                self._agents.forget_word(device_id)
        for device_id, host in wanted.items():
            asked = self._asked.get(device_id)
            if asked is not None and asked.host == host:
                continue
            self._leave(device_id)
            named = not is_ip(host.address)
            asked = self._asked[device_id] = _Asked(host, None if named else host.address)
            loops = [self._ask_on(asked), *([self._follow_name(asked)] if named else [])]
            self._loops[device_id] = [self._tasks.spawn(device_id, one) for one in loops]

    def _drop(self, device_id: str) -> None:
        asked = self._asked.get(device_id)
        self._leave(device_id)
        if asked is not None:
            for handler in self.on_return:
                handler(asked.host)

    def _leave(self, device_id: str) -> None:
        self._asked.pop(device_id, None)
        for loop in self._loops.pop(device_id, []):
            loop.cancel()

    def _is_ours(self, device_id: str) -> bool:
        return self._agents.last_word_s(device_id) is None and not self._is_node(device_id)

    async def _follow_name(self, asked: _Asked) -> None:
        looked_s = float("-inf")
        while True:
            now_s = self._clock.monotonic()
            due = asked.answer != "answers" or now_s - looked_s >= NAMES_OK_S
            if due and self._is_ours(asked.host.device_id):
                looked_s = now_s
                asked.at = await look_up(self._names, asked.host.address) or asked.at or ""
            await self._clock.sleep(NAMES_S)

    # --- asking

    async def _ask_on(self, asked: _Asked) -> None:
        """Each has its own pace, so that one that is away does not keep the others waiting."""
        clock, device_id = self._clock, asked.host.device_id
        while True:
            began_s = clock.monotonic()
            if self._is_ours(device_id):
                await self._ask(asked)
            else:
                asked.answer = None
            dead = self._agents.device_presence(device_id) == "dead"
            pace_s = ASK_DEAD_S if dead else SSH_ASK_S
            await clock.sleep(max(0.0, began_s + pace_s - clock.monotonic()))

    async def _ask(self, asked: _Asked) -> None:
        device_id = asked.host.device_id
        if asked.at is None:
            return
        before = asked.answer
        if asked.at:
            dead = self._agents.device_presence(device_id) == "dead"
            async with self._turns if dead or before is None else nullcontext():
                asked.answer = await self._probe.ssh(asked.at, asked.host.port)
        if asked.answer == "answers":
            self._agents.note_word(device_id)
            if before != "answers":
                for handler in self.on_return:
                    handler(asked.host)
            return
        self._agents.note_silence(device_id)
        if self._agents.device_presence(device_id) == "dead":
            for handler in self.on_dead:
                handler(asked.host)


def is_ip(address: str) -> bool:
    """Else it is a name."""
    try:
        _ = ipaddress.ip_address(address)
    except ValueError:
        return False
    return True


async def look_up(pool: Executor, name: str) -> str:
    """The IP address to which it leads; empty where none is known. As slow as the name service."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.run_in_executor(
            pool, lambda: socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        )
    except (OSError, UnicodeError):
        return ""
    return str(found[0][4][0])
