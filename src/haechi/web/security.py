"""Stands before every request: who calls, whether he may, and how answers are protected.

`Shield` is the outermost ASGI layer (authentication, body limits, security headers); `Gate` is the
dependency that runs before every route and knows what the route demands. A route without an
access marker is refused. Both work for HTTP, WebSocket and the fast path alike; neither knows any
route by name but those a user needs to change a first password.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, cookie_parser
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from haechi.core.access import Principal, access_of
from haechi.domains.auth.api import SESSION_COOKIE
from haechi.domains.auth.authenticator import Authenticator
from haechi.domains.auth.errors import ForeignOrigin, PasswordChangeNeeded
from haechi.domains.auth.model import MUST_CHANGE_PASSWORD, Peer
from haechi.errors import AppError, Forbidden, Invalid, Text

log = logging.getLogger(__name__)

MAX_JSON_BYTES: Final = 1024 * 1024
MAX_ANONYMOUS_BYTES: Final = 64 * 1024
"""Signing in and enrolling are small; who is nobody yet may not send more."""

HEADERS: Final = {
    "content-security-policy": (
        "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}
"""Added where the endpoint has not set its own; nothing is cached unless a route says so."""

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITE: Final = frozenset({b"same-origin", b"none"})
_WHILE_CHANGING_PASSWORD: Final = frozenset(
    {"/api/v1/me", "/api/v1/me/password", "/api/v1/session"}
)

Render = Callable[[Any, AppError], Response]


class NoAccessDeclared(Forbidden):
    """A bug of ours, answered with a refusal: default deny."""

    code = "web.no_access_declared"
    detail = Text(
        "이 주소의 접근 권한이 정의되어 있지 않아 거부했습니다.",
        "Refused: no access rule is declared for this address.",
    )
    remedy = Text("haechi 개발자에게 알려 주세요.", "Please report this to haechi's developers.")


class BodyTooLarge(Invalid):
    code = "web.body_too_large"
    http_status = 413
    detail = Text(
        "요청 본문이 허용 크기({limit_bytes}바이트)를 넘습니다.",
        "The body is larger than the {limit_bytes} bytes allowed here.",
    )
    remedy = Text(
        "나누어 보내거나 업로드용 주소를 사용하세요.",
        "Send it in parts, or use the address for uploads.",
    )


class Denied(Exception):
    """Carries an AppError out of a WebSocket's dependencies to `Shield`, which answers it."""

    def __init__(self, error: AppError) -> None:
        super().__init__(str(error))
        self.error = error


class Gate:
    """`await gate.identify(scope)` where there is no route; `Depends(gate)` for all others."""

    def __init__(
        self, *, authenticator: Authenticator, allowed_origins: Sequence[str] = ()
    ) -> None:
        self._authenticator = authenticator
        self._origins = {origin.strip().rstrip("/").lower() for origin in allowed_origins}

    async def identify(self, scope: Scope) -> Principal | None:
        """Who calls, kept in `scope["state"]["principal"]`; None is nobody.

        A token in the Authorization header counts alone: a bad one is not mended by a cookie.
        Raises ForeignOrigin, TokenOfAnotherDevice or CertificateRevoked.
        """
        state: dict[str, Any] = scope.setdefault("state", {})
        if "principal" in state:
            found: Principal | None = state["principal"]
            return found
        bearer, cookie, headers = _credentials(scope)
        if bearer is None:
            self._check_origin(scope, headers)
        device = await self._device(scope)
        principal: Principal | None = device
        token = bearer if bearer is not None else cookie
        if token:
            client = scope.get("client")
            peer = Peer(
                address=client[0] if client else "",
                device_id=device.device_id if device is not None else None,
            )
            principal = await self._authenticator.by_token(token, peer)
        state["principal"] = principal
        if principal is not None and "connection" in state:
            state["connection"].known()
        return principal

    async def __call__(self, connection: HTTPConnection) -> None:
        """Before every route: raises what `Access.check` raises, and refuses unmarked routes."""
        try:
            await self.check(connection.scope)
        except AppError as error:
            if connection.scope["type"] == "websocket":
                raise Denied(error) from error
            raise

    async def check(self, scope: Scope) -> None:
        """What `__call__` does, for a scope whose endpoint the router has found."""
        access = access_of(scope.get("endpoint"))
        if access is None:
            log.error("no access marker on %s (%s)", scope.get("endpoint"), scope["path"])
            raise NoAccessDeclared
        principal = await self.identify(scope)
        access.check(principal)
        if (
            not access.public
            and principal is not None
            and MUST_CHANGE_PASSWORD in principal.facts
            and scope["path"] not in _WHILE_CHANGING_PASSWORD
        ):
            raise PasswordChangeNeeded

    async def _device(self, scope: Scope) -> Principal | None:
        der = client_certificate(scope)
        return None if der is None else await self._authenticator.by_certificate(der)

    def _check_origin(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        """Pages of other sites may not act with a user's cookie, nor sign him in as another.

        Browsers send Origin on every WebSocket and unsafe request; what sends neither header is
        no browser and has no cookie that it was not given on purpose.
        """
        if scope["type"] == "http" and scope["method"] in _SAFE_METHODS:
            return
        origin = headers.get(b"origin")
        if origin is None:
            site = headers.get(b"sec-fetch-site")
            if site is None or site in _OWN_SITE:
                return
            raise ForeignOrigin(origin="?")
        text = origin.decode("latin-1").lower()
        if text in self._origins:
            return
        host = headers.get(b"host", b"").decode("latin-1").lower()
        scheme = text.partition(":")[0]
        authority = _authority(text)
        if authority is None or authority != _authority(f"{scheme}://{host}"):
            raise ForeignOrigin(origin=text[:200])


class Shield:
    """Outermost. `render(connection, error)` makes the problem answer; `api` is the FastAPI app,
    whose state the rendering reads.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        gate: Gate,
        render: Render,
        api: Any = None,
        max_json_bytes: int = MAX_JSON_BYTES,
    ) -> None:
        self._app = app
        self._gate = gate
        self._render = render
        self._api = api
        self._max_json_bytes = max_json_bytes
        self._headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        send = self._protected(send)
        if scope["type"] == "websocket":
            try:
                # The route's own gate identifies: agents are told in a frame why they are refused.
                await self._app(scope, receive, send)
            except Denied as denied:
                await self._answer(denied.error, scope, receive, send)
            return
        try:
            principal = await self._gate.identify(scope)
        except AppError as error:
            await self._answer(error, scope, receive, send)
            return
        limit = self._max_json_bytes if principal is not None else MAX_ANONYMOUS_BYTES
        body = _Body(scope, receive, self._gate, limit)

        async def answer(message: Message) -> None:
            if body.refusal is None:
                await send(message)
            elif message["type"] == "http.response.start":
                await self._answer(body.refusal, scope, receive, send)

        await self._app(scope, body.receive, answer)

    async def _answer(self, error: AppError, scope: Scope, receive: Receive, send: Send) -> None:
        if self._api is not None:
            scope.setdefault("app", self._api)
        if scope["type"] == "websocket" and "websocket.http.response" not in scope.get(
            "extensions", {}
        ):
            await send({"type": "websocket.close", "code": 1008, "reason": error.code})
            return
        await self._render(HTTPConnection(scope), error)(scope, receive, send)

    def _protected(self, send: Send) -> Send:
        async def protected(message: Message) -> None:
            if message["type"] in {"http.response.start", "websocket.http.response.start"}:
                headers = list(message.get("headers", ()))
                present = {name.lower() for name, _ in headers}
                headers += [pair for pair in self._headers if pair[0] not in present]
                message["headers"] = headers
            await send(message)

        return protected


class _Body:
    """Watches the body of a route that declares a JSON one, which FastAPI reads whole and before
    any dependency: nothing is read for a caller who may not call, and no more than the limit.

    Routes without a declared body read their stream themselves and have limits of their own.
    """

    def __init__(self, scope: Scope, receive: Receive, gate: Gate, limit: int) -> None:
        self._scope = scope
        self._receive = receive
        self._gate = gate
        self._limit = limit
        self._seen = 0
        self._checked = False
        self.refusal: AppError | None = None

    async def receive(self) -> Message:
        # The router sets the route in this same scope before an endpoint reads anything.
        json_route = getattr(self._scope.get("route"), "body_field", None) is not None
        if json_route and not self._checked:
            self._checked = True
            try:
                await self._gate.check(self._scope)
            except AppError as error:
                self._refuse(error)
            if _declared_length(self._scope) > self._limit:
                self._refuse(BodyTooLarge(limit_bytes=self._limit))
        message = await self._receive()
        if message["type"] == "http.request":
            self._seen += len(message.get("body", b""))
            if json_route and self._seen > self._limit:
                self._refuse(BodyTooLarge(limit_bytes=self._limit))
        return message

    def _refuse(self, error: AppError) -> NoReturn:
        self.refusal = error
        raise HTTPException(error.http_status)  # FastAPI passes it on; `Shield` answers instead


def client_certificate(scope: Scope) -> bytes | None:
    """The DER of the TLS client certificate that was verified (`web.tls`)."""
    tls = (scope.get("extensions") or {}).get("tls")
    der: bytes | None = tls.get("client_cert_der") if tls else None
    return der


def _credentials(scope: Scope) -> tuple[str | None, str | None, dict[bytes, bytes]]:
    """(token of the Authorization header, token of the cookie, the headers that matter)."""
    headers: dict[bytes, bytes] = {}
    cookies: list[bytes] = []
    for name, value in scope["headers"]:
        if name == b"cookie":
            cookies.append(value)
        elif name in {b"authorization", b"origin", b"sec-fetch-site", b"host"}:
            headers.setdefault(name, value)
    bearer = None
    authorization = headers.get(b"authorization")
    if authorization is not None:
        scheme, _, value = authorization.decode("latin-1").partition(" ")
        bearer = value.strip() if scheme.lower() == "bearer" else ""
    return bearer, _session_cookie(cookies), headers


def _session_cookie(cookies: list[bytes]) -> str | None:
    for header in cookies:
        found = cookie_parser(header.decode("latin-1")).get(SESSION_COOKIE)
        if found is not None:
            return found
    return None


def _declared_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0


def _authority(origin: str) -> tuple[str, int] | None:
    """(host, port) of an origin, with the scheme's own port filled in; None for `null` etc."""
    try:
        parts = urlsplit(origin)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return None
    if not parts.hostname or port is None:
        return None
    return parts.hostname, port
