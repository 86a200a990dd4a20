"""One connection of one agent: frames out in order, commands with their answers, limits in.

Two tasks per link, both woken by events; pings and judgements come from one ticker for all links.
Whatever goes wrong on a link closes that link with a logged reason and nothing else.
"""

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from msgspec import Struct

from haechi.core import ids
from haechi.core.tasks import Tasks
from haechi.domains.agents.model import BadAnswer, LinkLost, TooManyCommands
from haechi.domains.agents.ports import Socket, SocketClosed
from haechi.errors import AppError
from haechi.protocol.commands import Verb, from_wire, to_wire
from haechi.protocol.frames import (
    MAX_FRAME_BYTES,
    Ack,
    CancelCommand,
    Chunk,
    Command,
    Done,
    FromAgent,
    FromServer,
    Hello,
    Results,
    decode_from_agent,
    encode,
)
from haechi.protocol.problems import DeadlinePassed, from_wire_error

log = logging.getLogger(__name__)

MAX_OUT_BYTES: Final = 32 * 1024 * 1024
MAX_COMMANDS: Final = 256
MAX_UNACKED: Final = 16
ACK_BATCHES: Final = 3
"""So many stored batches are acknowledged at once: an agent sends four ahead and then waits."""
ACK_ROWS: Final = 100
"""So is a big one: more of the kind will follow."""
_FRAMES_PER_S: Final = 400.0
_FRAMES_BURST: Final = 4000.0
_BYTES_PER_S: Final = 32.0 * 1024 * 1024
_BYTES_BURST: Final = 96.0 * 1024 * 1024
_ANSWER_GRACE_S: Final = 3.0
_CLOSE_S: Final = 2.0

_BAD_FRAME: Final = 1007
_POLICY: Final = 1008
_RESTART: Final = 1012

_numbers = itertools.count(1)


class Bucket:
    """Token bucket on the loop's clock."""

    def __init__(self, per_s: float, burst: float, now_s: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._left = burst
        self._at_s = now_s

    def take(self, amount: float, now_s: float) -> bool:
        self._left = min(self._burst, self._left + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        if self._left < amount:
            return False
        self._left -= amount
        return True


@dataclass(slots=True)
class _Pending:
    verb: Verb
    answer: asyncio.Future[Any]
    on_chunk: Callable[[Any], None] | None


class Link:
    """`closed` is set once; `close_reason` says why."""

    def __init__(
        self, device_id: str, hello: Hello, socket: Socket, remote: str, now_s: Callable[[], float]
    ) -> None:
        loop = asyncio.get_running_loop()
        self.number = next(_numbers)
        self.device_id = device_id
        self.hello = hello
        self.remote = remote
        self._now_s = now_s
        self.last_word_s = now_s()
        self.close_reason = ""
        self._loop = loop
        self._socket = socket
        self._out: deque[bytes] = deque()
        self._out_bytes = 0
        self._out_ready = asyncio.Event()
        self._closed: asyncio.Future[None] = loop.create_future()
        self._close_code = 1000
        self._pending: dict[str, _Pending] = {}
        self._results: deque[Results] = deque()
        self._results_task: asyncio.Task[None] | None = None
        self._ack: Ack | None = None
        self._unsaid = 0
        """Stored batches that the agent has not heard of."""
        self._frames = Bucket(_FRAMES_PER_S, _FRAMES_BURST, now_s())
        self._bytes = Bucket(_BYTES_PER_S, _BYTES_BURST, now_s())
        self._tasks = Tasks(f"link:{device_id}")

    @property
    def is_closed(self) -> bool:
        return self._closed.done()

    # --- out

    def send(self, frame: FromServer) -> None:
        self.send_bytes(encode(frame))

    def send_bytes(self, data: bytes) -> None:
        """Queue one encoded frame; never waits. Who reads too slowly loses the link."""
        if self.is_closed:
            return
        if self._out_bytes + len(data) > MAX_OUT_BYTES:
            self.end("slow_reader", _POLICY)
            return
        self._out.append(data)
        self._out_bytes += len(data)
        self._out_ready.set()

    def acknowledge(self, ack: Ack, rows: int) -> None:
        """Of a few rows with the next tick: a frame for each would wake a small device twice as
        often as its results do."""
        self._ack = ack
        self._unsaid += 1
        if self._unsaid >= ACK_BATCHES or rows >= ACK_ROWS:
            self.say_ack()

    def say_ack(self) -> None:
        """Tell what is stored and has not been told."""
        ack, self._ack, self._unsaid = self._ack, None, 0
        if ack is not None:
            self.send(ack)

    async def _write(self) -> None:
        try:
            while True:
                while self._out:
                    data = self._out.popleft()
                    self._out_bytes -= len(data)
                    await self._socket.send(data)
                self._out_ready.clear()
                await self._out_ready.wait()
        except SocketClosed:
            self.end("gone")

    def end(self, reason: str, code: int = 1000) -> None:
        """Close the link; the first reason counts."""
        if not self._closed.done():
            self.close_reason = reason
            self._close_code = code
            self._closed.set_result(None)

    # --- in

    async def run(
        self,
        on_frame: Callable[[FromAgent], None],
        on_results: Callable[[Results], Awaitable[None]],
    ) -> None:
        """Until it is closed by either side. `on_frame` gets all but results and answers."""
        _ = self._tasks.spawn("read", self._read(on_frame, on_results))
        _ = self._tasks.spawn("write", self._write())
        try:
            await self._closed
        finally:
            self.end("server_stops", _RESTART)
            await self._tasks.close()
            for pending in self._pending.values():
                if not pending.answer.done():
                    pending.answer.set_exception(
                        LinkLost(device_id=self.device_id, verb=pending.verb.name)
                    )
            try:
                async with asyncio.timeout(_CLOSE_S):
                    await self._socket.close(self._close_code, self.close_reason)
            except (SocketClosed, TimeoutError):
                log.debug("link of %s was gone before it was closed", self.device_id)

    async def _read(
        self,
        on_frame: Callable[[FromAgent], None],
        on_results: Callable[[Results], Awaitable[None]],
    ) -> None:
        try:
            while not self.is_closed:
                data = await self._socket.receive()
                now_s = self._now_s()
                self.last_word_s = now_s
                if not self._frames.take(1, now_s) or not self._bytes.take(len(data), now_s):
                    self.end("flood", _POLICY)
                    return
                frame = decode_frame(data)
                if frame is None:
                    continue
                match frame:
                    case Done() | Chunk():
                        self._answered(frame)
                    case Results():
                        self._queue_results(frame, on_results)
                    case Hello():
                        self.end("second_hello", _POLICY)
                    case _:
                        on_frame(frame)
        except SocketClosed:
            self.end("gone")
        except BadFrame as error:
            log.warning("bad frame from device %s: %s", self.device_id, error)
            self.end("bad_frame", _BAD_FRAME)
        except Exception:
            log.exception("link of device %s failed", self.device_id)
            self.end("internal_fault", 1011)

    def _queue_results(
        self, frame: Results, on_results: Callable[[Results], Awaitable[None]]
    ) -> None:
        if len(self._results) >= MAX_UNACKED:
            self.end("unacked_results", _POLICY)
            return
        self._results.append(frame)
        if self._results_task is None:
            self._results_task = self._tasks.spawn("results", self._store_results(on_results))

    async def _store_results(self, on_results: Callable[[Results], Awaitable[None]]) -> None:
        try:
            while self._results:
                await on_results(self._results[0])
                self._results.popleft()
        except Exception:
            log.exception("results of device %s", self.device_id)
            self.end("internal_fault", 1011)  # it sends them again when it is back
        finally:
            self._results_task = None

    # --- commands

    async def command(
        self,
        verb: Verb,
        args: Struct,
        *,
        deadline_s: float,
        on_chunk: Callable[[Any], None] | None = None,
    ) -> Any:
        """Ask and wait for the answer (a `verb.result`). Raises what the agent says went wrong,
        LinkLost, or DeadlinePassed. A cancelled caller cancels the command on the device too.
        """
        if self.is_closed:
            raise LinkLost(device_id=self.device_id, verb=verb.name)
        if len(self._pending) >= MAX_COMMANDS:
            raise TooManyCommands(device_id=self.device_id)
        command_id = ids.new_id("request")
        pending = _Pending(verb, self._loop.create_future(), on_chunk)
        self._pending[command_id] = pending
        self.send(Command(command_id, verb.name, to_wire(args), deadline_s))
        try:
            async with asyncio.timeout(deadline_s + _ANSWER_GRACE_S):
                return await pending.answer
        except TimeoutError as error:
            self.send(CancelCommand(command_id))
            raise DeadlinePassed(verb=verb.name) from error
        except asyncio.CancelledError:
            self.send(CancelCommand(command_id))
            raise
        finally:
            self._pending.pop(command_id, None)

    def _answered(self, frame: Done | Chunk) -> None:
        pending = self._pending.get(frame.id)
        if pending is None or pending.answer.done():
            return  # late answer to something cancelled
        try:
            if isinstance(frame, Chunk):
                if pending.verb.chunk is not None and pending.on_chunk is not None:
                    pending.on_chunk(from_wire(frame.data, pending.verb.chunk))
            elif frame.error is not None:
                pending.answer.set_exception(from_wire_error(frame.error))
            else:
                pending.answer.set_result(from_wire(frame.result, pending.verb.result))
        except msgspec.ValidationError as error:
            pending.answer.set_exception(
                BadAnswer(
                    device_id=self.device_id, verb=pending.verb.name, problem=str(error)[:200]
                )
            )
        except AppError as error:
            pending.answer.set_exception(error)


class BadFrame(ValueError):
    """Not a frame of this protocol."""


_UNDECODABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError)
_KNOWN: Final = frozenset({"hello", "samples", "results", "state", "done", "chunk", "log", "pong"})


def decode_frame(data: bytes) -> FromAgent | None:
    """None for a frame type that a newer agent may know and this server does not."""
    if len(data) > MAX_FRAME_BYTES:
        raise BadFrame(f"{len(data)} bytes")
    try:
        return decode_from_agent(data)
    except _UNDECODABLE as error:
        try:
            raw = msgspec.msgpack.decode(data)
        except _UNDECODABLE:
            raise BadFrame(str(error)[:200]) from error
        tag = raw.get("t") if isinstance(raw, dict) else None
        if isinstance(tag, str) and tag not in _KNOWN:
            return None
        raise BadFrame(str(error)[:200]) from error
