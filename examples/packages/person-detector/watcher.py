"""One camera: opens the stream it is told to, keeps the pace it is told to, says what was seen.

Every frame is decoded (a skipped one would break those that follow), but only as many as the
assignment asks for are looked at. When this machine is too slow it looks at fewer frames rather
than at older ones.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import av
from haechi_sdk import StreamClock, detected
from nanodet import SIDE_PX

if TYPE_CHECKING:
    from collections.abc import Callable

    from haechi_sdk import Assignment, Haechi
    from nanodet import NanoDet

log = logging.getLogger("watcher")

_OPEN_TIMEOUT_S, _READ_TIMEOUT_S = 5.0, 5.0
_RETRY_S = (0.5, 5.0)
_LATE_S = 0.5
_BURST_LIMIT_S = 3.0
_OPTIONS = {
    "rtsp_transport": "tcp",
    "fflags": "nobuffer",
    "flags": "low_delay",
    "analyzeduration": "1000000",
}


class Watcher:
    """A thread that follows one assignment until it is stopped; `update` changes it on the fly."""

    def __init__(
        self, haechi: Haechi, detector: NanoDet, assignment: Assignment, on_look: Callable[[], None]
    ) -> None:
        self._haechi = haechi
        self._detector = detector
        self._on_look = on_look
        self._assignment = assignment
        self._stopped = threading.Event()
        self._changed = threading.Event()
        self.looked_at = 0
        self._thread = threading.Thread(
            target=self._run, name=f"camera {assignment.camera_id}", daemon=True
        )
        self._thread.start()

    def update(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self._changed.set()

    def stop(self) -> None:
        self._stopped.set()
        self._changed.set()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def _run(self) -> None:
        retry_s = _RETRY_S[0]
        while not self._stopped.is_set():
            assignment = self._assignment
            self._changed.clear()
            if assignment.mode == "standby" or assignment.fps <= 0:
                self._changed.wait()
                continue
            before = self.looked_at
            try:
                self._watch(assignment.url)
                problem = "the stream ended"
            except (av.FFmpegError, OSError, ValueError, IndexError) as error:
                # Not the error's text: it may carry the address, which is a secret path.
                problem = type(error).__name__
            if self._stopped.is_set() or self._assignment.url != assignment.url:
                continue
            retry_s = _RETRY_S[0] if self.looked_at > before else min(retry_s * 2, _RETRY_S[1])
            log.warning(
                "%s: %s; again in %.1f s", assignment.camera_id or "camera", problem, retry_s
            )
            self._changed.wait(retry_s)

    def _watch(self, url: str) -> None:
        with av.open(url, options=_OPTIONS, timeout=(_OPEN_TIMEOUT_S, _READ_TIMEOUT_S)) as source:
            stream = source.streams.video[0]
            stream.thread_count = 1
            clock, live, pace = StreamClock(), _Live(), _Pace()
            for frame in source.decode(stream):
                assignment = self._assignment
                if self._stopped.is_set() or assignment.url != url or assignment.mode == "standby":
                    return
                arrived_at = time.time()
                pts_s = frame.time if frame.time is not None else arrived_at
                captured_at = clock.captured_at(pts_s, arrived_at)
                late = arrived_at - captured_at > _LATE_S
                if live.reached(pts_s, arrived_at) and not late and pace.due(pts_s, assignment.fps):
                    self._look(assignment, frame, captured_at)

    def _look(self, assignment: Assignment, frame: Any, captured_at: float) -> None:
        started = time.perf_counter()
        picture = frame.reformat(SIDE_PX, SIDE_PX, "rgb24").to_ndarray()
        found = self._detector.detect(picture)
        took_ms = (time.perf_counter() - started) * 1000
        self._haechi.result(
            assignment,
            objects=[detected(one.name, one.prob, one.box) for one in found],
            captured_at=captured_at,
            took_ms=took_ms,
        )
        self.looked_at += 1
        self._on_look()


class _Live:
    """Says when the backlog that piled up while the stream was probed has been read.

    Those first frames come faster than they were taken; their time of capture is not known yet.
    """

    def __init__(self) -> None:
        self._reached = False
        self._first_at: float | None = None
        self._last = (0.0, 0.0)

    def reached(self, pts_s: float, arrived_at: float) -> bool:
        if self._reached:
            return True
        last_pts, last_at = self._last
        self._last = (pts_s, arrived_at)
        if self._first_at is None:
            self._first_at = arrived_at
            return False
        at_its_pace = arrived_at - last_at >= 0.5 * (pts_s - last_pts)
        self._reached = at_its_pace or arrived_at - self._first_at > _BURST_LIMIT_S
        return self._reached


class _Pace:
    """Picks `fps` frames a second by the stream's own time, evenly, without catching up."""

    def __init__(self) -> None:
        self._next_s: float | None = None

    def due(self, pts_s: float, fps: float) -> bool:
        step_s = 1.0 / fps
        if self._next_s is None or abs(pts_s - self._next_s) > max(1.0, 2 * step_s):
            self._next_s = pts_s
        if pts_s < self._next_s - 0.005:
            return False
        self._next_s += step_s
        if self._next_s <= pts_s:
            self._next_s = pts_s + step_s
        return True
