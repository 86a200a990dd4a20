"""Media as a whole: carries out a desired state, says what it sees, takes stills."""

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from haechi.core.tasks import Tasks
from haechi.media.desired import DesiredFile, Names, Plan, StreamKey, plan
from haechi.media.faults import Fault
from haechi.media.gate import Doors, Hall, Visitors
from haechi.media.relay import Relay
from haechi.media.stills import KeyPicture, NotDecodable, Picture, to_jpeg
from haechi.media.watch import Watches
from haechi.protocol.media import MediaDesired, MediaState, StreamState

REFRESH_S: Final = 1.0
STILL_LIMIT_S: Final = 10.0
STALE_LIMIT_MS: Final = 15_000
STILLS_KEPT: Final = 32


class NoStill(Exception):
    """There is no picture of that camera; `fault` says why."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.detail)
        self.fault = fault


class Media:
    def __init__(self, folder: Path, relay: Relay, hall_of: Callable[[Visitors], Hall]) -> None:
        self._file = DesiredFile(folder)
        self._relay = relay
        self._tasks = Tasks("media")
        self._names = Names()
        self._inner: dict[StreamKey, str] = {}
        self._plan: Plan = plan(MediaDesired(local_hosts=[]))
        self._visitors = Visitors(self._tell)
        hall = hall_of(self._visitors)
        self._local = Doors("local", hall, folder, self._tasks)
        self._export = Doors("export", hall, folder, self._tasks)
        self._watches = Watches(relay, self._tasks, self._tell)
        self._lock = asyncio.Lock()
        self._version = 1
        self._news = asyncio.Event()
        self._encoder = ThreadPoolExecutor(1, "still")
        self._stills: OrderedDict[tuple[KeyPicture, int | None], Picture] = OrderedDict()

    async def start(self) -> None:
        """Go on from where the last process was."""
        await self._relay.start()
        for doors in (self._local, self._export):
            self._tasks.forever("doors", doors.keep)
        self._tasks.forever("refresh", self._refresh)
        remembered = self._file.read()
        if remembered is not None:
            await self._carry_out(plan(remembered))

    async def stop(self) -> None:
        await self._local.close()
        await self._export.close()
        self._watches.close()
        await self._relay.stop()
        await self._tasks.close()
        self._encoder.shutdown(wait=False, cancel_futures=True)

    async def put_desired(self, desired: MediaDesired) -> None:
        """Carry out, then remember; `Refused` leaves everything as it was."""
        wanted = plan(desired)
        async with self._lock:
            await self._carry_out(wanted)
            self._file.write(desired)

    async def _carry_out(self, wanted: Plan) -> None:
        self._plan = wanted
        self._inner = self._names.of(wanted.sources)
        await self._relay.put_sources(
            {name: wanted.sources[key] for key, name in self._inner.items()}
        )
        self._visitors.allow(wanted.paths, self._inner)
        self._watches.put(self._inner, wanted.watched)
        await self._local.open(wanted.local_hosts)
        await self._export.open(wanted.export_hosts)
        self._tell()

    async def _refresh(self) -> None:
        """Whatever somebody views is watched as well, so that its state is known."""
        running = self._relay.running
        while True:
            await asyncio.sleep(REFRESH_S)
            viewed = tuple(key for key in self._inner if self._visitors.viewers(key))
            self._watches.refresh(viewed)
            if running != self._relay.running:
                running = self._relay.running
                self._tell()

    def _tell(self) -> None:
        self._version += 1
        self._news.set()
        self._news = asyncio.Event()

    async def state(self, *, unlike: int | None = None, wait_s: float = 0.0) -> MediaState:
        """What media sees now; with `unlike` as soon as the version is another one."""
        if unlike == self._version and wait_s > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), wait_s)
        return MediaState(
            version=self._version,
            backend=self._relay.backend,
            running=self._relay.running,
            scheme=self._relay.scheme,
            local_port=self._local.port or None,
            export_port=self._export.port or None,
            streams=[self._stream_state(key) for key in sorted(self._inner)],
        )

    def _stream_state(self, key: StreamKey) -> StreamState:
        viewers = self._visitors.viewers(key)
        watch = self._watches.of(key)
        if watch is None:
            return StreamState(camera_id=key.camera_id, stream=key.stream, viewers=viewers)
        return watch.state(viewers)

    async def still(self, camera_id: str, width: int | None, max_age_ms: int) -> Picture:
        """One picture, no older than `max_age_ms` where the camera sends key pictures so often."""
        key = self._stream_for(camera_id, width)
        watch = self._watches.borrow(key)
        newest = await watch.key_picture(time.time_ns() // 1_000_000 - max_age_ms, STILL_LIMIT_S)
        if newest is None or newest.captured_ms < time.time_ns() // 1_000_000 - STALE_LIMIT_MS:
            fault = watch.fault if watch.fault.error else Fault("no_video", "no picture came")
            raise NoStill(fault)
        known = self._stills.get((newest, width))
        if known is not None:
            return known
        try:
            loop = asyncio.get_running_loop()
            picture = await loop.run_in_executor(self._encoder, to_jpeg, newest, width)
        except NotDecodable as e:
            raise NoStill(Fault("no_video", "the picture could not be decoded")) from e
        self._stills[newest, width] = picture
        while len(self._stills) > STILLS_KEPT:
            self._stills.popitem(last=False)
        return picture

    def _stream_for(self, camera_id: str, width: int | None) -> StreamKey:
        """The smallest stream that is large enough: it is watched anyway and cheaper."""
        main, sub = StreamKey(camera_id, "main"), StreamKey(camera_id, "sub")
        if main not in self._watches and sub not in self._watches:
            raise NoStill(Fault("not_found", "media does not know this camera"))
        if main not in self._watches:
            return sub
        watch = self._watches.of(sub)
        large_enough = width is not None and watch is not None and watch.width >= width
        return sub if large_enough else main
