"""What a command says while it works: progress of a pull, lines of a log; never a flood.

Both ends may be faster than the other: an AI that prints without end, a link that is slow.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Final

from msgspec import Struct

from haechi.adapters.docker_logs import LogLine as EngineLine
from haechi.agent import boot
from haechi.protocol import commands as c

PROGRESS_S: Final = 0.25
LOG_BUFFER_LINES: Final = 5_000
LOG_CHUNK_LINES: Final = 200
LOG_PAUSE_S: Final = 0.1

Say = Callable[[Struct], Awaitable[None]]


class PullReport:
    """Sums up the layers of a pull and says so a few times a second."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._layers: dict[str, tuple[int, int]] = {}
        self._text = ""
        self._new = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def see(self, line: dict[str, Any]) -> None:
        layer, detail = str(line.get("id", "")), line.get("progressDetail") or {}
        status = str(line.get("status", ""))
        if status == "Downloading" and detail.get("total"):
            self._layers[layer] = (int(detail.get("current") or 0), int(detail["total"]))
        elif status in {"Download complete", "Pull complete"} and layer in self._layers:
            total = self._layers[layer][1]
            self._layers[layer] = (total, total)
        self._text = f"{layer}: {status}" if layer else status
        self._new.set()

    async def __aenter__(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._tell(), name="pull-progress")

    async def __aexit__(self, *_error: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _tell(self) -> None:
        while True:
            _ = await self._new.wait()
            self._new.clear()
            done = sum(current for current, _total in self._layers.values())
            total = sum(total for _current, total in self._layers.values())
            await self._say(c.PullProgress(done, total, self._text[:200]))
            await asyncio.sleep(PROGRESS_S)


class LogPipe:
    """Between an AI that may print without end and a link that may be slow."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._lines: deque[c.LogLine] = deque()
        self._lost = 0
        self._ended = False
        self._new = asyncio.Event()
        self.count = 0

    def put(self, line: c.LogLine) -> None:
        if len(self._lines) >= LOG_BUFFER_LINES:
            self._lines.popleft()
            self._lost += 1
        self._lines.append(line)
        self.count += 1
        self._new.set()

    def end(self) -> None:
        self._ended = True
        self._new.set()

    async def pump(self) -> None:
        while True:
            _ = await self._new.wait()
            self._new.clear()
            while self._lines:
                count = min(len(self._lines), LOG_CHUNK_LINES)
                batch = [self._lines.popleft() for _ in range(count)]
                lost, self._lost = self._lost, 0
                await self._say(c.LogLines(batch, lost))
            if self._ended:
                return
            await asyncio.sleep(LOG_PAUSE_S)


def log_line(line: EngineLine) -> c.LogLine:
    whole, _, fraction = line.at.rstrip("Z").partition(".")
    try:
        at = datetime.fromisoformat(f"{whole}+00:00")
        at_ms = round(at.timestamp() * 1000) + int((fraction + "000")[:3])
    except ValueError:
        at_ms = boot.wall_ms()
    return c.LogLine(at_ms=at_ms, text=line.text, stream=line.stream)
