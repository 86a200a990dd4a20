"""Runs operations: woken by events, no polling; see the package docstring for the promises."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from haechi import __version__
from haechi.core import ids
from haechi.core.bus import Bus
from haechi.core.clock import Clock
from haechi.core.db import Database
from haechi.core.operations import store
from haechi.core.operations.model import (
    CrashedRepeatedly,
    Definition,
    NotCancellable,
    Operation,
    Permanent,
    State,
    Step,
    StepTimedOut,
    Temporary,
    UnknownKind,
)
from haechi.core.operations.running import Running, fault_of, summary
from haechi.core.pages import DEFAULT_LIMIT, Page
from haechi.core.tasks import Tasks, heard
from haechi.errors import AppError, DiskFull

log = logging.getLogger(__name__)

ATTEMPT_LIMIT: Final = 5
END_AGAIN_S: Final = 2.0
"""Pause before the end of an operation is saved again where the control DB refused it."""
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
        self._giving_way: set[str] = set()
        self._slots: dict[str, asyncio.Semaphore] = {}
        self._tasks = Tasks("operations")
        self._running: dict[str, asyncio.Task[None]] = {}
        self._live: dict[str, Running] = {}
        self._waiters: dict[str, list[asyncio.Future[Operation]]] = {}
        self._closing = False

    def register(self, definition: Definition) -> None:
        names = [step.name for step in definition.steps]
        if len(set(names)) != len(names) or definition.kind in self._definitions:
            raise ValueError(f"operation kind {definition.kind}: names must be unique")
        self._definitions[definition.kind] = definition
        if definition.gives_way:
            self._giving_way.add(definition.kind)
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
        claims: Sequence[str] = (),
    ) -> Operation:
        """Save and begin an operation. Raises Busy where the subject has an active one or is
        claimed, or somebody is at work on what this one `claims` beside its subject.
        """
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
            claims=list(claims),
            attempts=0,
            release=__version__,
            created_at=self._clock.now(),
            started_at=None,
            ended_at=None,
        )
        async with self._db.write() as tx:
            await store.add(tx, operation, giving_way=self._giving_way)
        self._announce(operation)
        self._launch(operation)
        return operation

    async def claim(self, operation_id: str, subjects: Sequence[str]) -> None:
        """For one that is on its way: from now on until it ends nobody else is at work on these.
        Raises Busy where somebody is.
        """
        async with self._db.write() as tx:
            await store.claim(tx, operation_id, subjects, giving_way=self._giving_way)

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

    async def at_work_on(self, subject: str, *, hindering: bool = False) -> Operation | None:
        """One that is active on it or on something below it, or claims it. `hindering`: none that
        would give way to a claim.
        """
        but = self._giving_way if hindering else ()
        async with self._db.read() as tx:
            return await store.at_work_on(tx, subject, but=but)

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
        # Asked once: its step may be ending on a host what it began there.
        if live is not None and not live.cancel_asked:
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
        run = Running(self._db, self._bus, self._clock, self.log_path(operation.id), operation)
        run.cancel_asked = operation.state == State.CANCELLING
        self._live[operation.id] = run
        try:
            await self._run_to_its_end(definition, run)
        except Exception as error:  # noqa: BLE001 - it must end, or it holds its subject for ever
            await self._end_as_fault(definition, run, error)
        finally:
            await run.file.flush()
            self._live.pop(operation.id, None)

    async def _run_to_its_end(self, definition: Definition, run: Running) -> None:
        try:
            async with self._slots[run.kind]:
                if not run.cancel_asked:
                    await self._begin(run)
                error = await self._perform(definition, run)
                state = State.SUCCEEDED
                if error is not None or run.cancel_asked:
                    await self._undo(definition, run)
                    state = State.CANCELLED if run.cancel_asked else State.FAILED
                await self._finish(definition, run, state, error)
        except asyncio.CancelledError:
            # Cancelled while queued for a slot or between steps by `cancel()`; at shutdown the
            # row stays active and is resumed.
            if not self._closing and run.cancel_asked:
                heard()
                await self._undo(definition, run)
                await self._finish(definition, run, State.CANCELLED, None)
            else:
                if self._closing:
                    await self._uncount(run)
                raise

    async def _end_as_fault(self, definition: Definition, run: Running, error: Exception) -> None:
        """What went wrong outside the steps is a bug or a control DB that cannot be written: what
        was begun is undone, and the end is saved as soon as it can be.
        """
        fault = fault_of(run, error)
        finished = len(run.operation.done) == len(definition.steps)
        if not run.undoing and not finished:
            await self._undo(definition, run)
        run.undoing = True
        while True:
            try:
                async with self._db.read() as tx:
                    run.ctx = (await store.get(tx, run.id)).ctx  # the last that could be saved
                await self._finish(definition, run, State.FAILED, fault, held_by_end=False)
            except Exception:
                log.exception("operation %s: its end could not be saved", run.id)
                await self._clock.sleep(END_AGAIN_S)
            else:
                return

    async def _begin(self, run: Running) -> None:
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

    async def _uncount(self, run: Running) -> None:
        """An orderly end is not the operation's doing: only crashes count against it."""
        if run.begun:
            async with self._db.write() as tx:
                await store.update(tx, run.id, attempts=run.operation.attempts - 1)

    async def _perform(self, definition: Definition, run: Running) -> AppError | None:
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
                    heard()
                    run.log("-- cancelled")
                    return None
                raise
            run.operation = replace(run.operation, done=[*run.operation.done, step.name])
            await run.save()
        return None

    async def _do(self, step: Step, run: Running) -> None:
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
                raise fault_of(run, error) from error
            except Exception as error:
                raise fault_of(run, error) from error

    async def _undo(self, definition: Definition, run: Running) -> None:
        run.undoing = True
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

    async def _finish(
        self,
        definition: Definition,
        run: Running,
        state: State,
        error: AppError | None,
        *,
        held_by_end: bool = True,
    ) -> None:
        """`held_by_end`: where `on_end` fails, so does this."""
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
            try:
                await definition.on_end(run.operation)
            except Exception:
                if held_by_end:
                    raise
                log.exception("operation %s: on_end failed", run.id)
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
