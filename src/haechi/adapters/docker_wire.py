"""HTTP/1.1 over a Docker Engine's unix socket, one connection per request.

Why not an HTTP client library: the agent has 40 MB in all, and httpx2 costs 10 MB of them where
h11 costs none that could be measured. One connection per request makes cancelling exact: leaving
the context closes the socket, which is how the Engine is told to stop a build or a follow. Knows
nothing of the Engine's verbs.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from typing import Final

import h11

from haechi.adapters.docker_errors import EngineTimedOut, EngineUnreachable, short

CONNECT_TIMEOUT_S: Final = 5.0
SEND_TIMEOUT_S: Final = 60.0
_READ_BYTES: Final = 64 * 1024

Body = bytes | AsyncIterable[bytes]


class Response:
    """Status and headers have arrived; the body is read by `read` or `chunks`, once."""

    def __init__(self, exchange: "_Exchange", head: h11.Response, what: str) -> None:
        self._exchange = exchange
        self._what = what
        self.status = head.status_code
        self.headers: dict[str, str] = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers
        }

    async def chunks(self, *, idle_timeout_s: float | None = None) -> AsyncIterator[bytes]:
        """The body as it comes. `idle_timeout_s=None` waits for ever: a quiet follow is fine."""
        while True:
            try:
                async with asyncio.timeout(idle_timeout_s):
                    event = await self._exchange.next_event()
            except TimeoutError as error:
                raise EngineTimedOut(what=self._what, timeout_s=idle_timeout_s) from error
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                return

    async def read(self, *, limit_bytes: int = 64 * 1024 * 1024) -> bytes:
        """The whole body; what exceeds the limit is cut off."""
        body = bytearray()
        async for chunk in self.chunks():
            body += chunk
            if len(body) >= limit_bytes:
                break
        return bytes(body)


class _Exchange:
    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, socket: str
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._socket = socket
        self._http = h11.Connection(h11.CLIENT)

    async def send(self, event: h11.Request | h11.Data | h11.EndOfMessage) -> None:
        data = self._http.send(event)
        if data:
            self._writer.write(data)
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await self._writer.drain()

    async def next_event(self) -> object:
        while True:
            try:
                event = self._http.next_event()
                if event is not h11.NEED_DATA:
                    return event
                self._http.receive_data(await self._reader.read(_READ_BYTES))
            except (OSError, h11.RemoteProtocolError) as error:
                raise EngineUnreachable(engine=self._socket, reason=_reason(error)) from error


@contextlib.asynccontextmanager
async def request(
    socket: str,
    method: str,
    target: str,
    *,
    headers: Mapping[str, str],
    body: Body | None = None,
    head_timeout_s: float | None,
) -> AsyncIterator[Response]:
    """Send a request and wait for the head of its answer; leaving closes the connection."""
    what = f"{method} {target.partition('?')[0]}"
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(socket)
    except (OSError, TimeoutError) as error:
        raise EngineUnreachable(engine=socket, reason=_reason(error)) from error
    try:
        exchange = _Exchange(reader, writer, socket)
        try:
            await _send(exchange, method, target, headers, body)
        except ConnectionError:
            pass  # an Engine that refuses early closes its side: its answer is still to be read
        except TimeoutError as error:
            raise EngineTimedOut(what=what, timeout_s=SEND_TIMEOUT_S) from error
        yield await _head(exchange, what, head_timeout_s)
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _send(
    exchange: _Exchange, method: str, target: str, headers: Mapping[str, str], body: Body | None
) -> None:
    fields = [("Host", "docker"), ("Connection", "close"), *headers.items()]
    if isinstance(body, bytes):
        fields.append(("Content-Length", str(len(body))))
    elif body is not None:
        fields.append(("Transfer-Encoding", "chunked"))
    elif method in {"POST", "PUT"}:
        fields.append(("Content-Length", "0"))
    await exchange.send(h11.Request(method=method, target=target, headers=fields))
    if isinstance(body, bytes):
        await exchange.send(h11.Data(data=body))
    elif body is not None:
        async for chunk in body:
            await exchange.send(h11.Data(data=chunk))
    await exchange.send(h11.EndOfMessage())


async def _head(exchange: _Exchange, what: str, timeout_s: float | None) -> Response:
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                event = await exchange.next_event()
                if isinstance(event, h11.Response):
                    return Response(exchange, event, what)
                if not isinstance(event, h11.InformationalResponse):
                    raise EngineUnreachable(engine=what, reason="connection closed")
    except TimeoutError as error:
        raise EngineTimedOut(what=what, timeout_s=timeout_s) from error


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return short(text)
