"""Calls that take long: held for the caller, joined by the same call, alive without a connection.

A running call is known by what it asks (`key`) and by what it works on (`subjects`). The same call
again waits for the same work; another one on a busy subject is told who holds it.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Final

from haechi.core.tasks import Tasks
from haechi.errors import AppError
from haechi.interop.bodies import ClientGone
from haechi.interop.codes import Refusal, reply
from haechi.interop.problems import to_refusal

Disconnected = Callable[[], Awaitable[None]]
"""Returns once the caller has hung up."""

_NAME_S: Final = 2.0
"""How long to wait for the operation id of whoever holds a subject."""


class Progress:
    """What the work tells about itself while it runs."""

    def __init__(self) -> None:
        self.operation_id = ""
        self.named = asyncio.Event()

    def operation(self, operation_id: str) -> None:
        self.operation_id = operation_id
        self.named.set()


Work = Callable[[Progress], Awaitable[dict[str, Any]]]


class _Running:
    def __init__(self, key: str, subjects: frozenset[str]) -> None:
        self.key = key
        self.subjects = subjects
        self.progress = Progress()
        self.ended = asyncio.Event()
        self.reply: dict[str, Any] = {}
        self.error: Exception | None = None


class HeldCalls:
    """`wait_s` 0: a call is answered when it is done."""

    def __init__(self, wait_s: Callable[[], float]) -> None:
        self._wait_s = wait_s
        self._tasks = Tasks("interop")
        self._running: dict[str, _Running] = {}

    async def close(self) -> None:
        await self._tasks.close()

    async def run(
        self, key: str, subjects: Iterable[str], work: Work, *, disconnected: Disconnected
    ) -> dict[str, Any]:
        """The reply. Raises what the work raised, Refusal 9999 (busy), ClientGone."""
        running = self._running.get(key)
        if running is None:
            running = await self._begin(key, frozenset(subjects), work)
        ended = await self._wait(running, disconnected)
        if running.error is not None:
            raise _with_operation(running.error, running.progress)
        if not ended or not running.reply:  # empty: the server stops, the operation goes on
            return reply("0000", operation_id=running.progress.operation_id, state="running")
        return running.reply

    def is_running(self, subject: str) -> bool:
        """Whether anything works on it now."""
        return any(subject in one.subjects for one in self._running.values())

    async def _begin(self, key: str, subjects: frozenset[str], work: Work) -> _Running:
        holder = next((one for one in self._running.values() if one.subjects & subjects), None)
        if holder is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_NAME_S):
                    await holder.progress.named.wait()
            raise busy(holder.progress.operation_id)
        running = _Running(key, subjects)
        self._running[key] = running
        _ = self._tasks.spawn(key[:80], self._work(running, work))
        return running

    async def _work(self, running: _Running, work: Work) -> None:
        try:
            running.reply = await work(running.progress)
        except AppError as error:
            running.error = to_refusal(error)
        except Exception as error:  # noqa: BLE001 - kept for all who wait; the application tells them
            running.error = error
        finally:
            del self._running[running.key]
            running.ended.set()
            running.progress.named.set()

    async def _wait(self, running: _Running, disconnected: Disconnected) -> bool:
        """False where it is still running when the time to hold it is over."""
        wait_s = self._wait_s()
        async with _watching(disconnected) as gone:
            ended = self._tasks.spawn("wait", running.ended.wait())
            try:
                _ = await asyncio.wait(
                    {ended, gone},
                    timeout=wait_s or None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
            finally:
                ended.cancel()
        if running.ended.is_set():
            return True
        if gone.done() and not gone.cancelled():
            raise ClientGone
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_NAME_S):
                await running.progress.named.wait()
        return running.ended.is_set()


@contextlib.asynccontextmanager
async def _watching(disconnected: Disconnected) -> AsyncIterator[asyncio.Task[None]]:
    tasks = Tasks("interop-caller")
    try:
        yield tasks.spawn("gone", _until(disconnected))
    finally:
        await tasks.close()


async def _until(disconnected: Disconnected) -> None:
    await disconnected()


def busy(operation_id: str) -> Refusal:
    return Refusal(
        "9999",
        f"같은 대상에 다른 작업({operation_id})이 진행 중입니다. 끝난 뒤 다시 보내세요.",
        f"Another operation ({operation_id}) is running on it; send it again when that has ended.",
        more={"busy_with": operation_id},
    )


def _with_operation(error: Exception, progress: Progress) -> Exception:
    if isinstance(error, Refusal) and "busy_with" not in error.more and progress.operation_id:
        error.more.setdefault("operation_id", progress.operation_id)
        error.more.setdefault("state", "failed")
    return error


def key_of(path: str, values: dict[str, Any]) -> str:
    """The same call has the same key."""
    return path + json.dumps(values, sort_keys=True, ensure_ascii=True, default=str)
