"""The durable queue: what AIs said, until the server has committed it; samples while cut off.

One SQLite file (WAL), opened by apsw alone, written by one thread with group commit: callers that
wait at the same time share one commit, and are answered after it.

What survives what: `kill -9` of the agent loses nothing that was answered. Loss of power loses
nothing that was answered either, as far as the disk keeps its promise: commits that hold results
are fsynced (`synchronous=FULL`). Acknowledgements ride along with a commit of results once a
second, or are written a moment after the last ones; samples are written every few seconds. Losing
them costs a few seconds of a chart, or rows sent twice that the server knows by their number.

Numbers rise without gaps within `queue_id`. Where the size limit takes rows, samples go first
(every other of the oldest half), results last, oldest first, and the gap is told by the numbers
themselves: the next batch says how many were lost before it. A file that cannot be read is put
aside and a fresh one with a new `queue_id` begins.
"""

import asyncio
import contextlib
import logging
import queue
import secrets
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

import apsw
import msgspec

from haechi.agent.errors import QueueFull
from haechi.core.tasks import Tasks
from haechi.protocol.results import AgentResult
from haechi.protocol.samples import Sample

log = logging.getLogger(__name__)

DEFAULT_LIMIT_BYTES: Final = 1_000_000_000
WAITING_ROWS: Final = 20_000
WAITING_BYTES: Final = 6 * 1024 * 1024
SEEN_PER_INSTANCE: Final = 4_096
SEEN_INSTANCES: Final = 256
RECENT_ROWS: Final = 256
"""Kept decoded in memory, so that a linked agent sends what it stored without reading it back."""
RECENT_ROW_BYTES: Final = 4_096
ACK_S: Final = 1.0
"""What is acknowledged is forgotten with the next results, so often at most."""
ACK_ALONE_S: Final = 3.0
"""Where no results come it is forgotten by itself."""
_ROW_OVERHEAD_BYTES: Final = 120
_GROUP_ROWS: Final = 5_000

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS results (seq INTEGER PRIMARY KEY, row BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS samples (id INTEGER PRIMARY KEY, row BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS instances (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, used INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS seen (
    instance INTEGER NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (instance, seq)
) STRICT, WITHOUT ROWID;
"""

_encode = msgspec.msgpack.Encoder().encode
_decode_result: msgspec.msgpack.Decoder[AgentResult] = msgspec.msgpack.Decoder(AgentResult)
_decode_sample: msgspec.msgpack.Decoder[Sample] = msgspec.msgpack.Decoder(Sample)


@dataclass(frozen=True)
class Stored:
    """What became of a batch: rows now durable, and rows that had been durable already."""

    numbers: list[int]
    """The queue number of each row; 0 where it had been stored before."""

    @property
    def accepted(self) -> int:
        return len(self.numbers) - self.numbers.count(0)

    @property
    def repeated(self) -> int:
        return len(self.numbers) - self.accepted


@dataclass(frozen=True)
class Batch:
    """Results to send: `rows[i]` has number `from_seq + i`; `lost` rows before it are gone."""

    from_seq: int
    rows: list[AgentResult]
    lost: int

    @property
    def through(self) -> int:
        return self.from_seq + len(self.rows) - 1


@dataclass
class _Job:
    work: Callable[[], Any]
    durable: bool
    rows: int = 0
    size_bytes: int = 0
    done: asyncio.Future[Any] | None = None
    result: Any = field(default=None, repr=False)


class Outbox:
    """Made and used on the event loop; the file belongs to the writer thread."""

    def __init__(self, path: Path, *, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self._path = path
        self._limit_bytes = limit_bytes
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._waiting_rows = 0
        self._waiting_bytes = 0
        self._arrived = asyncio.Event()
        self._full = False
        self._recent: deque[tuple[int, AgentResult]] = deque(maxlen=RECENT_ROWS)
        self._tasks = Tasks("outbox")
        self._forgetting: asyncio.Task[None] | None = None
        self._forgotten = 0
        """What the file has forgotten, as far as is known here."""
        self._forgot_s = 0.0
        self._mode = "FULL"
        self._live_bytes = 0
        self._instances: dict[str, int] = {}
        self.queue_id = ""
        self.last_seq = 0
        """Newest number given."""
        self.acked = 0
        """Committed by the server through this number."""

    # -- on the loop --------------------------------------------------------------------------

    async def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(
            target=self._write_for_ever, args=(opened,), name="outbox", daemon=True
        )
        self._thread.start()
        await opened
        self._forgotten = self.acked

    async def close(self) -> None:
        if self._thread is not None:
            await self._tasks.close()
            through = self.acked
            with contextlib.suppress(QueueFull):
                await self._do(lambda: self._forget(through))
            self._jobs.put(None)
            await asyncio.to_thread(self._thread.join, 10)
            self._thread = None

    @property
    def backlog(self) -> int:
        return self.last_seq - self.acked

    async def add(self, rows: Sequence[AgentResult]) -> Stored:
        """Store results; returns when they are durable. Raises QueueFull under a flood."""
        encoded = [(row.result.instance or "", row.result.seq or 0, _encode(row)) for row in rows]
        size_bytes = sum(len(data) for _i, _s, data in encoded)
        crowded = self._waiting_rows + len(rows) > WAITING_ROWS
        if self._full or crowded or self._waiting_bytes + size_bytes > WAITING_BYTES:
            raise QueueFull(retry_after_s=2)
        through = self._due()
        stored: Stored = await self._do(
            lambda: self._insert(encoded, forget=through),
            durable=True,
            rows=len(rows),
            size_bytes=size_bytes,
        )
        self._forgotten = max(self._forgotten, through)
        for number, row, (_i, _s, data) in zip(stored.numbers, rows, encoded, strict=True):
            if number:
                self._remember(number, row, len(data))
        return stored

    def _due(self) -> int:
        """What the next commit is to forget; 0 for nothing yet."""
        assert self._loop is not None, "not opened"
        now = self._loop.time()
        if self.acked <= self._forgotten or now - self._forgot_s < ACK_S:
            return 0
        self._forgot_s = now
        return self.acked

    def _remember(self, number: int, row: AgentResult, size_bytes: int) -> None:
        if size_bytes > RECENT_ROW_BYTES or (self._recent and number != self._recent[-1][0] + 1):
            self._recent.clear()
        if size_bytes <= RECENT_ROW_BYTES:
            self._recent.append((number, row))

    def _recent_after(self, after_seq: int, max_rows: int) -> Batch | None:
        """From memory; only for a reader that is nearly up to date."""
        skipped = after_seq + 1 - self._recent[0][0] if self._recent else -1
        if skipped < 0:
            return None
        # Numbers follow each other here, so what is old need not be looked at.
        rows = [row for _number, row in islice(self._recent, skipped, skipped + max_rows)]
        return Batch(after_seq + 1, rows, 0) if rows else None

    async def read(self, after_seq: int, *, max_rows: int, max_bytes: int) -> Batch | None:
        """The oldest results after a number, or None where there are none."""
        if after_seq >= self.last_seq:
            return None
        recent = self._recent_after(after_seq, max_rows)
        if recent is not None:
            return recent
        found: Batch | None = await self._do(lambda: self._select(after_seq, max_rows, max_bytes))
        return found

    async def wait(self, after_seq: int) -> None:
        """Return once there is a result after this number."""
        while after_seq >= self.last_seq:
            self._arrived.clear()
            await self._arrived.wait()

    async def ack(self, through: int) -> None:
        """The server has committed everything up to this number. Forgotten on disk later: rows
        sent twice after a crash are known by their number."""
        through = min(through, self.last_seq)
        if through <= self.acked:
            return
        self.acked = through
        if self._forgetting is None or self._forgetting.done():
            self._forgetting = self._tasks.spawn("forget", self._forget_soon())

    async def _forget_soon(self) -> None:
        await asyncio.sleep(ACK_ALONE_S)
        through = self.acked
        if through > self._forgotten:
            await self._do(lambda: self._forget(through))
            self._forgotten = through

    async def keep_samples(self, samples: Sequence[Sample]) -> None:
        encoded = [_encode(sample) for sample in samples]
        await self._do(lambda: self._insert_samples(encoded))

    async def newest_samples(self, max_rows: int) -> tuple[list[int], list[Sample]]:
        """Kept samples, the newest first: ids (for `drop_samples`) and rows."""
        ids, rows = await self._do(lambda: self._select_samples(max_rows))
        return ids, [_decode_sample.decode(row) for row in rows]

    async def drop_samples(self, ids: Sequence[int]) -> None:
        await self._do(lambda: self._delete_samples(ids))

    async def _do(
        self,
        work: Callable[[], Any],
        *,
        durable: bool = False,
        rows: int = 0,
        size_bytes: int = 0,
    ) -> Any:
        assert self._loop is not None, "not opened"
        job = _Job(work, durable, rows, size_bytes, self._loop.create_future())
        self._waiting_rows += rows
        self._waiting_bytes += size_bytes
        self._jobs.put(job)
        assert job.done is not None
        return await job.done

    # -- in the writer thread -----------------------------------------------------------------

    def _write_for_ever(self, opened: "asyncio.Future[None]") -> None:
        assert self._loop is not None
        try:
            self._db = self._open_file()
            self._load()
        except Exception as error:  # noqa: BLE001 - handed to the opener
            self._loop.call_soon_threadsafe(opened.set_exception, error)
            return
        self._loop.call_soon_threadsafe(opened.set_result, None)
        ending = False
        while not ending:
            jobs: list[_Job] = []
            rows = 0
            job = self._jobs.get()
            while True:
                if job is None:
                    ending = True
                    break
                jobs.append(job)
                rows += job.rows
                if rows >= _GROUP_ROWS or self._jobs.empty():
                    break
                job = self._jobs.get()
            if jobs:
                self._commit(jobs)
        self._db.close()

    def _commit(self, jobs: list[_Job]) -> None:
        """One transaction for all that wait; then everyone is answered."""
        error: Exception | None = None
        mark = (self.last_seq, self._live_bytes)
        mode = "FULL" if any(job.durable for job in jobs) else "NORMAL"
        try:
            if mode != self._mode:
                self._db.execute(f"PRAGMA synchronous={mode}")
                self._mode = mode
            self._db.execute("BEGIN IMMEDIATE")
            for job in jobs:
                job.result = job.work()
            self._trim()
            self._db.execute("COMMIT")
            self._full = False
        except apsw.Error as failed:
            self.last_seq, self._live_bytes = mark
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._instances = self._known_instances()
            self._full = isinstance(failed, apsw.FullError | apsw.IOError)
            error = QueueFull(retry_after_s=5)
            log.error("the queue file could not be written: %s", failed)  # noqa: TRY400
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._answer, jobs, error)

    def _answer(self, jobs: list[_Job], error: Exception | None) -> None:
        for job in jobs:
            self._waiting_rows -= job.rows
            self._waiting_bytes -= job.size_bytes
            if job.done is None or job.done.done():
                continue
            if error is None:
                job.done.set_result(job.result)
            else:
                job.done.set_exception(error)
        self._arrived.set()
        if error is not None and self._full:
            # The next call may try again: a full disk may have got room meanwhile.
            self._full = False

    def _open_file(self) -> apsw.Connection:
        try:
            return self._connect()
        except (apsw.NotADBError, apsw.CorruptError) as error:
            log.error("the queue file is damaged and put aside: %s", error)  # noqa: TRY400
            for suffix in ("", "-wal", "-shm"):
                part = Path(f"{self._path}{suffix}")
                if part.exists():
                    part.replace(Path(f"{self._path}.bad{suffix}"))
            return self._connect()

    def _connect(self) -> apsw.Connection:
        db = apsw.Connection(str(self._path))
        self._path.chmod(0o600)
        db.set_busy_timeout(5_000)
        for pragma in (
            # Nobody else opens it: no locks to take and give back around each commit.
            "locking_mode=EXCLUSIVE",
            "journal_mode=WAL",
            "synchronous=FULL",
            "cache_size=-512",
            "journal_size_limit=4194304",
            "temp_store=MEMORY",
        ):
            for _row in db.execute(f"PRAGMA {pragma}"):
                pass
        self._mode = "FULL"
        for statement in _SCHEMA.split(";"):
            db.execute(statement)
        if db.execute("PRAGMA quick_check(1)").get != "ok":
            raise apsw.CorruptError("quick_check")
        return db

    def _load(self) -> None:
        meta = dict(self._rows("SELECT key, value FROM meta"))
        self.queue_id = meta.get("queue_id") or f"que-{secrets.token_hex(10)}"
        self.acked = int(meta.get("acked", "0"))
        newest = self._db.execute("SELECT max(seq) FROM results").get
        self.last_seq = max(int(meta.get("last_seq", "0")), newest or 0, self.acked)
        sizes = self._db.execute(
            "SELECT (SELECT count(*) FROM results), (SELECT coalesce(sum(length(row)), 0) "
            "FROM results), (SELECT count(*) FROM samples), "
            "(SELECT coalesce(sum(length(row)), 0) FROM samples)"
        ).get
        self._live_bytes = sizes[1] + sizes[3] + (sizes[0] + sizes[2]) * _ROW_OVERHEAD_BYTES
        self._instances = self._known_instances()
        self._set_meta("queue_id", self.queue_id)

    def _known_instances(self) -> dict[str, int]:
        return dict(self._rows("SELECT name, number FROM instances"))

    def _rows(self, statement: str, *values: int) -> list[Any]:
        return self._db.execute(statement, values).fetchall()

    def _set_meta(self, key: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def _insert(self, rows: list[tuple[str, int, bytes]], *, forget: int) -> Stored:
        if forget:
            self._forget(forget)
        numbers: list[int] = []
        for instance, number, data in rows:
            if instance:
                known = self._instance(instance, number)
                self._db.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (known, number))
                if self._db.changes() == 0:
                    numbers.append(0)
                    continue
            self.last_seq += 1
            self._db.execute("INSERT INTO results VALUES (?, ?)", (self.last_seq, data))
            self._live_bytes += len(data) + _ROW_OVERHEAD_BYTES
            numbers.append(self.last_seq)
        return Stored(numbers)

    def _instance(self, name: str, seq: int) -> int:
        """Its number; now and then old knowledge is dropped (the server knows duplicates too)."""
        number = self._instances.get(name)
        if number is None:
            if len(self._instances) >= SEEN_INSTANCES:
                self._drop_oldest_instances()
            self._db.execute("INSERT INTO instances (name, used) VALUES (?, ?)", (name, seq))
            number = self._db.last_insert_rowid()
            self._instances[name] = number
        elif seq % SEEN_PER_INSTANCE == 0:
            self._db.execute(
                "DELETE FROM seen WHERE instance = ? AND seq < ?",
                (number, seq - SEEN_PER_INSTANCE),
            )
        return number

    def _drop_oldest_instances(self) -> None:
        """Instances are new at each start of an AI: the lowest numbers are long gone."""
        old = sorted(self._instances.items(), key=lambda item: item[1])[: SEEN_INSTANCES // 2]
        for name, number in old:
            del self._instances[name]
            self._db.execute("DELETE FROM seen WHERE instance = ?", (number,))
            self._db.execute("DELETE FROM instances WHERE number = ?", (number,))

    def _select(self, after_seq: int, max_rows: int, max_bytes: int) -> Batch | None:
        rows: list[AgentResult] = []
        first = after_seq + 1
        size_bytes = 0
        cursor = self._db.execute(
            "SELECT seq, row FROM results WHERE seq > ? ORDER BY seq LIMIT ?",
            (after_seq, max_rows),
        )
        for seq, data in cursor:
            if not rows:
                first = seq
            elif seq != first + len(rows) or size_bytes + len(data) > max_bytes:
                break
            rows.append(_decode_result.decode(data))
            size_bytes += len(data)
        if not rows:
            return None
        return Batch(from_seq=first, rows=rows, lost=first - after_seq - 1)

    def _forget(self, through: int) -> None:
        gone = self._db.execute(
            "SELECT count(*), coalesce(sum(length(row)), 0) FROM results WHERE seq <= ?",
            (through,),
        ).get
        self._db.execute("DELETE FROM results WHERE seq <= ?", (through,))
        self._live_bytes -= gone[1] + gone[0] * _ROW_OVERHEAD_BYTES
        self._set_meta("acked", str(through))
        self._set_meta("last_seq", str(self.last_seq))

    def _insert_samples(self, rows: list[bytes]) -> None:
        for data in rows:
            self._db.execute("INSERT INTO samples (row) VALUES (?)", (data,))
            self._live_bytes += len(data) + _ROW_OVERHEAD_BYTES

    def _select_samples(self, max_rows: int) -> tuple[list[int], list[bytes]]:
        found = self._rows("SELECT id, row FROM samples ORDER BY id DESC LIMIT ?", max_rows)
        return [row[0] for row in found], [row[1] for row in found]

    def _delete_samples(self, ids: Sequence[int]) -> None:
        for number in ids:
            self._drop_rows("samples", "id = ?", (number,))

    def _drop_rows(self, table: str, where: str, values: tuple[int, ...]) -> int:
        condition = f"FROM {table} WHERE {where}"
        gone = self._db.execute(
            f"SELECT count(*), coalesce(sum(length(row)), 0) {condition}", values
        ).get
        self._db.execute(f"DELETE {condition}", values)
        self._live_bytes -= gone[1] + gone[0] * _ROW_OVERHEAD_BYTES
        return int(gone[0])

    def _trim(self) -> None:
        """Keep the file within its limit: thin the oldest samples, then drop oldest results."""
        while self._live_bytes > self._limit_bytes:
            low, high, count = self._db.execute(
                "SELECT coalesce(min(id), 0), coalesce(max(id), 0), count(*) FROM samples"
            ).get
            if count > 64:
                middle = (low + high) // 2
                if not self._drop_rows("samples", "id <= ? AND id % 2 = 1", (middle,)):
                    self._drop_rows("samples", "id <= ?", (middle,))
                continue
            oldest = self._db.execute("SELECT min(seq) FROM results").get
            if oldest is None or oldest >= self.last_seq:
                return
            step = max(1, (self.last_seq - oldest) // 20)
            lost = self._drop_rows("results", "seq < ?", (oldest + step,))
            self._set_meta("last_seq", str(self.last_seq))
            log.error("the queue is at its limit: %d oldest results were dropped", lost)
