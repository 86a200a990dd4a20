"""What bringing agents to hosts needs: images of the agent, and the agents domain."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from haechi.core.access import Principal
from haechi.core.secrets import Secret
from haechi.domains.inventory.model import Enrolment


@dataclass(frozen=True, slots=True)
class AgentImage:
    """`archive` is what `docker save` writes, perhaps gzipped; it holds `reference`."""

    reference: str
    archive: Path
    sha256: str
    """Of the archive, hex."""
    size_bytes: int


class AgentImages(Protocol):
    async def image(self, platform: str) -> AgentImage:
        """For an OCI platform; raises NoAgentImage."""

    async def known(self, platform: str) -> bool:
        """Whether there is one; quick."""


class Device(Protocol):
    @property
    def id(self) -> str: ...

    @property
    def enrolment(self) -> Enrolment: ...


class Devices(Protocol):
    """The inventory's devices."""

    async def get(self, ref: str) -> Device:
        """By id or foreign id; raises NotFound."""


class Invitation(Protocol):
    @property
    def token(self) -> Secret: ...

    @property
    def server(self) -> str: ...

    @property
    def ca_fingerprint(self) -> str: ...

    @property
    def expires_at(self) -> datetime: ...


class Agents(Protocol):
    """The agents domain."""

    @property
    def server(self) -> str:
        """HOST:PORT that agents are told to call."""

    async def invite_device(self, device_id: str, by: Principal) -> Invitation: ...

    async def revoke_device(self, device_id: str, by: Principal) -> None: ...

    def is_connected(self, device_id: str) -> bool: ...

    async def wait_connected(self, device_id: str, timeout_s: float) -> bool: ...
