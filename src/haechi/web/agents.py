"""The agents listener: what a device may call, and nothing else.

Always TLS by the site CA; the client certificate is optional in the handshake, because enrolment
comes before it, and required by every route but two. Knows no frame: it turns HTTP and WebSocket
into calls of the agents domain.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from haechi.core import ids
from haechi.core.access import NotSignedIn, Principal
from haechi.core.operations.model import InternalFault
from haechi.domains.agents.ports import SocketClosed
from haechi.domains.agents.service import Agents
from haechi.errors import AppError, BadRequest
from haechi.protocol.frames import EnrolIn, EnrolOut, Refused, RenewIn, encode

log = logging.getLogger(__name__)

MAX_BODY_BYTES: Final = 64 * 1024
_REFUSED: Final = 4403
_HELLO_S: Final = 3.0

Identify = Callable[[HTTPConnection], Awaitable[Principal | None]]
"""Who the client certificate of this connection is; None without one. Raises where it is revoked
or unknown."""

Body = TypeVar("Body")


class StarletteSocket:
    """The agents domain's Socket over Starlette's WebSocket."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    async def receive(self) -> bytes:
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise SocketClosed
        data = message.get("bytes")
        return data if data is not None else str(message.get("text", "")).encode()

    async def send(self, data: bytes) -> None:
        try:
            await self._socket.send_bytes(data)
        except (WebSocketDisconnect, RuntimeError, OSError) as error:
            raise SocketClosed from error

    async def close(self, code: int, reason: str) -> None:
        try:
            await self._socket.close(code, reason[:120])
        except (WebSocketDisconnect, RuntimeError, OSError) as error:
            raise SocketClosed from error


def create_agents_app(agents: Agents, identify: Identify) -> Starlette:
    """`GET /agent/v1/ca`, `POST /agent/v1/enrol`; with a certificate `POST /agent/v1/renew` and
    `WS /agent/v1/connect`."""

    async def get_ca(_request: Request) -> Response:
        return PlainTextResponse(agents.ca_pem, media_type="application/x-pem-file")

    async def enrol(request: Request) -> Response:
        body = await _body(request, EnrolIn)
        return _answer(await agents.enrol_device(body, _remote(request)))

    async def renew(request: Request) -> Response:
        device_id = await _device(request)
        body = await _body(request, RenewIn)
        return _answer(await agents.renew_certificate(device_id, body.csr_pem))

    async def connect(websocket: WebSocket) -> None:
        await websocket.accept()
        socket = StarletteSocket(websocket)
        try:
            device_id = await _device(websocket)
        except AppError as error:
            log.warning("agent at %s turned away: %s", _remote(websocket), error)
            try:
                async with asyncio.timeout(_HELLO_S):  # or it would be talking into a closed door
                    await socket.receive()
                await socket.send(encode(Refused({"code": error.code, "data": error.data})))
                await socket.close(_REFUSED, error.code)
            except (SocketClosed, TimeoutError):
                log.debug("it did not wait for its refusal")
                await _close_quietly(socket)
            return
        await agents.serve(device_id, socket, _remote(websocket))

    async def _device(connection: HTTPConnection) -> str:
        principal = await identify(connection)
        if principal is None or principal.kind != "device" or principal.device_id is None:
            raise NotSignedIn
        return principal.device_id

    return Starlette(
        routes=[
            Route("/agent/v1/ca", get_ca, methods=["GET"]),
            Route("/agent/v1/enrol", enrol, methods=["POST"]),
            Route("/agent/v1/renew", renew, methods=["POST"]),
            WebSocketRoute("/agent/v1/connect", connect),
        ],
        exception_handlers={AppError: _app_error, Exception: _bug},
    )


async def _close_quietly(socket: StarletteSocket) -> None:
    with contextlib.suppress(SocketClosed):
        await socket.close(_REFUSED, "")


async def _body(request: Request, kind: type[Body]) -> Body:
    data = b""
    async for piece in request.stream():
        data += piece
        if len(data) > MAX_BODY_BYTES:
            raise BadRequest(reason=f"larger than {MAX_BODY_BYTES} bytes")
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(reason=str(error)[:200]) from error


def _remote(connection: HTTPConnection) -> str:
    return connection.client.host if connection.client else ""


def _answer(out: EnrolOut) -> Response:
    return Response(msgspec.json.encode(out), media_type="application/json")


def _problem(error: AppError) -> Response:
    body: dict[str, Any] = {**error.problem("en"), "request_id": ids.new_id("request")}
    return Response(
        msgspec.json.encode(body),
        status_code=error.http_status,
        media_type="application/problem+json",
    )


async def _app_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AppError)
    log.warning("%s %s from %s: %s", request.method, request.url.path, _remote(request), error)
    return _problem(error)


async def _bug(request: Request, error: Exception) -> Response:
    fault_id = ids.new_id("request")
    log.error("fault %s in %s", fault_id, request.url.path, exc_info=error)
    return _problem(InternalFault(fault_id=fault_id))
