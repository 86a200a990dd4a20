"""Brings samples to the server: at once while linked, kept and sent afterwards while not.

The newest go first, so that the charts are alive again at once; what was kept follows, newest
first, one batch at a time. There is no acknowledgement for samples, so a WebSocket ping that is
answered stands for one: it says that the server's end has read everything before it. It measures
the round trip as well. What is not confirmed when a link breaks is sent again; the server knows
samples by (boot_id, seq).
"""

import asyncio
from typing import Final

from haechi.agent.outbox import Outbox
from haechi.agent.wire import Wire
from haechi.core.tasks import TaskGroup
from haechi.protocol.frames import Samples
from haechi.protocol.samples import Sample

CONFIRM_S: Final = 2.0
KEEP_AFTER: Final = 10
BACKFILL_ROWS: Final = 120
BACKFILL_DELAY_S: Final = 0.2


class SamplesFeed:
    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._pending: list[Sample] = []
        self._sent: list[Sample] = []
        self._new = asyncio.Event()
        self._linked = False
        self.rtt_ms: float | None = None

    async def add(self, sample: Sample) -> None:
        self._pending.append(sample)
        self._new.set()
        if not self._linked and len(self._pending) >= KEEP_AFTER:
            await self.keep()

    async def keep(self) -> None:
        """Write down what is not known to have arrived."""
        rows, self._pending, self._sent = [*self._sent, *self._pending], [], []
        if rows:
            await self._outbox.keep_samples(rows)

    async def serve(self, wire: Wire) -> None:
        """Feed one link until it breaks."""
        self._linked = True
        try:
            async with TaskGroup() as group:
                for work in (self._live(wire), self._confirm(wire), self._backfill(wire)):
                    _ = group.create_task(work)
        finally:
            self._linked = False
            self.rtt_ms = None
            self._pending = [*self._sent, *self._pending]
            self._sent = []

    async def _live(self, wire: Wire) -> None:
        while True:
            if not self._pending:
                self._new.clear()
                _ = await self._new.wait()
            rows, self._pending = self._pending, []
            self._sent.extend(rows)
            await wire.send(Samples(rows))

    async def _confirm(self, wire: Wire) -> None:
        while True:
            await asyncio.sleep(CONFIRM_S)
            count = len(self._sent)
            self.rtt_ms = round(await wire.round_trip() * 1000, 2)
            del self._sent[:count]

    async def _backfill(self, wire: Wire) -> None:
        await asyncio.sleep(BACKFILL_DELAY_S)
        while True:
            ids, rows = await self._outbox.newest_samples(BACKFILL_ROWS)
            if not ids:
                return
            await wire.send(Samples(sorted(rows, key=lambda row: row.monotonic_ms), backfill=True))
            _ = await wire.round_trip()
            await self._outbox.drop_samples(ids)
