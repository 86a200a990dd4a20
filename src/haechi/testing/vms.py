"""A mock VMS: the look-ups of an older system's inventory, for tests and integrators.

`MockVms().app` is an ASGI application; `serve` runs it on a loopback port. What it knows is in
plain dicts; what it does wrong is in `faults`: the path (or `*`) → what happens at its next calls.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import uvicorn
from starlette.types import Receive, Scope, Send

from haechi.core.tasks import Tasks
from haechi.testing.waiting import eventually

Fault = str
"""`hang`, `500`, `not json`, `not an object`, `cut off`; four digits are answered as that code."""


@dataclass
class MockVms:
    masters: dict[str, dict[str, Any]] = field(default_factory=dict)
    devices: dict[str, dict[str, Any]] = field(default_factory=dict)
    clusters: dict[str, dict[str, Any]] = field(default_factory=dict)
    ais: dict[str, dict[str, Any]] = field(default_factory=dict)
    """`{"name": "x.zip", "version": "1"}`."""
    zips: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    """Path → faults of its next calls, one each; `*` for every path, for ever."""
    calls: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""
        if scope["type"] != "http":
            return
        path = scope["path"]
        query = dict(parse_qsl(scope["query_string"].decode()))
        self.calls.append((path, query))
        fault = self._fault(path)
        if fault == "hang":
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        if fault is not None:
            await _send(send, *_wrong(fault))
            return
        await _send(send, *self._answer(path, query))

    def _fault(self, path: str) -> Fault | None:
        if self.faults.get(path):
            return self.faults[path].pop(0)
        always = self.faults.get("*")
        return always[0] if always else None

    def _answer(self, path: str, query: dict[str, str]) -> tuple[int, str, bytes]:
        if path == "/download":
            content = self.zips.get(query.get("filename", ""))
            if content is None:
                return _json({"code": "0020", "message": "데이터 Missing 오류"}, status=404)
            return 200, "application/zip", content
        records = {
            "/get_selectedMasterInfo": self.masters,
            "/get_selectedDeviceInfo": self.devices,
            "/get_selectedClusterInfo": self.clusters,
            "/get_selectedEdgeAiInfo": self.ais,
            "/get_edgeInfo": self.masters | self.devices,
        }.get(path, {})
        record = records.get(query.get("id", ""))
        if record is None:
            return _json({"code": "0004", "message": "ID 유효성 오류"})
        return _json({"code": "0000", "message": "처리 성공", "id": query["id"], **record})

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """Its base URL, on a free loopback port."""
        config = uvicorn.Config(
            self.app,
            host="127.0.0.1",
            port=0,
            interface="asgi3",
            lifespan="off",
            log_config=None,
            access_log=False,
        )
        config.timeout_graceful_shutdown = 1
        server = uvicorn.Server(config)
        tasks = Tasks("mock-vms")
        running = tasks.spawn("serve", server._serve())  # noqa: SLF001 - without its signal handlers
        await eventually(lambda: server.started)
        host, port = server.servers[0].sockets[0].getsockname()[:2]
        try:
            yield f"http://{host}:{port}"
        finally:
            server.should_exit = True
            await asyncio.wait([running])


def _json(body: dict[str, Any], *, status: int = 200) -> tuple[int, str, bytes]:
    return status, "application/json", json.dumps(body, ensure_ascii=False).encode()


def _wrong(fault: Fault) -> tuple[int, str, bytes]:
    match fault:
        case "500":
            return 500, "text/html", b"<h1>Internal Server Error</h1>"
        case "not json":
            return 200, "text/html", b"<html>hello</html>"
        case "not an object":
            return 200, "application/json", b"[1, 2]"
        case "cut off":
            return 200, "application/json", b'{"code": "0000", "name'
        case _:
            return _json({"code": fault, "message": "?"})


async def _send(send: Send, status: int, content_type: str, body: bytes) -> None:
    headers = [(b"content-type", content_type.encode()), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
