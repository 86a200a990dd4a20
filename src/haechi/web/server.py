"""Runs the listeners (dashboard and API, agents, later interop) in one loop and stops them cleanly.

uvicorn waits for open streams at shutdown; `stopping` is called first so that they end.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Self

import uvicorn

from haechi.errors import Text, Upstream
from haechi.web.connections import BoundedProtocol, Connections, Limits

log = logging.getLogger(__name__)

_GRACE_S: Final = 2


class CannotListen(Upstream):
    code = "web.cannot_listen"
    detail = Text(
        "{address}에서 수신할 수 없습니다: {reason}", "Cannot listen on {address}: {reason}"
    )
    remedy = Text(
        "그 포트를 쓰는 프로그램을 끄거나 다른 주소를 지정하세요.",
        "Stop the program that uses the port, or give another address.",
    )


@dataclass(frozen=True)
class Listener:
    """`ssl_context` None: plain HTTP. `connections` may be shared by several."""

    app: Any
    address: str
    ssl_context: Any = None
    http: type[BoundedProtocol] = BoundedProtocol
    ws: Any = "websockets-sansio"
    ws_max_size: int = 16 * 1024 * 1024
    connections: Connections = field(default_factory=lambda: Connections(Limits()))


def split_address(address: str) -> tuple[str, int]:
    """`HOST:PORT` or `[V6]:PORT` → (host, port). Raises ValueError."""
    host, _, port = address.rpartition(":")
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - ":PORT" means everywhere


def bind(address: str) -> socket.socket:
    """A listening socket, so that a taken port is found before anything else starts."""
    try:
        host, port = split_address(address)
    except ValueError as error:
        raise CannotListen(address=address, reason=str(error)) from error
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Inherited by accepted connections, where neither uvicorn nor uvloop sets it for a socket
        # that is handed in: a small answer would wait 40 ms for the caller's delayed ACK.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind((host, port))
    except (OSError, OverflowError) as error:
        sock.close()
        raise CannotListen(address=address, reason=str(error)) from error
    sock.set_inheritable(False)
    return sock


class _Server(uvicorn.Server):
    on_started: Callable[[], None] | None = None

    def __init__(self, listener: Listener) -> None:
        super().__init__(_config(listener))
        self._address = listener.address

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except OSError as error:  # somebody else has bound the port too, and listened first
            raise CannotListen(address=self._address, reason=str(error)) from error
        if self.started and self.on_started is not None:
            self.on_started()

    def abandon(self) -> None:
        """Whoever takes nothing any more (his radio is gone) would keep a connection open."""
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # `run` below owns the signals


class StopSignals:
    """SIGTERM and SIGINT from the first moment to the last: the first calls `action`, the second is
    told that it is being done, the third ends the process on the spot.

    Until `action` is set, it is remembered that one came.
    """

    def __init__(self) -> None:
        self.action: Callable[[], None] | None = None
        self.count = 0

    def then(self, action: Callable[[], None]) -> None:
        self.action = action
        if self.count:
            action()

    def _came(self, number: int) -> None:
        self.count += 1
        if self.count == 1:
            if self.action is not None:
                self.action()
        elif self.count == 2:
            log.warning("closing already; one more signal ends at once")
        else:
            log.error("ended without closing, as asked three times")
            os._exit(128 + number)

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._came, number)
        return self

    def __exit__(self, *_error: object) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


class Servers:
    """Bind first, then `run()` until `stop()`."""

    def __init__(self, listeners: list[Listener], stopping: Callable[[], None]) -> None:
        self._stopping = stopping
        self._stopped = False
        self._sockets: list[socket.socket] = []
        try:
            for listener in listeners:
                self._sockets.append(bind(listener.address))
        except CannotListen:
            self.close()
            raise
        self._servers = [_Server(listener) for listener in listeners]
        self.secure = [listener.ssl_context is not None for listener in listeners]

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """What was really bound (a port 0 is resolved)."""
        return [sock.getsockname()[:2] for sock in self._sockets]

    def close(self) -> None:
        """Let go of what was bound, also where it was never served."""
        for sock in self._sockets:
            sock.close()

    def stop(self) -> None:
        """Also before `run`, which then returns at once."""
        self._stopped = True
        self._stopping()
        for server in self._servers:
            server.should_exit = True

    async def run(self, ready: Callable[[], None] | None = None) -> None:
        """`ready` is called once all of them take connections: bound ones refuse them before."""
        if self._stopped:
            return

        def look() -> None:
            if ready is not None and self.started:
                ready()

        for server in self._servers:
            server.on_started = look
        try:
            await asyncio.gather(
                *(
                    server.serve(sockets=[sock])
                    for server, sock in zip(self._servers, self._sockets, strict=True)
                )
            )
        finally:
            for server in self._servers:
                server.abandon()

    @property
    def started(self) -> bool:
        return all(server.started for server in self._servers)


def _config(listener: Listener) -> uvicorn.Config:
    context = listener.ssl_context
    return uvicorn.Config(
        listener.app,
        http=partial(listener.http, bounds=listener.connections),  # type: ignore[arg-type]
        ws=listener.ws,
        ws_max_size=listener.ws_max_size,
        ws_ping_interval=None,
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=_GRACE_S,
        timeout_keep_alive=75,
        h11_max_incomplete_event_size=64 * 1024,
        ssl_context_factory=None if context is None else lambda _config, _default: context,
    )
