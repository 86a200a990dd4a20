"""`POST /api/v1/results` through the whole server: who may, what bad input gets, overload."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace

import httpx2
import pytest

from haechi.app import create
from haechi.core.access import Role
from haechi.core.clock import SystemClock
from haechi.core.secrets import Secret
from haechi.core.tasks import Tasks
from haechi.testing.auth import PASSWORD
from haechi.web import ingest

PATH = "/api/v1/results"
FACTS = {
    "package_id": "pkg-1",
    "package_name": "detector",
    "version_id": "ver-1",
    "version": "1",
    "image_digest": "sha256:abc",
}


@pytest.fixture
async def server(tmp_path):
    haechi = await create(
        flags={"server.data_dir": tmp_path}, file=None, environment={}, clock=SystemClock()
    )
    await haechi.auth.start({"HAECHI_ADMIN_PASSWORD": PASSWORD})
    await haechi.telemetry.open()

    async with haechi.db.write() as tx:
        issue = haechi.auth.machines.issue_deployment_token
        own, _ = await issue(tx, deployment_id="dep-1", device_id="dev-1", facts=FACTS, direct=True)
        through_agent, _ = await issue(
            tx, deployment_id="dep-2", device_id="dev-2", facts=FACTS, direct=False
        )
    transport = httpx2.ASGITransport(haechi.app, raise_app_exceptions=False)
    client = httpx2.AsyncClient(transport=transport, base_url="http://site.test", timeout=30)

    async def post(body, token=own, **headers):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        if token is not None:
            headers["Authorization"] = f"Bearer {token.reveal()}"
        return await client.post(PATH, content=content, headers=headers)

    async def api_token(role):
        auth = haechi.auth
        session = await auth.sessions.log_in(name="admin", password=Secret(PASSWORD), address="")
        admin = await auth.authenticator.by_token(session.secret.reveal())
        _, secret = await auth.tokens.create_token(
            admin, name=role.name, role=role, expires_at=None
        )
        return secret

    yield SimpleNamespace(
        haechi=haechi,
        post=post,
        client=client,
        api_token=api_token,
        through_agent=through_agent,
        own=own,
    )
    await client.aclose()
    await haechi.close()
    await haechi.telemetry.close()
    await haechi.db.close()


def problem(answer, status, code):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["code"] == code
    assert document["request_id"]
    assert document["detail"]
    return document


async def stored(server):
    return await server.haechi.telemetry.read(
        lambda c: c.execute("SELECT count(*) FROM results").fetchall()[0][0]
    )


async def test_one_and_many_are_stored_when_the_answer_comes(server):
    answer = await server.post({"class": "rain", "class_prob": 0.7})
    assert (answer.status_code, answer.json()) == (
        200,
        {"accepted": 1, "repeated": 0, "refused": []},
    )
    rows = [{"instance": "i", "seq": n, "camera_id": "cam-1"} for n in range(1000)]
    assert (await server.post(rows)).json()["accepted"] == 1000
    assert (await server.post(rows)).json() == {"accepted": 0, "repeated": 1000, "refused": []}
    assert await stored(server) == 1001


async def test_a_bad_row_is_named_and_the_rest_kept(server):
    body = b'[{"class":"a","class_prob":1.7},{},{"class":"a","class_prob":NaN},{}]'
    answer = await server.post(body)
    assert answer.status_code == 200
    assert answer.json()["accepted"] == 2
    assert [row["index"] for row in answer.json()["refused"]] == [0, 2]
    refused = problem(await server.post({"class": "a", "class_prob": 1.7}), 422, "results.refused")
    assert refused["data"]["refused"][0]["index"] == 0
    assert await stored(server) == 2


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "results.unreadable"),
        (b"{", 400, "results.unreadable"),
        (b"\xff\xfe\x00", 400, "results.unreadable"),
        (b"[" + b",".join([b"{}"] * 1001) + b"]", 413, "results.too_many_rows"),
        (b" " * (10 * 1024 * 1024 + 1), 413, "results.body_too_large"),
    ],
)
async def test_what_cannot_be_taken_is_a_problem_in_the_callers_language(
    server, body, status, code
):
    korean = problem(await server.post(body, **{"Accept-Language": "ko"}), status, code)
    english = problem(await server.post(body, **{"Accept-Language": "en"}), status, code)
    assert korean["detail"] != english["detail"]
    assert await stored(server) == 0


async def test_a_body_without_length_is_bounded_too(server):
    async def endless():
        for _ in range(12):
            yield b" " * 1024 * 1024

    headers = {"Authorization": f"Bearer {server.own.reveal()}"}
    answer = await server.client.post(PATH, content=endless(), headers=headers)
    problem(answer, 413, "results.body_too_large")


async def test_bodies_without_length_count_while_they_are_read(server, monkeypatch):
    monkeypatch.setattr(ingest, "MAX_READING_BYTES", 1024 * 1024)
    go, reading = asyncio.Event(), asyncio.Event()

    async def pieces(last=b"]"):
        yield b"[" + b" " * 700 * 1024
        reading.set()
        await go.wait()
        yield json.dumps({"class": "car", "class_prob": 1}).encode() + last

    headers = {"Authorization": f"Bearer {server.own.reveal()}"}
    tasks = Tasks("callers")
    first = tasks.spawn("first", server.client.post(PATH, content=pieces(), headers=headers))
    await asyncio.wait_for(reading.wait(), 60)
    refused = await server.client.post(PATH, content=pieces(), headers=headers)
    problem(refused, 503, "core.overloaded")
    go.set()
    assert (await first).status_code == 200
    assert (await server.client.post(PATH, content=pieces(), headers=headers)).status_code == 200


async def test_who_may(server):
    problem(await server.post({}, token=None), 401, "auth.not_signed_in")
    problem(await server.post({}, token=Secret("hdt_made-up")), 401, "auth.not_signed_in")
    stolen = await server.post({}, token=server.through_agent)
    assert stolen.status_code in {401, 403}
    assert stolen.json()["code"].startswith("auth.")
    for role, status in ((Role.VIEWER, 403), (Role.OPERATOR, 200)):
        secret = await server.api_token(role)
        assert (await server.post({}, token=secret)).status_code == status


async def test_a_revoked_token_is_of_no_use_at_once(server):
    assert (await server.post({})).status_code == 200
    async with server.haechi.db.write() as tx:
        await server.haechi.auth.machines.revoke_deployment_token(tx, "dep-1")
    problem(await server.post({}), 401, "auth.not_signed_in")


async def test_claims_in_the_body_change_nothing(server):
    await server.post({"device_id": "dev-9", "image_digest": "sha256:evil"})
    viewer = await server.api_token(Role.VIEWER)
    headers = {"Authorization": f"Bearer {viewer.reveal()}"}
    page = (await server.client.get(PATH, headers=headers)).json()
    (row,) = page["items"]
    assert (row["device_id"], row["package_name"]) == ("dev-1", "detector")
    assert row["image_digest"] == "sha256:abc"
    assert row["claimed"] == {"device_id": "dev-9", "image_digest": "sha256:evil"}
    summary = await server.client.get(f"{PATH}/summary?bucket_s=60", headers=headers)
    assert sum(bucket["count"] for bucket in summary.json()["items"]) == 1
    assert (await server.client.get(f"{PATH}?from=2026-01-01T00:00:00", headers=headers)).json()[
        "code"
    ] == "core.bad_request"


async def test_overload_sends_callers_away_with_a_time_to_come_back(server):
    telemetry = server.haechi.telemetry
    telemetry.queued_rows += telemetry._max_rows
    answer = await server.post({})
    problem(answer, 503, "core.overloaded")
    assert int(answer.headers["retry-after"]) > 0
    telemetry.queued_rows -= telemetry._max_rows
    assert (await server.post({})).status_code == 200
