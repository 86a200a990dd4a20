"""An operation while it runs in this process: what its steps see, and what is told of it."""

import contextlib
import logging
from pathlib import Path
from typing import Any

from haechi.core import ids
from haechi.core.bus import Bus
from haechi.core.clock import Clock, to_text
from haechi.core.db import Database
from haechi.core.operations import store
from haechi.core.operations.logfile import LogFile
from haechi.core.operations.model import InternalFault, Operation

log = logging.getLogger(__name__)


class Running:
    """The `Run` that steps see."""

    def __init__(
        self, db: Database, bus: Bus, clock: Clock, log_path: Path, operation: Operation
    ) -> None:
        self._db = db
        self._bus = bus
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
        self.file = LogFile(log_path, clock)

    def log(self, line: str) -> None:
        for part in line.splitlines() or [""]:
            text = self.file.append(part)
            if text is not None:
                self._bus.publish(f"log:{self.id}", text)

    def progress(self, ratio: float | None, text: str = "") -> None:
        self.progress_ratio = ratio if ratio is None else min(max(ratio, 0.0), 1.0)
        self.progress_text = text[:200]
        self.progress_changed = True

    async def save(self) -> None:
        async with self._db.write() as tx:
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


def fault_of(run: Running, error: BaseException) -> InternalFault:
    fault_id = ids.new_id("request")
    log.error("operation %s: fault %s", run.id, fault_id, exc_info=error)
    with contextlib.suppress(OSError):
        run.log(f"!! internal error, id {fault_id}")
    return InternalFault(fault_id=fault_id)
