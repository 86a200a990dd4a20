"""The web layer: default deny, other sites' pages, headers, sizes; for HTTP and WebSocket."""

import pytest

from haechi.core.access import Role
from haechi.web.security import MAX_ANONYMOUS_BYTES, MAX_JSON_BYTES

pytestmark = pytest.mark.integration


async def follow(site, **headers):
    """Open the WebSocket; → the messages the application sent."""
    sent = []
    incoming = [{"type": "websocket.connect"}]

    async def receive():
        return incoming.pop() if incoming else {"type": "websocket.disconnect", "code": 1005}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "websocket",
        "asgi": {"version": "3.0"},
        "scheme": "ws",
        "path": "/api/v1/follow",
        "raw_path": b"/api/v1/follow",
        "root_path": "",
        "query_string": b"",
        "client": ("127.0.0.1", 1),
        "server": ("site.test", 80),
        "subprotocols": [],
        "state": {},
        "extensions": {"websocket.http.response": {}},
        "headers": [
            (b"host", b"site.test"),
            *((k.lower().replace("_", "-").encode(), v.encode()) for k, v in headers.items()),
        ],
    }
    await site.app(scope, receive, send)
    return sent


async def test_a_route_without_a_marker_is_refused_even_to_an_admin(site):
    for client in (site.client(), await site.admin()):
        answer = await client.get("/forgotten")
        assert (answer.status_code, answer.json()["code"]) == (403, "web.no_access_declared")


async def test_nobody_may_not_even_have_a_body_read(site):
    answer = await site.client().post(
        "/echo", content=b"{broken", headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["code"]) == (401, "auth.not_signed_in")
    answer = await site.client().post(
        "/users", content=b"[" * 60000, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://site.test"}, 200),
        ({"Origin": "http://SITE.test:80"}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "https://portal.example"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://site.test.evil.example"}, 403),
        ({"Origin": "http://site.test:81"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "http://[::1"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
async def test_pages_of_other_sites_cannot_act_with_the_cookie(site, headers, status):
    admin = await site.admin()
    answer = await admin.post("/echo", json={"text": "x"}, headers=headers)
    assert answer.status_code == status
    if status == 403:
        assert answer.json()["code"] == "auth.foreign_origin"
        # Nor sign somebody in as another, nor is reading affected: there the browser protects.
        body = {"name": "admin", "password": "x"}
        assert (await site.client().post("/session", json=body, headers=headers)).status_code == 403
        assert (await admin.get("/me", headers=headers)).status_code == 200


async def test_a_token_needs_no_origin(site):
    admin = await site.admin()
    secret = (await admin.post("/tokens", json={"name": "x"})).json()["secret"]
    headers = {"Authorization": f"Bearer {secret}", "Origin": "http://tool.example"}
    answer = await site.client().post("/echo", json={"text": "x"}, headers=headers)
    assert answer.status_code == 200


async def test_websocket_with_cookie(site):
    cookie = f"haechi_session={(await site.admin()).cookies['haechi_session']}"
    sent = await follow(site, Cookie=cookie, Origin="http://site.test")
    assert [m["type"] for m in sent] == ["websocket.accept", "websocket.send", "websocket.close"]
    assert sent[1]["text"] == "admin"


async def test_websocket_from_another_site(site):
    cookie = f"haechi_session={(await site.admin()).cookies['haechi_session']}"
    sent = await follow(site, Cookie=cookie, Origin="http://evil.example")
    assert sent[0]["type"] == "websocket.http.response.start"
    assert sent[0]["status"] == 403
    assert b"auth.foreign_origin" in sent[1]["body"]


async def test_websocket_of_nobody(site):
    sent = await follow(site)
    assert (sent[0]["type"], sent[0]["status"]) == ("websocket.http.response.start", 401)
    assert b"auth.not_signed_in" in sent[1]["body"]


async def test_headers_on_every_answer(site):
    for path in ("/open", "/me", "/nowhere"):
        headers = (await site.client().get(path)).headers
        assert headers["cache-control"] == "no-store"
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "img-src 'self' data: blob:" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
    assert (await site.client().get("/cacheable")).headers["cache-control"] == "max-age=60"


@pytest.mark.parametrize("kind", ["application/json", "application/octet-stream"])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_large_json_body_is_refused_whatever_it_calls_itself(site, kind, chunked):
    kim = await site.user("kim", Role.VIEWER)
    body = b'{"text": "' + b"x" * MAX_JSON_BYTES + b'"}'

    async def pieces():
        for at in range(0, len(body), 65536):
            yield body[at : at + 65536]

    answer = await kim.client.post(
        "/echo", content=pieces() if chunked else body, headers={"Content-Type": kind}
    )
    assert (answer.status_code, answer.json()["code"]) == (413, "web.body_too_large")
    just = b'{"text": "' + b"x" * (MAX_JSON_BYTES - 12) + b'"}'
    headers = {"Content-Type": "application/json"}
    assert (await kim.client.post("/echo", content=just, headers=headers)).status_code == 200


async def test_nobody_may_send_little(site):
    body = {"name": "admin", "password": "x" * MAX_ANONYMOUS_BYTES}
    assert (await site.client().post("/session", json=body)).status_code == 413


async def test_a_stream_has_no_such_limit(site):
    kim = await site.user("kim", Role.OPERATOR)
    body = b"x" * (MAX_JSON_BYTES * 3)
    assert (await kim.client.post("/upload", content=body)).json() == {"length": len(body)}


async def test_validation_problems_do_not_repeat_the_password(site):
    answer = await site.client().post("/session", json={"name": 1, "password": "hunter2-hunter2"})
    assert answer.status_code == 422
    assert "hunter2" not in answer.text
    answer = await site.client().post("/session", json={"name": "a", "password": ["hunter2"]})
    assert "hunter2" not in answer.text
