"""Who may call what, as a list: for the test that nothing is open by mistake, and its page.

A reader of docs/reference/access.md sees in a change's diff when a route opens wider.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi.routing import iter_route_contexts
from starlette.routing import BaseRoute

from haechi.core.access import Access, access_of


@dataclass(frozen=True, slots=True, order=True)
class RouteAccess:
    path: str
    method: str
    """`WS` for a WebSocket."""
    access: Access | None
    """None: forgotten, and therefore refused to everybody."""

    @property
    def rule(self) -> str:
        return self.access.describe() if self.access is not None else "REFUSED"


def list_routes(
    routes: list[BaseRoute], fast: Mapping[tuple[str, str], Callable[..., Any]] | None = None
) -> list[RouteAccess]:
    """Of an application (`app.routes`, nested routers too) and of its fast paths, sorted."""
    found = list(_of(routes))
    found += [
        RouteAccess(path=path, method=method, access=access_of(endpoint))
        for (method, path), endpoint in (fast or {}).items()
    ]
    return sorted(found, key=lambda route: (route.path, route.method))


def access_page(listeners: Mapping[str, list[RouteAccess]]) -> str:
    """docs/reference/access.md; `listeners`: heading → its routes."""
    lines = [
        "# Access\n",
        "Who may call which route: `public`, the least role (`viewer`, `operator`, `admin`), or",
        "the kind of machine (`device` by its certificate, `deployment` by its token). Whatever",
        "declares nothing is refused.\n",
    ]
    for heading, routes in listeners.items():
        lines += [f"## {heading}\n", "| method | path | access |", "|---|---|---|"]
        lines += [f"| {route.method} | `{route.path}` | {route.rule} |" for route in routes]
        lines.append("")
    return "\n".join(lines)


def _of(routes: list[BaseRoute]) -> Iterator[RouteAccess]:
    for route in iter_route_contexts(routes):
        access = access_of(route.endpoint)
        methods = route.methods
        for method in sorted(methods) if methods else ["WS"]:
            if method != "HEAD":
                yield RouteAccess(path=route.path or "?", method=method, access=access)
