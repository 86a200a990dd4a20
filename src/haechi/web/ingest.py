"""The fast way in for results: `POST /api/v1/results` as a bare ASGI endpoint beside FastAPI.

It must know nothing of what a result means: it finds out who calls, reads a bounded body, hands it
to the results domain and says what became of it after the commit. It is kept small because every
single result of a client without an agent passes here. OpenAPI describes it with the domain's
other routes.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from haechi.core import ids
from haechi.core.access import Principal, Role, access_of, requires
from haechi.core.operations.model import InternalFault
from haechi.core.telemetry import RETRY_AFTER_S
from haechi.domains.results.model import MAX_BODY_BYTES, AllRefused, BodyTooLarge, Outcome
from haechi.errors import AppError, Overloaded

log = logging.getLogger(__name__)

PATH: Final = "/api/v1/results"
MAX_READING_BYTES: Final = 4 * 1024 * 1024
"""Bodies being read at the same time; one more caller is asked to come back."""

Identify = Callable[[Scope], Awaitable[Principal | None]]
"""Who calls. Raises AppError for a credential that is wrong in a way worth telling."""
Render = Callable[[Request, AppError], Response]

_encode = msgspec.json.Encoder().encode


class Intake(Protocol):
    """The results domain, as far as this endpoint needs it."""

    async def ingest_body(self, body: bytes, by: Principal) -> Outcome: ...

    def has_room(self, size_bytes: int) -> bool: ...


class ClientGone(Exception):
    """The caller hung up while sending: there is nobody to answer."""


class _Reading:
    """The share of one caller in what is being read: what he announced, or what has come."""

    __slots__ = ("_bytes", "_endpoint")

    def __init__(self, endpoint: "IngestEndpoint", announced_bytes: int) -> None:
        self._endpoint = endpoint
        self._bytes = announced_bytes
        endpoint.reading_bytes += announced_bytes

    def grow(self, size_bytes: int) -> None:
        """So much has come by now. Raises Overloaded."""
        more = size_bytes - self._bytes
        if more <= 0:
            return
        others = self._endpoint.reading_bytes - self._bytes
        if others and others + size_bytes > MAX_READING_BYTES:
            raise Overloaded(retry_after_s=RETRY_AFTER_S)
        self._bytes = size_bytes
        self._endpoint.reading_bytes += more

    def end(self) -> None:
        self._endpoint.reading_bytes -= self._bytes


class IngestEndpoint:
    """Mount it at (POST, PATH) of `web.app.Front`. `render` makes a problem answer; `app` is the
    FastAPI app, whose state the rendering reads.
    """

    def __init__(self, *, intake: Intake, identify: Identify, render: Render, app: Any) -> None:
        self._intake = intake
        self._identify = identify
        self._render = render
        self._app = app
        self.reading_bytes = 0
        requires(Role.OPERATOR, also={"deployment"})(self)
        access = access_of(self)
        assert access is not None
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await self._take(scope, receive)
        except ClientGone:
            return
        except AppError as error:
            await self._answer_problem(error, scope, receive, send)
            return
        except Exception as error:  # the last line of defence: whatever it is, it is a bug
            fault_id = ids.new_id("request")
            log.exception("fault %s in POST %s", fault_id, PATH, exc_info=error)
            await self._answer_problem(InternalFault(fault_id=fault_id), scope, receive, send)
            return
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    (b"content-type", b"application/json"),
                    (b"content-length", b"%d" % len(body)),
                ],
            }
        )
        await send({"type": "http.response.body", "body": body})

    async def _take(self, scope: Scope, receive: Receive) -> bytes:
        principal = await self._identify(scope)
        self._access.check(principal)
        assert principal is not None
        length = _declared_length(scope)
        if length > MAX_BODY_BYTES:
            raise BodyTooLarge(limit_bytes=MAX_BODY_BYTES)
        if not self._intake.has_room(length):
            raise Overloaded(retry_after_s=RETRY_AFTER_S)
        if self.reading_bytes and self.reading_bytes + length > MAX_READING_BYTES:
            raise Overloaded(retry_after_s=RETRY_AFTER_S)
        reading = _Reading(self, length)
        try:
            body = await _read(receive, reading.grow)
            outcome = await self._intake.ingest_body(body, principal)
        finally:
            reading.end()
        return encode_outcome(outcome)

    async def _answer_problem(
        self, error: AppError, scope: Scope, receive: Receive, send: Send
    ) -> None:
        scope.setdefault("app", self._app)
        response = self._render(Request(scope, receive), error)
        await response(scope, receive, send)


def encode_outcome(outcome: Outcome) -> bytes:
    """200 with what was kept and what was not; raises AllRefused where nothing was kept."""
    if not outcome.refused:
        return b'{"accepted":%d,"repeated":%d,"refused":[]}' % (outcome.accepted, outcome.repeated)
    refused = [{"index": row.index, "problem": row.problem} for row in outcome.refused]
    if not outcome.accepted and not outcome.repeated:
        raise AllRefused(first=refused[0]["problem"], refused=refused)
    return _encode({"accepted": outcome.accepted, "repeated": outcome.repeated, "refused": refused})


async def _read(receive: Receive, grow: Callable[[int], None]) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    if message["type"] == "http.request" and not message.get("more_body", False):
        if len(body) > MAX_BODY_BYTES:
            raise BodyTooLarge(limit_bytes=MAX_BODY_BYTES)
        return body
    parts: list[bytes] = []
    size = 0
    while True:
        if message["type"] == "http.disconnect":
            raise ClientGone
        part = message.get("body", b"")
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise BodyTooLarge(limit_bytes=MAX_BODY_BYTES)
        grow(size)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)
        message = await receive()


def _declared_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0
