"""The telemetry DB: results and samples, one SQLite file opened by apsw and nothing else.

One writer thread, group commit: whatever was handed over while the last commit ran is written by
the next one, and every caller is answered after the commit that holds his rows. Domains give
functions that take many callers' payloads at once; a failing group is tried again one by one, so
that nobody suffers from another's row.

What "stored" means: the write-ahead log is flushed to the disk before the answer
(`synchronous=FULL`), so an acknowledged row survives a killed process and a power failure, as far
as the disk keeps its word. An agent deletes a row from its own queue when it hears that word, so
nothing weaker will do; group commit makes it cheap (docs/decisions/0008 has figures).

The queue is bounded by rows and bytes: beyond it callers get Overloaded (503, Retry-After) and
memory stays flat. Readers have their own read-only connections and a time limit.
"""

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import apsw

from haechi.core.db import ProcessLock
from haechi.errors import AppError, Conflict, DiskFull, Invalid, Overloaded, Text, Unavailable

log = logging.getLogger(__name__)

P = TypeVar("P")
R = TypeVar("R")

RETRY_AFTER_S: Final = 1
_GROUP_ROWS: Final = 2_000
_PROGRESS_STEPS: Final = 20_000


@dataclass(frozen=True)
class Schema:
    """A domain's part of the file. `steps` only ever grows: its length is the version."""

    name: str
    steps: tuple[str, ...]


class NewerTelemetry(Conflict):
    code = "core.telemetry_newer"
    detail = Text(
        "텔레메트리 DB의 '{part}' 부분(버전 {found})이 이 haechi({known})보다 새 버전입니다.",
        "Part '{part}' of the telemetry DB (version {found}) is newer than this haechi ({known}).",
    )
    remedy = Text(
        "더 새로운 haechi를 사용하거나 백업에서 복원하세요.",
        "Use the newer haechi, or restore from a backup.",
    )


class TelemetryBroken(Unavailable):
    code = "core.telemetry_broken"
    detail = Text(
        "텔레메트리 DB에 쓸 수 없습니다: {reason}",
        "The telemetry DB cannot be written: {reason}",
    )
    remedy = Text(
        "디스크 상태를 확인하세요. 파일이 손상되었다면 서버를 멈추고 telemetry.db를 옮긴 뒤 "
        "다시 시작하세요.",
        "Check the disk. If the file is damaged, stop the server, move telemetry.db away and "
        "start again.",
    )


class QueryTooLong(Invalid):
    code = "core.query_too_long"
    http_status = 422
    detail = Text(
        "조회가 {timeout_s}초 안에 끝나지 않았습니다.", "The query took longer than {timeout_s} s."
    )
    remedy = Text("기간을 줄이거나 조건을 추가하세요.", "Ask for less time, or narrow it down.")


class _Job:
    __slots__ = ("done", "payload", "rows", "size_bytes", "work")

    def __init__(
        self,
        work: Callable[[apsw.Connection, list[Any]], Sequence[Any]],
        payload: Any,
        rows: int,
        size_bytes: int,
        done: asyncio.Future[Any],
    ) -> None:
        self.work = work
        self.payload = payload
        self.rows = rows
        self.size_bytes = size_bytes
        self.done = done


class Telemetry:
    """Used from one event loop; the writing connection belongs to the writer thread."""

    def __init__(
        self,
        path: Path,
        *,
        schemas: Sequence[Schema],
        max_queue_rows: int = 200_000,
        max_queue_bytes: int = 12 * 1024 * 1024,
        linger_s: float = 0.002,
        readers: int = 2,
        synchronous: Literal["FULL", "NORMAL"] = "FULL",
    ) -> None:
        self._path = path
        self._schemas = schemas
        self._max_rows = max_queue_rows
        self._max_bytes = max_queue_bytes
        self._linger_s = linger_s
        self._synchronous = synchronous
        self._lock = ProcessLock(path.with_name(path.name + ".lock"))
        self._groups: queue.SimpleQueue[list[_Job] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pending: list[_Job] = []
        self._writing = False
        self._flush_due = False
        self._last_group = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._rollback_hooks: list[Callable[[], None]] = []
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="telemetry-read")
        self._local = threading.local()
        self._reader_connections: list[apsw.Connection] = []
        self.queued_rows = 0
        """Rows accepted but not yet committed."""
        self.queued_bytes = 0
        self.overloads = 0
        """How often a caller was sent away."""
        self.commits = 0

    # -- life ---------------------------------------------------------------------------------

    async def open(self) -> None:
        """Lock, open, bring the schema up to date. Raises AlreadyServed, NewerTelemetry,
        TelemetryBroken."""
        self._loop = asyncio.get_running_loop()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._lock.acquire()
        opened: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(
            target=self._write_for_ever, args=(opened,), name="telemetry-write", daemon=True
        )
        self._thread.start()
        try:
            await opened
        except BaseException:
            self._lock.release()
            raise

    async def close(self) -> None:
        """Commit what was accepted, then close the file."""
        if self._thread is None or not self._thread.is_alive():
            return
        await self._idle.wait()
        self._groups.put(None)
        await asyncio.to_thread(self._thread.join)
        self._readers.shutdown(wait=True)
        for connection in self._reader_connections:
            connection.close()
        self._lock.release()

    def on_rollback(self, hook: Callable[[], None]) -> None:
        """`hook` runs in the writer thread after a rollback: to forget cached row numbers."""
        self._rollback_hooks.append(hook)

    # -- writing ------------------------------------------------------------------------------

    def has_room(self, rows: int, size_bytes: int) -> bool:
        if not self.queued_rows:
            return True  # whatever fits a request fits an empty queue
        return (
            self.queued_rows + rows <= self._max_rows
            and self.queued_bytes + size_bytes <= self._max_bytes
        )

    def submit(
        self,
        work: Callable[[apsw.Connection, list[P]], Sequence[R]],
        payload: P,
        *,
        rows: int = 1,
        size_bytes: int = 200,
        urgent: bool = False,
    ) -> asyncio.Future[R]:
        """Hand `payload` to the next commit; the future is done after it.

        `work(connection, payloads)` runs in the writer thread with the payloads of many callers
        and answers one result for each. It must be repeatable: a group that fails is rolled back
        and done again one by one. `urgent` work is never refused for lack of room.
        Raises Overloaded.
        """
        if self._loop is None:
            raise RuntimeError("telemetry is not open")
        if not urgent and not self.has_room(rows, size_bytes):
            self.overloads += 1
            raise Overloaded(retry_after_s=RETRY_AFTER_S)
        done: asyncio.Future[R] = self._loop.create_future()
        self._pending.append(_Job(work, payload, rows, size_bytes, done))
        self.queued_rows += rows
        self.queued_bytes += size_bytes
        if not self._writing:
            self._schedule_flush()
        return done

    async def write(
        self,
        work: Callable[[apsw.Connection, list[P]], Sequence[R]],
        payload: P,
        *,
        rows: int = 1,
        size_bytes: int = 200,
        urgent: bool = False,
    ) -> R:
        """`submit` and wait until it is committed."""
        return await self.submit(work, payload, rows=rows, size_bytes=size_bytes, urgent=urgent)

    def _schedule_flush(self) -> None:
        """A lone caller is served at once; where several come, a moment is waited for more."""
        if self._flush_due or self._loop is None:
            return
        self._flush_due = True
        self._idle.clear()
        if self._last_group <= 1:
            self._loop.call_soon(self._flush)
        else:
            self._loop.call_later(self._linger_s, self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        if self._writing or not self._pending:
            return
        rows = taken = 0
        for job in self._pending:
            if taken and rows + job.rows > _GROUP_ROWS:
                break
            rows += job.rows
            taken += 1
        group, self._pending = self._pending[:taken], self._pending[taken:]
        self._writing = True
        self._last_group = taken
        self._groups.put(group)

    def _finished(self, group: list[_Job], outcomes: list[Any]) -> None:
        """On the loop: answer the callers of one group."""
        self._writing = False
        for job, outcome in zip(group, outcomes, strict=True):
            self.queued_rows -= job.rows
            self.queued_bytes -= job.size_bytes
            if job.done.done():
                continue  # the caller went away; his rows are stored all the same
            if isinstance(outcome, BaseException):
                job.done.set_exception(outcome)
            else:
                job.done.set_result(outcome)
        if self._pending:
            self._schedule_flush()
        else:
            self._idle.set()

    # -- the writer thread --------------------------------------------------------------------

    def _write_for_ever(self, opened: asyncio.Future[None]) -> None:
        assert self._loop is not None
        try:
            connection = self._open_writer()
        except Exception as error:  # noqa: BLE001 - told to the opener, whatever it is
            _tell(self._loop, opened, error)
            return
        _tell(self._loop, opened, None)
        while (group := self._groups.get()) is not None:
            outcomes = self._commit(connection, group)
            self.commits += 1
            with contextlib.suppress(RuntimeError):  # the loop was closed under us: nobody waits
                self._loop.call_soon_threadsafe(self._finished, group, outcomes)
        connection.close()

    def _open_writer(self) -> apsw.Connection:
        try:
            connection = apsw.Connection(str(self._path))
            connection.set_busy_timeout(5000)
            for pragma in (
                "journal_mode=WAL",
                f"synchronous={self._synchronous}",
                "wal_autocheckpoint=4000",
                "journal_size_limit=67108864",
                "cache_size=-12000",
                "temp_store=MEMORY",
            ):
                connection.execute(f"PRAGMA {pragma}").fetchall()
            self._migrate(connection)
        except apsw.Error as error:
            raise TelemetryBroken(reason=str(error)) from error
        return connection

    def _migrate(self, connection: apsw.Connection) -> None:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_parts ("
            " name TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT, WITHOUT ROWID"
        )
        for schema in self._schemas:
            found = connection.execute(
                "SELECT version FROM schema_parts WHERE name = ?", (schema.name,)
            ).fetchone()
            version = int(found[0]) if found else 0
            known = len(schema.steps)
            if version > known:
                raise NewerTelemetry(part=schema.name, found=version, known=known)
            if version == known:
                continue
            with connection:
                for step in schema.steps[version:]:
                    connection.execute(step)
                connection.execute(
                    "INSERT OR REPLACE INTO schema_parts VALUES (?, ?)", (schema.name, known)
                )

    def _commit(self, connection: apsw.Connection, group: list[_Job]) -> list[Any]:
        try:
            return self._transaction(connection, group)
        except Exception as error:  # noqa: BLE001 - becomes the callers' answer
            if len(group) == 1:
                return [_as_app_error(error)]
        return [outcome for job in group for outcome in self._commit(connection, [job])]

    def _transaction(self, connection: apsw.Connection, group: list[_Job]) -> list[Any]:
        connection.execute("BEGIN IMMEDIATE")
        try:
            outcomes = _run(connection, group)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            for hook in self._rollback_hooks:
                hook()
            raise
        return outcomes

    # -- reading ------------------------------------------------------------------------------

    async def read(self, query: Callable[[apsw.Connection], R], *, timeout_s: float = 10.0) -> R:
        """Run `query` on a read-only connection. Raises QueryTooLong."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self._read, query, timeout_s)

    def _read(self, query: Callable[[apsw.Connection], R], timeout_s: float) -> R:
        connection: apsw.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = apsw.Connection(str(self._path), flags=apsw.SQLITE_OPEN_READONLY)
            connection.set_busy_timeout(5000)
            connection.execute("PRAGMA query_only=ON")
            connection.execute("PRAGMA cache_size=-8000")
            self._local.connection = connection
            self._reader_connections.append(connection)
        deadline = time.monotonic() + timeout_s
        connection.set_progress_handler(lambda: time.monotonic() > deadline, _PROGRESS_STEPS)
        try:
            connection.execute("BEGIN")
            return query(connection)
        except apsw.InterruptError as error:
            raise QueryTooLong(timeout_s=timeout_s) from error
        finally:
            connection.set_progress_handler(None)
            if connection.in_transaction:
                connection.execute("ROLLBACK")


def _run(connection: apsw.Connection, group: list[_Job]) -> list[Any]:
    """Do the jobs in order; neighbours of one kind go to their function together."""
    outcomes: list[Any] = []
    first = 0
    for index in range(1, len(group) + 1):
        if index == len(group) or group[index].work != group[first].work:
            work = group[first].work
            outcomes += work(connection, [job.payload for job in group[first:index]])
            first = index
    if len(outcomes) != len(group):
        raise RuntimeError("a telemetry writer must answer once per payload")
    return outcomes


def _tell(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[None], error: Exception | None
) -> None:
    def settle() -> None:
        if future.done():
            return
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)

    loop.call_soon_threadsafe(settle)


def _as_app_error(error: BaseException) -> BaseException:
    if isinstance(error, apsw.FullError):
        return DiskFull(where="telemetry")
    if isinstance(error, (apsw.IOError, apsw.CorruptError, apsw.NotADBError, apsw.ReadOnlyError)):
        log.error("telemetry DB: %s", error)
        return TelemetryBroken(reason=str(error))
    if not isinstance(error, AppError):
        log.error("a telemetry write failed", exc_info=error)
    return error
