"""The web shell on real sockets: errors, stream, idempotency, shutdown."""

import asyncio
import json

import httpx2
import pytest
import pytest_asyncio
import websockets
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import HTTPConnection

from haechi.core.bus import Bus
from haechi.testing.server import ADMIN_PASSWORD, running_server
from haechi.web import stream
from haechi.web.app import create_api

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory):
    async with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


def cookie(server):
    return f"haechi_session={server.client.cookies['haechi_session']}"


def connect(server):
    address = server.url.replace("http", "ws") + "/api/v1/stream"
    return websockets.connect(address, additional_headers={"Cookie": cookie(server)})


PROBLEM = {"type", "title", "status", "code", "detail", "remedy", "data", "request_id"}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/nowhere", None, 404, "web.no_such_route"),
        ("PUT", "/devices", None, 405, "web.method_not_allowed"),
        ("POST", "/devices", b"{", 422, "core.bad_request"),
        ("POST", "/devices", b'{"name": 5}', 422, "core.bad_request"),
        ("POST", "/devices", b'{"name": "a", "unknown": 1}', 422, "core.bad_request"),
        ("POST", "/devices", b"[" * 5000, 400, "web.refused"),
        ("POST", "/devices", '{"name": "한글"}'.encode("euc-kr"), None, None),
        ("GET", "/devices?limit=0", None, 422, "core.bad_request"),
        ("GET", "/devices?cursor=xx", None, 422, "core.bad_request"),
        ("GET", "/operations/op-nothing", None, 404, "core.not_found"),
    ],
)
async def test_every_refusal_has_the_one_shape(server, method, path, body, status, code):
    answer = await server.client.request(
        method, path, content=body, headers={"content-type": "application/json"}
    )
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert set(problem) == PROBLEM
    assert answer.status_code == problem["status"] < 500
    if status:
        assert (problem["status"], problem["code"]) == (status, code)


async def test_language_of_the_caller(server):
    async with server.anonymous(**{"accept-language": "en-GB, ko;q=0.5"}) as english:
        assert (await english.get("/devices")).json()["detail"] == "You are not signed in."
    async with server.anonymous() as silent:
        assert "로그인" in (await silent.get("/devices")).json()["detail"]


async def test_a_bug_gives_an_id_and_nothing_else(server, monkeypatch, caplog):
    async def broken(*_args, **_kwargs):
        raise RuntimeError("secret hunter2")

    monkeypatch.setattr(server.haechi.operations, "find", broken)
    answer = await server.client.get("/operations")
    assert answer.status_code == 500
    assert answer.json()["code"] == "core.internal"
    assert "hunter2" not in answer.text
    assert answer.json()["data"]["fault_id"] in caplog.text


async def test_stream_gives_messages_resumes_and_refuses_other_topics(server):
    async with connect(server) as socket:
        await socket.send(json.dumps({"subscribe": ["events", "samples:*"]}))
        cursor = json.loads(await socket.recv())["cursor"]
        server.haechi.bus.publish("events", {"n": 1})
        server.haechi.bus.publish("samples:dev-a", {"n": 2})
        server.haechi.bus.publish("operations", {"n": 3})
        got = [json.loads(await socket.recv()) for _ in range(2)]
        assert [(m["topic"], m["data"]["n"]) for m in got] == [("events", 1), ("samples:dev-a", 2)]
        await socket.send(json.dumps({"subscribe": ["secrets:*"]}))
        assert json.loads(await socket.recv())["error"]["code"] == "core.bad_request"
        await socket.send("not json")
        assert "error" in json.loads(await socket.recv())
    async with connect(server) as socket:
        await socket.send(json.dumps({"subscribe": ["events"], "cursor": cursor}))
        first, second = json.loads(await socket.recv()), json.loads(await socket.recv())
        assert {"subscribed", "topic"} <= {*first, *second}
        assert next(m for m in (first, second) if "data" in m)["data"] == {"n": 1}


async def test_stream_needs_a_session(server):
    address = server.url.replace("http", "ws") + "/api/v1/stream"
    with pytest.raises(websockets.InvalidStatus) as caught:
        await websockets.connect(address)
    assert caught.value.response.status_code == 401


async def test_streams_end_with_the_session(server, monkeypatch):
    monkeypatch.setattr(stream, "RECHECK_S", 0.05)
    login = {"name": "admin", "password": ADMIN_PASSWORD}
    async with server.anonymous() as other:
        (await other.post("/session", json=login)).raise_for_status()
        address = server.url.replace("http", "ws") + "/api/v1/stream"
        cookie = f"haechi_session={other.cookies['haechi_session']}"
        async with (
            websockets.connect(address, additional_headers={"Cookie": cookie}) as socket,
            other.stream("GET", "/stream", params={"topics": "events"}) as events,
        ):
            lines = events.aiter_lines()
            assert await anext(lines) == ": welcome"
            async with server.anonymous(cookie=cookie) as last:
                (await last.delete("/session")).raise_for_status()
            async with asyncio.timeout(60):
                await socket.wait_closed()
                async for _ in lines:
                    pass
            assert socket.close_code == 1008


async def test_stream_refuses_other_sites(server):
    address = server.url.replace("http", "ws") + "/api/v1/stream"
    with pytest.raises(websockets.InvalidStatus):
        await websockets.connect(
            address, additional_headers={"Cookie": cookie(server)}, origin="https://evil.example"
        )


async def test_events_as_sse(server):
    async with server.client.stream("GET", "/stream", params={"topics": "events"}) as answer:
        lines = answer.aiter_lines()
        assert await anext(lines) == ": welcome"
        server.haechi.bus.publish("events", {"n": 7})
        async with asyncio.timeout(60):
            data = [line async for line in take_until_data(lines)]
        assert json.loads(data[-1].removeprefix("data: "))["data"] == {"n": 7}


async def take_until_data(lines):
    async for line in lines:
        yield line
        if line.startswith("data: "):
            return


async def test_open_streams_do_not_hold_up_the_end(tmp_path):
    async with running_server(tmp_path) as server:
        sockets = [await connect(server) for _ in range(20)]
        for socket in sockets:
            await socket.send(json.dumps({"subscribe": ["events"]}))
            await socket.recv()
        server.servers.stop()
        async with asyncio.timeout(60):
            await asyncio.gather(*(socket.wait_closed() for socket in sockets))
        assert {socket.close_code for socket in sockets} == {1012}


async def names(server):
    return {row["name"] for row in (await server.client.get("/devices")).json()["items"]}


async def test_same_key_does_it_once(server):
    body, headers = {"name": "nuc-1"}, {"idempotency-key": "k-1"}
    first = await server.client.post("/devices", json=body, headers=headers)
    again = await server.client.post("/devices", json=body, headers=headers)
    assert first.status_code == again.status_code == 201
    assert first.json()["id"] == again.json()["id"]
    assert again.headers["idempotency-replayed"] == "true"
    other = await server.client.post("/devices", json={"name": "nuc-2"}, headers=headers)
    assert other.json()["code"] == "web.idempotency_key_reused"
    assert await names(server) >= {"nuc-1"} and "nuc-2" not in await names(server)


async def test_same_key_at_once_does_it_once(server):
    headers = {"idempotency-key": "k-2"}
    answers = await asyncio.gather(
        *(server.client.post("/devices", json={"name": "nuc-3"}, headers=headers) for _ in range(5))
    )
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert "nuc-3" in await names(server)


async def test_a_refusal_is_no_answer_for_the_next_try(server):
    """What stood in the way may be gone: the same request is done, not refused from memory."""
    taken = (await server.client.post("/devices", json={"name": "nuc-taken"})).json()
    body, headers = {"name": "nuc-taken"}, {"idempotency-key": "k-4"}
    refused = await server.client.post("/devices", json=body, headers=headers)
    assert refused.status_code == 409
    deleted = await server.client.delete(f"/devices/{taken['id']}")
    assert deleted.status_code in {200, 204}, deleted.text
    again = await server.client.post("/devices", json=body, headers=headers)
    assert again.status_code == 201, again.text
    kept = await server.client.post("/devices", json=body, headers=headers)
    assert kept.headers["idempotency-replayed"] == "true"
    assert kept.json()["id"] == again.json()["id"]


async def test_secrets_and_refusals_are_not_kept(server):
    headers = {"idempotency-key": "k-3"}
    body = {"name": "script", "role": "viewer"}
    first = await server.client.post("/tokens", json=body, headers=headers)
    assert first.status_code == 201
    again = await server.client.post("/tokens", json={**body, "name": "b"}, headers=headers)
    assert "idempotency-replayed" not in again.headers


async def test_security_headers_are_on_every_answer(server):
    answer = await server.client.get("/health")
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "server" not in answer.headers


async def test_settings_show_origin_and_change_only_what_may_be_changed(server):
    rows = {row["key"]: row for row in (await server.client.get("/settings")).json()["items"]}
    assert rows["server.listen"]["origin"] == "flag"
    assert rows["agents.dead_after_s"]["origin"] == "default"
    changed = await server.client.patch("/settings", json={"values": {"agents.dead_after_s": 5.5}})
    rows = {row["key"]: row for row in changed.json()["items"]}
    assert rows["agents.dead_after_s"]["pending"] == 5.5
    for values, code in [
        ({"server.listen": "0.0.0.0:1"}, "settings.not_changeable"),
        ({"agents.dead_after_s": -1}, "settings.invalid"),
    ]:
        answer = await server.client.patch("/settings", json={"values": values})
        assert answer.json()["code"] == code


async def test_prometheus_reads_the_metrics(server):
    answer = await server.client.get(f"{server.url}/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    ours = [name for name in families if name.startswith("haechi_")]
    assert ours
    for name in ours:
        assert families[name].documentation
        assert families[name].type in {"counter", "gauge", "histogram"}
    async with httpx2.AsyncClient() as anybody:
        assert (await anybody.get(f"{server.url}/metrics")).status_code == 401


async def test_one_socket_follows_only_so_many_topics(server):
    async with connect(server) as socket:
        many = [f"results:cam-{number}" for number in range(200)]
        await socket.send(json.dumps({"subscribe": many}))
        assert len(json.loads(await socket.recv())["subscribed"]) == 200
        await socket.send(json.dumps({"subscribe": ["results:one-more"]}))
        assert json.loads(await socket.recv())["error"]["code"] == "core.bad_request"
        await socket.send(json.dumps({"subscribe": many[:5]}))  # these it follows already
        assert "subscribed" in json.loads(await socket.recv())
        swap = {"subscribe": ["results:one-more"], "unsubscribe": many[:1]}
        await socket.send(json.dumps(swap))
        assert json.loads(await socket.recv())["subscribed"] == ["results:one-more"]


async def test_a_last_event_id_that_is_none_of_ours_means_from_now_on(server):
    headers = {"last-event-id": b"\xb2"}  # a superscript two: a digit, but no number
    async with server.client.stream(
        "GET", "/stream", params={"topics": "events"}, headers=headers
    ) as answer:
        assert answer.status_code == 200


async def test_an_enrolment_token_is_in_its_one_answer_and_nowhere_else(server):
    made = await server.client.post("/devices", json={"name": "for a token"})
    path = f"/devices/{made.json()['id']}/enrolment"
    answer = await server.client.post(path, headers={"idempotency-key": "enrol-once"})
    token = answer.json()["token"].encode()
    data = server.haechi.settings.server.data_dir
    kept = [file for file in data.glob("control.db*") if token in file.read_bytes()]
    assert kept == []


@pytest.mark.parametrize("path", ["/%00", "/" + "a" * 300, "/" + "a/" * 3000, "/../secret"])
async def test_no_path_is_more_than_the_page(tmp_path, path):
    async def guard(connection: HTTPConnection) -> None:
        del connection

    static = tmp_path / "static"
    static.mkdir()
    (static / "index.html").write_text("the page")
    (tmp_path / "secret").write_text("a secret")
    api = create_api(
        routers=[],
        root_routers=[],
        guard=guard,
        bus=Bus(lambda: 1),
        default_language="ko",
        static_dir=static,
    )
    transport = httpx2.ASGITransport(app=api, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.get(path)).text == "the page"
