"""How much one address may ask, and how much may be under way at once."""

from collections import OrderedDict
from typing import Final

from haechi.core.clock import Clock

BURST_S: Final = 2.0
_MAX_ADDRESSES: Final = 4096
MAX_UNDER_WAY: Final = 512


class Rates:
    """A bucket per address that refills with `per_s`."""

    def __init__(self, clock: Clock, per_s: float) -> None:
        self._clock = clock
        self._per_s = per_s
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, address: str) -> bool:
        """False where the address has asked too much lately."""
        now_s = self._clock.monotonic()
        full = max(1.0, self._per_s * BURST_S)
        left, since_s = self._buckets.pop(address, (full, now_s))
        left = min(full, left + (now_s - since_s) * self._per_s)
        allowed = left >= 1
        self._buckets[address] = (left - 1 if allowed else left, now_s)
        while len(self._buckets) > _MAX_ADDRESSES:
            self._buckets.popitem(last=False)
        return allowed
