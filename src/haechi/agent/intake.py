"""The device-local intake: what an AI may call, and who it is that calls (CONTRACTS 5).

Bound to the gateway of this device's own container network. The caller is the deployment whose
token it shows; without a token, the one whose container has the address. A token shown from
another deployment's container, or from anywhere that is no container of this device, is stolen:
403. A result is answered once it is durable. Knows neither the engine nor the link.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final

import msgspec

from haechi.agent import boot, historic, rows
from haechi.agent.board import Board
from haechi.agent.deployments import Deployment, Deployments
from haechi.agent.errors import (
    BadBody,
    NoSuchPath,
    QueueFull,
    RowsRefused,
    TooLarge,
    UnknownCaller,
)
from haechi.agent.historic import Historic
from haechi.agent.http_server import MAX_BODY_BYTES, Request, Response
from haechi.agent.outbox import Outbox
from haechi.core import ids
from haechi.errors import AppError, Language
from haechi.protocol.results import AgentResult, Result

log = logging.getLogger(__name__)

MAX_WAIT_S: Final = 60.0
ROWS_PER_S: Final = 2_000.0
BURST_ROWS: Final = 6_000.0
HISTORIC_BODY_BYTES: Final = 1024 * 1024

Locate = Callable[[str], Awaitable[None]]
"""Asked when an address is not known yet: look at the engine again, now."""

Handler = Callable[[Deployment, Request], Awaitable[Response]]


class Intake:
    """`handle` serves `HttpServer`."""

    def __init__(
        self,
        *,
        device_id: str,
        deployments: Deployments,
        board: Board,
        outbox: Outbox,
        locate: Locate,
        trust_loopback: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`trust_loopback`: a token alone is enough from 127.0.0.1 (a device without containers,
        tests)."""
        self._device_id = device_id
        self._deployments = deployments
        self._board = board
        self._outbox = outbox
        self._locate = locate
        self._trust_loopback = trust_loopback
        self._monotonic = monotonic
        self._budgets: dict[str, tuple[float, float]] = {}
        self._routes: dict[tuple[str, str], Handler] = {
            ("POST", "/v1/results"): self._results,
            ("GET", "/v1/assignments"): self._assignments,
            ("POST", "/v1/ready"): self._ready,
            ("POST", "/add_newAiResult"): self._historic,
            ("POST", "/usage"): self._historic,
            ("POST", "/optimize_by_weather"): self._historic,
            ("POST", "/save_edgeData"): self._historic,
        }
        self._historic_paths = {path for _m, path in self._routes if not path.startswith("/v1/")}

    async def handle(self, request: Request) -> Response:
        path = request.path.rstrip("/") or "/"
        old = path in self._historic_paths
        try:
            if (request.method, path) == ("GET", "/v1/health"):
                return _json({"status": "ok", "backlog": self._outbox.backlog})
            return await self._dispatch(path, request)
        except Historic as error:
            return _old(historic.reply(error.code, detail=error.detail))
        except AppError as error:
            if old:
                return _old_problem(error)
            return problem(error, _language(request))
        except Exception:
            fault_id = ids.new_id("request")
            log.exception("fault %s in %s %s", fault_id, request.method, path)
            return _json({"code": "core.internal", "request_id": fault_id}, status=500)

    async def _dispatch(self, path: str, request: Request) -> Response:
        if request.refused == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            raise TooLarge(limit_bytes=MAX_BODY_BYTES)
        if request.refused is not None:
            raise QueueFull(retry_after_s=1)
        handler = self._routes.get((request.method, path))
        if handler is None and path in self._historic_paths:
            raise Historic("0013", "POST")
        if handler is None:
            raise NoSuchPath(path=path[:200])
        return await handler(await self._caller(request), request)

    # -- who is it ----------------------------------------------------------------------------

    async def _caller(self, request: Request) -> Deployment:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        here = self._deployments.by_address(request.peer)
        if here is None and not self._is_local(request.peer):
            await self._locate(request.peer)
            here = self._deployments.by_address(request.peer)
        if not token:
            if here is None:
                raise UnknownCaller
            return here
        deployment = None
        if scheme.lower() == "bearer":
            deployment = self._deployments.by_token(token.strip())
        if deployment is None:
            log.warning("a token unknown here was shown from %s", request.peer)
            raise UnknownCaller
        if here is None and self._is_local(request.peer):
            return deployment
        if here is not deployment:
            log.error("the token of %s was shown from %s", deployment.id, request.peer)
            raise UnknownCaller
        return deployment

    def _is_local(self, address: str) -> bool:
        return self._trust_loopback and address in {"127.0.0.1", "::1"}

    # -- what it wants ------------------------------------------------------------------------

    async def _results(self, deployment: Deployment, request: Request) -> Response:
        if b'"ainame"' in request.body and request.body.lstrip()[:1] == b"{":
            # HAECHI_RESULTS_URL names one address for both forms (INTERFACES 5 and 8).
            return await self._historic(deployment, request)
        found, many = rows.split(request.body)
        accepted: list[AgentResult] = []
        refused: list[rows.Refusal] = []
        now_ms = boot.wall_ms()
        for index, row in enumerate(found):
            try:
                result = rows.decode(row)
            except ValueError as error:
                refused.append(rows.Refusal(index, "intake.bad_result", str(error)))
                continue
            accepted.append(self._finish(result, deployment, now_ms))
        if accepted:
            await self._store(deployment, accepted)
        elif refused and not many:
            raise RowsRefused(count=1, refused=msgspec.to_builtins(refused))
        return _json({"accepted": len(accepted), "refused": msgspec.to_builtins(refused)})

    def _finish(self, result: Result, deployment: Deployment, now_ms: int) -> AgentResult:
        return rows.finish(
            result, deployment, self._board, device_id=self._device_id, now_ms=now_ms
        )

    async def _store(self, deployment: Deployment, accepted: list[AgentResult]) -> None:
        self._spend(deployment.id, len(accepted))
        stored = await self._outbox.add(accepted)
        if stored.accepted:
            captured = [row.captured_ms for row in accepted if row.captured_ms is not None]
            newest = max(captured) if captured else accepted[-1].received_ms
            self._deployments.stored(deployment, stored.accepted, newest)

    def _spend(self, deployment_id: str, count: int) -> None:
        """One AI that floods must not fill the queue for the others."""
        now = self._monotonic()
        left, since = self._budgets.get(deployment_id, (BURST_ROWS, now))
        left = min(BURST_ROWS, left + (now - since) * ROWS_PER_S)
        if left < count:
            self._budgets[deployment_id] = (left, now)
            raise QueueFull(retry_after_s=max(1, round((count - left) / ROWS_PER_S)))
        self._budgets[deployment_id] = (left - count, now)

    async def _assignments(self, deployment: Deployment, request: Request) -> Response:
        try:
            wait_s = min(MAX_WAIT_S, max(0.0, float(request.query.get("wait", "0"))))
        except ValueError as error:
            raise BadBody(problem="wait is not a number") from error
        revision = request.query.get("revision", "")
        listed = await self._board.wait(deployment.id, revision, wait_s)
        if listed is None:
            return Response(204)
        return Response(200, msgspec.json.encode(listed))

    async def _ready(self, deployment: Deployment, _request: Request) -> Response:
        await asyncio.to_thread(self._deployments.said_ready, deployment)
        return _json({"ready": True})

    async def _historic(self, deployment: Deployment, request: Request) -> Response:
        if len(request.body) > HISTORIC_BODY_BYTES:
            raise Historic("0016", "body")
        body, twice = historic.read_body(request.body)
        path = request.path.rstrip("/")
        result: Result
        if path in {"/add_newAiResult", "/v1/results"}:
            result = historic.ai_result(body)
            answer = _old(b'{"code":200,"msg":"GOOD"}')
        elif path == "/usage":
            result = historic.usage(body)
            answer = _old(historic.reply("0000"))
            if twice:
                answer = Response(200, b"usage", content_type="text/plain; charset=utf-8")
        else:
            result = historic.weather(body)
            answer = _old(historic.reply("0000", action="none"))
        await self._store(deployment, [self._finish(result, deployment, boot.wall_ms())])
        return answer


def problem(error: AppError, language: Language) -> Response:
    body: dict[str, Any] = {**error.problem(language), "request_id": ids.new_id("request")}
    headers: dict[str, str] = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    return Response(
        error.http_status, msgspec.json.encode(body), "application/problem+json", headers
    )


def _json(value: Any, *, status: int = 200) -> Response:
    return Response(status, msgspec.json.encode(value))


def _old(body: bytes) -> Response:
    return Response(200, body, content_type="application/json; charset=utf-8")


def _old_problem(error: AppError) -> Response:
    if isinstance(error, QueueFull):
        body = historic.reply("9999", detail=error.detail.render("ko", error.data))
        return Response(503, body, headers={"Retry-After": str(error.retry_after_s or 1)})
    if isinstance(error, UnknownCaller):
        return _old(historic.reply("0004", detail=error.detail.render("ko", error.data)))
    if isinstance(error, TooLarge):
        return _old(historic.reply("0016", detail="body"))
    return _old(historic.reply("9999", detail=error.detail.render("ko", error.data)))


def _language(request: Request) -> Language:
    return "en" if request.headers.get("accept-language", "").lower().startswith("en") else "ko"
