"""haechi SDK: how an AI package hears which cameras to watch and says what it saw.

One file, standard library only, Python 3.8 or newer, so that it can be copied into any image
("vendored") and never fights with an AI's own dependencies. It must know nothing of the rest of
haechi: what it speaks is the plain HTTP of the device-local intake, which anyone may also use
without it.

    from haechi_sdk import Haechi

    haechi = Haechi()                      # finds the agent by the HAECHI_* environment
    haechi.ready()                         # "I work": lets the deployment replace its predecessor
    for change in haechi.assignments():    # blocks; ends on SIGTERM
        if change.kind == "started":
            ...                            # open change.assignment.url; for every frame:
            haechi.result(change.assignment, objects=[detected("person", 0.93, (.1, .2, .05, .2))])

Environment: HAECHI_AGENT_URL and HAECHI_TOKEN (given by haechi); without an agent
HAECHI_RESULTS_URL says where results go and HAECHI_CAMERA_URL is the one camera to watch; with
none of them results are printed, so that a package can be tried on a laptop.
"""

from __future__ import annotations

import atexit
import http.client
import json
import logging
import math
import os
import queue
import random
import secrets
import signal
import ssl
import sys
import threading
import time
import urllib.parse
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

__all__ = ["Assignment", "Change", "Haechi", "InvalidResult", "StreamClock", "detected"]
__version__ = "1"

log = logging.getLogger("haechi.sdk")

if TYPE_CHECKING:
    When = datetime | float | str
    Box = tuple[float, float, float, float]
    Http = http.client.HTTPConnection

_POLL_WAIT_S = 30
_REQUEST_TIMEOUT_S = 10
_BACKOFF_S = (0.25, 15.0)
_BATCH_ROWS = 500
_BATCH_BYTES = 512 * 1024
_ATTRIBUTES_BYTES = 4096
_BOX_TOLERANCE = 0.01
_LATER_STATUSES = (401, 403, 404, 408, 429)


class InvalidResult(ValueError):
    """The result would be refused by haechi; raised at once, where the mistake is."""


@dataclass(frozen=True)
class Assignment:
    """One camera to watch: the newest word of the agent about it."""

    id: str
    camera_id: str
    url: str
    mode: str = "watch"
    """watch | focus | precise | standby (keep the model warm, do not open the stream)"""
    fps: float = 5.0
    stream: str = "sub"
    epoch: int = 0
    deployment_id: str = ""
    until: str | None = None
    reason: dict[str, Any] = field(default_factory=dict, compare=False)

    @classmethod
    def from_wire(cls, row: dict[str, Any]) -> Assignment:
        """Fields this SDK does not know are ignored: the agent may be newer."""
        known = {f.name: row[f.name] for f in fields(cls) if row.get(f.name) is not None}
        return cls(**{"id": "", "camera_id": "", "url": "", **known})


@dataclass(frozen=True)
class Change:
    """What happened to one camera: kind is started | changed | stopped."""

    kind: str
    assignment: Assignment
    previous: Assignment | None = None

    @property
    def reconnect(self) -> bool:
        """True where the stream must be opened anew; False where only the pace or mode changed."""
        return self.previous is None or self.previous.url != self.assignment.url


class StreamClock:
    """Maps a stream's own time (pts) to wall time, so that a frame carries when it was taken.

    A frame cannot arrive before it was taken, so the smallest delay seen so far is the best
    estimate; it is let go slowly (drift of the camera's clock) and at once when the stream starts
    anew. Network jitter and bursts after a stall therefore do not shift `captured_at`.
    """

    _RELAX_S_PER_S = 0.001
    _RESTART_S = 5.0

    def __init__(self) -> None:
        self._offset: float | None = None
        self._last: tuple[float, float] = (0.0, 0.0)

    def captured_at(self, pts_s: float, arrived_at: float | None = None) -> float:
        """Wall time (epoch seconds) at which the frame with this pts was taken."""
        now = time.time() if arrived_at is None else arrived_at
        offset = now - pts_s
        last_pts, last_now = self._last
        jumped = pts_s < last_pts or (pts_s - last_pts) - (now - last_now) > self._RESTART_S
        if self._offset is None or jumped:
            self._offset = offset
        else:
            relaxed = self._offset + (now - last_now) * self._RELAX_S_PER_S
            self._offset = min(offset, relaxed)
        self._last = (pts_s, now)
        return pts_s + self._offset


def detected(name: str, prob: float, box: Box, track: str | None = None) -> dict[str, Any]:
    """One thing seen: class, probability 0-1, box (x, y, w, h) of the frame 0-1 from top left."""
    row: dict[str, Any] = {"box": _checked_box(box), "class": name, "class_prob": _prob(prob)}
    return row if track is None else {**row, "track": track}


class Haechi:
    """The connection of one AI process to its agent. Thread-safe; make one per process."""

    def __init__(
        self,
        agent_url: str | None = None,
        token: str | None = None,
        *,
        results_url: str | None = None,
        camera_url: str | None = None,
        buffer_bytes: int = 8 * 1024 * 1024,
        grace_s: float = 5.0,
        handle_sigterm: bool = True,
    ) -> None:
        env = os.environ.get
        self.instance = "ins-" + secrets.token_hex(10)
        self._agent = (agent_url or env("HAECHI_AGENT_URL") or "").rstrip("/")
        self._token = token or env("HAECHI_TOKEN") or ""
        fallback_url = f"{self._agent}/v1/results" if self._agent else env("HAECHI_RESULTS_URL")
        self._results_url = results_url or fallback_url or ""
        self._camera_url = camera_url or env("HAECHI_CAMERA_URL") or ""
        self._buffer_bytes = buffer_bytes
        self._grace_s = grace_s

        self._lock = threading.Lock()
        self._seq = 0
        self._rows: deque[tuple[bytes, int]] = deque()  # (encoded row, rows dropped before it)
        self._rows_bytes = 0
        self._gap = 0
        self._inflight: list[bytes] = []
        self.sent = 0  # rows the receiver has acknowledged
        self.refused = 0  # rows it will never take (it said why; see the log)
        self.dropped = 0  # oldest rows given up: the buffer was full while the receiver was away

        self._ready_pending = False
        self._ending = threading.Event()  # asked to end: for the AI's threads
        self._stop = threading.Event()  # nothing more to send: for our own
        self._idle = threading.Event()
        self._idle.set()
        # SimpleQueue.put is re-entrant: the only thing a signal handler may safely do.
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._changes: queue.SimpleQueue[Change | None] = queue.SimpleQueue()
        self._poller: threading.Thread | None = None
        self._terminated_at: float | None = None
        self._sender = threading.Thread(target=self._send_loop, name="haechi-send", daemon=True)
        self._sender.start()
        atexit.register(self.close)
        in_main = threading.current_thread() is threading.main_thread()
        if handle_sigterm and in_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._on_sigterm)

    # -- what the AI says ---------------------------------------------------------------------

    def result(
        self,
        assignment: Assignment | str | None = None,
        *,
        objects: Iterable[dict[str, Any]] = (),
        name: str | None = None,
        prob: float | None = None,
        captured_at: When | None = None,
        took_ms: float | None = None,
        attributes: dict[str, Any] | None = None,
    ) -> int:
        """Say what was seen in one frame; returns its sequence number at once.

        `assignment` is the one the frame came from, or a camera id, or nothing where there is only
        one camera. `name` and `prob` classify the whole frame. No object and no name means
        "looked, saw nothing". Never blocks on the network.
        """
        row: dict[str, Any] = {"instance": self.instance}
        if isinstance(assignment, Assignment):
            told = {"assignment_id": assignment.id, "epoch": assignment.epoch}
            row.update(told if assignment.id else {})
        camera_id = assignment.camera_id if isinstance(assignment, Assignment) else assignment
        if camera_id:
            row["camera_id"] = camera_id
        row["captured_at"] = _rfc3339(time.time() if captured_at is None else captured_at)
        if (name is None) != (prob is None):
            raise InvalidResult("name and prob belong together: give both or none")
        if name is not None and prob is not None:
            row["class"], row["class_prob"] = name, _prob(prob)
        row["objects"] = [_checked_object(one) for one in objects]
        if took_ms is not None:
            row["took_ms"] = round(_number(took_ms, "took_ms"), 3)
        return self._enqueue(row, _checked_attributes(attributes))

    def heartbeat(self, assignment: Assignment | str | None = None) -> int:
        """Say "I am here and looked": an empty result."""
        return self.result(assignment)

    def ready(self) -> None:
        """Say that this AI works. The deployment is proven by it; call it once it really does."""
        if self._agent:
            with self._lock:
                self._ready_pending = True
                self._idle.clear()
            self._wake.put(None)

    # -- what the AI hears --------------------------------------------------------------------

    def assignments(self) -> Iterator[Change]:
        """Yield every change of the cameras to watch, the first ones at once; ends on close."""
        if self._poller is None:
            self._poller = threading.Thread(target=self._poll_loop, name="haechi-poll", daemon=True)
            self._poller.start()
        while not self.stopping:
            change = self._changes.get()
            if change is None:
                return
            yield change

    # -- life ---------------------------------------------------------------------------------

    @property
    def stopping(self) -> bool:
        """True once the process was asked to end."""
        return self._ending.is_set() or self._terminated_at is not None

    @property
    def pending(self) -> int:
        """Rows not yet acknowledged."""
        with self._lock:
            return len(self._rows) + len(self._inflight)

    def wait(self, seconds: float) -> bool:
        """Sleep, but wake when the process is asked to end; returns `stopping`."""
        return self._ending.wait(seconds) or self.stopping

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Wait until everything said so far is acknowledged; False where time ran out."""
        return self._idle.wait(timeout_s)

    def close(self, timeout_s: float | None = None) -> bool:
        """Send what is left (within the grace time) and end. Safe to call more than once."""
        flushed = self.flush(self._grace_s if timeout_s is None else timeout_s)
        self._ending.set()
        self._stop.set()
        self._wake.put(None)
        self._changes.put(None)
        if not flushed and self.pending:
            log.warning("closed with %d results not acknowledged", self.pending)
        atexit.unregister(self.close)
        return flushed

    def __enter__(self) -> Haechi:  # noqa: PYI034 - typing.Self needs 3.11
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _on_sigterm(self, _signum: int, _frame: object) -> None:
        self._terminated_at = time.monotonic()
        self._changes.put(None)
        self._wake.put(None)

    # -- sending ------------------------------------------------------------------------------

    def _enqueue(self, row: dict[str, Any], attributes: dict[str, Any]) -> int:
        with self._lock:
            self._seq += 1
            row["seq"] = self._seq
            if self._gap:
                attributes = {**attributes, "haechi_dropped": self._gap}
            if attributes:
                row["attributes"] = attributes
            body = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode()
            self._rows.append((body, self._gap))
            self._rows_bytes += len(body)
            self._gap = 0
            while self._rows_bytes > self._buffer_bytes and len(self._rows) > 1:
                oldest, gap_before = self._rows.popleft()
                self._rows_bytes -= len(oldest)
                self._gap += 1 + gap_before
                self.dropped += 1
            self._idle.clear()
            seq = self._seq
        self._wake.put(None)
        return seq

    def _take_batch(self) -> list[bytes]:
        with self._lock:
            size = sum(map(len, self._inflight))
            while self._rows and len(self._inflight) < _BATCH_ROWS and size < _BATCH_BYTES:
                body, _gap = self._rows.popleft()
                self._rows_bytes -= len(body)
                size += len(body)
                self._inflight.append(body)
            if not self._inflight and not self._ready_pending:
                self._idle.set()
            return list(self._inflight)

    def _finish(self, count: int, refused: int) -> None:
        with self._lock:
            del self._inflight[:count]
            self.sent += count - refused
            self.refused += refused

    def _send_loop(self) -> None:
        link = _Link(self._token)
        backoff_s, not_before, limit = _BACKOFF_S[0], 0.0, _BATCH_ROWS
        while not self._stop.is_set():
            now, ending = time.monotonic(), self._terminated_at
            if ending is not None:
                self._ending.set()
                if now - ending > self._grace_s:
                    # As process 1 of a container a program that never looks at `stopping` would
                    # otherwise live on until it is killed.
                    os._exit(1 if self.pending else 0)
            batch = self._take_batch()[:limit]
            if not batch and not self._ready_pending:
                self._sleep(None if ending is None else 0.1)
            elif now < not_before:
                self._sleep(min(not_before - now, 0.1 if ending else 60.0))
            else:
                try:
                    if self._ready_pending:
                        self._send_ready(link)
                    limit = self._send_batch(link, batch) if batch else limit
                    backoff_s = _BACKOFF_S[0]
                except _Away as away:
                    if backoff_s == _BACKOFF_S[0]:
                        log.warning("results wait: %s", away)
                    not_before = time.monotonic() + (away.retry_after_s or _jitter(backoff_s))
                    backoff_s = min(backoff_s * 2, _BACKOFF_S[1])
        link.close()

    def _sleep(self, timeout_s: float | None) -> None:
        """Until woken by a new row, the end of the process or the time; swallows further wakes."""
        try:
            self._wake.get(timeout=timeout_s)
            while True:
                self._wake.get_nowait()
        except queue.Empty:
            return

    def _send_ready(self, link: _Link) -> None:
        status, _headers, _body = link.request(
            "POST", f"{self._agent}/v1/ready", json.dumps({"instance": self.instance}).encode()
        )
        if status >= 500 or status in _LATER_STATUSES:
            raise _Away(f"agent answered {status} to ready")
        if status >= 300:
            log.error("the agent refused ready with HTTP %d", status)
        self._ready_pending = False

    def _send_batch(self, link: _Link, batch: list[bytes]) -> int:
        """Send one batch; returns how many rows the next may have."""
        if not self._results_url:
            for body in batch:
                print(body.decode(), file=sys.stdout, flush=True)  # noqa: T201
            self._finish(len(batch), 0)
            return _BATCH_ROWS
        payload = b"[" + b",".join(batch) + b"]"
        status, headers, body = link.request("POST", self._results_url, payload)
        if status < 300:
            self._finish(len(batch), _log_refused(body))
            return _BATCH_ROWS
        if status >= 500 or status in _LATER_STATUSES:
            raise _Away(f"receiver answered {status}", _retry_after_s(headers))
        if len(batch) > 1:  # find the row it does not like; the rest must get through
            return max(1, len(batch) // 2)
        log.error("a result was refused with HTTP %d: %r", status, body[:300])
        self._finish(1, 1)
        return _BATCH_ROWS

    # -- listening ----------------------------------------------------------------------------

    def _poll_loop(self) -> None:
        known: dict[str, Assignment] = {}
        if not self._agent:
            if self._camera_url:
                only = Assignment(id="", camera_id="", url=self._camera_url)
                self._changes.put(Change("started", only))
            return
        link = _Link(self._token)
        revision, backoff_s = "", _BACKOFF_S[0]
        while not self.stopping:
            try:
                query = urllib.parse.urlencode({"wait": _POLL_WAIT_S, "revision": revision})
                url = f"{self._agent}/v1/assignments?{query}"
                status, headers, body = link.request("GET", url, None, _POLL_WAIT_S + 10)
                if status not in (200, 204, 304):
                    raise _Away(f"agent answered {status}", _retry_after_s(headers))  # noqa: TRY301
                if status == 200:
                    document = json.loads(body)
                    wanted = _newest_per_camera(document["assignments"])
                    for change in _differences(known, wanted):
                        self._changes.put(change)
                    known, revision = wanted, str(document.get("revision", ""))
                backoff_s = _BACKOFF_S[0]
            except (_Away, ValueError, KeyError, TypeError, AttributeError) as problem:
                if backoff_s == _BACKOFF_S[0]:
                    log.warning("assignments stay as they are: %s", problem)
                self._ending.wait(_jitter(backoff_s))
                backoff_s = min(backoff_s * 2, _BACKOFF_S[1])
        link.close()


class _Away(Exception):
    """The receiver could not be reached or is busy: the same thing is tried again later."""

    def __init__(self, what: str, retry_after_s: float = 0.0) -> None:
        super().__init__(what)
        self.retry_after_s = retry_after_s


class _Link:
    """One kept-alive HTTP connection, owned by one thread; reopened when it broke."""

    def __init__(self, token: str) -> None:
        self._headers = {"Content-Type": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._connection: Http | None = None
        self._origin: tuple[str, str] = ("", "")

    def request(
        self, method: str, url: str, body: bytes | None, timeout_s: float = _REQUEST_TIMEOUT_S
    ) -> tuple[int, dict[str, str], bytes]:
        parts = urllib.parse.urlsplit(url)
        target = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
        for attempt in (1, 2):
            connection, reused = self._open(parts.scheme, parts.netloc, timeout_s)
            try:
                # Head and body in one packet: two would wake the receiver twice for each result.
                pieces: list[bytes] = []
                setattr(connection, "send", pieces.append)  # noqa: B010
                connection.request(method, target, body, self._headers)
                delattr(connection, "send")
                connection.send(b"".join(pieces))
                answer = connection.getresponse()
                content = answer.read(1024 * 1024)
                if answer.will_close or answer.read(1):
                    self.close()
                return answer.status, {k.lower(): v for k, v in answer.getheaders()}, content
            except (OSError, http.client.HTTPException) as problem:
                self.close()
                if attempt == 1 and reused:
                    continue  # the peer closed an idle connection: not a fault yet
                raise _Away(f"{parts.netloc}: {problem!r}") from problem
        raise AssertionError("unreachable")

    def _open(self, scheme: str, netloc: str, timeout_s: float) -> tuple[Http, bool]:
        if self._connection is not None and self._origin == (scheme, netloc):
            return self._connection, True
        self.close()
        if scheme == "https":
            tls = ssl.create_default_context(cafile=os.environ.get("HAECHI_CA_FILE") or None)
            self._connection = http.client.HTTPSConnection(netloc, timeout=timeout_s, context=tls)
        else:
            self._connection = http.client.HTTPConnection(netloc, timeout=timeout_s)
        self._origin = (scheme, netloc)
        return self._connection, False

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _jitter(seconds: float) -> float:
    return seconds * (0.5 + random.random())  # noqa: S311


def _newest_per_camera(rows: Iterable[dict[str, Any]]) -> dict[str, Assignment]:
    newest: dict[str, Assignment] = {}
    for row in map(Assignment.from_wire, rows):
        other = newest.get(row.camera_id)
        if other is None or row.epoch >= other.epoch:
            newest[row.camera_id] = row
    return newest


def _differences(old: dict[str, Assignment], new: dict[str, Assignment]) -> Iterator[Change]:
    for camera_id, assignment in old.items():
        if camera_id not in new:
            yield Change("stopped", assignment, assignment)
    for camera_id, assignment in new.items():
        previous = old.get(camera_id)
        if previous is None:
            yield Change("started", assignment)
        elif previous != assignment:
            yield Change("changed", assignment, previous)


def _number(value: Any, what: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InvalidResult(f"{what} must be a number, not {value!r}") from None
    if not math.isfinite(number):
        raise InvalidResult(f"{what} must be finite, not {value!r}")
    return number


def _prob(value: Any) -> float:
    prob = _number(value, "a probability")
    if not 0.0 <= prob <= 1.0:
        raise InvalidResult(f"a probability must be between 0 and 1, not {value!r}")
    return round(prob, 4)


def _checked_box(box: Iterable[float]) -> list[float]:
    values = [_number(value, "a box") for value in box]
    if len(values) != 4:
        raise InvalidResult(f"a box is (x, y, w, h), not {values!r}")
    x, y, w, h = values
    if min(x, y) < -_BOX_TOLERANCE or max(x + w, y + h) > 1 + _BOX_TOLERANCE or min(w, h) < 0:
        raise InvalidResult(f"a box is a part of the frame, each value 0-1, not {values!r}")
    left, top, right, bottom = max(x, 0.0), max(y, 0.0), min(x + w, 1.0), min(y + h, 1.0)
    return [round(v, 4) for v in (left, top, max(right - left, 0.0), max(bottom - top, 0.0))]


def _checked_object(one: dict[str, Any]) -> dict[str, Any]:
    try:
        return detected(str(one["class"]), one["class_prob"], one["box"], one.get("track"))
    except KeyError as missing:
        raise InvalidResult(f"an object needs {missing}") from None


def _checked_attributes(attributes: dict[str, Any] | None) -> dict[str, Any]:
    for key, value in (attributes or {}).items():
        if not isinstance(key, str) or not isinstance(value, (str, int, float, bool, type(None))):
            raise InvalidResult(f"attributes are flat: {key!r} is neither text, number nor boolean")
        if isinstance(value, float):
            _number(value, f"attribute {key}")
    if len(json.dumps(attributes or {}, ensure_ascii=False).encode()) > _ATTRIBUTES_BYTES - 64:
        raise InvalidResult("attributes are more than 4 KB")
    return dict(attributes or {})


def _rfc3339(when: When) -> str:
    if isinstance(when, str):
        return when
    if isinstance(when, datetime):
        if when.tzinfo is None:
            raise InvalidResult("captured_at needs a time zone")
        moment = when.astimezone(timezone.utc)  # noqa: UP017
    else:
        moment = datetime.fromtimestamp(_number(when, "captured_at"), timezone.utc)  # noqa: UP017
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def _retry_after_s(headers: dict[str, str]) -> float:
    try:
        return min(max(float(headers.get("retry-after", 0)), 0.0), 60.0)
    except ValueError:
        return 0.0


def _log_refused(body: bytes) -> int:
    try:
        refused = json.loads(body)["refused"]
        for one in refused[:5]:
            log.error("a result was refused: %s", one)
        return len(refused)
    except (ValueError, KeyError, TypeError):
        return 0
