"""What schedules need: actions they can begin, the site's zone, operations, an audit trail."""

from collections.abc import Sequence
from typing import Any, Protocol

from haechi.core.access import Principal
from haechi.core.operations import Operation


class Action(Protocol):
    """One thing that a schedule can do."""

    by_device: bool
    """Whether it is begun device by device, each in its maintenance hours."""

    async def check(self, arguments: dict[str, Any], by: Principal) -> dict[str, Any]:
        """The arguments as they are kept: ids instead of names, defaults filled in. Raises
        BadArguments, NotFound, or what the action itself refuses (a privileged package asked for
        by somebody who may not).
        """

    async def devices(self, arguments: dict[str, Any]) -> list[str]:
        """Whom it touches right now; empty where `by_device` is False or all are gone."""

    async def begin(
        self, arguments: dict[str, Any], device_ids: Sequence[str], by: Principal
    ) -> list[Operation]:
        """Start it; begun already is found again, or harmless. Raises AppError."""


class Site(Protocol):
    async def timezone(self) -> str:
        """IANA name."""

    async def device_id(self, ref: str) -> str:
        """Id of a device by id or alias. Raises NotFound."""


class Operations(Protocol):
    async def wait(self, operation_id: str) -> Operation: ...
