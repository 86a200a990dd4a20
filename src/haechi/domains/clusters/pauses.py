"""What failed is tried again, each time after a longer pause."""

from dataclasses import dataclass

from haechi.core.clock import Clock


@dataclass(slots=True)
class _Pause:
    until_s: float
    length_s: float


class Pauses:
    """`begin` before each try; `forget` once it went well."""

    def __init__(self, clock: Clock, *, first_s: float, last_s: float) -> None:
        self._clock = clock
        self._first_s = first_s
        self._last_s = last_s
        self._pauses: dict[str, _Pause] = {}

    def lasts(self, key: str) -> bool:
        pause = self._pauses.get(key)
        return pause is not None and self._clock.monotonic() < pause.until_s

    def begin(self, key: str) -> None:
        """Twice as long as the one before, up to `last_s`."""
        known = self._pauses.get(key)
        length_s = self._first_s if known is None else min(known.length_s * 2, self._last_s)
        self._pauses[key] = _Pause(self._clock.monotonic() + length_s, length_s)

    def forget(self, key: str) -> None:
        self._pauses.pop(key, None)
