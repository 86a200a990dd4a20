"""In-process publish and subscribe by topic; at most once.

Whatever must not be lost is in a database before it is published here. A reader that falls behind
is thinned: samples go first and silently (a newer one replaces them), anything else is counted
and the reader is told (`lagged`), so one slow reader cannot hold the memory of the server.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

THINNED: Final = "samples:"


class Message:
    """`data` is JSON-serialisable; `encoded` is a place for readers to share its encoding."""

    __slots__ = ("at_ms", "cursor", "data", "encoded", "topic")

    def __init__(self, topic: str, data: Any, at_ms: int, cursor: int) -> None:
        self.topic = topic
        self.data = data
        self.at_ms = at_ms
        self.cursor = cursor
        self.encoded: bytes | None = None


class Subscription:
    """A bounded queue of one reader. Topics may end in `*` to match a prefix."""

    def __init__(self, topics: set[str], limit: int) -> None:
        self._exact: set[str] = set()
        self._prefixes: tuple[str, ...] = ()
        self._lost = 0
        self._queue: deque[Message] = deque()
        self._limit = limit
        self._ready = asyncio.Event()
        self.closed = False
        self.refused = False
        """Closed because the reader may not read any more."""
        self.add(topics)

    def add(self, topics: set[str]) -> None:
        self._exact |= {topic for topic in topics if not topic.endswith("*")}
        prefixes = {topic[:-1] for topic in topics if topic.endswith("*")}
        self._prefixes = tuple({*self._prefixes, *prefixes})

    def remove(self, topics: set[str]) -> None:
        self._exact -= topics
        gone = {topic[:-1] for topic in topics if topic.endswith("*")}
        self._prefixes = tuple(prefix for prefix in self._prefixes if prefix not in gone)

    @property
    def topics(self) -> set[str]:
        return self._exact | {prefix + "*" for prefix in self._prefixes}

    def wants(self, topic: str) -> bool:
        return topic in self._exact or (bool(self._prefixes) and topic.startswith(self._prefixes))

    def put(self, message: Message) -> None:
        if len(self._queue) >= self._limit:
            self._thin()
        self._queue.append(message)
        self._ready.set()

    def _thin(self) -> None:
        for index, message in enumerate(self._queue):
            if message.topic.startswith(THINNED):
                del self._queue[index]
                return
        self._queue.popleft()
        self._lost += 1

    async def get(self) -> Message | None:
        """The next message, in order; None once the subscription is closed."""
        while not self._queue:
            if self.closed:
                return None
            self._ready.clear()
            await self._ready.wait()
        return self._queue.popleft()

    def close(self) -> None:
        """End the reader after what it has not read yet."""
        self.closed = True
        self._ready.set()

    def take_lost(self) -> int:
        """How many messages were lost since the last call."""
        lost, self._lost = self._lost, 0
        return lost

    async def __aiter__(self) -> AsyncIterator[Message]:
        while (message := await self.get()) is not None:
            yield message


class Bus:
    """Keeps the newest messages per topic so that a reader can resume from its cursor.

    Cursors go on rising after a restart: they start at the clock.
    """

    def __init__(self, now_ms: Callable[[], int], *, history: int = 256) -> None:
        self._now_ms = now_ms
        self._cursor = now_ms() * 1000
        self._subscriptions: set[Subscription] = set()
        self._handlers: dict[str, list[Callable[[str, Any], None]]] = {}
        self._history: dict[str, deque[Message]] = {}
        self._history_limit = history

    def publish(self, topic: str, data: Any, *, keep: bool = True) -> None:
        """Give `data` to all who want `topic`; never blocks."""
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
            handler(topic, data)

    def on(self, topic_kind: str, handler: Callable[[str, Any], None]) -> None:
        """Call `handler(topic, data)` for messages whose topic is `topic_kind[:…]`.

        For wiring between domains; a handler is quick and does not raise.
        """
        self._handlers.setdefault(topic_kind, []).append(handler)

    @contextmanager
    def subscribe(
        self, topics: set[str], *, after_cursor: int | None = None, limit: int = 1000
    ) -> Iterator[Subscription]:
        """Follow topics; with `after_cursor`, kept messages later than it come first."""
        subscription = Subscription(topics, limit)
        if after_cursor is not None:
            self.replay(subscription, topics, after_cursor)
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    def replay(self, subscription: Subscription, topics: set[str], after_cursor: int) -> None:
        """Put the kept messages of `topics` that are later than the cursor, in order."""
        wanted = Subscription(topics, 1)
        missed = [
            message
            for topic, kept in self._history.items()
            if wanted.wants(topic)
            for message in kept
            if message.cursor > after_cursor
        ]
        for message in sorted(missed, key=lambda message: message.cursor):
            subscription.put(message)

    def close(self) -> None:
        """End every reader: the server shuts down."""
        for subscription in self._subscriptions:
            subscription.close()

    def followed(self, topic: str) -> bool:
        """Does anybody want `topic` now? Lets a busy publisher spare itself the data."""
        if topic.partition(":")[0] in self._handlers:
            return True
        return any(subscription.wants(topic) for subscription in self._subscriptions)

    @property
    def cursor(self) -> int:
        return self._cursor

    def forget(self, topic: str) -> None:
        """Drop the kept messages of a topic that has ended."""
        self._history.pop(topic, None)
