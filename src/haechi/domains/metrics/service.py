"""Takes the devices' samples in, keeps the newest at hand, rolls up and lets go with age."""

import asyncio
import logging
from typing import Any, Final

import apsw
import msgspec

from haechi.core.bus import Bus
from haechi.core.clock import Clock, from_ms, to_ms, to_text
from haechi.core.tasks import Tasks
from haechi.core.telemetry import Telemetry
from haechi.domains.metrics import queries
from haechi.domains.metrics.model import (
    HOUR_S,
    MAX_POINTS,
    MINUTE_S,
    BadPeriod,
    BeforeAfter,
    NoSampleYet,
    Series,
    TooManyPoints,
)
from haechi.domains.metrics.ports import Stamps
from haechi.domains.metrics.store import (
    NewSamples,
    Retention,
    RollUp,
    SampleStore,
    delete_old,
)
from haechi.errors import AppError, Overloaded
from haechi.protocol.samples import Sample

log = logging.getLogger(__name__)

ROLL_UP_EVERY_S: Final = 10.0
RETENTION_EVERY_S: Final = 600.0
STALE_MS: Final = 5_000
_ROLL_UP_STEPS: Final = 200
_RETENTION_ROWS: Final = 20_000
_SAMPLE_BYTES: Final = 600
_LAST_MS: Final = 253_402_300_799_999  # year 9999: what a device says beyond it is no time


class Metrics:
    def __init__(
        self,
        *,
        telemetry: Telemetry,
        bus: Bus,
        clock: Clock,
        stamps: Stamps,
        raw_hours: float = 48,
        minute_days: float = 30,
        hour_days: float = 730,
    ) -> None:
        self._telemetry = telemetry
        self._bus = bus
        self._clock = clock
        self._stamps = stamps
        self._raw_ms = round(raw_hours * 3_600_000)
        self._minute_ms = round(minute_days * 86_400_000)
        self._hour_ms = round(hour_days * 86_400_000)
        self._store = SampleStore()
        telemetry.on_rollback(self._store.forget)
        self._tasks = Tasks("metrics")
        self._latest: dict[str, tuple[int, Sample]] = {}
        self.accepted = 0
        """Samples handed to the DB since the start, repeated ones included."""
        self.dropped = 0
        """Samples given up because the DB could not keep up; results go first."""
        bus.on("states", self._on_change)

    def start(self) -> None:
        """Begin to roll up and to delete what is older than its retention time."""
        self._tasks.forever("rollups", self._roll_up_for_ever)
        self._tasks.forever("retention", self._retain_for_ever, retry_s=60)

    async def close(self) -> None:
        await self._tasks.close()

    # -- taking in ----------------------------------------------------------------------------

    def ingest(self, device_id: str, given: list[Sample], backfill: bool = False) -> None:
        """Queue samples of an agent for the next commit; each is kept once, however often sent.

        What is new is shown before it is stored: a sample is worth nothing when it comes late, and
        its loss with a crash is a gap of a second.
        """
        if not given:
            return
        stamps = self._stamps
        stamped = [
            stamps(device_id, row.boot_id, row.monotonic_ms, row.at_ms).wall_ms for row in given
        ]
        times = [min(max(at_ms, 0), _LAST_MS) for at_ms in stamped]
        newest = max(range(len(times)), key=times.__getitem__)
        # A clock that runs ahead must not hide everything that comes after.
        at_ms = min(times[newest], to_ms(self._clock.now()))
        known = self._latest.get(device_id)
        if known is None or at_ms >= known[0]:
            self._latest[device_id] = (at_ms, given[newest])
        if not backfill:
            self._show(device_id, times, given)
        try:
            done = self._telemetry.submit(
                self._store.insert,
                NewSamples(device_id, times, given),
                rows=len(given),
                size_bytes=_SAMPLE_BYTES * len(given),
            )
        except Overloaded:
            self.dropped += len(given)
            return
        self.accepted += len(given)
        done.add_done_callback(_log_failure)

    def _show(self, device_id: str, times: list[int], given: list[Sample]) -> None:
        topic = f"samples:{device_id}"
        if self._bus.followed(topic):
            for at_ms, row in zip(times, given, strict=True):
                self._bus.publish(topic, document_of(device_id, at_ms, row))

    # -- answering ----------------------------------------------------------------------------

    def latest(self, device_id: str) -> dict[str, Any]:
        """The newest sample. Raises NoSampleYet where it is older than a few seconds."""
        known = self._latest.get(device_id)
        if known is None or to_ms(self._clock.now()) - known[0] > STALE_MS:
            raise NoSampleYet(device_id=device_id)
        return document_of(device_id, *known)

    def newest(self) -> dict[str, tuple[int, Sample]]:
        """Device id → (time, newest sample), however old: for /metrics and for policies."""
        return self._latest

    def _on_change(self, _topic: str, data: Any) -> None:
        """A device was deleted: what it measured goes with age."""
        if data.get("kind") == "device" and data.get("change") == "delete":
            self._latest.pop(data["id"], None)

    async def series(
        self,
        device_id: str,
        *,
        from_ms: int | None = None,
        to_ms_: int | None = None,
        step_s: int = 1,
    ) -> Series:
        """A device's curve; without a period the last 300 steps. Older times have coarser steps."""
        now_ms = to_ms(self._clock.now())
        until = now_ms + 60_000 if to_ms_ is None else to_ms_
        since = min(until, now_ms) - 300 * step_s * 1000 if from_ms is None else from_ms
        if since >= until:
            raise BadPeriod
        if since < now_ms - self._raw_ms:
            step_s = max(step_s, MINUTE_S)
        if since < now_ms - self._minute_ms:
            step_s = max(step_s, HOUR_S)
        if step_s > MINUTE_S:
            base_s = HOUR_S if step_s >= HOUR_S else MINUTE_S
            step_s = -(-step_s // base_s) * base_s
        points = (min(until, now_ms) - since) // (step_s * 1000)
        if points > MAX_POINTS:
            raise TooManyPoints(points=points, limit=MAX_POINTS)

        def query(connection: apsw.Connection) -> Series:
            found = queries.series(
                connection, device_id, from_ms_=since, to_ms=until, step_s=step_s
            )
            return Series(device_id, step_s, found)

        return await self._telemetry.read(query)

    async def before_after(
        self, device_id: str, at_ms: int, *, before_s: int = 60, after_s: int = 60
    ) -> BeforeAfter:
        """Mean CPU before and after a moment: what did a deployment cost this device?"""

        def query(connection: apsw.Connection) -> BeforeAfter:
            return queries.before_after(
                connection,
                device_id,
                at_ms=at_ms,
                before_ms=before_s * 1000,
                after_ms=after_s * 1000,
            )

        return await self._telemetry.read(query)

    async def count_rows(self, from_ms: int = 0) -> int:
        """Raw samples stored since then."""

        def query(connection: apsw.Connection) -> int:
            return queries.count_rows(connection, from_ms_=from_ms)

        return await self._telemetry.read(query)

    # -- with age -----------------------------------------------------------------------------

    async def roll_up(self, step_s: int) -> None:
        """Bring the rollups of one step up to date, a few devices per transaction."""
        after: tuple[int, int] | None = (-1, -1)
        now_ms = to_ms(self._clock.now())
        while after is not None:
            asked = RollUp(step_s, now_ms, after, _ROLL_UP_STEPS)
            after = await self._telemetry.write(self._store.roll_up, asked, rows=0, urgent=True)

    async def delete_old(self) -> int:
        """Delete what is older than its retention time; says how many rows went."""
        now_ms = to_ms(self._clock.now())
        asked = Retention(
            now_ms - self._raw_ms,
            now_ms - self._minute_ms,
            now_ms - self._hour_ms,
            _RETENTION_ROWS,
        )
        total = 0
        while True:
            deleted = await self._telemetry.write(delete_old, asked, rows=0, urgent=True)
            total += deleted
            if not deleted:
                return total

    async def _roll_up_for_ever(self) -> None:
        rounds = 0
        while True:
            await self.roll_up(MINUTE_S)
            if rounds % 6 == 0:
                await self.roll_up(HOUR_S)
            rounds += 1
            await self._clock.sleep(ROLL_UP_EVERY_S)

    async def _retain_for_ever(self) -> None:
        while True:
            await self.delete_old()
            await self._clock.sleep(RETENTION_EVERY_S)


def _log_failure(done: asyncio.Future[None]) -> None:
    if done.cancelled():
        return
    error = done.exception()
    if isinstance(error, AppError):
        log.warning("samples were not stored: %s", error)
    elif error is not None:
        log.error("samples were not stored", exc_info=error)


def document_of(device_id: str, at_ms: int, row: Sample) -> dict[str, Any]:
    """A sample as the stream shows it: CONTRACTS 4, with the server's time."""
    document: dict[str, Any] = msgspec.to_builtins(row)
    del document["at_ms"], document["monotonic_ms"]
    return {"device_id": device_id, "at": to_text(from_ms(at_ms)), **document}
