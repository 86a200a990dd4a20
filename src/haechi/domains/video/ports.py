"""What stills need: where a camera is, and somebody who takes the picture."""

from typing import Protocol

from haechi.protocol import commands


class Place(Protocol):
    """A camera as the inventory knows it."""

    @property
    def id(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def device_id(self) -> str | None: ...


class Cameras(Protocol):
    async def get(self, ref: str) -> Place:
        """Raises ObjectNotFound."""


class Stills(Protocol):
    async def take(self, device_id: str, asked: commands.TakeStill) -> commands.Still:
        """Raises `problems.CameraFailed`, or another AppError where the device does not answer."""
