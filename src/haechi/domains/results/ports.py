"""What results need from others, by shape."""

from collections.abc import Callable
from typing import Literal, Protocol

from haechi.domains.results.model import Source


class Sources(Protocol):
    """Who a deployment is (auth knows while its token lives, deployments remember longer)."""

    async def source_of(self, deployment_id: str, device_id: str) -> Source | None:
        """None where that deployment was never on that device."""


class Stamp(Protocol):
    @property
    def wall_ms(self) -> int: ...

    @property
    def clock(self) -> Literal["ok", "uncertain"]: ...

    @property
    def shift_ms(self) -> int: ...


Stamps = Callable[[str, str, int, int], Stamp]
"""`(device_id, boot_id, monotonic_ms, claimed_ms)` → the server's time for it (agents domain)."""

OnlyCamera = Callable[[str], str | None]
"""The only camera of a deployment, where a result names none."""

Authority = Callable[[str, str, int | None, str, int], bool]
"""`(camera_id, package_id, epoch, device_id, captured_ms)`: does a result made under this epoch at
this time count, or has the camera been another device's since?"""

Heard = Callable[[str, int, int], None]
"""`(deployment_id, rows, now_ms)`: what a deployment gave without an agent, once it is stored."""
