"""`Idempotency-Key`: the same POST sent twice is done once, and answered alike (CONTRACTS 1).

Stands inside `Shield`, which has found out who calls: nobody's requests are not kept. A caller on
a bad link cannot know whether a lost answer means a lost request. The first request
with a key is done and its answer kept for a day; a repetition gets the kept answer. Bodies of
uploads are not compared (they are content-addressed themselves); JSON bodies are.
"""

import asyncio
import hashlib
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from haechi.core.clock import Clock
from haechi.core.db import Base, Database, UtcDateTime
from haechi.errors import AppError, Conflict, Invalid, Text
from haechi.web.errors import problem_response

KEPT_FOR: Final = timedelta(days=1)
_MAX_BODY: Final = 1024 * 1024


class KeyReused(Conflict):
    code = "web.idempotency_key_reused"
    detail = Text(
        "같은 Idempotency-Key가 다른 요청에 이미 쓰였습니다.",
        "This Idempotency-Key was used for a different request.",
    )
    remedy = Text("요청마다 새 키를 만드세요.", "Make a new key for each request.")


class KeyInUse(Conflict):
    code = "web.idempotency_key_in_use"
    detail = Text(
        "같은 Idempotency-Key의 요청이 아직 처리 중입니다.",
        "A request with this Idempotency-Key is still being done.",
    )
    remedy = Text("{retry_after_s}초 뒤 다시 보내세요.", "Send it again in {retry_after_s} s.")


class BadKey(Invalid):
    code = "web.bad_idempotency_key"
    http_status = 400
    detail = Text(
        "Idempotency-Key는 1~128자의 글자여야 합니다.",
        "An Idempotency-Key has 1 to 128 printable ASCII characters.",
    )
    remedy = Text("UUID 같은 키를 보내세요.", "Send a key such as a UUID.")


class IdempotencyRow(Base):
    __tablename__ = "idempotency_keys"

    key: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    """SHA-256 of the credential and the caller's key: one caller cannot read another's answer."""
    request: Mapped[str] = mapped_column(sa.String(64))
    status: Mapped[int]
    headers: Mapped[list[list[str]]] = mapped_column(sa.JSON)
    body: Mapped[bytes] = mapped_column(sa.LargeBinary)
    at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class Idempotency:
    """ASGI middleware around the API."""

    def __init__(self, app: ASGIApp, db: Database, clock: Clock) -> None:
        self._app = app
        self._db = db
        self._clock = clock
        self._in_flight: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = _header(scope, b"idempotency-key") if scope["type"] == "http" else b""
        known = scope.get("state", {}).get("principal")
        if not key or scope["method"] != "POST" or known is None:
            await self._app(scope, receive, send)
            return
        try:
            await self._once(key, scope, receive, send)
        except AppError as error:
            scope.setdefault("app", self._app)  # whose state the rendering reads
            request = Request(scope)
            await problem_response(request, error)(scope, receive, send)

    async def _once(self, key: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        if len(key) > 128 or not all(32 < byte < 127 for byte in key):
            raise BadKey
        body, receive = await _peek(receive)
        credential = _header(scope, b"authorization") + _header(scope, b"cookie")
        name = hashlib.sha256(credential + b"\0" + key).hexdigest()
        target = scope["path"].encode() + b"?" + scope["query_string"]
        fingerprint = hashlib.sha256(target + b"\0" + body).hexdigest()
        if name in self._in_flight:
            raise KeyInUse(retry_after_s=1)
        self._in_flight.add(name)
        try:
            kept = await self._find(name)
            if kept is None:
                await self._do(name, fingerprint, scope, receive, send)
            elif kept.request != fingerprint:
                raise KeyReused
            else:
                await _replay(kept, send)
        finally:
            self._in_flight.discard(name)

    async def _find(self, name: str) -> IdempotencyRow | None:
        async with self._db.read() as tx:
            row = await tx.get(IdempotencyRow, name)
        fresh = row is not None and row.at > self._clock.now() - KEPT_FOR
        return row if fresh else None

    async def _do(
        self, name: str, fingerprint: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        held: list[Message] = []
        size = 0

        async def hold(message: Message) -> None:
            """Until it is kept, the caller gets nothing: he may ask again at once."""
            nonlocal size
            size += len(message.get("body", b""))
            held.append(message)
            if size > _MAX_BODY:
                await release()

        async def release() -> None:
            while held:
                await send(held.pop(0))

        await self._app(scope, receive, hold)
        if held and held[0]["type"] == "http.response.start" and _may_keep(held[0]):
            body = b"".join(message.get("body", b"") for message in held)
            await asyncio.shield(self._keep(name, fingerprint, dict(held[0]), body))
        await release()

    async def _keep(self, name: str, fingerprint: str, start: dict[str, Any], body: bytes) -> None:
        now = self._clock.now()
        headers = [
            [key.decode("latin-1"), value.decode("latin-1")] for key, value in start["headers"]
        ]
        kept = [pair for pair in headers if pair[0].lower() != "set-cookie"]
        async with self._db.write() as tx:
            await tx.execute(sa.delete(IdempotencyRow).where(IdempotencyRow.at < now - KEPT_FOR))
            await tx.merge(
                IdempotencyRow(
                    key=name,
                    request=fingerprint,
                    status=start["status"],
                    headers=kept,
                    body=body,
                    at=now,
                )
            )


def _may_keep(start: Message) -> bool:
    """What was refused did nothing, so doing it again is safe, and what stood in its way (a name
    taken, something not there yet, something busy) may be gone: only what was done is kept.
    Answers that hold a secret say `no-store` themselves and are kept nowhere.
    """
    if start["status"] >= 400:
        return False
    headers = {name.lower(): value for name, value in start["headers"]}
    return b"no-store" not in headers.get(b"cache-control", b"")


def _header(scope: Scope, name: bytes) -> bytes:
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return b""


async def _peek(receive: Receive) -> tuple[bytes, Receive]:
    """Read the body up to a limit; the returned `receive` gives it again, then the rest."""
    messages: list[Message] = []
    body = b""
    while len(body) < _MAX_BODY:
        message = await receive()
        messages.append(message)
        body += message.get("body", b"")
        if message["type"] != "http.request" or not message.get("more_body"):
            break
    pending = iter(messages)

    async def again() -> Message:
        for message in pending:
            return message
        return await receive()

    return body[:_MAX_BODY], again


async def _replay(kept: IdempotencyRow, send: Send) -> None:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in kept.headers]
    headers.append((b"idempotency-replayed", b"true"))
    await send({"type": "http.response.start", "status": kept.status, "headers": headers})
    await send({"type": "http.response.body", "body": kept.body})
