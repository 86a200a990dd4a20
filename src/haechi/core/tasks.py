"""Supervised tasks: every background coroutine has a name, an owner and a logged end.

A naked task can die unseen or be garbage-collected half-way. `Tasks` holds them, logs an
unexpected end with its traceback, restarts the ones that must live for ever, and ends all of
them at shutdown.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from haechi.errors import AppError

log = logging.getLogger(__name__)

T = TypeVar("T")


class TaskGroup(asyncio.TaskGroup):
    """asyncio's own, without what it leaves behind where a child fails while the group waits for
    them: a request to cancel the parent (Python before 3.13). The Python of Debian 12 (3.11.2) then
    takes the next time limit that is over in this task for a cancellation, and the task ends.
    """

    async def __aenter__(self) -> Self:
        self._asked_before = _this_task().cancelling()
        return await super().__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await super().__aexit__(kind, error, trace)
        except BaseExceptionGroup:
            task = _this_task()
            while task.cancelling() > self._asked_before:
                task.uncancel()
            raise


def heard() -> None:
    """The cancellation of this task was caught and is answered: it goes on, and time limits in it
    are time limits again.
    """
    task = _this_task()
    while task.cancelling():
        task.uncancel()


async def whole(work: Coroutine[Any, Any, T]) -> T:
    """`work` ends even where this task is cancelled meanwhile, which is passed on then. For steps
    that would do harm if they were left half-done; they must end by themselves, and soon.
    """
    step = asyncio.get_running_loop().create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not step.done():
        try:
            await asyncio.wait({step})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not step.cancelled() and (failed := step.exception()) is not None:
            raise cancelled from failed
        raise cancelled
    return step.result()


def _this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("no task runs")
    return task


class Tasks:
    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, name: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `work` in the background; an exception is logged when nobody awaits it."""
        loop = asyncio.get_running_loop()
        task = loop.create_task(work, name=f"{self._owner}:{name}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def forever(
        self,
        name: str,
        work: Callable[[], Coroutine[Any, Any, None]],
        *,
        retry_s: float = 1.0,
        max_retry_s: float = 30.0,
    ) -> None:
        """Run `work` again and again: it should never return; when it fails, it starts anew."""

        async def keep() -> None:
            delay_s = retry_s
            loop = asyncio.get_running_loop()
            while True:
                started = loop.time()
                try:
                    await work()
                    log.warning("task %s:%s ended and is started again", self._owner, name)
                except AppError as error:  # foreseen: somebody's absence, no bug
                    log.warning("task %s:%s is started again: %s", self._owner, name, error)
                except Exception:
                    log.exception("task %s:%s failed and is started again", self._owner, name)
                if loop.time() - started > max_retry_s:
                    delay_s = retry_s
                await asyncio.sleep(delay_s * random.uniform(0.75, 1.25))  # noqa: S311 - jitter
                delay_s = min(delay_s * 2, max_retry_s)

        _ = self.spawn(name, keep())

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, AppError):  # an answer to whoever waits for it, not a bug
            log.info("task %s: %s", task.get_name(), error)
        elif error is not None:
            log.error("task %s failed", task.get_name(), exc_info=error)

    async def close(self) -> None:
        """Cancel everything and wait until it has really ended."""
        current = asyncio.current_task()
        tasks = [task for task in self._tasks if task is not current]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
