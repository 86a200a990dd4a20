"""What the inventory needs from others, by shape."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from haechi.domains.inventory.model import CameraState, Presence, Use

DeleteCheck = Callable[[AsyncSession, str], Awaitable[list[Use]]]
"""Who still uses the thing with this id? Runs inside the deleting transaction."""

DeleteHook = Callable[[AsyncSession, str], Awaitable[None]]
"""Clears what belongs to the thing with this id; runs inside the deleting transaction."""


class Watch(Protocol):
    """Who knows how a device or camera is doing right now (the agents domain)."""

    def device_presence(self, device_id: str) -> Presence: ...

    def device_last_seen_at(self, device_id: str) -> datetime | None: ...

    def camera_state(self, camera_id: str, device_id: str | None) -> CameraState:
        """`device_id` is the camera's home."""
