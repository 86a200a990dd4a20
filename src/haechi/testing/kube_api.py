"""A small Kubernetes API on loopback: TLS with client certificates, one store, several doors.

`running_kube()` gives a `FakeKube`: its `access` is what `LightKubes.open` takes; `doors` are its
control planes, each of which can be closed. It speaks enough of the real protocol that a client
cannot tell it apart where haechi uses it (the same tests run against a real cluster in the lab).
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from haechi.core.clock import SystemClock
from haechi.core.pki import SiteCa, make_key_and_csr
from haechi.core.secrets import Keyring, Secret
from haechi.core.tasks import Tasks
from haechi.domains.clusters.model import api_name
from haechi.domains.clusters.ports import ApiServer, KubeAccess
from haechi.testing.kube_store import Key, KubeStore, Object, Refusal
from haechi.testing.waiting import eventually
from haechi.web.server import Listener, Servers

APPLY: Final = "application/apply-patch+yaml"
Logs = Callable[[Object, dict[str, str]], AsyncIterator[bytes]]


async def _no_logs(pod: Object, params: dict[str, str]) -> AsyncIterator[bytes]:
    del params
    text = f"2026-01-02T03:04:05.006Z log of {pod['metadata']['name']}\n"
    yield text.encode()


@dataclass
class KubeApi:
    """The ASGI application."""

    store: KubeStore = field(default_factory=KubeStore)
    version: str = "v1.36.3"
    ready: bool = True
    """What `/readyz` says. One that is not ready knows nobody's rights."""
    unready: set[int] = field(default_factory=set)
    """Ports of doors that are not, while others are."""
    faults: list[tuple[int, str]] = field(default_factory=list)
    """(status, message) of the next calls, one each."""
    hold: asyncio.Event | None = None
    """Calls wait here before they are answered."""
    protected: set[str] = field(default_factory=set)
    """Names of pods that a disruption budget protects."""
    logs: Logs = _no_logs
    calls: list[tuple[str, str]] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        self.calls.append((request.method, request.url.path))
        response = await self._safely(request)
        await response(scope, receive, send)

    async def _safely(self, request: Request) -> Response:
        if self.hold is not None:
            await self.hold.wait()
        ready = self.ready and request.scope["server"][1] not in self.unready
        if request.url.path == "/readyz":
            return Response("ok" if ready else "not ok", 200 if ready else 500)
        if not ready:
            return _status(403, "Forbidden", "everybody is forbidden everything")
        if self.faults:
            status, message = self.faults.pop(0)
            return _status(status, "Fault", message)
        try:
            return await self._answer(request)
        except Refusal as refusal:
            return _status(refusal.status, refusal.reason, refusal.message)

    async def _answer(self, request: Request) -> Response:
        parts = request.url.path.strip("/").split("/")
        if parts == ["version"]:
            return JSONResponse({"gitVersion": self.version})
        if request.url.path in self.store.raw:
            said = self.store.raw[request.url.path]
            if isinstance(said, Refusal):
                raise said
            return JSONResponse(said)
        key, subresource = _parse(parts)
        if not key.name:
            return await self._collection(request, key)
        if subresource == "log":
            pod = self.store.get(key)
            return StreamingResponse(self.logs(pod, dict(request.query_params)))
        if subresource == "eviction":
            return await self._evict(key)
        return await self._one(request, key, subresource)

    async def _one(self, request: Request, key: Key, subresource: str) -> Response:
        manager = request.query_params.get("fieldManager", "unknown")
        if request.method == "GET":
            return JSONResponse(self.store.get(key))
        if request.method == "DELETE":
            policy = request.query_params.get("propagationPolicy", "Background")
            gone = self.store.get(key)
            if request.query_params.get("gracePeriodSeconds") == "0":
                await self.store.remove(key)  # by force: no kubelet is asked
            else:
                await self.store.delete(key, policy=policy)
            return JSONResponse(gone)
        body = await request.json()
        if request.method == "PATCH" and request.headers["content-type"] == APPLY:
            if not request.query_params.get("fieldManager"):
                raise Refusal(422, "Invalid", "fieldManager: Required value")
            force = request.query_params.get("force") == "true"
            made, new = await self.store.apply(key, body, manager=manager, force=force)
            return JSONResponse(made, 201 if new else 200)
        if request.method == "PATCH":
            found = await self.store.merge(key, body, manager=manager, subresource=subresource)
            return JSONResponse(found)
        raise Refusal(405, "MethodNotAllowed", "the server does not allow this method")

    async def _evict(self, key: Key) -> Response:
        _ = self.store.get(key)
        if key.name in self.protected:
            raise Refusal(
                429, "TooManyRequests", "Cannot evict pod as it would violate a disruption budget."
            )
        await self.store.delete(key)
        return JSONResponse({"kind": "Status", "status": "Success"}, 201)

    async def _collection(self, request: Request, key: Key) -> Response:
        query = request.query_params
        if query.get("watch") == "true":
            since = int(query.get("resourceVersion") or self.store.version)
            if since < self.store.oldest:
                raise Refusal(410, "Expired", f"too old resource version: {since}")
            seconds = float(query.get("timeoutSeconds", "60"))
            return StreamingResponse(self._watch(key, since, seconds, dict(query)))
        found = [
            one
            for known, one in sorted(self.store.objects.items())
            if _within(known, key) and _selected(one, dict(query))
        ]
        limit, start = int(query.get("limit", "0")), int(query.get("continue") or 0)
        page = found[start : start + limit] if limit else found
        meta = {"resourceVersion": str(self.store.version)}
        if limit and start + limit < len(found):
            meta["continue"] = str(start + limit)
        return JSONResponse({"kind": "List", "metadata": meta, "items": page})

    async def _watch(
        self, key: Key, since: int, seconds: float, query: dict[str, str]
    ) -> AsyncIterator[bytes]:
        try:
            async with asyncio.timeout(seconds):
                while True:
                    for change in [one for one in self.store.history if one.version > since]:
                        since = change.version
                        if _within(change.key, key) and _selected(change.seen, query):
                            yield _event(change.type, change.seen)
                    await self.store.wait_beyond(since)
        except TimeoutError:
            yield _event("BOOKMARK", {"metadata": {"resourceVersion": str(since)}})


def _event(kind: str, seen: Object) -> bytes:
    return json.dumps({"type": kind, "object": seen}).encode() + b"\n"


def _status(code: int, reason: str, message: str) -> Response:
    if code == 599:  # not even JSON
        return PlainTextResponse(message, 502)
    body = {"kind": "Status", "status": "Failure", "code": code, "reason": reason}
    return JSONResponse({**body, "message": message}, code)


def _parse(parts: list[str]) -> tuple[Key, str]:
    if parts[0] == "api":
        api_version, rest = parts[1], parts[2:]
    else:
        api_version, rest = "/".join(parts[1:3]), parts[3:]
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    name = rest[1] if len(rest) > 1 else ""
    return Key(api_version, rest[0], namespace, name), rest[2] if len(rest) > 2 else ""


def _within(known: Key, wanted: Key) -> bool:
    return known[:2] == wanted[:2] and wanted.namespace in {"", known.namespace}


def _selected(one: Object, query: dict[str, str]) -> bool:
    labels = one["metadata"].get("labels") or {}
    for wanted in filter(None, query.get("labelSelector", "").split(",")):
        name, equals, value = wanted.partition("=")
        if name not in labels or (equals and labels[name] != value):
            return False
    for wanted in filter(None, query.get("fieldSelector", "").split(",")):
        path, _, value = wanted.partition("=")
        found: Any = one
        for step in path.split("."):
            found = (found or {}).get(step)
        if (found or "") != value:
            return False
    return True


@dataclass
class FakeKube:
    api: KubeApi
    access: KubeAccess
    doors: list[Servers]
    _running: list["asyncio.Task[None]"]
    _open: Callable[[int], tuple[Servers, "asyncio.Task[None]"]]
    """Another server at a port."""

    @property
    def store(self) -> KubeStore:
        return self.api.store

    async def close_door(self, index: int) -> None:
        """That control plane is gone: connections refused, open ones cut."""
        self.doors[index].stop()
        await self._running[index]
        self.doors[index].close()

    async def open_door(self, index: int) -> None:
        """It is back, at the same address."""
        self.doors[index], self._running[index] = self._open(self.access.servers[index].port)
        await eventually(lambda: self.doors[index].started)


@asynccontextmanager
async def running_kube(
    folder: Path, *, cluster_id: str = "clu-test", doors: int = 1, name: str | None = None
) -> AsyncIterator[FakeKube]:
    """`name`: what its certificate bears, where that is to be wrong."""
    ca = SiteCa.open(
        folder / "kube-pki",
        server_id="srv-kube",
        keyring=Keyring.open(folder / "kube-keyring", create=True),
        clock=SystemClock(),
    )
    files = ca.server_files("api", [name or api_name(cluster_id)])
    context = ca.server_context(files, clients="required")
    api = KubeApi()
    tasks = Tasks("fake-kube")

    def open_at(port: int) -> tuple[Servers, "asyncio.Task[None]"]:
        made = Servers([Listener(api, f"127.0.0.1:{port}", context)], stopping=lambda: None)
        return made, tasks.spawn("serve", made.run())

    opened = [open_at(0) for _ in range(doors)]
    servers, running = [one for one, _ in opened], [task for _, task in opened]
    try:
        for one in servers:
            await eventually(lambda one=one: one.started)
        key, csr = make_key_and_csr("kubernetes-admin")
        certificate = ca.sign_device("kubernetes-admin", csr).pem
        access = KubeAccess(
            cluster_id=cluster_id,
            kubeconfig=Secret(_kubeconfig(ca.pem, certificate, key)),
            server_name=api_name(cluster_id),
            servers=tuple(
                ApiServer(f"dev-cp{index}", "127.0.0.1", one.addresses[0][1])
                for index, one in enumerate(servers)
            ),
        )
        yield FakeKube(api, access, servers, running, open_at)
    finally:
        for one in servers:
            one.stop()
        await tasks.close()
        for one in servers:
            one.close()


def _kubeconfig(ca_pem: str, certificate_pem: str, key_pem: str) -> str:
    def data(text: str) -> str:
        return base64.b64encode(text.encode()).decode()

    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "admin@kube",
            "contexts": [{"name": "admin@kube", "context": {"cluster": "kube", "user": "admin"}}],
            "clusters": [
                {
                    "name": "kube",
                    "cluster": {
                        "server": "https://unused.invalid:6444",
                        "certificate-authority-data": data(ca_pem),
                    },
                }
            ],
            "users": [
                {
                    "name": "admin",
                    "user": {
                        "client-certificate-data": data(certificate_pem),
                        "client-key-data": data(key_pem),
                    },
                }
            ],
        }
    )
