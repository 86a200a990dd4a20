"""What a connection may take before and while it asks: time, bytes of head, and how many of them.

uvicorn gives a caller as long as he likes to send a head or a body, takes a head of any size and
any number of connections. `BoundedProtocol` ends what does not come to a point. A slow radio link
is no attack: a body only has to keep moving, and a hole of a minute in it is nothing.
"""

import asyncio
import ipaddress
import logging
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from haechi.core import ids
from haechi.errors import AppError, Invalid, Language, Text, TooMany

log = logging.getLogger(__name__)

MAX_HEAD_BYTES: Final = 64 * 1024
UNUSED_S: Final = 75.0
"""A browser may open a connection before it needs one."""
LEAST_BYTES: Final = 512
"""Of a body within `body_idle_s`, or it counts as standing still."""
CHECK_S: Final = 1.0
DRAIN_S: Final = 5.0


@dataclass(frozen=True)
class Limits:
    head_s: float = 30.0
    body_idle_s: float = 120.0
    anonymous: int = 256
    """Connections of one address on which nobody has shown who he is."""
    language: Language = "ko"


class TooSlow(Invalid):
    code = "web.too_slow"
    http_status = 408
    detail = Text(
        "요청이 제시간에 도착하지 않아 연결을 닫습니다 ({what}, {limit_s:g}초).",
        "The request did not arrive in time ({what}, {limit_s:g} s); the connection is closed.",
    )
    remedy = Text(
        "네트워크를 확인하고 다시 보내세요. 느린 망이라면 server.body_idle_s 설정을 늘리세요.",
        "Check the network and send it again; for a slow one raise the setting server.body_idle_s.",
    )


class HeadTooLarge(Invalid):
    code = "web.head_too_large"
    http_status = 431
    detail = Text(
        "요청 헤더가 {limit_bytes}바이트를 넘습니다.",
        "The head of the request is larger than {limit_bytes} bytes.",
    )
    remedy = Text("쿠키와 헤더를 줄이세요.", "Send fewer or smaller headers.")


class TooManyConnections(TooMany):
    code = "web.too_many_connections"
    detail = Text(
        "주소 {address}에서 로그인하지 않은 연결이 너무 많습니다.",
        "Address {address} has too many connections without a sign-in.",
    )
    remedy = Text(
        "{retry_after_s}초 뒤 다시 시도하세요. 많은 사용자가 한 주소를 함께 쓴다면 "
        "server.anonymous_connections 설정을 늘리세요.",
        "Try again in {retry_after_s} s; where many people share one address, raise the setting "
        "server.anonymous_connections.",
    )


class Connections:
    """The limits of all listeners, and how many anonymous connections each address has."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._anonymous: Counter[str] = Counter()

    def enter(self, source: str) -> bool:
        self._anonymous[source] += 1
        return self._anonymous[source] <= self.limits.anonymous

    def leave(self, source: str) -> None:
        self._anonymous[source] -= 1
        if not self._anonymous[source]:
            del self._anonymous[source]

    def anonymous(self, source: str) -> int:
        return self._anonymous[source]


class BoundedProtocol(HttpToolsProtocol):
    """One connection. `scope["state"]["connection"]` is it: `web.security` tells it that its
    caller is known.
    """

    def __init__(self, *, bounds: Connections, **uvicorn: Any) -> None:
        super().__init__(**uvicorn)
        self._bounds = bounds
        self._source: str | None = None
        self._phase: Literal["idle", "head", "body", "answer", "refused"] = "idle"
        self._since_s = 0.0
        self._moved_bytes = 0
        self._head_bytes = 0
        self._head_is_new = False
        self._watch: asyncio.TimerHandle | None = None

    # -- asyncio ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        address = self.client[0] if self.client else ""
        self._source = source_of(address)
        self._since_s = self.loop.time()
        if self._bounds.enter(self._source):
            self._watch = self.loop.call_later(CHECK_S, self._look)
        else:
            log.warning("too many connections from %s", address)
            self._refuse(TooManyConnections(address=address, retry_after_s=5))

    def connection_lost(self, exc: Exception | None) -> None:
        self._let_go()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing() or self._phase == "refused":
            return
        self._moved_bytes += len(data)
        super().data_received(data)
        if self._phase == "head":
            # The parser hands over a header once it is whole: one without end is seen here.
            if not self._head_is_new:
                self._head_bytes += len(data)
            self._head_is_new = False
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(HeadTooLarge(limit_bytes=MAX_HEAD_BYTES), drain=True)

    def handle_websocket_upgrade(self) -> None:
        self._let_go()
        super().handle_websocket_upgrade()

    def known(self) -> None:
        """Its caller has shown who he is."""
        if self._source is not None:
            self._bounds.leave(self._source)
            self._source = None

    def _let_go(self) -> None:
        self.known()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    # -- httptools ----------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"]["connection"] = self
        self._head_bytes = 0
        self._head_is_new = True
        self._enter("head")

    def on_headers_complete(self) -> None:
        self._enter("body")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._enter("answer")
        super().on_message_complete()

    def _enter(self, phase: Literal["head", "body", "answer"]) -> None:
        self._phase = phase
        self._since_s = self.loop.time()
        self._moved_bytes = 0

    # -- time ---------------------------------------------------------------------------------

    def _look(self) -> None:
        if self.transport.is_closing():
            return
        self._watch = self.loop.call_later(CHECK_S, self._look)
        now_s = self.loop.time()
        waited_s = now_s - self._since_s
        limits = self._bounds.limits
        if self._phase == "idle" and waited_s > UNUSED_S:
            self.transport.close()
        elif self._phase == "refused" and waited_s > DRAIN_S:
            self.transport.abort()
        elif self._phase == "head" and waited_s > limits.head_s:
            self._refuse(TooSlow(what="head", limit_s=limits.head_s))
        elif self._phase == "body":
            if self._is_our_turn():
                self._enter("body")
            elif waited_s > limits.body_idle_s:
                if self._moved_bytes < LEAST_BYTES:
                    self._refuse(TooSlow(what="body", limit_s=limits.body_idle_s))
                else:
                    self._enter("body")

    def _is_our_turn(self) -> bool:
        """The caller waits for us: what he sent is not read yet, or he asked to be let on."""
        return self.flow.read_paused or self.cycle.waiting_for_100_continue

    def _refuse(self, error: AppError, *, drain: bool = False) -> None:
        """Say why, where no answer has begun, and hang up; the application sees a caller gone.

        `drain`: he is in the middle of sending, and a close now would be a reset that takes the
        answer away from him; what he still sends runs into nothing for a moment.
        """
        silent = self.cycle is None or self.cycle.response_complete
        if silent or not self.cycle.response_started:
            self.transport.write(_answer(error, self._bounds.limits.language))
        if drain and silent and self.transport.can_write_eof():
            self._phase, self._since_s = "refused", self.loop.time()
            self.transport.write_eof()
        else:
            self.transport.close()
            self._let_go()


def source_of(address: str) -> str:
    """An IPv6 caller has a whole /64 to call from."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return str(ipaddress.IPv6Network((int(parsed) >> 64 << 64, 64)))
    return address


def _answer(error: AppError, language: Language) -> bytes:
    body = msgspec.json.encode({**error.problem(language), "request_id": ids.new_id("request")})
    lines = [
        STATUS_LINE[error.http_status].rstrip(),
        b"Content-Type: application/problem+json",
        b"Content-Length: %d" % len(body),
        b"Connection: close",
    ]
    if error.retry_after_s is not None:
        lines.append(b"Retry-After: %d" % error.retry_after_s)
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
