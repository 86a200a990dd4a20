"""Taking results in and finding them again. Everything acknowledged here is on the disk."""

import logging
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

import apsw
import msgspec

from haechi.core.access import Principal
from haechi.core.bus import Bus
from haechi.core.clock import Clock, from_ms, to_ms, to_text
from haechi.core.pages import Page, decode_cursor, page_of
from haechi.core.tasks import Tasks
from haechi.core.telemetry import Telemetry
from haechi.domains.results import queries, rows
from haechi.domains.results.model import BadPeriod, Bucket, Filter, Outcome, Source, StoredResult
from haechi.domains.results.ports import Authority, Heard, OnlyCamera, Sources, Stamps
from haechi.domains.results.schema import ARRIVAL, DAY_MS, LAST_MS, NOT_AUTHORITATIVE, UNCERTAIN
from haechi.domains.results.store import AgentBatch, AgentStored, NewRow, ResultStore
from haechi.errors import BadRequest
from haechi.protocol.results import AgentResult, Result

log = logging.getLogger(__name__)

MAX_BUCKETS: Final = 5_000
_FINE_PERIOD_MS: Final = 6 * 3600 * 1000
_LIVE_ROWS: Final = 50
_LIVE_MS: Final = 30_000
_FUTURE_MS: Final = 5 * 60 * 1000
_FIRST_DATE_MS: Final = 1_577_836_800_000  # 2020-01-01: before it, a clock was not set
_RETENTION_EVERY_S: Final = 600.0
_RETENTION_ROWS: Final = 5_000
_CALLERS: Final = 1_000
_QUEUED_PER_BYTE: Final = 6
"""Memory of a checked row waiting for its commit, by byte of its JSON (measured 5)."""

_encode = msgspec.json.Encoder().encode
_SOURCE, _CAMERA = itemgetter(3), itemgetter(4)
"""Of a NewRow, without a call of Python's for each of a hundred thousand a second."""
_new_row = tuple.__new__  # a NamedTuple's own constructor is a Python call more for every row


class Results:
    def __init__(
        self,
        *,
        telemetry: Telemetry,
        bus: Bus,
        clock: Clock,
        sources: Sources,
        stamps: Stamps,
        only_camera: OnlyCamera = lambda _deployment_id: None,
        authority: Authority = lambda *_: True,
        heard: Heard = lambda *_: None,
        retention_days: float = 30,
    ) -> None:
        self._telemetry = telemetry
        self._bus = bus
        self._clock = clock
        self._sources = sources
        self._stamps = stamps
        self._only_camera = only_camera
        self._authority = authority
        self._heard = heard
        self._retention_ms = round(retention_days * 86_400_000)
        self._store = ResultStore()
        telemetry.on_rollback(self._store.forget)
        self._tasks = Tasks("results")
        self._callers: dict[int, tuple[Principal, Source]] = {}
        self.accepted: Counter[tuple[str, str]] = Counter()
        """(device id, package name) → rows stored since the start."""
        self.repeated = 0
        self.refused = 0
        self.lost = 0
        """Rows that agents had to give up because they were away for too long."""

    def start(self) -> None:
        """Begin to delete what is older than the retention time."""
        self._tasks.forever("retention", self._retain_for_ever, retry_s=60)

    async def close(self) -> None:
        await self._tasks.close()

    # -- taking in ----------------------------------------------------------------------------

    def has_room(self, size_bytes: int) -> bool:
        """Whether a body of that size would be taken now rather than met with Overloaded."""
        return self._telemetry.has_room(1, _QUEUED_PER_BYTE * size_bytes)

    async def ingest_body(self, body: bytes, by: Principal) -> Outcome:
        """JSON of one result or a list. Raises BadResults, TooManyRows, Overloaded."""
        good, refused = rows.decode(body)
        self.refused += len(refused)
        if not good:
            return Outcome(0, 0, refused)
        source = self._source_of(by)
        now_ms = to_ms(self._clock.now())
        new = self._direct_rows(good, source, now_ms)
        ids: list[int] = await self._telemetry.submit(
            self._store.insert, new, rows=len(new), size_bytes=_QUEUED_PER_BYTE * len(body)
        )
        accepted = self._after_commit(new, ids, now_ms)
        if accepted and source.deployment_id:
            self._heard(source.deployment_id, accepted, now_ms)
        return Outcome(accepted, len(new) - accepted, refused)

    async def ingest(self, given: list[Result], by: Principal) -> Outcome:
        """The same for results that are decoded already (the interop layer's)."""
        return await self.ingest_body(_encode(given), by)

    async def ingest_from_agent(
        self,
        device_id: str,
        queue_id: str,
        from_seq: int,
        given: list[AgentResult],
        lost: int = 0,
    ) -> int:
        """Store rows `from_seq`… of an agent's queue exactly once; answers the number reached.

        A row that no agent would have let through is counted and left out: the queue goes on.
        """
        through_seq = from_seq + len(given) - 1
        now_ms = to_ms(self._clock.now())
        numbers: list[int] = []
        new: list[NewRow] = []
        for number, row in enumerate(given, from_seq):
            problem = rows.problem_of_row(row.result)
            if problem is None:
                new.append(await self._agent_row(row, device_id, now_ms))
                numbers.append(number)
            else:
                self.refused += 1
                log.warning("a result of %s is left out: %s", device_id, problem)
        batch = AgentBatch(device_id, queue_id, from_seq, through_seq, lost, numbers, new, now_ms)
        size_bytes = 800 * len(new)
        stored: AgentStored = await self._telemetry.submit(
            self._store.insert_from_agents, batch, rows=len(new), size_bytes=size_bytes
        )
        self._after_commit(new, stored.ids, now_ms)
        if lost:
            self.lost += lost
            log.warning("device %s gave up %d results while it was away", device_id, lost)
        return stored.through_seq

    def _source_of(self, by: Principal) -> Source:
        """The authenticator hands out the same Principal for some seconds; so is its Source."""
        known = self._callers.get(id(by))
        if known is not None and known[0] is by:
            return known[1]
        if len(self._callers) >= _CALLERS:
            self._callers.clear()
        source = source_of(by)
        self._callers[id(by)] = (by, source)
        return source

    def _direct_rows(self, given: Sequence[Result], source: Source, now_ms: int) -> list[NewRow]:
        new: list[NewRow] = []
        for row in given:
            captured_ms = rows.captured_ms(row.captured_at)
            flags = 0
            if captured_ms is None:
                captured_ms, flags = now_ms, ARRIVAL
            elif not _FIRST_DATE_MS <= captured_ms <= now_ms + _FUTURE_MS:
                captured_ms, flags = _in_calendar(captured_ms), UNCERTAIN
            new.append(self._row(row, source, captured_ms, now_ms, now_ms, flags))
        return new

    async def _agent_row(self, row: AgentResult, device_id: str, now_ms: int) -> NewRow:
        stamp = self._stamps(device_id, row.boot_id, row.monotonic_ms, row.received_ms)
        source = await self._sources.source_of(row.deployment_id, device_id)
        result = row.result
        if source is None:
            source = Source(device_id=device_id)
            claim = {"deployment_id": row.deployment_id} if row.deployment_id else {}
            result = msgspec.structs.replace(result, claimed={**result.claimed, **claim})
        captured_ms = row.captured_ms
        flags = 0 if stamp.clock == "ok" else UNCERTAIN
        if captured_ms is None:
            captured_ms, flags = stamp.wall_ms, flags | ARRIVAL
        else:
            captured_ms += stamp.shift_ms
        captured_ms, received_ms = _in_calendar(captured_ms), _in_calendar(stamp.wall_ms)
        return self._row(result, source, captured_ms, received_ms, now_ms, flags)

    def _row(
        self,
        row: Result,
        source: Source,
        captured_ms: int,
        received_ms: int,
        stored_ms: int,
        flags: int,
    ) -> NewRow:
        camera_id = row.camera_id or self._only_camera(source.deployment_id)
        if camera_id and not self._authority(
            camera_id, source.package_id, row.epoch, source.device_id, captured_ms
        ):
            flags |= NOT_AUTHORITATIVE
        objects = rows.encode_objects(row.objects) if row.objects else None
        claimed = rows.claims_of(row)
        values = (
            captured_ms,
            received_ms,
            stored_ms,
            source,
            camera_id or None,
            row.instance,
            row.seq,
            row.assignment_id,
            row.epoch,
            flags,
            row.class_,
            row.class_prob,
            row.took_ms,
            rows.classes_of(row.objects) if objects else (),
            objects,
            _encode(row.attributes).decode() if row.attributes else None,
            _encode(claimed).decode() if claimed else None,
        )
        return _new_row(NewRow, values)

    def _after_commit(self, new: list[NewRow], ids: list[int], now_ms: int) -> int:
        """Count, and show the newest to whoever watches; what comes late is history, not news."""
        repeated = ids.count(0)
        self.repeated += repeated
        if repeated == len(new):
            return 0
        stored = (
            new if not repeated else [row for row_id, row in zip(ids, new, strict=True) if row_id]
        )
        for source, said in groupby(map(_SOURCE, stored)):
            self.accepted[source.device_id, source.package_name] += len(list(said))
        self._publish(new, ids, now_ms)
        return len(new) - repeated

    def _publish(self, new: list[NewRow], ids: list[int], now_ms: int) -> None:
        cameras = set(map(_CAMERA, new))
        followed = {c for c in cameras if c and self._bus.followed(f"results:{c}")}
        if not followed:
            return
        fresh = [
            (row_id, row)
            for row_id, row in zip(ids, new, strict=True)
            if row_id and row.camera_id in followed and now_ms - row.captured_ms <= _LIVE_MS
        ]
        for row_id, row in fresh[-_LIVE_ROWS:]:
            self._bus.publish(f"results:{row.camera_id}", document_of(row_id, row))

    # -- finding ------------------------------------------------------------------------------

    async def find(self, asked: Filter, *, limit: int, cursor: str | None) -> Page[StoredResult]:
        """Newest first."""
        _check_period(asked)
        key = decode_cursor(cursor, 1)
        before_id = _id_in(key[0]) if key else None

        def query(connection: apsw.Connection) -> list[StoredResult]:
            return queries.find(connection, asked, limit=limit + 1, before_id=before_id)

        found = await self._telemetry.read(query)
        return page_of(found, limit, lambda row: [row.id])

    async def summary(self, asked: Filter, *, bucket_s: int) -> list[Bucket]:
        """Counts per bucket of time; without a period, the last 60 buckets."""
        bucket_ms = bucket_s * 1000
        now_ms = to_ms(self._clock.now())
        to = asked.to_ms if asked.to_ms is not None else (now_ms // bucket_ms + 1) * bucket_ms
        since = asked.from_ms if asked.from_ms is not None else to - 60 * bucket_ms
        asked = Filter(
            camera_id=asked.camera_id,
            device_id=asked.device_id,
            deployment_id=asked.deployment_id,
            package_id=asked.package_id,
            class_=asked.class_,
            from_ms=since,
            to_ms=to,
        )
        _check_period(asked)
        if (to - since) // bucket_ms > MAX_BUCKETS:
            raise BadPeriod(reason=f"> {MAX_BUCKETS} buckets")
        aligned = all(ms % 60_000 == 0 for ms in (bucket_ms, since, to))
        if not aligned and to - since > _FINE_PERIOD_MS:
            raise BadPeriod(reason="> 6 h")

        def query(connection: apsw.Connection) -> list[Bucket]:
            return queries.summary(connection, asked, bucket_ms=bucket_ms)

        return await self._telemetry.read(query)

    # -- retention ----------------------------------------------------------------------------

    async def delete_old(self) -> int:
        """Delete what is older than the retention time, in small transactions."""
        before_ms = to_ms(self._clock.now()) - self._retention_ms
        deleted = 0
        while True:
            count = await self._telemetry.write(_delete, before_ms, rows=0, urgent=True)
            deleted += count
            if count < _RETENTION_ROWS:
                break
            await self._clock.sleep(0.02)
        day = before_ms // DAY_MS
        _ = await self._telemetry.write(self._store.forget_names, day, rows=0, urgent=True)
        return deleted

    async def _retain_for_ever(self) -> None:
        while True:
            deleted = await self.delete_old()
            if deleted:
                log.info("deleted %d results older than the retention time", deleted)
            await self._clock.sleep(_RETENTION_EVERY_S)


def _delete(connection: apsw.Connection, bounds: list[int]) -> list[int]:
    return [queries.delete_before(connection, bound, _RETENTION_ROWS) for bound in bounds]


def _in_calendar(ms: int) -> int:
    """A device may say any number: one that no calendar has would spoil every list it is in."""
    return min(max(ms, 0), LAST_MS)


def source_of(by: Principal) -> Source:
    """Who a caller is, as a source of results."""
    facts = by.facts
    return Source(
        device_id=by.device_id or "",
        deployment_id=by.deployment_id or "",
        package_id=facts.get("package_id", ""),
        package_name=facts.get("package_name", ""),
        version_id=facts.get("version_id", ""),
        version=facts.get("version", ""),
        image_digest=facts.get("image_digest", ""),
    )


def document_of(row_id: int, row: NewRow) -> dict[str, Any]:
    """A result as the stream shows it: the same fields as `GET /results`."""
    return {
        "id": str(row_id),
        "camera_id": row.camera_id,
        "device_id": row.source.device_id,
        "deployment_id": row.source.deployment_id,
        "package_id": row.source.package_id,
        "package_name": row.source.package_name,
        "version_id": row.source.version_id,
        "version": row.source.version,
        "image_digest": row.source.image_digest,
        "assignment_id": row.assignment_id,
        "epoch": row.epoch,
        "instance": row.instance,
        "seq": row.seq,
        "captured_at": to_text(from_ms(row.captured_ms)),
        "received_at": to_text(from_ms(row.received_ms)),
        "stored_at": to_text(from_ms(row.stored_ms)),
        "clock": "uncertain" if row.flags & UNCERTAIN else "ok",
        "captured_at_is_arrival": bool(row.flags & ARRIVAL),
        "authoritative": not row.flags & NOT_AUTHORITATIVE,
        "class": row.class_,
        "class_prob": row.class_prob,
        "took_ms": row.took_ms,
        "objects": [
            {"box": list(o.box), "class": o.class_, "class_prob": o.class_prob, "track": o.track}
            for o in queries.objects_of(row.objects)
        ],
        "attributes": msgspec.json.decode(row.attributes) if row.attributes else {},
        "claimed": msgspec.json.decode(row.claimed) if row.claimed else {},
    }


def _id_in(part: object) -> int:
    """The id in a cursor; one that no row could have is not ours."""
    text = str(part)
    if not (text.isascii() and text.isdecimal() and len(text) <= 19):
        raise BadRequest(reason="cursor")
    return int(text)


def _check_period(asked: Filter) -> None:
    if asked.from_ms is not None and asked.to_ms is not None and asked.from_ms >= asked.to_ms:
        raise BadPeriod(reason="from >= to")
