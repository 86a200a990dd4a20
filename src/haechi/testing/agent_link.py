"""A scripted agent: speaks the wire of CONTRACTS 5 over a real or an in-memory socket.

Commands are answered by handlers that a test sets: `on_command[verb] = async fn(agent, command)`
returning the result struct; an AppError it raises is sent as the command's error.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec

from haechi.core.tasks import Tasks
from haechi.domains.agents.ports import SocketClosed
from haechi.errors import AppError
from haechi.protocol.commands import to_wire
from haechi.protocol.desired import DesiredState, ObservedState
from haechi.protocol.frames import (
    PROTOCOL,
    Ack,
    CancelCommand,
    Chunk,
    Command,
    Desired,
    Done,
    FromAgent,
    FromServer,
    Hello,
    Ping,
    Pong,
    Refused,
    State,
    Welcome,
    decode_from_server,
    encode,
)
from haechi.protocol.problems import UnknownVerb, to_wire_error

CommandHandler = Callable[["ScriptedAgent", Command], Awaitable[msgspec.Struct]]


class ClientSocket(Protocol):
    async def send(self, data: bytes) -> None: ...

    async def recv(self) -> bytes:
        """Raises SocketClosed."""


class PairedSocket:
    """One end of an in-memory connection; the server's end is a `domains.agents.ports.Socket`."""

    def __init__(self) -> None:
        self.inbox: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.other: PairedSocket | None = None
        self.closed: tuple[int, str] | None = None
        self.stuck = False
        """True: what is sent here is swallowed, as by a half-open socket."""

    @classmethod
    def pair(cls) -> "tuple[PairedSocket, PairedSocket]":
        one, two = cls(), cls()
        one.other, two.other = two, one
        return one, two

    async def receive(self) -> bytes:
        data = await self.inbox.get()
        if data is None:
            raise SocketClosed
        return data

    async def recv(self) -> bytes:
        return await self.receive()

    async def send(self, data: bytes) -> None:
        if self.closed is not None or self.other is None:
            raise SocketClosed
        if not self.stuck:
            self.other.inbox.put_nowait(data)
        await asyncio.sleep(0)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        for end in (self, self.other):
            if end is not None and end.closed is None:
                end.closed = (code, reason)
                end.inbox.put_nowait(None)


class ScriptedAgent:
    def __init__(
        self,
        socket: ClientSocket,
        device_id: str,
        *,
        boot_id: str = "boot-1",
        machine_id: str = "machine-1",
        protocol: int = PROTOCOL,
        monotonic_ms: Callable[[], int] = lambda: round(time.monotonic() * 1000),
        wall_ms: Callable[[], int] = lambda: round(time.time() * 1000),
        **hello: Any,
    ) -> None:
        self.socket = socket
        self.monotonic_ms = monotonic_ms
        self.wall_ms = wall_ms
        self.hello = Hello(
            protocol=protocol,
            agent_version="test",
            device_id=device_id,
            boot_id=boot_id,
            wall_ms=wall_ms(),
            monotonic_ms=monotonic_ms(),
            queue_id="queue-1",
            machine_id=machine_id,
            **hello,
        )
        self.on_command: dict[str, CommandHandler] = {}
        self.welcome: Welcome | None = None
        self.refused: Refused | None = None
        self.desired: DesiredState | None = None
        self.commands: list[Command] = []
        self.cancelled: list[str] = []
        self.acks: list[Ack] = []
        self.pings = 0
        self.answer_pings = True
        self.applies = True
        """Whether a desired state is reported back as applied."""
        self.state = ObservedState(revision=0)
        self.closed = asyncio.Event()
        self._changed = asyncio.Condition()
        self._tasks = Tasks(f"scripted:{device_id}")
        self._running: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Say hello and wait for the welcome or the refusal."""
        await self.send(self.hello)
        _ = self._tasks.spawn("read", self._read())
        await self.until(lambda: self.welcome or self.refused or self.closed.is_set())

    async def close(self) -> None:
        await self._tasks.close()
        close = getattr(self.socket, "close", None)
        if close is not None:
            await close()

    async def send(self, frame: FromAgent) -> None:
        await self.socket.send(encode(frame))

    async def chunk(self, command: Command, data: msgspec.Struct) -> None:
        await self.send(Chunk(command.id, to_wire(data)))

    async def report(self, **changes: Any) -> None:
        """Send the observed state with these fields changed."""
        for name, value in changes.items():
            setattr(self.state, name, value)
        await self.send(State(self.state))

    async def until(self, true: Callable[[], object], timeout_s: float = 60.0) -> None:
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(lambda: bool(true()))

    async def _read(self) -> None:
        try:
            while True:
                await self._on_frame(decode_from_server(await self.socket.recv()))
                await self._notify()
        except SocketClosed:
            self.closed.set()
            await self._notify()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _on_frame(self, frame: FromServer) -> None:
        match frame:
            case Welcome():
                self.welcome = frame
            case Refused():
                self.refused = frame
            case Desired():
                self.desired = frame.state
                if self.applies:
                    await self.report(revision=frame.state.revision)
            case Ping():
                self.pings += 1
                if self.answer_pings:
                    await self.send(Pong(frame.id, self.wall_ms(), self.monotonic_ms()))
            case Ack():
                self.acks.append(frame)
            case Command():
                self.commands.append(frame)
                task = self._tasks.spawn(frame.verb, self._answer(frame))
                self._running[frame.id] = task
            case CancelCommand():
                self.cancelled.append(frame.id)
                if frame.id in self._running:
                    self._running[frame.id].cancel()

    async def _answer(self, command: Command) -> None:
        try:
            handler = self.on_command.get(command.verb)
            if handler is None:
                raise UnknownVerb(verb=command.verb)
            done = Done(command.id, to_wire(await handler(self, command)))
        except AppError as error:
            done = Done(command.id, error=to_wire_error(error))
        await self.send(done)
