"""A small HTTP/1.1 server for the AIs of one device: httptools parses, asyncio carries.

Why not a server library: the agent has 40 MB in all and serves a handful of containers. Limits
come first (connections, header and body sizes, time), because what calls is other people's code.
Knows nothing of results; the handler gets a `Request` and gives a `Response`.
"""

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, cast
from urllib.parse import parse_qsl, unquote

import httptools

from haechi.core.tasks import Tasks

log = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 256
MAX_CONNECTIONS_PER_PEER: Final = 32
"""From one address: one container must not shut the others out."""
MAX_HEAD_BYTES: Final = 16 * 1024
MAX_BODY_BYTES: Final = 2 * 1024 * 1024
MAX_BODIES_BYTES: Final = 8 * 1024 * 1024
"""Of all requests at once, from their first byte until they are answered."""
MAX_BODIES_BYTES_PER_PEER: Final = 3 * 1024 * 1024
MAX_PIPELINED: Final = 4
REQUEST_S: Final = 30.0
IDLE_S: Final = 75.0
SWEEP_S: Final = 5.0
_REASONS: Final = {int(status): status.phrase for status in HTTPStatus}


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    """Names in lower case."""
    peer: str
    """Address the request came from."""
    body: bytes = b""
    refused: HTTPStatus | None = None
    """Why the body was not read: 413 or 503."""


@dataclass
class Response:
    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


Handler = Callable[[Request], Awaitable[Response]]


class HttpServer:
    def __init__(self, handler: Handler, *, too_many: Response, name: str = "intake") -> None:
        """`too_many` is said to a caller who gets no connection, before he is hung up on."""
        self.handler = handler
        self.too_many = too_many
        self.tasks = Tasks(name)
        self.connections: set[_Connection] = set()
        self.held_bytes = 0
        """Bodies being received or waiting for their answer."""
        self._held: dict[str, int] = {}
        self._connected: Counter[str] = Counter()
        self._server: asyncio.Server | None = None

    async def listen(self, host: str, port: int) -> int:
        """Bind and serve; answers the port (0: any free one)."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), host, port, backlog=128)
        if not self.tasks_running:
            self.tasks_running = True
            self.tasks.forever("sweep", self._sweep)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    tasks_running = False

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self.connections):
            connection.close()
        await self.tasks.close()
        self.tasks_running = False

    # -- what each address takes ---------------------------------------------------------------

    def has_room(self, peer: str, size_bytes: int) -> bool:
        return (
            self.held_bytes + size_bytes <= MAX_BODIES_BYTES
            and self._held.get(peer, 0) + size_bytes <= MAX_BODIES_BYTES_PER_PEER
        )

    def hold(self, peer: str, size_bytes: int) -> None:
        """Count bytes of a body; give them back with a negative size."""
        self.held_bytes += size_bytes
        left = self._held.get(peer, 0) + size_bytes
        if left:
            self._held[peer] = left
        else:
            self._held.pop(peer, None)

    def admit(self, connection: "_Connection", peer: str) -> bool:
        if (
            len(self.connections) >= MAX_CONNECTIONS
            or self._connected[peer] >= MAX_CONNECTIONS_PER_PEER
        ):
            return False
        self.connections.add(connection)
        self._connected[peer] += 1
        return True

    def dismiss(self, connection: "_Connection", peer: str) -> None:
        if connection in self.connections:
            self.connections.remove(connection)
            self._connected[peer] -= 1
            if not self._connected[peer]:
                del self._connected[peer]

    async def _sweep(self) -> None:
        """Close connections that are idle for long or send too slowly."""
        while True:
            await asyncio.sleep(SWEEP_S)
            now = time.monotonic()
            for connection in list(self.connections):
                if connection.expired(now):
                    connection.give_up()


class _Connection(asyncio.Protocol):
    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[tuple[Request, bool]] = deque()
        self._held_bytes = 0
        self._writable = asyncio.Event()
        self._writable.set()
        self._asked = asyncio.Event()
        self._busy = False
        self._worker: asyncio.Task[None] | None = None
        self._peer = ""
        self._since = time.monotonic()
        self._receiving = False
        self._sending_on = False
        """Refused and answered while the caller goes on sending."""
        self._in_head = False
        self._raw_head_bytes = 0
        self._message_ended = False
        self._reset()

    def _reset(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._head_bytes = 0
        self._body = bytearray()
        self._refused: HTTPStatus | None = None

    # -- asyncio ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self._peer = str(peer[0]) if peer else ""
        if not self._server.admit(self, self._peer):
            self._write(self._server.too_many, keep=False)
            self.close()

    def data_received(self, data: bytes) -> None:
        self._message_ended = False
        try:
            self._parser.feed_data(data)
            self._judge_head(len(data))
        except httptools.HttpParserUpgrade:
            self.close()
        except httptools.HttpParserError:
            self._write(Response(400, b'{"code": "intake.bad_request"}'), keep=False)
            self.close()

    def _judge_head(self, received_bytes: int) -> None:
        """The parser hands over a header line once it is whole: one without end is seen here."""
        if not self._in_head:
            self._raw_head_bytes = 0
        elif not self._message_ended:
            self._raw_head_bytes += received_bytes
            if self._raw_head_bytes > MAX_HEAD_BYTES:
                raise httptools.HttpParserError("head too large")

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._server.dismiss(self, self._peer)
        self._server.hold(self._peer, -self._held_bytes)
        self._held_bytes = 0
        self._waiting.clear()
        if self._worker is not None:
            self._worker.cancel()

    def expired(self, now: float) -> bool:
        if self._busy:
            return False
        return now - self._since > (REQUEST_S if self._receiving or self._sending_on else IDLE_S)

    def close(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()

    def give_up(self) -> None:
        """Close; one that was closed long ago and still has answers to write takes none."""
        if self._transport is not None and self._transport.is_closing():
            self._transport.abort()
        self.close()

    # -- httptools ----------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._reset()
        self._receiving = True
        self._in_head = True
        self._since = time.monotonic()

    def on_url(self, url: bytes) -> None:
        self._head_bytes += len(url)
        if self._head_bytes > MAX_HEAD_BYTES:
            raise httptools.HttpParserError("head too large")
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > MAX_HEAD_BYTES:
            raise httptools.HttpParserError("head too large")
        self._headers[name.lower().decode("latin-1")] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._in_head = False
        length = self._headers.get("content-length", "0")
        announced = int(length) if length.isdigit() else 0
        self._judge_size(announced, announced)
        if self._refused is None and self._headers.get("expect", "").lower() == "100-continue":
            assert self._transport is not None
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self._refused is not None and announced > MAX_BODY_BYTES:
            # Answer now and hang up after it: the body is not worth reading.
            self._sending_on = True
            self._finish(keep=False)

    def _judge_size(self, size_bytes: int, more_bytes: int) -> None:
        """`size_bytes`: of the whole body, as far as known; `more_bytes`: not counted yet."""
        if size_bytes > MAX_BODY_BYTES:
            self._refused = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        elif not self._server.has_room(self._peer, more_bytes):
            self._refused = HTTPStatus.SERVICE_UNAVAILABLE

    def on_body(self, body: bytes) -> None:
        if self._refused is not None:
            return
        self._judge_size(len(self._body) + len(body), len(body))
        if self._refused is not None:
            self._release(len(self._body))
            self._body = bytearray()
            return
        self._body += body
        self._hold(len(body))

    def on_message_complete(self) -> None:
        self._message_ended = True
        if self._sending_on:
            self._sending_on = False
            if not self._busy:
                self.close()
        elif self._receiving:
            self._finish(keep=self._parser.should_keep_alive())

    def _hold(self, size_bytes: int) -> None:
        self._held_bytes += size_bytes
        self._server.hold(self._peer, size_bytes)

    def _release(self, size_bytes: int) -> None:
        """Never more than is held: a lost connection has given back all of it."""
        self._hold(-min(size_bytes, self._held_bytes))

    def _finish(self, *, keep: bool) -> None:
        self._receiving = False
        path, _, query = self._url.decode("latin-1").partition("?")
        request = Request(
            method=self._parser.get_method().decode("latin-1"),
            path=unquote(path),
            query=dict(parse_qsl(query, keep_blank_values=True)) if query else {},
            headers=self._headers,
            peer=self._peer,
            body=bytes(self._body),
            refused=self._refused,
        )
        self._body = bytearray()
        self._waiting.append((request, keep))
        if len(self._waiting) > MAX_PIPELINED:
            self.close()
        elif not self._busy:
            self._busy = True
            self._asked.set()
            if self._worker is None or self._worker.done():
                self._worker = self._server.tasks.spawn("requests", self._work())

    # -- answering ----------------------------------------------------------------------------

    async def _work(self) -> None:
        """One task for all requests of a connection: a kept one brings ten a second."""
        while True:
            _ = await self._asked.wait()
            self._asked.clear()
            try:
                if not await self._answer_all():
                    return
            finally:
                self._busy = False
                self._since = time.monotonic()

    async def _answer_all(self) -> bool:
        """Whatever waits; whether this connection is kept."""
        while self._waiting:
            request, keep = self._waiting.popleft()
            response = await self._server.handler(request)
            self._write(response, keep=keep)
            self._release(len(request.body))
            del request
            if self._sending_on:
                self._drain()
                return False
            if not keep:
                self.close()
                return False
            if not self._writable.is_set() and not await self._is_taken():
                return False
        return True

    async def _is_taken(self) -> bool:
        """Wait until the answers are; whoever takes none loses the connection."""
        try:
            async with asyncio.timeout(REQUEST_S):
                return await self._writable.wait()
        except TimeoutError:
            if self._transport is not None:
                self._transport.abort()  # a close would wait for it
            return False

    def _drain(self) -> None:
        """Let what the caller still sends run into nothing for a while: a close now would be a
        reset, which takes the answer away from him before he has read it.
        """
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()

    def _write(self, response: Response, *, keep: bool) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        lines = [f"HTTP/1.1 {response.status} {_REASONS[response.status]}"]
        if response.status not in {204, 304}:
            lines.append(f"Content-Length: {len(response.body)}")
        if response.body:
            lines.append(f"Content-Type: {response.content_type}")
        lines.extend(f"{name}: {value}" for name, value in response.headers.items())
        if not keep:
            lines.append("Connection: close")
        head = "\r\n".join(lines) + "\r\n\r\n"
        self._transport.write(head.encode("latin-1") + response.body)
