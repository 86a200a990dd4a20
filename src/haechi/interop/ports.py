"""What the old interface calls, where a whole service would be more than it needs."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from msgspec import Struct

from haechi.core.access import Principal
from haechi.core.operations import Operation
from haechi.domains.results.model import Outcome
from haechi.protocol.results import AgentResult, Result


class Builder(Protocol):
    async def build_version(
        self, version_id: str, platforms: Sequence[str] = (), *, by: Principal
    ) -> Operation:
        """Raises Busy, PlatformRefused."""


class Collector(Protocol):
    async def collect(self, *, by: Principal) -> Operation:
        """Delete images of deleted versions. Raises Busy."""


class ResultSink(Protocol):
    def has_room(self, size_bytes: int) -> bool: ...

    async def ingest(self, given: list[Result], by: Principal) -> Outcome:
        """Answers once they are durable."""


class AgentLink(Protocol):
    """The agents domain: what devices report, and what they are asked to make true."""

    def listen_results(self, listener: Callable[[str, list[AgentResult]], None]) -> None: ...

    def register_section(
        self, name: str, provider: Callable[[str], Awaitable[Sequence[Struct] | Sequence[str]]]
    ) -> None: ...

    def changed(self, device_id: str) -> None: ...


Authenticate = Callable[[str, str], Awaitable[Principal | None]]
"""`(token, address)` → whose it is."""
