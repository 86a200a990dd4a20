"""A small HTTP/1.1 server for the AIs of one device: httptools parses, asyncio carries.

Why not a server library: the agent has 40 MB in all and serves a handful of containers. Limits
come first (connections, header and body sizes, time), because what calls is other people's code.
Knows nothing of results; the handler gets a `Request` and gives a `Response`.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, cast
from urllib.parse import parse_qsl, unquote

import httptools

from haechi.core.tasks import Tasks

log = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 128
MAX_HEAD_BYTES: Final = 16 * 1024
MAX_BODY_BYTES: Final = 2 * 1024 * 1024
MAX_BODIES_BYTES: Final = 6 * 1024 * 1024
"""Of all requests being received at once."""
MAX_PIPELINED: Final = 4
REQUEST_S: Final = 30.0
IDLE_S: Final = 75.0
SWEEP_S: Final = 5.0


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
    def __init__(self, handler: Handler, *, name: str = "intake") -> None:
        self.handler = handler
        self.tasks = Tasks(name)
        self.connections: set[_Connection] = set()
        self.receiving_bytes = 0
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

    async def _sweep(self) -> None:
        """Close connections that are idle for long or send too slowly."""
        while True:
            await asyncio.sleep(SWEEP_S)
            now = time.monotonic()
            for connection in list(self.connections):
                if connection.expired(now):
                    connection.close()


class _Connection(asyncio.Protocol):
    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[tuple[Request, bool]] = deque()
        self._busy = False
        self._worker: asyncio.Task[None] | None = None
        self._peer = ""
        self._since = time.monotonic()
        self._receiving = False
        self._sending_on = False
        """Refused and answered while the caller goes on sending."""
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
        if len(self._server.connections) >= MAX_CONNECTIONS:
            self._transport.abort()
            return
        self._server.connections.add(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.close()
        except httptools.HttpParserError:
            self._write(Response(400, b'{"code": "intake.bad_request"}'), keep=False)
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._server.connections.discard(self)
        self._release()
        if self._worker is not None:
            self._worker.cancel()

    def expired(self, now: float) -> bool:
        if self._busy:
            return False
        return now - self._since > (REQUEST_S if self._receiving or self._sending_on else IDLE_S)

    def close(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()

    # -- httptools ----------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._reset()
        self._receiving = True
        self._since = time.monotonic()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def _count(self, size_bytes: int) -> None:
        self._head_bytes += size_bytes
        if self._head_bytes > MAX_HEAD_BYTES:
            raise httptools.HttpParserError("head too large")

    def on_headers_complete(self) -> None:
        length = self._headers.get("content-length", "0")
        announced = int(length) if length.isdigit() else 0
        self._judge_size(announced)
        if self._refused is None and self._headers.get("expect", "").lower() == "100-continue":
            assert self._transport is not None
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self._refused is not None and announced > MAX_BODY_BYTES:
            # Answer now and hang up after it: the body is not worth reading.
            self._sending_on = True
            self._finish(keep=False)

    def _judge_size(self, size_bytes: int) -> None:
        if size_bytes > MAX_BODY_BYTES:
            self._refused = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        elif self._server.receiving_bytes + size_bytes > MAX_BODIES_BYTES:
            self._refused = HTTPStatus.SERVICE_UNAVAILABLE

    def on_body(self, body: bytes) -> None:
        if self._refused is not None:
            return
        self._judge_size(len(self._body) + len(body))
        if self._refused is not None:
            self._release()
            return
        self._body += body
        self._server.receiving_bytes += len(body)

    def on_message_complete(self) -> None:
        if self._sending_on:
            self._sending_on = False
            if not self._busy:
                self.close()
        elif self._receiving:
            self._finish(keep=self._parser.should_keep_alive())

    def _release(self) -> None:
        self._server.receiving_bytes -= len(self._body)
        self._body = bytearray()

    def _finish(self, *, keep: bool) -> None:
        self._receiving = False
        path, _, query = self._url.decode("latin-1").partition("?")
        request = Request(
            method=self._parser.get_method().decode("latin-1"),
            path=unquote(path),
            query=dict(parse_qsl(query, keep_blank_values=True)),
            headers=self._headers,
            peer=self._peer,
            body=bytes(self._body),
            refused=self._refused,
        )
        self._release()
        self._waiting.append((request, keep))
        if len(self._waiting) > MAX_PIPELINED:
            self.close()
        elif not self._busy:
            self._busy = True
            self._worker = self._server.tasks.spawn("request", self._work())

    # -- answering ----------------------------------------------------------------------------

    async def _work(self) -> None:
        try:
            while self._waiting:
                request, keep = self._waiting.popleft()
                response = await self._server.handler(request)
                self._write(response, keep=keep)
                if self._sending_on:
                    self._drain()
                    return
                if not keep:
                    self.close()
                    return
        finally:
            self._busy = False
            self._since = time.monotonic()

    def _drain(self) -> None:
        """Let what the caller still sends run into nothing for a while: a close now would be a
        reset, which takes the answer away from him before he has read it.
        """
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()

    def _write(self, response: Response, *, keep: bool) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        reason = HTTPStatus(response.status).phrase
        lines = [f"HTTP/1.1 {response.status} {reason}"]
        if response.status not in {204, 304}:
            lines.append(f"Content-Length: {len(response.body)}")
        if response.body:
            lines.append(f"Content-Type: {response.content_type}")
        lines.extend(f"{name}: {value}" for name, value in response.headers.items())
        if not keep:
            lines.append("Connection: close")
        head = "\r\n".join(lines) + "\r\n\r\n"
        self._transport.write(head.encode("latin-1") + response.body)
