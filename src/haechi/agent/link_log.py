"""Warnings and errors of the agent's log also go to the server, a few a second."""

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from haechi.agent import boot
from haechi.protocol.bounds import cut
from haechi.protocol.frames import Log


class LinkLog(logging.Handler):
    def __init__(self, report: Callable[[Log], None]) -> None:
        super().__init__(logging.WARNING)
        self._report = report
        self._recent: deque[str] = deque(maxlen=5)

    def emit(self, record: logging.LogRecord) -> None:
        line = cut(record.getMessage())
        if line in self._recent:
            return
        self._recent.append(line)
        level: Any = "warning" if record.levelno < logging.ERROR else "error"
        self._report(Log(level, boot.wall_ms(), line))
