"""Port: a relay pulls each source once, however many watch, and serves it to the gate.

A source is pulled while somebody watches and left alone otherwise. Names are inner ones, chosen by
the caller, and may be seen by nobody outside media. Knows no tokens, cameras or clients.
"""

from collections.abc import Mapping
from typing import Protocol

from haechi.media.faults import Fault


class Relay(Protocol):
    backend: str
    scheme: str

    @property
    def running(self) -> bool: ...

    @property
    def inner_port(self) -> int:
        """Port on loopback under which names are served; nobody but media may know the names."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def put_sources(self, sources: Mapping[str, str]) -> None:
        """Make these the relay's names and their URLs; what is not in it goes."""

    async def why(self, name: str) -> Fault:
        """Why a name does not play, by trying it now."""
