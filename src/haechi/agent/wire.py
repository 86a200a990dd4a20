"""The agent's end of one WebSocket: frames in and out, as an interface and over a real socket."""

import asyncio
import ssl
from typing import Protocol

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

from haechi.protocol.frames import (
    MAX_FRAME_BYTES,
    FromAgent,
    FromServer,
    decode_from_server,
    encode,
)

CONNECT_S = 4.0
ROUND_TRIP_S = 10.0


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


class SocketWire:
    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    async def send(self, frame: FromAgent) -> None:
        try:
            await self._socket.send(encode(frame))
        except (ConnectionClosed, OSError) as error:
            raise LinkBroken(_reason(error)) from error

    async def receive(self, timeout_s: float) -> FromServer | None:
        try:
            async with asyncio.timeout(timeout_s):
                data = await self._socket.recv()
        except TimeoutError as error:
            raise LinkBroken(f"silent for {timeout_s:.1f} s", away=True) from error
        except (ConnectionClosed, OSError) as error:
            raise LinkBroken(_reason(error)) from error
        if isinstance(data, str):
            return None
        try:
            return decode_from_server(data)
        except msgspec.MsgspecError:
            return None

    async def round_trip(self) -> float:
        try:
            async with asyncio.timeout(ROUND_TRIP_S):
                return await (await self._socket.ping())
        except TimeoutError as error:
            raise LinkBroken("ping not answered", away=True) from error
        except (ConnectionClosed, OSError) as error:
            raise LinkBroken(_reason(error)) from error

    def abort(self) -> None:
        """Drop it at once: a half-open socket would make a polite goodbye wait."""
        self._socket.transport.abort()


async def dial(host: str, port: int, path: str, context: ssl.SSLContext, name: str) -> SocketWire:
    """Connect and upgrade. `name` is what the certificate must say, whatever the address."""
    where = f"[{host}]" if ":" in host else host
    try:
        socket = await connect(
            f"wss://{where}:{port}{path}",
            ssl=context,
            server_hostname=name,
            compression=None,
            ping_interval=None,
            max_size=MAX_FRAME_BYTES,
            max_queue=32,
            open_timeout=CONNECT_S,
            close_timeout=1,
            proxy=None,
            user_agent_header=None,
        )
    except ssl.SSLError as error:
        raise LinkBroken(f"TLS: {getattr(error, 'verify_message', '') or error}") from error
    except (ConnectionRefusedError, ConnectionResetError) as error:
        raise LinkBroken(_reason(error)) from error
    except (TimeoutError, OSError) as error:
        raise LinkBroken(_reason(error), away=True) from error
    except (InvalidHandshake, InvalidMessage, ConnectionClosed, EOFError) as error:
        raise LinkBroken(_reason(error)) from error
    return SocketWire(socket)


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    return str(error)[:200] or type(error).__name__
