"""Brings results from the durable queue to the server: in order, a few batches ahead of its acks.

Exactly once from here on: rows carry the queue's numbers, the server answers after commit with the
number it has everything through, and only then are they forgotten. After a broken link sending
begins again behind the last acknowledged number. The window keeps a slow link from being flooded.
"""

import asyncio
from collections import deque
from typing import Final

from haechi.agent.outbox import Outbox
from haechi.agent.wire import Wire
from haechi.protocol.frames import Ack, Results

WINDOW: Final = 4
BATCH_ROWS: Final = 500
BATCH_BYTES: Final = 128 * 1024


class ResultsFeed:
    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._in_flight: deque[int] = deque()
        self._room = asyncio.Event()

    async def serve(self, wire: Wire) -> None:
        """Feed one link until it breaks."""
        self._in_flight.clear()
        sent_through = self._outbox.acked
        while True:
            while len(self._in_flight) >= WINDOW:
                self._room.clear()
                _ = await self._room.wait()
            await self._outbox.wait(sent_through)
            batch = await self._outbox.read(
                sent_through, max_rows=BATCH_ROWS, max_bytes=BATCH_BYTES
            )
            if batch is None:
                continue
            sent_through = batch.through
            self._in_flight.append(batch.through)
            await wire.send(
                Results(
                    queue_id=self._outbox.queue_id,
                    from_seq=batch.from_seq,
                    rows=batch.rows,
                    lost=batch.lost,
                )
            )

    async def acknowledged(self, ack: Ack) -> None:
        if ack.queue_id != self._outbox.queue_id:
            return
        while self._in_flight and self._in_flight[0] <= ack.results_through:
            self._in_flight.popleft()
        self._room.set()
        await self._outbox.ack(ack.results_through)
