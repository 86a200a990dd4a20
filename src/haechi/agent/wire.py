"""The agent's end of one WebSocket: frames in and out, as an interface and over a real socket.

websockets speaks the protocol (its part without I/O) and asyncio carries it, with nothing between
them: on a device that says ten results a second, locks, contexts and timers around each frame cost
as much as the frames.
"""

import asyncio
import secrets
import ssl
from collections import deque
from typing import Final, Protocol, cast

import msgspec
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake
from websockets.frames import Frame, Opcode
from websockets.uri import WebSocketURI

from haechi.protocol.frames import (
    MAX_FRAME_BYTES,
    FromAgent,
    FromServer,
    decode_from_server,
    encode,
)

CONNECT_S: Final = 4.0
ROUND_TRIP_S: Final = 10.0
WAITING_FRAMES: Final = 32
"""So many frames nobody has asked for yet, and the socket is read no further."""
WAITING_BYTES: Final = 32 * 1024
"""So much that the socket has not taken, and senders wait."""


class LinkBroken(Exception):
    """The socket is gone, or was never there. `away`: nothing answered (network or host down), so
    trying again soon costs nobody anything."""

    def __init__(self, reason: str, *, away: bool = False) -> None:
        self.away = away
        super().__init__(reason)


class Wire(Protocol):
    async def send(self, frame: FromAgent) -> None:
        """Waits while the socket is full. Raises LinkBroken."""

    async def receive(self, timeout_s: float) -> FromServer | None:
        """The next frame; None for one of an unknown kind. Raises LinkBroken, also on silence."""

    async def round_trip(self) -> float:
        """Seconds until the other end has read everything sent before."""


class SocketWire(asyncio.Protocol):
    def __init__(self, uri: WebSocketURI) -> None:
        """Made by `dial`."""
        self._loop = asyncio.get_running_loop()
        self._speech = ClientProtocol(uri, max_size=MAX_FRAME_BYTES)
        self._transport: asyncio.Transport | None = None
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._frames: deque[FromServer | None] = deque()
        self._parts: list[bytes] = []
        """Of a message that comes in several."""
        self._binary = False
        self._arrived: asyncio.Future[None] | None = None
        """Somebody waits for a frame."""
        self._deaf = False
        self._writable = asyncio.Event()
        self._writable.set()
        self._pings: dict[bytes, asyncio.Future[None]] = {}
        self._broken: LinkBroken | None = None

    # -- what the link asks -------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """The socket takes nothing more for now."""
        return not self._writable.is_set()

    async def opened(self) -> None:
        """Return once the server has taken the connection up. Raises InvalidHandshake or what
        ended the socket."""
        await self._opened

    async def send(self, frame: FromAgent) -> None:
        if self._broken is not None:
            raise self._broken
        self._speech.send_binary(encode(frame))
        self._flush()
        if not self._writable.is_set():
            _ = await self._writable.wait()
            if self._broken is not None:
                raise self._broken

    async def receive(self, timeout_s: float) -> FromServer | None:
        if not self._frames:
            await self._wait(timeout_s)
        frame = self._frames.popleft()
        if self._deaf and len(self._frames) <= WAITING_FRAMES // 4:
            self._deaf = False
            if self._transport is not None:
                self._transport.resume_reading()
        return frame

    async def _wait(self, timeout_s: float) -> None:
        """For a frame."""
        if self._broken is not None:
            raise self._broken
        arrived = self._arrived = self._loop.create_future()
        timer = self._loop.call_later(timeout_s, self._silent, arrived, timeout_s)
        try:
            await arrived
        finally:
            timer.cancel()
            self._arrived = None

    @staticmethod
    def _silent(arrived: "asyncio.Future[None]", timeout_s: float) -> None:
        if not arrived.done():
            arrived.set_exception(LinkBroken(f"silent for {timeout_s:.1f} s", away=True))

    async def round_trip(self) -> float:
        if self._broken is not None:
            raise self._broken
        mark = secrets.token_bytes(4)
        answered = self._pings[mark] = self._loop.create_future()
        began = self._loop.time()
        try:
            self._speech.send_ping(mark)
            self._flush()
            async with asyncio.timeout(ROUND_TRIP_S):
                await answered
        except TimeoutError as error:
            raise LinkBroken("ping not answered", away=True) from error
        finally:
            del self._pings[mark]
        return self._loop.time() - began

    def abort(self) -> None:
        """Drop it at once: a half-open socket would make a polite goodbye wait."""
        if self._transport is not None:
            self._transport.abort()
        self._break(LinkBroken("dropped"))

    # -- asyncio ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(WAITING_BYTES)
        self._speech.send_request(self._speech.connect())
        self._flush()

    def data_received(self, data: bytes) -> None:
        self._speech.receive_data(data)
        self._heard()

    def eof_received(self) -> None:
        self._speech.receive_eof()
        self._heard()

    def connection_lost(self, exc: Exception | None) -> None:
        self._speech.receive_eof()
        why = exc or self._speech.handshake_exc or self._speech.close_exc
        if not self._opened.done():
            self._opened.set_exception(why)
        self._break(LinkBroken(_reason(why)))

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # -- what was heard -----------------------------------------------------------------------

    def _heard(self) -> None:
        events = self._speech.events_received()
        self._flush()
        for event in events:
            if isinstance(event, Frame):
                self._take(event)
            elif self._speech.handshake_exc is None and not self._opened.done():
                self._opened.set_result(None)
        failed = self._speech.handshake_exc
        if failed is not None and not self._opened.done():
            self._opened.set_exception(failed)
        if self._speech.close_expected() and self._transport is not None:
            # The answer to its goodbye is written; nothing more comes.
            self._transport.close()
            self._break(LinkBroken(f"closed by the server: {self._speech.close_rcvd}"))

    def _take(self, frame: Frame) -> None:
        kind = frame.opcode
        if kind is Opcode.PONG:
            answered = self._pings.get(bytes(frame.data))
            if answered is not None and not answered.done():
                answered.set_result(None)
        elif kind is Opcode.BINARY or kind is Opcode.TEXT or kind is Opcode.CONT:
            if kind is not Opcode.CONT:
                self._binary = kind is Opcode.BINARY
            self._parts.append(bytes(frame.data))
            if frame.fin:
                self._put(_decoded(b"".join(self._parts)) if self._binary else None)
                self._parts.clear()

    def _put(self, frame: FromServer | None) -> None:
        self._frames.append(frame)
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)
        if len(self._frames) >= WAITING_FRAMES and not self._deaf and self._transport is not None:
            self._deaf = True
            self._transport.pause_reading()

    def _flush(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        for data in self._speech.data_to_send():
            if data:
                self._transport.write(data)
            else:  # the end of all; TLS knows no half-closed connection
                self._transport.close()

    def _break(self, why: LinkBroken) -> None:
        """From now on nobody waits for this wire; what came before is still handed out."""
        if self._broken is not None:
            return
        self._broken = why
        if not self._opened.done():
            self._opened.set_exception(why)
        for waiting in (self._arrived, *self._pings.values()):
            if waiting is not None and not waiting.done():
                waiting.set_exception(why)
        self._writable.set()


async def dial(host: str, port: int, path: str, context: ssl.SSLContext, name: str) -> SocketWire:
    """Connect and upgrade. `name` is what the certificate must say, whatever the address."""
    loop = asyncio.get_running_loop()
    uri = WebSocketURI(secure=True, host=host, port=port, path=path, query="")
    try:
        async with asyncio.timeout(CONNECT_S):
            _, wire = await loop.create_connection(
                lambda: SocketWire(uri), host, port, ssl=context, server_hostname=name
            )
            try:
                await wire.opened()
            except BaseException:
                wire.abort()
                raise
    except ssl.SSLError as error:
        raise LinkBroken(f"TLS: {getattr(error, 'verify_message', '') or error}") from error
    except (ConnectionRefusedError, ConnectionResetError, InvalidHandshake) as error:
        raise LinkBroken(_reason(error)) from error
    except (TimeoutError, OSError) as error:
        raise LinkBroken(_reason(error), away=True) from error
    return wire


def _decoded(data: bytes) -> FromServer | None:
    try:
        return decode_from_server(data)
    except msgspec.MsgspecError:
        return None


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    return str(error)[:200] or type(error).__name__
