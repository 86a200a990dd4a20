"""Runs operations: woken by events, no polling; see the package docstring for the promises."""

import asyncio
import contextlib
import logging
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from haechi import __version__
from haechi.core import ids
from haechi.core.bus import Bus
from haechi.core.clock import Clock, to_text
from haechi.core.db import Database
from haechi.core.operations import store
from haechi.core.operations.logfile import LogFile
from haechi.core.operations.model import (
    CrashedRepeatedly,
    Definition,
    InternalFault,
    NotCancellable,
    Operation,
    Permanent,
    State,
    Step,
    StepTimedOut,
    Temporary,
    UnknownKind,
)
from haechi.core.pages import DEFAULT_LIMIT, Page
from haechi.core.tasks import Tasks
from haechi.errors import AppError, DiskFull

log = logging.getLogger(__name__)

ATTEMPT_LIMIT: Final = 5
_FLUSH_S: Final = 0.2
_ENOSPC: Final = 28


class Operations:
    """Register definitions first, then `start_engine()`; `close()` leaves the rest for later."""

    def __init__(self, db: Database, bus: Bus, clock: Clock, log_dir: Path) -> None:
        self._db = db
        self._bus = bus
        self._clock = clock
        self._log_dir = log_dir
        self._definitions: dict[str, Definition] = {}
        self._slots: dict[str, asyncio.Semaphore] = {}
        self._tasks = Tasks("operations")
        self._running: dict[str, asyncio.Task[None]] = {}
        self._live: dict[str, _Running] = {}
        self._waiters: dict[str, list[asyncio.Future[Operation]]] = {}
        self._closing = False

    def register(self, definition: Definition) -> None:
        names = [step.name for step in definition.steps]
        if len(set(names)) != len(names) or definition.kind in self._definitions:
            raise ValueError(f"operation kind {definition.kind}: names must be unique")
        self._definitions[definition.kind] = definition
        self._slots[definition.kind] = asyncio.Semaphore(definition.parallel)

    def definition(self, kind: str) -> Definition | None:
        return self._definitions.get(kind)

    async def start_engine(self) -> None:
        """Resume every operation that was active when the last process ended."""
        async with self._db.read() as tx:
            active = await store.active(tx)
        for operation in active:
            log.info("resuming operation %s (%s)", operation.id, operation.kind)
            self._launch(operation)
        self._tasks.forever("flush", self._flush_forever)

    async def close(self) -> None:
        """Stop running steps; their operations stay active and are resumed at the next start."""
        self._closing = True
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._tasks.close()
        for run in self._live.values():
            await run.file.flush()

    async def start(
        self,
        kind: str,
        subject: str,
        ctx: dict[str, Any],
        *,
        requested_by: str,
        parent_id: str | None = None,
    ) -> Operation:
        """Save and begin an operation. Raises Busy where the subject has an active one."""
        if kind not in self._definitions:
            raise UnknownKind(kind=kind)
        operation = Operation(
            id=ids.new_id("operation"),
            kind=kind,
            subject=subject,
            state=State.QUEUED,
            step=None,
            done=[],
            ctx=ctx,
            progress_ratio=None,
            progress_text="",
            error=None,
            requested_by=requested_by,
            parent_id=parent_id,
            attempts=0,
            release=__version__,
            created_at=self._clock.now(),
            started_at=None,
            ended_at=None,
        )
        async with self._db.write() as tx:
            await store.add(tx, operation)
        self._announce(operation)
        self._launch(operation)
        return operation

    async def get(self, operation_id: str) -> Operation:
        """The operation as saved, with the live progress where it is running."""
        async with self._db.read() as tx:
            operation = await store.get(tx, operation_id)
        live = self._live.get(operation_id)
        if live is None or operation.state.ended:
            return operation
        return replace(
            operation, progress_ratio=live.progress_ratio, progress_text=live.progress_text
        )

    async def find(
        self,
        *,
        subject: str | None = None,
        state: State | None = None,
        parent_id: str | None = None,
        limit: int = DEFAULT_LIMIT,
        cursor: str | None = None,
    ) -> Page[Operation]:
        async with self._db.read() as tx:
            return await store.find(
                tx, subject=subject, state=state, parent_id=parent_id, limit=limit, cursor=cursor
            )

    async def active_on(self, subject: str) -> Operation | None:
        async with self._db.read() as tx:
            return await store.active_on(tx, subject)

    async def wait(self, operation_id: str) -> Operation:
        """Wait until it has ended; cancelling the wait does not cancel the operation."""
        future: asyncio.Future[Operation] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(operation_id, []).append(future)
        try:
            operation = await self.get(operation_id)
            return operation if operation.state.ended else await future
        finally:
            waiters = self._waiters.get(operation_id, [])
            if future in waiters:
                waiters.remove(future)
            if not waiters:
                self._waiters.pop(operation_id, None)

    async def cancel(self, operation_id: str) -> Operation:
        """Ask it to stop. It ends as `cancelled` once its step has stopped and is undone."""
        async with self._db.write() as tx:
            operation = await store.get(tx, operation_id)
            if operation.state.ended:
                raise NotCancellable(id=operation_id)
            await store.update(tx, operation_id, state=State.CANCELLING)
        self._announce(replace(operation, state=State.CANCELLING))
        live = self._live.get(operation_id)
        if live is not None:
            live.cancel_asked = True
            if not live.undoing:
                self._running[operation_id].cancel()
        return replace(operation, state=State.CANCELLING)

    def log_path(self, operation_id: str) -> Path:
        return self._log_dir / f"{operation_id}.log"

    async def flush_log(self, operation_id: str) -> None:
        """Bring what was logged so far to disk, for a reader."""
        live = self._live.get(operation_id)
        if live is not None:
            await live.file.flush()

    async def forget_ended(self, *, older_than: timedelta) -> int:
        """Retention: delete ended operations and their logs; returns how many."""
        async with self._db.write() as tx:
            old = await store.ended_before(tx, self._clock.now() - older_than)
            await store.delete(tx, old)
        for operation_id in old:
            await asyncio.to_thread(self.log_path(operation_id).unlink, missing_ok=True)
        return len(old)

    def _launch(self, operation: Operation) -> None:
        if self._closing:
            return
        task = self._tasks.spawn(operation.id, self._drive(operation))
        self._running[operation.id] = task
        task.add_done_callback(lambda _: self._running.pop(operation.id, None))

    async def _drive(self, operation: Operation) -> None:
        definition = self._definitions.get(operation.kind)
        if definition is None:
            # Kept as it is: a newer release that knows the kind will finish it.
            log.error("operation %s: unknown kind %s", operation.id, operation.kind)
            return
        run = _Running(self, operation)
        run.cancel_asked = operation.state == State.CANCELLING
        self._live[operation.id] = run
        try:
            async with self._slots[operation.kind]:
                if not run.cancel_asked:
                    await self._begin(run)
                error = await self._perform(definition, run)
                state = State.SUCCEEDED
                if error is not None or run.cancel_asked:
                    run.undoing = True
                    await self._undo(definition, run)
                    state = State.CANCELLED if run.cancel_asked else State.FAILED
                await self._finish(definition, run, state, error)
        except asyncio.CancelledError:
            # Cancelled while queued for a slot or between steps by `cancel()`; at shutdown the
            # row stays active and is resumed.
            if not self._closing and run.cancel_asked:
                run.undoing = True
                await self._undo(definition, run)
                await self._finish(definition, run, State.CANCELLED, None)
            else:
                if self._closing:
                    await self._uncount(run)
                raise
        finally:
            await run.file.flush()
            self._live.pop(operation.id, None)

    async def _begin(self, run: "_Running") -> None:
        now = self._clock.now()
        run.begun = True
        run.operation = replace(
            run.operation,
            state=State.RUNNING,
            attempts=run.operation.attempts + 1,
            started_at=run.operation.started_at or now,
        )
        async with self._db.write() as tx:
            await store.update(
                tx,
                run.id,
                state=State.RUNNING,
                attempts=run.operation.attempts,
                started_at=run.operation.started_at,
            )
        self._announce(run.operation)

    async def _uncount(self, run: "_Running") -> None:
        """An orderly end is not the operation's doing: only crashes count against it."""
        if run.begun:
            async with self._db.write() as tx:
                await store.update(tx, run.id, attempts=run.operation.attempts - 1)

    async def _perform(self, definition: Definition, run: "_Running") -> AppError | None:
        """Run the steps that are not done; returns the error that stopped them, if any."""
        finished = {definition.renamed.get(name, name) for name in run.operation.done}
        if run.operation.attempts > ATTEMPT_LIMIT:
            return CrashedRepeatedly(step=run.operation.step or "", attempts=ATTEMPT_LIMIT)
        for step in definition.steps:
            if run.cancel_asked:
                return None
            if step.name in finished:
                continue
            run.operation = replace(run.operation, step=step.name)
            await run.save()
            self._announce(run.operation)
            run.log(f"== {step.name}: {step.title.en}")
            try:
                await self._do(step, run)
            except AppError as error:
                run.log(f"!! {error}")
                return error
            except asyncio.CancelledError:
                if run.cancel_asked and not self._closing:
                    task = asyncio.current_task()
                    if task is not None:
                        task.uncancel()
                    run.log("-- cancelled")
                    return None
                raise
            run.operation = replace(run.operation, done=[*run.operation.done, step.name])
            await run.save()
        return None

    async def _do(self, step: Step, run: "_Running") -> None:
        """One step with its time limit and retries; only AppError (or cancellation) leaves."""
        for attempt in range(step.temporary_limit + 1):
            try:
                async with asyncio.timeout(step.timeout_s):
                    await step.do(run)
                return
            except Temporary as word:
                if attempt == step.temporary_limit:
                    raise word.error from word
                run.log(f"-- {word.error}; again in {word.retry_in_s:g} s")
                await self._clock.sleep(word.retry_in_s)
            except Permanent as word:
                raise word.error from word
            except AppError:
                raise
            except TimeoutError as error:
                raise StepTimedOut(step=step.name, timeout_s=step.timeout_s) from error
            except OSError as error:
                if error.errno == _ENOSPC:
                    raise DiskFull(where=str(error.filename or "")) from error
                raise _fault(run, error) from error
            except Exception as error:
                raise _fault(run, error) from error

    async def _undo(self, definition: Definition, run: "_Running") -> None:
        touched = {definition.renamed.get(name, name) for name in run.operation.done}
        touched |= {run.operation.step or ""}
        for step in reversed(definition.steps):
            if step.undo is None or step.name not in touched:
                continue
            run.log(f"== undo {step.name}")
            try:
                async with asyncio.timeout(step.timeout_s):
                    await step.undo(run)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                log.warning("operation %s: undo of %s failed", run.id, step.name, exc_info=error)
                run.log(f"!! undo {step.name}: {type(error).__name__}")
        await run.save()

    async def _finish(
        self, definition: Definition, run: "_Running", state: State, error: AppError | None
    ) -> None:
        run.operation = replace(
            run.operation,
            state=state,
            ctx=run.ctx,
            error={"code": error.code, "data": error.data} if error else None,
            progress_ratio=1.0 if state == State.SUCCEEDED else run.progress_ratio,
            progress_text=run.progress_text,
            ended_at=self._clock.now(),
        )
        run.log(f"== {state}")
        await run.file.flush()
        if definition.on_end is not None:
            await definition.on_end(run.operation)
        async with self._db.write() as tx:
            await store.update(
                tx,
                run.id,
                state=state,
                error=run.operation.error,
                ctx=run.ctx,
                progress_ratio=run.operation.progress_ratio,
                progress_text=run.operation.progress_text,
                ended_at=run.operation.ended_at,
            )
        self._announce(run.operation)
        for waiter in self._waiters.pop(run.id, []):
            if not waiter.done():
                waiter.set_result(run.operation)

    def _announce(self, operation: Operation) -> None:
        self._bus.publish("operations", summary(operation))

    async def _flush_forever(self) -> None:
        while True:
            await self._clock.sleep(_FLUSH_S)
            for run in list(self._live.values()):
                await run.file.flush()
                if run.progress_changed:
                    run.progress_changed = False
                    self._announce(
                        replace(
                            run.operation,
                            progress_ratio=run.progress_ratio,
                            progress_text=run.progress_text,
                        )
                    )


class _Running:
    """The `Run` that steps see."""

    def __init__(self, engine: Operations, operation: Operation) -> None:
        self._engine = engine
        self.operation = operation
        self.ctx: dict[str, Any] = dict(operation.ctx)
        self.id = operation.id
        self.kind = operation.kind
        self.subject = operation.subject
        self.cancel_asked = False
        self.undoing = False
        self.begun = False
        """It has had its turn in this process."""
        self.progress_ratio = operation.progress_ratio
        self.progress_text = operation.progress_text
        self.progress_changed = False
        self.file = LogFile(engine.log_path(operation.id), engine._clock)  # noqa: SLF001 - same module

    def log(self, line: str) -> None:
        for part in line.splitlines() or [""]:
            text = self.file.append(part)
            if text is not None:
                self._engine._bus.publish(f"log:{self.id}", text)  # noqa: SLF001 - same module

    def progress(self, ratio: float | None, text: str = "") -> None:
        self.progress_ratio = ratio if ratio is None else min(max(ratio, 0.0), 1.0)
        self.progress_text = text[:200]
        self.progress_changed = True

    async def save(self) -> None:
        async with self._engine._db.write() as tx:  # noqa: SLF001 - same module
            await store.update(
                tx, self.id, step=self.operation.step, done=self.operation.done, ctx=self.ctx
            )


def summary(operation: Operation) -> dict[str, Any]:
    """The message on the `operations` topic: no ctx, which may be large."""
    return {
        "id": operation.id,
        "kind": operation.kind,
        "subject": operation.subject,
        "state": operation.state.value,
        "step": operation.step,
        "progress_ratio": operation.progress_ratio,
        "progress_text": operation.progress_text,
        "error": operation.error,
        "created_at": to_text(operation.created_at),
        "ended_at": to_text(operation.ended_at) if operation.ended_at else None,
    }


def _fault(run: _Running, error: BaseException) -> InternalFault:
    fault_id = ids.new_id("request")
    log.error("operation %s: fault %s", run.id, fault_id, exc_info=error)
    with contextlib.suppress(OSError):
        run.log(f"!! internal error, id {fault_id}")
    return InternalFault(fault_id=fault_id)
