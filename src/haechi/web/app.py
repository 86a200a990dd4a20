"""Puts routers, guard, error handler, stream and dashboard into one ASGI application.

Knows no domain: `haechi.app` hands the routers in. Requests pass: request id → idempotency →
(fast ingest | FastAPI: guard → route) → error handler.
"""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.requests import HTTPConnection
from starlette.responses import FileResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from haechi import __version__
from haechi.core import ids
from haechi.core.access import access_of, public
from haechi.core.bus import Bus
from haechi.errors import AppError, Language
from haechi.rest import language
from haechi.web import errors, stream
from haechi.web.security import Denied

API_PREFIX = "/api/v1"
Guard = Callable[[HTTPConnection], Awaitable[None]]


def create_api(
    *,
    routers: Sequence[APIRouter],
    root_routers: Sequence[APIRouter],
    guard: Guard,
    bus: Bus,
    default_language: Language,
    static_dir: Path | None,
) -> FastAPI:
    """The FastAPI application: OpenAPI comes from it. `guard` runs before every route."""
    api = _Api(
        title="haechi",
        version=__version__,
        docs_url=None,  # the stock pages load scripts from outside
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(guard)],
        generate_unique_id_function=_operation_id,
        separate_input_output_schemas=False,
    )
    api.state.language = default_language
    errors.install(api)
    for router in routers:
        api.include_router(router, prefix=API_PREFIX)
    api.include_router(stream.router(bus, _problem, _asked_again(guard)), prefix=API_PREFIX)
    for router in root_routers:
        api.include_router(router)
    api.include_router(_own_routes(api))
    if static_dir is not None and (static_dir / "index.html").exists():
        api.include_router(_dashboard(static_dir))
    return api


def _operation_id(route: APIRoute) -> str:
    return route.name


def _asked_again(guard: Guard) -> stream.MayFollow:
    """The guard once more for an open connection, as if it were opened now."""

    async def may_follow(connection: HTTPConnection) -> bool:
        scope = dict(connection.scope)
        scope["state"] = {
            name: value for name, value in scope["state"].items() if name != "principal"
        }
        try:
            await guard(HTTPConnection(scope))
        except (AppError, Denied):
            return False
        return True

    return may_follow


def _problem(connection: Any, error: AppError) -> dict[str, Any]:
    return error.problem(language(connection))


_PROBLEM_SCHEMA: Final = {
    "title": "Problem",
    "description": "RFC 9457 problem document: the one shape of every refusal and failure.",
    "type": "object",
    "required": ["type", "title", "status", "code", "detail", "remedy", "data", "request_id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "`domain.reason`; see the error reference."},
        "detail": {"type": "string"},
        "remedy": {"type": "string"},
        "data": {"type": "object", "additionalProperties": True},
        "request_id": {"type": "string"},
        "operation_id": {"type": "string"},
    },
}
_PROBLEM_RESPONSE: Final = {
    "description": "Refused or failed.",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


class _Api(FastAPI):
    """Its OpenAPI document says of each route who may call it (`x-access`), and that whatever is
    not a success is a problem document.
    """

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            document = super().openapi()
            for route in iter_route_contexts(self.routes):
                access = access_of(route.endpoint)
                for method in route.methods or ():
                    operation = document["paths"].get(route.path_format, {}).get(method.lower())
                    if operation is not None:
                        operation["x-access"] = access.describe() if access else "refused"
                        operation["responses"].pop("422", None)
                        operation["responses"]["default"] = _PROBLEM_RESPONSE
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            schemas["Problem"] = _PROBLEM_SCHEMA
        return super().openapi()


def _own_routes(api: FastAPI) -> APIRouter:
    router = APIRouter()

    @router.get(f"{API_PREFIX}/health", tags=["system"])
    @public
    async def get_health() -> dict[str, str]:
        """Whether the server answers, and its version."""
        return {"status": "ok", "version": __version__}

    @router.get(f"{API_PREFIX}/openapi.json", include_in_schema=False)
    @public
    async def get_openapi() -> dict[str, Any]:
        return api.openapi()

    return router


def _dashboard(static_dir: Path) -> APIRouter:
    """The built dashboard; every unknown path is its page, its own router decides the rest."""
    router = APIRouter(include_in_schema=False)
    root = static_dir.resolve()

    @router.get("/{path:path}")
    @public
    async def get_page(path: str, request: Request) -> Response:
        if path.startswith(("api/", "agent/", "metrics")):
            raise errors.NoSuchRoute(path=request.url.path[:200])
        file = _file_at(root, path)
        if file is not None:
            immutable = path.startswith("assets/")
            cache = "public, max-age=31536000, immutable" if immutable else "no-cache"
            return FileResponse(file, headers={"Cache-Control": cache})
        return FileResponse(root / "index.html", headers={"Cache-Control": "no-cache"})

    return router


def _file_at(root: Path, path: str) -> Path | None:
    try:
        file = (root / path).resolve()
        return file if path and file.is_relative_to(root) and file.is_file() else None
    except (OSError, ValueError):
        return None  # too long, or a NUL: no file has such a name


class Front:
    """The outermost ASGI app: request ids, and exact-path fast routes beside FastAPI."""

    def __init__(self, api: ASGIApp, fast: dict[tuple[str, str], ASGIApp]) -> None:
        self._api = api
        self._fast = fast

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            fast = self._fast.get((scope["method"], scope["path"]))
            if fast is not None:  # its request id is made with the problem, where there is one
                await fast(scope, receive, send)
                return
            scope.setdefault("state", {})["request_id"] = ids.new_id("request")
        await self._api(scope, receive, send)
