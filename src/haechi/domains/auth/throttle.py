"""Slows down password guessing: per name, and per address, in memory.

An attempt counts before its password is checked, so parallel guesses cannot slip through. Who has
signed in from an address before keeps a count of its own there: others cannot lock a user out of
the place he works at.
"""

import math
from collections import OrderedDict, deque
from typing import Final

from haechi.core.clock import Clock
from haechi.domains.auth.errors import TooManyLogIns

WINDOW_S: Final = 300.0
_MAX_KEYS: Final = 20_000
_Key = tuple[str, str]


class Throttle:
    def __init__(self, clock: Clock, max_failures: int) -> None:
        self._clock = clock
        self._max_failures = max_failures
        self._attempts: OrderedDict[_Key, deque[float]] = OrderedDict()
        self._known: OrderedDict[_Key, None] = OrderedDict()

    def begin(self, name: str, address: str) -> None:
        """Count an attempt. Raises TooManyLogIns where there were too many."""
        now = self._clock.monotonic()
        keys = self._keys(name, address)
        wait_s = max((self._wait_s(key, now) for key in keys), default=0.0)
        if wait_s > 0:
            raise TooManyLogIns(retry_after_s=max(1, math.ceil(wait_s)))
        for key in keys:
            self._attempts.setdefault(key, deque(maxlen=self._max_failures)).append(now)
            self._attempts.move_to_end(key)
        while len(self._attempts) > _MAX_KEYS:
            self._attempts.popitem(last=False)

    def succeeded(self, name: str, address: str) -> None:
        """The password was right: the place is known, the name starts anew.

        Of the address only this attempt is taken back, so that nobody can wipe out his guesses at
        other names by signing in as himself now and then.
        """
        self._attempts.pop((name, ""), None)
        self._attempts.pop((name, address), None)
        by_address = self._attempts.get(("", address))
        if by_address and (name, address) not in self._known:
            by_address.pop()
        self._known[name, address] = None
        self._known.move_to_end((name, address))
        while len(self._known) > _MAX_KEYS:
            self._known.popitem(last=False)

    def _keys(self, name: str, address: str) -> list[_Key]:
        if (name, address) in self._known:
            return [(name, address)]
        return [(name, ""), ("", address)]

    def _wait_s(self, key: _Key, now: float) -> float:
        attempts = self._attempts.get(key)
        if attempts is None:
            return 0.0
        while attempts and attempts[0] <= now - WINDOW_S:
            attempts.popleft()
        if not attempts:
            del self._attempts[key]
            return 0.0
        if len(attempts) < self._max_failures:
            return 0.0
        return attempts[0] + WINDOW_S - now
