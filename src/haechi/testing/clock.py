"""A clock that tests turn by hand."""

import asyncio
import heapq
from datetime import UTC, datetime, timedelta


class FakeClock:
    """`advance()` moves time and wakes the sleepers whose time has come, in order."""

    def __init__(self, start: datetime | None = None) -> None:
        self._now = start or datetime(2026, 1, 1, tzinfo=UTC)
        self._monotonic = 1000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (self._monotonic + seconds, self._count, future))
        await future

    async def advance(self, seconds: float) -> None:
        """Move on; sleepers wake at their own moment, so what they do sees the right time."""
        end = self._monotonic + seconds
        await _settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            at, _, future = heapq.heappop(self._sleepers)
            self._move(at)
            if not future.done():
                future.set_result(None)
            await _settle()
        self._move(end)
        await _settle()

    def set_wall(self, now: datetime) -> None:
        """Jump the wall clock without the monotonic one (NTP, an unset clock)."""
        self._now = now

    def _move(self, to: float) -> None:
        self._now += timedelta(seconds=to - self._monotonic)
        self._monotonic = to


async def _settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)
