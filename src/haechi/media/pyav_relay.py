"""Relay in this process, for computers without a go2rtc binary: PyAV pulls, MPEG-TS over HTTP goes
out.

Nothing is decoded. Each source is pulled by one thread while somebody watches, packed into MPEG-TS
once, and the same bytes go to every viewer, beginning with a key picture. `av.open("http://…")`,
OpenCV and ffmpeg open it; a browser or an RTSP-only client does not.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final, NamedTuple

import av
from av.bitstream import BitStreamFilterContext

from haechi.core.tasks import Tasks
from haechi.media.faults import NO_FAULT, Fault, fault_of
from haechi.media.gate import STALL_LIMIT_S, Visitors
from haechi.protocol.media import Purpose

log = logging.getLogger(__name__)

OPEN_LIMIT_S: Final = 8.0
READ_LIMIT_S: Final = 5.0
QUEUE_CHUNKS: Final = 256
FIRST_LIMIT_S: Final = 12.0
_REQUEST_LIMIT_S: Final = 10.0
_WRITE_LIMIT_S: Final = 10.0
_IN: Final = {"rtsp_transport": "tcp", "analyzeduration": "500000", "fflags": "nobuffer"}
_OUT: Final = {"mpegts_flags": "pat_pmt_at_frames+resend_headers", "flush_packets": "1"}
_OK: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\nCache-Control: no-store\r\n"
    b"Connection: close\r\n\r\n"
)


class Chunk(NamedTuple):
    data: bytes
    key: bool


class SourceFailed(Exception):
    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.detail)
        self.fault = fault


class _Sink:
    """What the muxer writes into."""

    def __init__(self) -> None:
        self._written = bytearray()

    def write(self, data: bytes) -> int:
        self._written += data
        return len(data)

    def take(self) -> bytes:
        taken = bytes(self._written)
        self._written.clear()
        return taken


class _Pull:
    """One source, pulled in a thread from the first viewer to the last."""

    def __init__(self, url: str, ended: Callable[[], None]) -> None:
        self._url = url
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._closing = threading.Event()
        self._viewers: dict[asyncio.Queue[Chunk | Fault], bool] = {}
        self._fault = NO_FAULT
        threading.Thread(target=self._read, name="pull", daemon=True).start()

    @contextlib.asynccontextmanager
    async def viewer(self) -> AsyncIterator["asyncio.Queue[Chunk | Fault]"]:
        queue: asyncio.Queue[Chunk | Fault] = asyncio.Queue(QUEUE_CHUNKS)
        self._viewers[queue] = False
        try:
            yield queue
        finally:
            del self._viewers[queue]
            if not self._viewers:
                self.close()

    def close(self) -> None:
        self._closing.set()
        self._ended()

    def _read(self) -> None:
        """In the thread."""
        fault = Fault("unreachable", "the camera has ended the stream")
        try:
            self._copy()
        except (av.error.FFmpegError, OSError) as e:
            fault = fault_of(f"{type(e).__name__}: {e.strerror or e}")
        if not self._closing.is_set():
            _ = self._loop.call_soon_threadsafe(self._break, fault)

    def _copy(self) -> None:
        sink = _Sink()
        with (
            av.open(self._url, timeout=(OPEN_LIMIT_S, READ_LIMIT_S), options=_IN) as source,
            av.open(sink, "w", format="mpegts", options=_OUT) as target,
        ):
            if not source.streams.video:
                raise OSError(0, "no video in the stream")
            video = source.streams.video[0]
            out: Any = target.add_stream_from_template(video)
            headers = BitStreamFilterContext("dump_extra", video, out)
            started = False
            for packet in source.demux(video):
                if self._closing.is_set():
                    return
                started = started or packet.is_keyframe
                # Before the first sender report the time of a packet is not known.
                if not started or not packet.size or packet.pts is None:
                    continue
                key = packet.is_keyframe
                for ready in headers.filter(packet):
                    ready.stream = out
                    target.mux(ready)
                if data := sink.take():
                    _ = self._loop.call_soon_threadsafe(self._spread, Chunk(data, key))

    def _spread(self, chunk: Chunk) -> None:
        for queue, started in list(self._viewers.items()):
            if not started and not chunk.key:
                continue
            self._viewers[queue] = True
            _offer(queue, chunk)

    def _break(self, fault: Fault) -> None:
        for queue in list(self._viewers):
            _offer(queue, fault)
        self._ended()


def _offer(queue: "asyncio.Queue[Chunk | Fault]", item: Chunk | Fault) -> None:
    """A viewer that does not keep up is ended rather than fed torn pictures."""
    try:
        queue.put_nowait(item)
    except asyncio.QueueFull:
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(Fault("unreachable", "the viewer is too slow"))


class PyavRelay:
    backend = "pyav"
    scheme = "http"

    def __init__(self) -> None:
        self._tasks = Tasks("pyav relay")
        self._sources: dict[str, str] = {}
        self._pulls: dict[str, _Pull] = {}
        self._server: asyncio.Server | None = None

    @property
    def running(self) -> bool:
        return self._server is not None

    @property
    def inner_port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._enter, "127.0.0.1", 0)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for pull in list(self._pulls.values()):
            pull.close()
        await self._tasks.close()

    async def put_sources(self, sources: Mapping[str, str]) -> None:
        for name in self._pulls.keys() - sources.keys():
            self._pulls[name].close()
        self._sources = dict(sources)

    async def why(self, name: str) -> Fault:
        try:
            async with self.packets(name) as queue:
                item = await asyncio.wait_for(queue.get(), FIRST_LIMIT_S)
        except SourceFailed as e:
            return e.fault
        except TimeoutError:
            return Fault("unreachable", "no picture came in time")
        return item if isinstance(item, Fault) else NO_FAULT

    @contextlib.asynccontextmanager
    async def packets(self, name: str) -> AsyncIterator["asyncio.Queue[Chunk | Fault]"]:
        """What a viewer of a source gets; the pull begins with the first one."""
        if name not in self._sources:
            raise SourceFailed(Fault("not_found", "there is no such stream"))
        pull = self._pulls.get(name)
        if pull is None:

            def ended() -> None:
                if self._pulls.get(name) is pull:
                    del self._pulls[name]

            pull = self._pulls[name] = _Pull(self._sources[name], ended)
        async with pull.viewer() as queue:
            yield queue

    def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _ = self._tasks.spawn("watch", self._serve_inner(reader, writer))

    async def _serve_inner(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            name = await _asked(reader)
            await self.play(name, writer)
        writer.transport.abort()

    async def play(self, name: str, writer: asyncio.StreamWriter) -> None:
        """Send a source until it or the viewer ends."""
        begun = False
        with contextlib.suppress(SourceFailed):
            async with self.packets(name) as queue:
                item = await asyncio.wait_for(queue.get(), FIRST_LIMIT_S)
                if isinstance(item, Chunk):
                    begun = True
                    writer.write(_OK)
                while isinstance(item, Chunk):
                    writer.write(item.data)
                    await asyncio.wait_for(writer.drain(), _WRITE_LIMIT_S)
                    item = await asyncio.wait_for(queue.get(), STALL_LIMIT_S)
        if not begun:
            await refuse(writer)


class HttpHall:
    """Behind the gate's doors when this relay runs: `GET /<token>`."""

    def __init__(self, visitors: Visitors, relay: PyavRelay) -> None:
        self._visitors = visitors
        self._relay = relay

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, purpose: Purpose
    ) -> None:
        token = await _asked(reader)
        name = self._visitors.inner_name(token, purpose)
        if name is None:
            await refuse(writer)
            return
        with self._visitors.watching(token):
            await self._relay.play(name, writer)


async def refuse(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    await asyncio.wait_for(writer.drain(), _WRITE_LIMIT_S)


async def _asked(reader: asyncio.StreamReader) -> str:
    """The one path segment of a GET request; "" for anything else."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _REQUEST_LIMIT_S)
    words = head.split(b" ", 2)
    if len(words) < 3 or words[0] != b"GET":
        return ""
    return words[1].decode(errors="replace").removeprefix("/").partition("?")[0]
