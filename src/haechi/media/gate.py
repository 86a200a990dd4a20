"""The doors to the video: who has a token may watch, as long as the token is valid.

Two kinds of doors: `local` for the AIs of this device, `export` for neighbours; a token opens only
its own kind. Taking a token away cuts its viewers at once. A viewer that gets no data for a while
is cut too: it reopens, which makes the relay try the camera anew instead of waiting for it.
What is spoken through a door is its `Hall`'s matter: RTSP before go2rtc, HTTP before PyAV's relay.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Protocol

from haechi.core.tasks import TaskGroup, Tasks
from haechi.media import rtsp
from haechi.media.desired import StreamKey, write_private
from haechi.protocol.media import MediaPath, Purpose

log = logging.getLogger(__name__)

REQUEST_LIMIT_S: Final = 15.0
STALL_LIMIT_S: Final = 6.0
_CHUNK_BYTES: Final = 65_536
_CONNECT_LIMIT_S: Final = 5.0
_WRITE_LIMIT_S: Final = 10.0
_DOOR_RETRY_S: Final = 2.0
_BACKLOG: Final = 64
_VISITORS_LIMIT: Final = 256
_GONE: Final = (
    OSError,
    TimeoutError,
    asyncio.IncompleteReadError,
    asyncio.LimitOverrunError,
)
"""How a viewer's connection ends when nothing is wrong with media."""


class Hall(Protocol):
    """What happens behind a door."""

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, purpose: Purpose
    ) -> None: ...


class Visitors:
    """Which tokens are valid and who watches by them."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._names: dict[str, tuple[MediaPath, str]] = {}
        self._watching: dict[asyncio.Task[None], tuple[str, StreamKey, str]] = {}

    def allow(self, paths: dict[str, MediaPath], names: dict[StreamKey, str]) -> None:
        """Make these the valid paths; whoever watches by another, or another source, is cut."""
        self._names = {
            token: (path, names[key])
            for token, path in paths.items()
            if (key := StreamKey(path.camera_id, path.stream)) in names
        }
        for task, (token, _key, name) in list(self._watching.items()):
            if self._names.get(token, (None, ""))[1] != name:
                task.cancel()

    def inner_name(self, token: str, purpose: Purpose) -> str | None:
        path, name = self._names.get(token, (None, ""))
        return name if path is not None and path.purpose == purpose else None

    def viewers(self, key: StreamKey) -> int:
        return sum(1 for _, watched, _ in self._watching.values() if watched == key)

    @contextlib.contextmanager
    def watching(self, token: str) -> Iterator[None]:
        """Around a viewer's session; `allow` cancels the task that is inside."""
        path, name = self._names[token]
        task = asyncio.current_task()
        assert task is not None
        self._watching[task] = (token, StreamKey(path.camera_id, path.stream), name)
        self._changed()
        try:
            yield
        finally:
            del self._watching[task]
            self._changed()


class Doors:
    """Listening sockets of one purpose, on one port that stays the same over restarts."""

    def __init__(self, purpose: Purpose, hall: Hall, folder: Path, tasks: Tasks) -> None:
        self._purpose = purpose
        self._hall = hall
        self._tasks = tasks
        self._port_file = folder / f"{purpose}.port"
        self._servers: dict[str, asyncio.Server] = {}
        self._wanted: frozenset[str] = frozenset()
        self._sessions: set[asyncio.Task[None]] = set()
        self.port = self._remembered()

    def _remembered(self) -> int:
        try:
            return int(self._port_file.read_text())
        except (OSError, ValueError):
            return 0

    async def open(self, hosts: frozenset[str]) -> None:
        """Listen on these addresses and no others; one that does not exist yet is tried again."""
        self._wanted = hosts
        for host in self._servers.keys() - hosts:
            self._servers.pop(host).close()
        for host in sorted(hosts - self._servers.keys()):
            await self._listen(host)

    async def keep(self) -> None:
        """For ever: container networks come and go, and their addresses with them."""
        while True:
            await asyncio.sleep(_DOOR_RETRY_S)
            for host in sorted(self._wanted - self._servers.keys()):
                await self._listen(host)

    async def _listen(self, host: str) -> None:
        try:
            server = await self._bind(host)
        except OSError as e:
            log.debug("cannot listen on %s for %s yet: %s", host, self._purpose, e)
            return
        self._servers[host] = server
        self.port = server.sockets[0].getsockname()[1]
        write_private(self._port_file, str(self.port).encode())

    async def _bind(self, host: str) -> asyncio.Server:
        try:
            return await asyncio.start_server(self._enter, host, self.port, backlog=_BACKLOG)
        except OSError:
            if self._servers or not self.port:
                raise
            # The remembered port was taken meanwhile: better another one than no video.
            return await asyncio.start_server(self._enter, host, 0, backlog=_BACKLOG)

    def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._sessions) >= _VISITORS_LIMIT:
            writer.transport.abort()
            return
        session = self._tasks.spawn(f"{self._purpose} viewer", self._attend(reader, writer))
        self._sessions.add(session)
        session.add_done_callback(self._sessions.discard)

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._hall.serve(reader, writer, self._purpose)
        except _GONE as e:
            log.debug("%s viewer left: %s", self._purpose, e)
        finally:
            writer.transport.abort()

    async def close(self) -> None:
        self._wanted = frozenset()
        for server in self._servers.values():
            server.close()
        self._servers.clear()
        for session in list(self._sessions):
            session.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)


class RtspHall:
    """Checks each request, puts the inner name in the token's place and hands it to the relay."""

    def __init__(self, visitors: Visitors, inner_port: Callable[[], int]) -> None:
        self._visitors = visitors
        self._inner_port = inner_port

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, purpose: Purpose
    ) -> None:
        while True:
            try:
                async with asyncio.timeout(REQUEST_LIMIT_S):
                    request = await self._request(reader)
                if request.method != b"OPTIONS":
                    break
                writer.write(_options(request))
            except rtsp.NotAllowed as e:
                writer.write(rtsp.answer(e.status, e.reason))
                await writer.drain()
                return
        name = self._visitors.inner_name(request.token, purpose)
        if name is None or request.method != b"DESCRIBE":
            writer.write(rtsp.answer(404, "Not Found", request.sequence))
            await writer.drain()
            return
        with self._visitors.watching(request.token):
            await self._watch(reader, writer, request, name)

    async def _watch(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        first: rtsp.Request,
        name: str,
    ) -> None:
        async with asyncio.timeout(_CONNECT_LIMIT_S):
            inner_reader, inner = await asyncio.open_connection("127.0.0.1", self._inner_port())
        try:
            inner.write(first.under(name))
            # Whichever direction ends first ends the other one too.
            async with TaskGroup() as both:
                _ = both.create_task(self._ask(reader, writer, inner, first.token, name))
                _ = both.create_task(_send(inner_reader, writer))
        except* (*_GONE, rtsp.NotAllowed) as group:
            log.debug("viewer left: %s", group.exceptions[0])
        finally:
            inner.transport.abort()

    async def _ask(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        inner: asyncio.StreamWriter,
        token: str,
        name: str,
    ) -> None:
        while True:
            try:
                request = await self._request(reader, inner)
                request.check(token)
            except rtsp.NotAllowed as e:
                writer.write(rtsp.answer(e.status, e.reason))
                raise
            inner.write(request.under(name))
            if request.body_bytes:
                inner.write(await reader.readexactly(request.body_bytes))
            await inner.drain()

    @staticmethod
    async def _request(
        reader: asyncio.StreamReader, reports: asyncio.StreamWriter | None = None
    ) -> rtsp.Request:
        """The next request; binary packets before it are passed on to `reports`."""
        while (first := await reader.readexactly(1)) == b"$":
            header = await reader.readexactly(3)
            packet = await reader.readexactly(int.from_bytes(header[1:]))
            if reports is not None:
                reports.write(first + header + packet)
        rest = await reader.readuntil(b"\r\n\r\n")
        if len(rest) > rtsp.HEAD_LIMIT_BYTES:
            raise rtsp.NotAllowed(413, "Request Entity Too Large")
        return rtsp.parse(first + rest)


async def _send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Relay → viewer, until one of them ends or nothing has come for too long."""
    while True:
        async with asyncio.timeout(STALL_LIMIT_S):
            chunk = await reader.read(_CHUNK_BYTES)
        if not chunk:
            raise ConnectionResetError("the relay has ended the stream")
        writer.write(chunk)
        async with asyncio.timeout(_WRITE_LIMIT_S):
            await writer.drain()


def _options(request: rtsp.Request) -> bytes:
    public = b", ".join(sorted(rtsp.METHODS))
    return b"RTSP/1.0 200 OK\r\nCSeq: %s\r\nPublic: %s\r\n\r\n" % (request.sequence, public)
