"""The ASGI application of an interop listener: every historic path, for allowed networks only.

It finds out who calls, reads and checks the request in the contract's order, and writes replies
as old programs expect them: HTTP 200 with a code even for errors. What an endpoint does is not
known here.
"""

import contextlib
import ipaddress
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy.exc import DBAPIError
from starlette.types import Message, Receive, Scope, Send

from haechi.core import ids
from haechi.core.access import Principal, Role
from haechi.core.clock import Clock
from haechi.errors import AppError, Language
from haechi.interop import bodies
from haechi.interop.bodies import ClientGone
from haechi.interop.codes import Refusal
from haechi.interop.endpoint import Answer, Call, Caller, Endpoint
from haechi.interop.fields import read_fields
from haechi.interop.limits import MAX_UNDER_WAY, Rates
from haechi.interop.problems import overload, to_refusal

log = logging.getLogger(__name__)

Identify = Callable[[str, str], Awaitable[Principal | None]]
"""`(token, address)` → whose it is; None: nobody's. Raises AppError."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_JSON: Final = "application/json; charset=utf-8"


def networks_of(allowed: Sequence[str]) -> list[Network]:
    """Raises ValueError for what is no network."""
    return [ipaddress.ip_network(text.strip(), strict=False) for text in allowed]


class InteropApp:
    """`endpoints` of one path may be several: year 2 and year 3 share some."""

    def __init__(
        self,
        *,
        endpoints: Sequence[Endpoint],
        allow: Sequence[str],
        identify: Identify,
        clock: Clock,
        strict: Callable[[], bool],
        require_token: bool = False,
        rate_per_s: float = 200,
    ) -> None:
        self._routes: dict[str, list[Endpoint]] = {}
        for endpoint in endpoints:
            self._routes.setdefault(endpoint.path, []).append(endpoint)
        self._networks = networks_of(allow)
        self._identify = identify
        self._strict = strict
        self._require_token = require_token
        self._rates = Rates(clock, rate_per_s)
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            return
        address = _address(scope)
        if not self._is_allowed(address):
            await _send(send, Answer(b"forbidden", 403, "text/plain", {"Connection": "close"}))
            return
        language = _language(scope)
        try:
            answer = await self._answer(scope, receive, address, language)
        except ClientGone:
            return
        await _send(send, answer, head=scope["method"] == "HEAD")

    def _is_allowed(self, address: str) -> bool:
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(ip in network for network in self._networks)

    async def _answer(
        self, scope: Scope, receive: Receive, address: str, language: Language
    ) -> Answer:
        if not self._rates.take(address) or self._under_way >= MAX_UNDER_WAY:
            return _refused(overload(), language)
        self._under_way += 1
        try:
            return await self._dispatch(scope, receive, address, language)
        except ClientGone:
            raise
        except Refusal as error:
            return _refused(error, language)
        except AppError as error:
            return _refused(to_refusal(error), language)
        except DBAPIError:
            log.exception("the database failed in %s", scope["path"][:200])
            return _refused(
                Refusal("0011", "데이터베이스에 접근할 수 없습니다.", "The database failed."),
                language,
            )
        except Exception:
            fault_id = ids.new_id("request")
            log.exception("fault %s in %s %s", fault_id, scope["method"], scope["path"][:200])
            return _refused(
                Refusal(
                    "9999", f"내부 오류 (ID {fault_id})", f"Something went wrong (id {fault_id})"
                ),
                language,
            )
        finally:
            self._under_way -= 1

    async def _dispatch(
        self, scope: Scope, receive: Receive, address: str, language: Language
    ) -> Answer:
        path = scope["path"].rstrip("/") or "/"
        candidates = self._routes.get(path)
        if candidates is None:
            raise Refusal(
                "9999",
                "이 경로는 없습니다.",
                "There is no such path.",
                status=404,
            )
        caller = await self._caller(scope, address)
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        candidates = [one for one in candidates if one.method == method]
        if not candidates:
            raise Refusal(
                "0013",
                f"이 경로는 {scope['method'][:16]} 메서드를 받지 않습니다.",
                f"This path does not take {scope['method'][:16]}.",
            )
        self._check_rights(candidates[0], caller)
        headers = _headers(scope)
        content_type = headers.get("content-type", "")
        multipart = content_type.lower().startswith("multipart/form-data")
        if multipart and any(one.multipart for one in candidates):
            endpoint = next(one for one in candidates if one.multipart)
            call = Call(
                caller, {}, False, language, lambda: _disconnected(receive), {}, content_type
            )
            call.stream = lambda: _stream(receive)
            return await endpoint.handler(call)
        body, twice = await _body(candidates, scope, receive, headers)
        endpoint = next((one for one in candidates if one.takes(body)), candidates[-1])
        values = read_fields(endpoint.fields, body, strict=self._strict(), ignored=endpoint.ignored)
        call = Call(
            caller, values, twice, language, lambda: _disconnected(receive), body, content_type
        )
        return await endpoint.handler(call)

    async def _caller(self, scope: Scope, address: str) -> Caller:
        """Raises Refusal 0005."""
        scheme, _, token = _headers(scope).get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and token.strip():
            principal = await self._identify(token.strip(), address)
            if principal is None:
                raise Refusal("0005", "토큰이 올바르지 않습니다.", "The token is not valid.")
            return Caller(address, principal, has_token=True)
        if self._require_token:
            raise Refusal("0005", "토큰이 필요합니다.", "A token is needed here.")
        by = Principal(
            kind="system", id=f"interop:{address}", name=f"interop {address}", role=Role.OPERATOR
        )
        return Caller(address, by, has_token=False)

    def _check_rights(self, endpoint: Endpoint, caller: Caller) -> None:
        """A token's role counts; what AIs report is open to deployments and devices too."""
        by = caller.by
        if endpoint.needs == "report" and by.kind in {"deployment", "device"}:
            return
        needed = Role.OPERATOR if endpoint.needs != "look" else Role.VIEWER
        if by.role is None or by.role < needed:
            raise Refusal(
                "0005",
                f"이 토큰에는 {needed.name.lower()} 권한이 없습니다.",
                f"The token has not the role {needed.name.lower()}.",
            )


# --- ASGI


async def _body(
    candidates: Sequence[Endpoint], scope: Scope, receive: Receive, headers: Mapping[str, str]
) -> tuple[dict[str, Any], bool]:
    if candidates[0].method == "GET":
        return bodies.parse_query(scope.get("query_string", b"")), False
    length = headers.get("content-length", "")
    declared = int(length) if length.isascii() and length.isdigit() and len(length) < 19 else None
    raw = await bodies.read(receive, declared)
    return bodies.parse(raw, twice_allowed=any(one.twice for one in candidates))


async def _stream(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _address(scope: Scope) -> str:
    client = scope.get("client")
    text = str(client[0]) if client else ""
    with contextlib.suppress(ValueError):
        ip = ipaddress.ip_address(text)
        mapped = getattr(ip, "ipv4_mapped", None)
        return str(mapped or ip)
    return text


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1").lower(): v.decode("latin-1") for name, v in scope["headers"]}


def _language(scope: Scope) -> Language:
    asked = _headers(scope).get("accept-language", "").lower()
    return "en" if asked.startswith("en") else "ko"


def _refused(error: Refusal, language: Language) -> Answer:
    document = error.reply(language)
    retry_after_s = document.pop("retry_after_s", None)
    headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    return Answer(document, error.status, _JSON, headers)


async def _send(send: Send, answer: Answer, *, head: bool = False) -> None:
    headers = [(b"content-type", answer.content_type.encode())]
    headers += [(name.lower().encode(), text.encode()) for name, text in answer.headers.items()]
    start: Message = {"type": "http.response.start", "status": answer.status, "headers": headers}
    if isinstance(answer.body, dict | bytes):
        content = (
            answer.body
            if isinstance(answer.body, bytes)
            else json.dumps(answer.body, ensure_ascii=False).encode("utf-8", "replace")
        )
        headers.append((b"content-length", b"%d" % len(content)))
        await send(start)
        await send({"type": "http.response.body", "body": b"" if head else content})
        return
    await send(start)
    async for piece in answer.body:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
