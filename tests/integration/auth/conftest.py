"""The auth domain on a real SQLite file, behind the real web layer, without a network."""

from types import SimpleNamespace

import httpx2
import pytest
from fastapi import APIRouter, Depends, FastAPI, Request, WebSocket

from haechi.core.access import SYSTEM, Role, public, requires
from haechi.core.db import Database
from haechi.core.pki import SiteCa
from haechi.core.secrets import Keyring, Secret
from haechi.domains.audit import api as audit_api
from haechi.domains.audit.service import Audit
from haechi.domains.auth import api as auth_api
from haechi.domains.auth.service import Auth
from haechi.rest import In
from haechi.testing.auth import PASSWORD, cheap_passwords
from haechi.testing.clock import FakeClock
from haechi.web import errors
from haechi.web.security import Gate, Shield


class EchoIn(In):
    text: str


def own_router() -> APIRouter:
    api = APIRouter()

    @api.get("/open")
    @public
    async def get_open() -> dict[str, str]:
        return {}

    @api.get("/cacheable")
    @public
    async def get_cacheable(request: Request):
        from starlette.responses import Response

        return Response(b"x", headers={"Cache-Control": "max-age=60"})

    @api.get("/forgotten")
    async def get_forgotten() -> dict[str, str]:
        return {}

    @api.post("/echo")
    @requires(Role.VIEWER)
    async def post_echo(body: EchoIn) -> dict[str, int]:
        return {"length": len(body.text)}

    @api.post("/upload")
    @requires(Role.OPERATOR)
    async def post_upload(request: Request) -> dict[str, int]:
        return {"length": sum([len(piece) async for piece in request.stream()])}

    @api.post("/machine")
    @requires(None, also={"deployment"})
    async def post_machine(request: Request) -> dict[str, str]:
        principal = request.state.principal
        return {"device_id": principal.device_id, **principal.facts}

    @api.websocket("/follow")
    @requires(Role.VIEWER)
    async def follow(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(socket.state.principal.name)
        await socket.close()

    return api


@pytest.fixture
async def site(tmp_path):
    clock = FakeClock()
    db = Database(tmp_path / "control.sqlite")
    await db.create_all()
    audit = Audit(db=db, clock=clock)
    ca = SiteCa.open(
        tmp_path / "pki",
        server_id="sit-aaaaaaaaaaaaaaaa",
        keyring=Keyring.open(tmp_path / "keyring"),
        clock=clock,
    )
    auth = Auth(
        db=db,
        clock=clock,
        audit=audit,
        ca=ca,
        data_dir=tmp_path,
        session_hours=12,
        max_failures=5,
        passwords=cheap_passwords(),
    )
    await auth.start({"HAECHI_ADMIN_PASSWORD": PASSWORD})
    gate = Gate(authenticator=auth.authenticator, allowed_origins=["https://portal.example"])
    api = FastAPI(dependencies=[Depends(gate)], openapi_url=None, docs_url=None, redoc_url=None)
    api.state.language = "en"
    errors.install(api)
    for router in (auth_api.router(auth), audit_api.router(audit), own_router()):
        api.include_router(router, prefix="/api/v1")
    app = Shield(api, gate=gate, render=errors.problem_response, api=api)
    clients = []

    def client(scheme="http", address="127.0.0.1", **headers):
        made = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app, client=(address, 1234)),
            base_url=f"{scheme}://site.test/api/v1",
            headers=headers,
        )
        clients.append(made)
        return made

    async def user(name, role):
        made = await auth.users.create_user(
            SYSTEM, name=name, password=Secret(PASSWORD + "0"), role=role
        )
        signed_in = client()
        body = {"name": name, "password": PASSWORD + "0"}
        assert (await signed_in.post("/session", json=body)).status_code == 200
        change = {"current": PASSWORD + "0", "new": PASSWORD}
        assert (await signed_in.put("/me/password", json=change)).status_code == 204
        return SimpleNamespace(id=made.id, client=signed_in)

    async def admin():
        signed_in = client()
        body = {"name": "admin", "password": PASSWORD}
        assert (await signed_in.post("/session", json=body)).status_code == 200
        return signed_in

    yield SimpleNamespace(
        app=app,
        api=api,
        auth=auth,
        audit=audit,
        ca=ca,
        clock=clock,
        db=db,
        gate=gate,
        data_dir=tmp_path,
        client=client,
        user=user,
        admin=admin,
    )
    for made in clients:
        await made.aclose()
    await db.close()
