"""Which builder builds for a platform: the server's own engine, an enrolled host, or emulation."""

from collections.abc import Awaitable, Callable
from typing import Literal

from haechi.domains.builds.images import same_platform
from haechi.domains.builds.model import PlatformRefused
from haechi.domains.builds.ports import Builder

Foreign = Callable[[str], Awaitable[Builder | None]]
"""A builder on an enrolled Docker host of that platform; None where there is none."""


class PlatformBuilders:
    """An enrolled host of the platform comes before emulation, which is ten times slower."""

    def __init__(
        self,
        *,
        local: Builder,
        foreign_platforms: Callable[[], Literal["refuse", "qemu"]],
        foreign: Foreign | None = None,
    ) -> None:
        self._local = local
        self._foreign_platforms = foreign_platforms
        self._foreign = foreign

    async def for_platform(self, platform: str) -> Builder:
        """An empty platform means the server's own. Raises PlatformRefused, Unavailable."""
        engine = await self._local.engine()
        if not platform or same_platform(engine.platform, platform):
            return self._local
        if self._foreign is not None:
            builder = await self._foreign(platform)
            if builder is not None:
                return builder
        if self._foreign_platforms() != "qemu":
            reason = "builds.foreign_platforms=refuse"
        elif not any(same_platform(known, platform) for known in engine.emulates):
            reason = "qemu-user-static + binfmt_misc (flags PF) not registered"
        else:
            return self._local
        raise PlatformRefused(platform=platform, native=engine.platform, reason=reason)
