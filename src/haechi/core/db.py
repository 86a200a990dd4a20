"""The control DB: SQLAlchemy on SQLite today, PostgreSQL later; SQL is kept portable.

One process opens the file (lock file beside it). Writes go through one engine that begins with
BEGIN IMMEDIATE and are serialised in the process, so a read-then-write can never lose an update;
reads use a second engine that is query_only. Domain stores receive the session; services own the
transaction.

Whoever is cancelled is cancelled between two steps of the database, never within one: a connection
that is closed while its thread still works would keep the file locked, or whoever waits for it.
"""

import asyncio
import contextlib
import fcntl
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

import aiosqlite
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from haechi.core.tasks import whole
from haechi.errors import Conflict, Text, Upstream

NAMING: Final = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}

# Deep JSON is read with .as_string() so that both dialects agree.
Json = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


class UtcDateTime(sa.TypeDecorator[datetime]):
    """Aware UTC datetimes. SQLite would silently store naive local numbers otherwise."""

    impl = sa.DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        del dialect
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("naive datetime for the control DB")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        del dialect
        return None if value is None else value.replace(tzinfo=UTC)


class Base(DeclarativeBase):
    """All tables of the control DB; migrations are compared against this metadata."""

    metadata = sa.MetaData(naming_convention=NAMING)


class AlreadyServed(Conflict):
    code = "core.data_dir_in_use"
    detail = Text(
        "데이터 폴더 {path}을(를) 다른 haechi 프로세스(pid {pid})가 사용 중입니다.",
        "The data folder {path} is in use by another haechi process (pid {pid}).",
    )
    remedy = Text(
        "그 프로세스를 먼저 끝내거나 다른 --data-dir을 지정하세요.",
        "Stop that process first, or give another --data-dir.",
    )


class DataFolderUnusable(Upstream):
    code = "core.data_dir_unusable"
    detail = Text(
        "데이터 폴더 {path}을(를) 사용할 수 없습니다: {reason}",
        "The data folder {path} cannot be used: {reason}",
    )
    remedy = Text(
        "폴더의 권한과 디스크를 확인하거나 다른 --data-dir을 지정하세요.",
        "Check its permissions and the disk, or give another --data-dir.",
    )


class DatabaseDamaged(Upstream):
    code = "core.database_damaged"
    detail = Text(
        "데이터베이스 {path}을(를) 읽을 수 없습니다: {reason}",
        "The database {path} cannot be read: {reason}",
    )
    remedy = Text(
        "디스크를 확인하고 백업해 둔 데이터 폴더를 되돌리세요.",
        "Check the disk, and put the data folder back from a backup.",
    )


class DatabaseNewer(Conflict):
    code = "core.database_newer"
    detail = Text(
        "데이터베이스 {path}은(는) 더 새로운 haechi에서 만든 것입니다 ({revision}).",
        "The database {path} was made by a newer haechi ({revision}).",
    )
    remedy = Text(
        "더 새로운 haechi를 사용하거나 백업을 되돌리세요.",
        "Use the newer haechi, or restore from a backup.",
    )


class ProcessLock:
    """One process per data folder; the kernel frees it when the process dies."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    def acquire(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            folder = str(self._path.parent)
            raise DataFolderUnusable(path=folder, reason=error.strerror) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = os.read(fd, 32).decode().strip() or "?"
            os.close(fd)
            raise AlreadyServed(path=str(self._path.parent), pid=pid) from error
        os.ftruncate(fd, 0)
        os.write(fd, str(os.getpid()).encode())
        self._fd = fd

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


_AFTER_COMMIT: Final = "after_commit"


def after_commit(tx: AsyncSession, action: Callable[[], None]) -> None:
    """For what is kept in memory beside the DB: `action` runs, in the order given and before the
    next transaction, once this one is committed; never where it is rolled back.
    """
    tx.info.setdefault(_AFTER_COMMIT, []).append(action)


class Database:
    """`write()` and `read()` give a session inside a transaction; leaving commits or rolls back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        url = f"sqlite+aiosqlite:///{path}"
        by = {"async_creator_fn": _Connection.to}
        self._writer = create_async_engine(url, pool_size=1, max_overflow=0, connect_args=by)
        self._reader = create_async_engine(url, pool_size=4, max_overflow=4, connect_args=by)
        self._write_lock = asyncio.Lock()
        _prepare(self._writer, begin="BEGIN IMMEDIATE", query_only=False)
        _prepare(self._reader, begin="BEGIN", query_only=True)

    @property
    def engine(self) -> AsyncEngine:
        """The writing engine, for migrations only."""
        return self._writer

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """One transaction at a time; keep it short and await nothing slow inside."""
        async with self._write_lock, AsyncSession(self._writer, expire_on_commit=False) as session:
            _ = await session.begin()
            yield session  # leaving the session rolls back what is not committed
            await whole(_commit(session))

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        async with (
            AsyncSession(self._reader, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    async def create_all(self) -> None:
        """Create every table without migrations: for tests only, which do it a thousand times."""
        async with self._writer.connect() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            await driver.executescript(_script(tuple(Base.metadata.tables)))

    async def close(self) -> None:
        await self._reader.dispose()
        await self._writer.dispose()


async def _commit(session: AsyncSession) -> None:
    await session.commit()
    actions: list[Callable[[], None]] = session.info.get(_AFTER_COMMIT, [])
    for action in actions:
        action()


class _Unlocking(sqlite3.Connection):
    """Closed, it lets go of the file at once: with a statement that nobody has let go of yet, it
    would stay open within SQLite, and so would its transaction.
    """

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):  # a disk that fails; it is closed all the same
            self.rollback()
        super().close()


class _Connection(aiosqlite.Connection):
    """Each step of it ends before its caller's cancellation is passed on, and it ends once."""

    _ending: asyncio.Future[Any] | None = None

    @classmethod
    def to(cls, path: str, **options: Any) -> "_Connection":
        opening = partial(sqlite3.connect, path, factory=_Unlocking, **options)
        made = cls(opening, iter_chunk_size=64)
        made._thread.daemon = True  # as SQLAlchemy has it for those that it makes itself
        return made

    async def _execute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return await super()._execute(fn, *args, **kwargs)  # type: ignore[no-untyped-call]
        except asyncio.CancelledError:
            await whole(self._idle())
            raise

    async def _idle(self) -> None:
        """Its thread takes one step after the other: what it does has ended when this one has."""
        if self._ending is None:
            await super()._execute(bool)  # type: ignore[no-untyped-call]
        else:
            await asyncio.wait({self._ending})

    def stop(self) -> asyncio.Future[Any] | None:
        """Closed by its thread, after all that it was asked to do."""
        if self._ending is None:
            self._ending = super().stop()
        return self._ending

    async def close(self) -> None:
        if (ending := self.stop()) is not None:
            await asyncio.wait({ending})


@lru_cache
def _script(tables: tuple[str, ...]) -> str:
    """SQL that makes those tables: writing it costs ten times what running it does."""
    made: list[sa.schema.ExecutableDDLElement] = []
    for name in tables:
        table = Base.metadata.tables[name]
        made.append(sa.schema.CreateTable(table, if_not_exists=True))
        made += [sa.schema.CreateIndex(index, if_not_exists=True) for index in table.indexes]
    texts = [str(one.compile(dialect=sqlite.dialect())) for one in made]
    return ";\n".join(["BEGIN IMMEDIATE", *texts, "COMMIT", ""])


def _prepare(engine: AsyncEngine, *, begin: str, query_only: bool) -> None:
    def on_connect(connection: Any, record: Any) -> None:
        del record
        connection.isolation_level = None  # the begin event below decides, not the driver
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA busy_timeout=5000")
        cursor.execute(f"PRAGMA query_only={'ON' if query_only else 'OFF'}")
        cursor.close()

    def on_begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)

    sa.event.listen(engine.sync_engine, "connect", on_connect)
    sa.event.listen(engine.sync_engine, "begin", on_begin)
