"""What a command says while it works: progress of a pull, lines of a log; never a flood.

Both ends may be faster than the other: an AI that prints without end, a link that is slow.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

from msgspec import Struct

from haechi.adapters.docker_states import PullLayers
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
        self._layers = PullLayers()
        self._new = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def see(self, line: dict[str, Any]) -> None:
        self._layers.see(line)
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
            layers = self._layers
            await self._say(c.PullProgress(layers.done_bytes, layers.total_bytes, layers.text))
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
