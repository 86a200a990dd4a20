"""In-process publish and subscribe by topic; at most once.

Whatever must not be lost is in a database before it is published here. Subscribers that fall
behind lose the oldest messages and are told so (`lagged`), so one slow reader cannot hold the
memory of the server.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Message:
    topic: str
    data: Any
    at_ms: int
    cursor: int


class Subscription:
    """A bounded queue of one reader. Topics may end in `*` to match a prefix."""

    def __init__(self, topics: set[str], limit: int) -> None:
        self.exact = {topic for topic in topics if not topic.endswith("*")}
        self.prefixes = tuple(topic[:-1] for topic in topics if topic.endswith("*"))
        self.lost = 0
        self._queue: deque[Message] = deque()
        self._limit = limit
        self._ready = asyncio.Event()

    def wants(self, topic: str) -> bool:
        return topic in self.exact or (bool(self.prefixes) and topic.startswith(self.prefixes))

    def put(self, message: Message) -> None:
        if len(self._queue) >= self._limit:
            self._queue.popleft()
            self.lost += 1
        self._queue.append(message)
        self._ready.set()

    async def get(self) -> Message:
        while not self._queue:
            self._ready.clear()
            await self._ready.wait()
        return self._queue.popleft()

    def take_lost(self) -> int:
        lost, self.lost = self.lost, 0
        return lost

    async def __aiter__(self) -> AsyncIterator[Message]:
        while True:
            yield await self.get()


class Bus:
    """`history` messages are kept per topic so that a reader can resume from its cursor."""

    def __init__(self, now_ms: Callable[[], int], *, history: int = 256) -> None:
        self._now_ms = now_ms
        self._cursor = 0
        self._subscriptions: set[Subscription] = set()
        self._handlers: dict[str, list[Callable[[Any], None]]] = {}
        self._history: dict[str, deque[Message]] = {}
        self._history_limit = history

    def publish(self, topic: str, data: Any, *, keep: bool = True) -> None:
        """Give `data` (JSON-serialisable) to all who want `topic`; never blocks, never raises."""
        self._cursor += 1
        message = Message(topic, data, self._now_ms(), self._cursor)
        if keep:
            kept = self._history.get(topic)
            if kept is None:
                kept = self._history[topic] = deque(maxlen=self._history_limit)
            kept.append(message)
        for subscription in self._subscriptions:
            if subscription.wants(topic):
                subscription.put(message)
        for handler in self._handlers.get(topic.partition(":")[0], ()):
            handler(data)

    def on(self, topic_kind: str, handler: Callable[[Any], None]) -> None:
        """Call `handler(data)` for every message whose topic starts with `topic_kind` (before
        the colon). For wiring between domains: a handler must be quick and must not raise.
        """
        self._handlers.setdefault(topic_kind, []).append(handler)

    @contextmanager
    def subscribe(
        self, topics: set[str], *, after_cursor: int | None = None, limit: int = 1000
    ) -> Iterator[Subscription]:
        """Follow topics; with `after_cursor`, kept messages later than it come first."""
        subscription = Subscription(topics, limit)
        if after_cursor is not None:
            missed = [
                message
                for topic, kept in self._history.items()
                if subscription.wants(topic)
                for message in kept
                if message.cursor > after_cursor
            ]
            for message in sorted(missed, key=lambda message: message.cursor):
                subscription.put(message)
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    @property
    def cursor(self) -> int:
        return self._cursor

    def forget(self, topic: str) -> None:
        """Drop the kept messages of a topic that has ended."""
        self._history.pop(topic, None)
