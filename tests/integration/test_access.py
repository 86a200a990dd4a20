"""Default deny, over every route there is: each declares who may call it, and is called.

`UPDATE_ACCESS=1 pytest tests/integration/test_access.py` writes docs/reference/access.md anew.
"""

import os
import re
from pathlib import Path
from types import SimpleNamespace

import httpx2
import pytest

from haechi.app import create
from haechi.core.access import SYSTEM, Role, access_of
from haechi.core.clock import SystemClock
from haechi.core.secrets import Secret
from haechi.testing.auth import PASSWORD
from haechi.web.access import access_page, list_routes

pytestmark = pytest.mark.integration
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "access.md"


@pytest.fixture
async def server(tmp_path):
    haechi = await create(
        flags={"server.data_dir": tmp_path}, file=None, environment={}, clock=SystemClock()
    )
    await haechi.auth.start({"HAECHI_ADMIN_PASSWORD": PASSWORD})
    clients = []

    def client(**headers):
        transport = httpx2.ASGITransport(haechi.app, raise_app_exceptions=False)
        made = httpx2.AsyncClient(
            transport=transport, base_url="http://site.test", headers=headers, timeout=60
        )
        clients.append(made)
        return made

    routes = list_routes(haechi.api.routes, getattr(haechi, "fast", {}))
    yield SimpleNamespace(haechi=haechi, client=client, routes=routes)
    for made in clients:
        await made.aclose()
    await haechi.close()
    await haechi.db.close()


def address(path):
    return re.sub(r"\{[^}]*\}", "nothing-there", path)


async def user(server, role):
    auth = server.haechi.auth
    name = f"test-{role.name.lower()}"
    await auth.users.create_user(SYSTEM, name=name, password=Secret(PASSWORD + "0"), role=role)
    first = await auth.sessions.log_in(name=name, password=Secret(PASSWORD + "0"), address="")
    by = await auth.authenticator.by_token(first.secret.reveal())
    done = await auth.sessions.change_password(
        by, current=Secret(PASSWORD + "0"), new=Secret(PASSWORD), address=""
    )
    return server.client(Authorization=f"Bearer {done.secret.reveal()}")


async def refused(client, routes, statuses):
    """The routes that did not refuse the caller."""
    wrong = []
    for route in routes:
        if route.method == "WS":
            continue
        answer = await client.request(route.method, address(route.path))
        if answer.status_code not in statuses or not answer.json()["code"].startswith("auth."):
            wrong.append((route.method, route.path, answer.status_code))
    return wrong


async def test_every_route_declares_who_may_call_it(server):
    assert len(server.routes) > 30
    assert [route for route in server.routes if route.access is None] == []


async def test_the_page_lists_every_route(server):
    page = access_page({"Dashboard and API": server.routes})
    if os.environ.get("UPDATE_ACCESS"):
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(page, "utf-8")
    assert PAGE.exists(), "write it with UPDATE_ACCESS=1"
    assert PAGE.read_text("utf-8") == page, "read the difference, then write it: UPDATE_ACCESS=1"


async def test_only_these_are_public(server):
    public = {(r.method, r.path) for r in server.routes if r.access and r.access.public}
    assert public <= {
        ("POST", "/api/v1/session"),
        ("GET", "/api/v1/health"),
        ("GET", "/api/v1/openapi.json"),
        ("GET", "/{path:path}"),
    }


async def test_nobody_gets_in_anywhere(server):
    closed = [route for route in server.routes if not route.access.public]
    assert await refused(server.client(), closed, {401}) == []
    stranger = server.client(Authorization="Bearer hct_made-up")
    assert await refused(stranger, closed, {401}) == []


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
async def test_no_role_gets_further_than_declared(server, role):
    above = [
        route
        for route in server.routes
        if not route.access.public and (route.access.role is None or route.access.role > role)
    ]
    assert above
    assert await refused(await user(server, role), above, {403}) == []


async def test_a_deployments_token_opens_only_what_names_it(server):
    haechi = server.haechi
    async with haechi.db.write() as tx:
        secret, _ = await haechi.auth.machines.issue_deployment_token(
            tx, deployment_id="dep-x", device_id="dev-x", facts={}, direct=True
        )
    others = [
        route
        for route in server.routes
        if not route.access.public and "deployment" not in route.access.kinds
    ]
    machine = server.client(Authorization=f"Bearer {secret.reveal()}")
    assert await refused(machine, others, {403}) == []


async def test_writing_needs_more_than_looking(server):
    """What changes the site is not for viewers, save what is about themselves."""
    own = {"/api/v1/session", "/api/v1/me", "/api/v1/me/password", "/api/v1/tokens"}
    own.add("/api/v1/tokens/{token_id}")
    open_to_viewers = [
        (route.method, route.path)
        for route in server.routes
        if route.method not in {"GET", "WS"}
        and route.path not in own
        and route.access.role is Role.VIEWER
    ]
    assert open_to_viewers == []


def test_the_marker_survives_on_functions_only_where_put():
    assert access_of(lambda: None) is None
