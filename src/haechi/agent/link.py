"""The link to the server: one WebSocket that the agent dials, for ever (CONTRACTS 3 and 5).

Trust is the site CA and the server's id; certificate dates count only once the clock is set.
Silence of three pings ends a link (half-open sockets). While nothing answers at all (the network
is away) it is tried again every second or two, so that a short outage ends at once; a server that
refuses or fails is given growing pauses up to 15 s, because a thousand others knock as well.
Commands go on when the link breaks: what they do must not hang between two states.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final

from msgspec import Struct

from haechi.agent import boot
from haechi.agent.executor import Executor
from haechi.agent.home import Device, Home, write_json
from haechi.agent.identity import clock_is_set, split_address
from haechi.agent.results_feed import ResultsFeed
from haechi.agent.samples_feed import SamplesFeed
from haechi.agent.wire import LinkBroken, SocketWire, dial
from haechi.core.tasks import TaskGroup, Tasks
from haechi.core.trust import client_context, server_name
from haechi.protocol.commands import to_wire
from haechi.protocol.desired import DesiredState, ObservedState
from haechi.protocol.frames import (
    MISSED_PINGS,
    PING_S,
    Ack,
    CancelCommand,
    Chunk,
    Command,
    Desired,
    Done,
    FromServer,
    Hello,
    Log,
    Ping,
    Pong,
    Refused,
    State,
    Welcome,
)

log = logging.getLogger(__name__)

PATH: Final = "/agent/v1/connect"
WELCOME_S: Final = 10.0
SILENCE_S: Final = MISSED_PINGS * PING_S + 0.5
RETRY_S: Final = (0.5, 15.0)
RETRY_AWAY_S: Final = 2.0
REFUSED_S: Final = 15.0
STATE_DEBOUNCE_S: Final = 0.2
STATE_EVERY_S: Final = 30.0
SEEN_EVERY_MS: Final = 6 * 3_600_000
LOGS_PER_S: Final = 5
_WITH_THE_LINK: Final = {"container.logs", "media.still", "engine.info", "container.status"}
"""Verbs that mean nothing once nobody waits for the answer."""


class RefusedByServer(Exception):
    """Said before closing: why this agent may not come in."""


class Link:
    def __init__(
        self,
        *,
        home: Home,
        device: Device,
        executor: Executor,
        samples: SamplesFeed,
        results: ResultsFeed,
        hello: Callable[[], Awaitable[Hello]],
        observed: Callable[[], ObservedState],
        on_desired: Callable[[DesiredState], Awaitable[None]],
    ) -> None:
        self._home = home
        self.device = device
        self._executor = executor
        self._samples = samples
        self._results = results
        self._hello = hello
        self._observed = observed
        self._on_desired = on_desired
        self._state_changed = asyncio.Event()
        self._logs: asyncio.Queue[Log] = asyncio.Queue(maxsize=100)
        self._commands = Tasks("commands")
        self._running: dict[str, tuple[str, asyncio.Task[None]]] = {}
        self._wire: SocketWire | None = None
        self._desired: asyncio.Queue[DesiredState] = asyncio.Queue()
        self.connected = False

    # -- what others say ----------------------------------------------------------------------

    def report_state(self) -> None:
        """Something observed has changed."""
        self._state_changed.set()

    def report_log(self, entry: Log) -> None:
        if not self._logs.full():
            self._logs.put_nowait(entry)

    # -- for ever -----------------------------------------------------------------------------

    async def run(self) -> None:
        pause_s = RETRY_S[0]
        said = ""
        while True:
            try:
                await self._session()
            except RefusedByServer as refusal:
                log.error("the server refuses this agent: %s", refusal)  # noqa: TRY400
                pause_s = REFUSED_S
            except LinkBroken as error:
                if self.connected or str(error) != said:
                    log.warning("no link to %s: %s", self.device.server, error)
                    said = str(error)
                pause_s = RETRY_S[0] if self.connected else pause_s
                pause_s = min(pause_s, RETRY_AWAY_S if error.away else RETRY_S[1])
            self.connected = False
            await asyncio.sleep(random.uniform(0.5, 1.0) * pause_s)  # noqa: S311 - jitter
            pause_s = min(pause_s * 2, RETRY_S[1])

    async def close(self) -> None:
        await self._commands.close()

    async def _session(self) -> None:
        """One connection, until it breaks."""
        device = self.device
        host, port = split_address(device.server)
        context = client_context(
            self._home.ca_file.read_text(),
            certificate_file=self._home.identity_file,
            check_dates=clock_is_set(device),
        )
        wire = await dial(host, port, PATH, context, server_name(device.server_id))
        try:
            await wire.send(await self._hello())
            await self._welcomed(wire)
            self._wire = wire
            self.connected = True
            log.info("linked to %s", device.server)
            await self._serve(wire)
        finally:
            self._wire = None
            wire.abort()
            for verb, task in self._running.values():
                if verb in _WITH_THE_LINK:
                    task.cancel()

    async def _welcomed(self, wire: SocketWire) -> None:
        deadline = asyncio.get_running_loop().time() + WELCOME_S
        while True:
            left_s = deadline - asyncio.get_running_loop().time()
            frame = await wire.receive(max(0.01, left_s))
            if isinstance(frame, Refused):
                raise RefusedByServer(str(frame.error.get("code", "")))
            if isinstance(frame, Welcome):
                break
        if frame.server_id != self.device.server_id:
            raise LinkBroken(f"another server: {frame.server_id}")
        if frame.wall_ms > self.device.seen_wall_ms + SEEN_EVERY_MS:
            self.device.seen_wall_ms = frame.wall_ms
            await asyncio.to_thread(write_json, self._home.device_file, self.device)

    async def _serve(self, wire: SocketWire) -> None:
        try:
            async with TaskGroup() as group:
                for work in (
                    self._read(wire),
                    self._tell_state(wire),
                    self._tell_logs(wire),
                    self._apply_desired(),
                    self._samples.serve(wire),
                    self._results.serve(wire),
                ):
                    _ = group.create_task(work)
        except BaseExceptionGroup as errors:
            broken = _first(errors, LinkBroken) or _first(errors, RefusedByServer)
            if broken is None:
                raise
            raise broken from None

    # -- in -----------------------------------------------------------------------------------

    async def _read(self, wire: SocketWire) -> None:
        while True:
            frame = await wire.receive(SILENCE_S)
            if isinstance(frame, Ping):
                await wire.send(Pong(frame.id, boot.wall_ms(), boot.monotonic_ms()))
            elif frame is not None:
                await self._take(frame)

    async def _take(self, frame: FromServer) -> None:
        match frame:
            case Ack():
                await self._results.acknowledged(frame)
            case Desired():
                self._desired.put_nowait(frame.state)
            case Command():
                self._begin(frame)
            case CancelCommand():
                running = self._running.get(frame.id)
                if running is not None:
                    running[1].cancel()
            case Refused():
                raise RefusedByServer(str(frame.error.get("code", "")))
            case _:
                log.debug("frame %s ignored", type(frame).__name__)

    async def _apply_desired(self) -> None:
        """Apart from reading, so that a slow disk never looks like a dead link."""
        while True:
            state = await self._desired.get()
            while not self._desired.empty():
                state = self._desired.get_nowait()
            await self._on_desired(state)
            self.report_state()

    # -- commands -----------------------------------------------------------------------------

    def _begin(self, command: Command) -> None:
        if command.id in self._running:
            return
        task = self._commands.spawn(command.verb, self._run(command))
        self._running[command.id] = (command.verb, task)

    async def _run(self, command: Command) -> None:
        async def say(chunk: Struct) -> None:
            await self._answer(Chunk(command.id, to_wire(chunk)))

        try:
            result, error = await self._executor.run(
                command.verb, command.args, command.deadline_s, say
            )
        finally:
            self._running.pop(command.id, None)
        try:
            await self._answer(Done(command.id, result=result, error=error))
        except LinkBroken:
            log.info("the answer to %s came too late for the link", command.verb)

    async def _answer(self, frame: Chunk | Done) -> None:
        wire = self._wire
        if wire is None:
            raise LinkBroken("no link")
        await wire.send(frame)

    # -- out ----------------------------------------------------------------------------------

    async def _tell_state(self, wire: SocketWire) -> None:
        """The whole state, on change and now and then (counters of results rise silently)."""
        told: ObservedState | None = None
        while True:
            state = self._observed()
            if state != told:
                await wire.send(State(state))
                told = state
            self._state_changed.clear()
            try:
                async with asyncio.timeout(STATE_EVERY_S):
                    _ = await self._state_changed.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(STATE_DEBOUNCE_S)

    async def _tell_logs(self, wire: SocketWire) -> None:
        while True:
            await wire.send(await self._logs.get())
            await asyncio.sleep(1 / LOGS_PER_S)


def _first(errors: BaseExceptionGroup[BaseException], kind: type[Exception]) -> Exception | None:
    for one in errors.exceptions:
        if isinstance(one, BaseExceptionGroup):
            found = _first(one, kind)
            if found is not None:
                return found
        elif isinstance(one, kind):
            return one
    return None
