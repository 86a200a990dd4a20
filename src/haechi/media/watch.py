"""Keeps an eye on streams: do they play, how large and how fast, and their newest key picture.

A watch is one more viewer of the relay, so the camera notices nothing of it. It reads packets and
decodes none. Streams of cameras that live here are watched all the time, others only while somebody
views them or wants a still. Pre-roll and clips will hang on to `Watch._take`.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import av

from haechi.core.tasks import Tasks
from haechi.media.desired import StreamKey
from haechi.media.faults import NO_FAULT, Fault
from haechi.media.relay import Relay
from haechi.media.stills import KeyPicture
from haechi.protocol.media import StreamState

log = logging.getLogger(__name__)

OPEN_LIMIT_S: Final = 10.0
READ_LIMIT_S: Final = 3.0
RETRY_S: Final = (0.5, 1.0, 2.0, 3.0)
LINGER_S: Final = 5.0
RATE_PACKETS: Final = 40
_OPTIONS: Final = {"rtsp_transport": "tcp", "analyzeduration": "500000", "fflags": "nobuffer"}


class Watch:
    """One stream under watch, in its own thread, until `close`."""

    def __init__(
        self, key: StreamKey, name: str, relay: Relay, changed: Callable[[], None]
    ) -> None:
        self.key = key
        self.name = name
        self._relay = relay
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, f"watch-{key.camera_id}-{key.stream}")
        self._closing = threading.Event()
        self._times: deque[float] = deque(maxlen=RATE_PACKETS)
        self._format = ("", 0, 0)
        self._last_ms = 0
        self._online = False
        self._fault = NO_FAULT
        self._key_picture: KeyPicture | None = None
        self._news = asyncio.Event()

    async def run(self) -> None:
        """For ever: open, read until it breaks, find out why, try again."""
        failures = 0
        while not self._closing.is_set():
            try:
                words = await self._loop.run_in_executor(self._thread, self._session)
            except asyncio.CancelledError:
                self._closing.set()
                raise
            failures = 0 if self._online else failures
            fault = await self._relay.why(self.name)
            if not fault.error and failures:
                fault = Fault("no_video", words)
            self._down(fault)
            await asyncio.sleep(RETRY_S[min(failures, len(RETRY_S) - 1)])
            failures += 1

    def close(self) -> None:
        """The thread ends with its next packet or time limit; nobody has to wait for it."""
        self._closing.set()
        self._thread.shutdown(wait=False, cancel_futures=True)

    @property
    def fault(self) -> Fault:
        return self._fault

    @property
    def width(self) -> int:
        return self._format[1]

    def state(self, viewers: int) -> StreamState:
        codec, width, height = self._format
        return StreamState(
            camera_id=self.key.camera_id,
            stream=self.key.stream,
            watched=True,
            online=self._online,
            error=self._fault.error,
            detail=self._fault.detail,
            codec=codec,
            width=width or None,
            height=height or None,
            fps=self._rate(),
            viewers=viewers,
            last_frame_ms=self._last_ms or None,
        )

    async def key_picture(self, newer_than_ms: int, within_s: float) -> KeyPicture | None:
        """A key picture younger than that; the newest there is where none comes in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while not self._fault.error and not self._is_newer(newer_than_ms):
                    await self._news.wait()
        return self._key_picture if self._online else None

    def _is_newer(self, than_ms: int) -> bool:
        return self._key_picture is not None and self._key_picture.captured_ms > than_ms

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _down(self, fault: Fault) -> None:
        known = (self._online, self._fault)
        self._online, self._fault = False, fault
        self._times.clear()
        if known != (False, fault):
            self._changed()
        self._wake()

    def _session(self) -> str:
        """In the thread: read until it ends; why it ended, in PyAV's words."""
        url = f"{self._relay.scheme}://127.0.0.1:{self._relay.inner_port}/{self.name}"
        try:
            with av.open(url, timeout=(OPEN_LIMIT_S, READ_LIMIT_S), options=_OPTIONS) as container:
                if not container.streams.video:
                    return "no video in the stream"
                video = container.streams.video[0]
                for packet in container.demux(video):
                    if self._closing.is_set():
                        return "closed"
                    if packet.size:
                        self._take(packet, video)
        except (av.error.FFmpegError, OSError) as e:
            return f"{type(e).__name__}: {e.strerror or ''}"
        return "the stream has ended"

    def _take(self, packet: Any, video: Any) -> None:
        """In the thread: one packet."""
        now_ms = time.time_ns() // 1_000_000
        self._last_ms = now_ms
        if packet.pts is not None and packet.time_base is not None:
            self._times.append(float(packet.pts * packet.time_base))
        picture: KeyPicture | None = None
        if packet.is_keyframe:
            codec = video.codec_context
            extradata = bytes(codec.extradata or b"")
            picture = KeyPicture(codec.name, extradata, bytes(packet), now_ms)
        shape = (video.codec_context.name, video.codec_context.width, video.codec_context.height)
        if picture is not None or shape != self._format or not self._online:
            _ = self._loop.call_soon_threadsafe(self._seen, shape, picture)

    def _seen(self, shape: tuple[str, int, int], picture: KeyPicture | None) -> None:
        if self._closing.is_set():
            return
        changed = shape != self._format or not self._online
        self._format, self._online, self._fault = shape, True, NO_FAULT
        self._key_picture = picture or self._key_picture
        if changed:
            self._changed()
        if picture is not None:
            self._wake()

    def _rate(self) -> float | None:
        times = list(self._times)
        if len(times) < 2 or times[-1] <= times[0]:
            return None
        return round((len(times) - 1) / (times[-1] - times[0]), 2)


class Watches:
    """Which streams are under watch now."""

    def __init__(self, relay: Relay, tasks: Tasks, changed: Callable[[], None]) -> None:
        self._relay = relay
        self._tasks = tasks
        self._changed = changed
        self._watches: dict[StreamKey, tuple[Watch, asyncio.Task[None]]] = {}
        self._names: Mapping[StreamKey, str] = {}
        self._always: frozenset[StreamKey] = frozenset()
        self._until: dict[StreamKey, float] = {}

    def put(self, names: Mapping[StreamKey, str], always: frozenset[StreamKey]) -> None:
        """New inner names (a changed source has a new one) and the streams to watch always."""
        self._names, self._always = dict(names), always
        self.refresh(())

    def refresh(self, viewed: tuple[StreamKey, ...]) -> None:
        """Start and end watches; those that somebody views stay for a while after he has gone."""
        now = self._loop_time()
        for key in viewed:
            self._until[key] = now + LINGER_S
        self._until = {key: until for key, until in self._until.items() if until > now}
        wanted = {key for key in self._always | self._until.keys() if key in self._names}
        for key, (watch, task) in list(self._watches.items()):
            if key not in wanted or watch.name != self._names[key]:
                watch.close()
                task.cancel()
                del self._watches[key]
                self._changed()
        for key in wanted - self._watches.keys():
            watch = Watch(key, self._names[key], self._relay, self._changed)
            task = self._tasks.spawn(f"watch {key.camera_id} {key.stream}", watch.run())
            self._watches[key] = (watch, task)
            self._changed()

    def __contains__(self, key: StreamKey) -> bool:
        """Whether it may be borrowed: it is known here, and the relay has its source."""
        return key in self._names

    def of(self, key: StreamKey) -> Watch | None:
        known = self._watches.get(key)
        return known[0] if known else None

    def borrow(self, key: StreamKey) -> Watch:
        """The watch of a stream, begun now if there is none; KeyError for an unknown stream."""
        self.refresh((key,))
        return self._watches[key][0]

    @property
    def keys(self) -> list[StreamKey]:
        return sorted(self._names)

    def close(self) -> None:
        for watch, task in self._watches.values():
            watch.close()
            task.cancel()
        self._watches.clear()

    @staticmethod
    def _loop_time() -> float:
        return asyncio.get_running_loop().time()
