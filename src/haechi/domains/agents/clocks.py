"""Maps a device's monotonic time to the server's wall time (CONTRACTS 3).

A device's wall clock may be unset, wrong, or jump; its monotonic clock of one boot does not. Each
ping measures where the device's monotonic clock stands on the server's monotonic clock; the
measurement with the shortest round trip of the last minute counts. Both sides of the map are
monotonic, so a jump of either wall clock moves nothing but the final translation.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final

from haechi.core.clock import Clock, to_ms
from haechi.domains.agents.model import ClockState, Stamp

TOLERANCE_MS: Final = 500
_BOOTS: Final = 8
_MEASURES: Final = 64
_ONE_WAY_S: Final = 2.0  # assumed round trip of the hello: any measured ping is better


@dataclass(slots=True)
class _Boot:
    measures: deque[tuple[float, float]] = field(
        default_factory=lambda: deque[tuple[float, float]](maxlen=_MEASURES)
    )
    """(round trip s, server monotonic − device monotonic, s)."""
    wall_offset_ms: int | None = None
    """Server wall − device monotonic, as saved by an earlier server process."""

    def offset_s(self) -> float | None:
        return min(self.measures)[1] if self.measures else None


@dataclass(slots=True)
class _Device:
    boots: OrderedDict[str, _Boot] = field(default_factory=OrderedDict)
    wall_offset_ms: float | None = None
    rtt_ms: float | None = None

    def boot(self, boot_id: str) -> _Boot:
        boot = self.boots.get(boot_id)
        if boot is None:
            boot = self.boots[boot_id] = _Boot()
            while len(self.boots) > _BOOTS:
                self.boots.popitem(last=False)
        return boot


class Clocks:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._devices: dict[str, _Device] = {}

    def hello(self, device_id: str, boot_id: str, wall_ms: int, monotonic_ms: int) -> None:
        """A first, one-way estimate, good until the first pong."""
        self._measure(
            device_id, boot_id, wall_ms, monotonic_ms, self._clock.monotonic(), _ONE_WAY_S
        )

    def pong(
        self, device_id: str, boot_id: str, wall_ms: int, monotonic_ms: int, sent_s: float
    ) -> None:
        """`sent_s`: server monotonic when the ping went out."""
        received_s = self._clock.monotonic()
        rtt_s = max(received_s - sent_s, 0.0)
        self._measure(device_id, boot_id, wall_ms, monotonic_ms, received_s - rtt_s / 2, rtt_s)
        self._devices[device_id].rtt_ms = rtt_s * 1000

    def _measure(
        self,
        device_id: str,
        boot_id: str,
        wall_ms: int,
        monotonic_ms: int,
        at_s: float,
        rtt_s: float,
    ) -> None:
        device = self._devices.setdefault(device_id, _Device())
        device.boot(boot_id).measures.append((rtt_s, at_s - monotonic_ms / 1000))
        mapped = self.wall_of(device_id, boot_id, monotonic_ms)
        if mapped is not None:
            device.wall_offset_ms = wall_ms - mapped

    def wall_of(self, device_id: str, boot_id: str, monotonic_ms: int) -> int | None:
        """Server wall time, ms, of a moment of that boot; None where the boot is not known."""
        device = self._devices.get(device_id)
        boot = device.boots.get(boot_id) if device else None
        if boot is None:
            return None
        offset_s = boot.offset_s()
        if offset_s is None:
            return None if boot.wall_offset_ms is None else boot.wall_offset_ms + monotonic_ms
        ago_s = self._clock.monotonic() - (monotonic_ms / 1000 + offset_s)
        return round(to_ms(self._clock.now()) - ago_s * 1000)

    def stamp(self, device_id: str, boot_id: str, monotonic_ms: int, claimed_ms: int) -> Stamp:
        """The claimed wall time where the device's clock was good, else the mapped one."""
        mapped = self.wall_of(device_id, boot_id, monotonic_ms)
        if mapped is None:
            return Stamp(claimed_ms, "uncertain")
        if abs(claimed_ms - mapped) <= TOLERANCE_MS:
            return Stamp(claimed_ms, "ok")
        return Stamp(mapped, "ok", mapped - claimed_ms)

    def state(self, device_id: str) -> tuple[ClockState, float | None, float | None]:
        """(ok | uncertain, device wall − server wall ms, round trip ms)."""
        device = self._devices.get(device_id)
        if device is None or device.wall_offset_ms is None:
            return "uncertain", None, None
        good = abs(device.wall_offset_ms) <= TOLERANCE_MS
        return ("ok" if good else "uncertain"), device.wall_offset_ms, device.rtt_ms

    def dump(self, device_id: str) -> dict[str, int]:
        """Boot id → wall − monotonic, to be saved: rows of an earlier boot may come much later."""
        device = self._devices.get(device_id)
        saved: dict[str, int] = {}
        for boot_id in device.boots if device else ():
            offset_ms = self.wall_of(device_id, boot_id, 0)
            if offset_ms is not None:
                saved[boot_id] = offset_ms
        return saved

    def load(self, device_id: str, saved: dict[str, int]) -> None:
        device = self._devices.setdefault(device_id, _Device())
        for boot_id, offset_ms in saved.items():
            device.boot(boot_id).wall_offset_ms = offset_ms

    def forget(self, device_id: str) -> None:
        self._devices.pop(device_id, None)
