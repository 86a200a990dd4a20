"""What the agents domain needs from below and from the socket, by shape."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Literal, Protocol

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from haechi.core.access import Principal
from haechi.core.secrets import Secret
from haechi.protocol.desired import ObservedState, StreamStatus
from haechi.protocol.frames import Hello
from haechi.protocol.results import AgentResult
from haechi.protocol.samples import Sample

EnrolmentState = Literal["pending", "enrolled", "revoked"]


class SocketClosed(Exception):
    """The other side has gone."""


class Socket(Protocol):
    """One accepted WebSocket, whatever serves it."""

    async def receive(self) -> bytes:
        """The next binary message; raises SocketClosed."""

    async def send(self, data: bytes) -> None:
        """Raises SocketClosed; waits while the other side reads slowly."""

    async def close(self, code: int, reason: str) -> None: ...


class IssuedToken(Protocol):
    @property
    def secret(self) -> Secret: ...

    @property
    def expires_at(self) -> datetime: ...


class IssuedCertificate(Protocol):
    @property
    def pem(self) -> str: ...


class Machines(Protocol):
    """Credentials of devices (domains.auth)."""

    async def issue_enrolment_token(
        self, tx: AsyncSession, device_id: str, by: Principal
    ) -> IssuedToken: ...

    async def redeem_enrolment_token(self, tx: AsyncSession, token: str) -> str: ...

    async def issue_device_certificate(
        self, tx: AsyncSession, device_id: str, csr_pem: str
    ) -> IssuedCertificate: ...

    async def renew_device_certificate(
        self, tx: AsyncSession, device_id: str, csr_pem: str
    ) -> IssuedCertificate: ...

    async def revoke_device(self, tx: AsyncSession, device_id: str, by: Principal) -> None: ...


class Directory(Protocol):
    """Where devices are registered (domains.inventory)."""

    async def check_device(self, tx: AsyncSession, device_id: str) -> None:
        """Raises ObjectNotFound."""

    async def note_enrolment(
        self, tx: AsyncSession, device_id: str, state: EnrolmentState
    ) -> None: ...

    async def note_hello(self, device_id: str, hello: Hello, remote: str) -> None: ...

    async def cameras_of(self, device_id: str) -> set[str]:
        """Ids of the cameras whose home it is."""

    async def note_stream(self, status: StreamStatus) -> None:
        """What media found out about a camera; nothing where there is no such camera."""


SectionProvider = Callable[[str], Awaitable[Sequence[Struct] | Sequence[str]]]
"""`provider(device_id)` → the section's content for that device, in a stable order."""

SamplesHandler = Callable[[str, list[Sample], bool], None]
"""`(device_id, rows, backfill)`; quick: it only queues."""

ResultsHandler = Callable[[str, str, int, list[AgentResult], int], Awaitable[int]]
"""`(device_id, queue_id, from_seq, rows, lost)` → `through_seq`, after commit."""

ResultsListener = Callable[[str, list[AgentResult]], None]
"""`(device_id, rows)` once they are stored; quick."""

StateHandler = Callable[[str, ObservedState, ObservedState | None], None]
"""`(device_id, state, state before)`; quick."""

NeighbourWord = Callable[[str], bool | None]
"""Can neighbours reach this device? None: nobody can say."""

ReasonWord = Callable[[str], str | None]
"""Why a device is silent or dead, as far as somebody found out; None: no more than that it is."""
