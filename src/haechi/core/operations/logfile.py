"""One log file per operation, written in batches off the event loop.

Lines are `<RFC 3339> <text>`; a file stops growing at its limit (a build that prints for ever
must not fill the disk) and says so.
"""

import asyncio
import logging
from pathlib import Path
from typing import Final

from haechi.core.clock import Clock, to_text

log = logging.getLogger(__name__)

MAX_BYTES: Final = 16 * 1024 * 1024


class LogFile:
    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = path
        self._clock = clock
        self._lines: list[str] = []
        self._written = path.stat().st_size if path.exists() else 0
        self._full = self._written >= MAX_BYTES
        self._lock = asyncio.Lock()

    def append(self, line: str) -> str | None:
        """Queue one line; returns it as it will stand in the file, None where the file is full."""
        if self._full:
            return None
        text = f"{to_text(self._clock.now())} {line.rstrip()}"
        self._written += len(text.encode()) + 1
        if self._written >= MAX_BYTES:
            self._full = True
            text = f"{to_text(self._clock.now())} [log limit of {MAX_BYTES} bytes reached]"
        self._lines.append(text)
        return text

    async def flush(self) -> None:
        async with self._lock:
            lines, self._lines = self._lines, []
            if not lines:
                return
            try:
                await asyncio.to_thread(self._write, "\n".join(lines) + "\n")
            except OSError as error:
                # A full disk must not keep an operation from ending.
                log.warning("%d lines of %s are lost: %s", len(lines), self.path, error)

    def _write(self, text: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text)
