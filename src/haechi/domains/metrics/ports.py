"""What metrics need from others, by shape."""

from collections.abc import Callable
from typing import Literal, Protocol


class Stamp(Protocol):
    @property
    def wall_ms(self) -> int: ...

    @property
    def clock(self) -> Literal["ok", "uncertain"]: ...


Stamps = Callable[[str, str, int, int], Stamp]
"""`(device_id, boot_id, monotonic_ms, claimed_ms)` → the server's time for it (agents domain)."""
