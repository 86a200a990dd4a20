"""Signing in, staying in, and going out."""

import asyncio

import pytest
import sqlalchemy as sa

from haechi.core.access import Role
from haechi.core.secrets import token_digest
from haechi.domains.auth.store import SessionRow, UserRow
from haechi.testing.auth import PASSWORD

pytestmark = pytest.mark.integration
LOG_IN = {"name": "admin", "password": PASSWORD}


async def test_log_in_and_out(site):
    client = site.client()
    assert (await client.get("/me")).status_code == 401
    answer = await client.post("/session", json=LOG_IN)
    assert answer.status_code == 200
    me = answer.json()
    assert (me["name"], me["role"], me["kind"]) == ("admin", "admin", "user")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "samesite=strict" in cookie.lower()
    assert "secure" not in cookie.lower()
    assert (await client.get("/me")).json() == me
    kept = client.cookies["haechi_session"]
    assert (await client.delete("/session")).status_code == 204
    client.cookies.set("haechi_session", kept)
    assert (await client.get("/me")).status_code == 401


async def test_the_cookie_is_secure_over_https(site):
    answer = await site.client("https").post("/session", json=LOG_IN)
    assert "secure" in answer.headers["set-cookie"].lower()


async def test_only_a_digest_is_stored(site):
    client = await site.admin()
    secret = client.cookies["haechi_session"]
    async with site.db.read() as tx:
        rows = [row.digest for row in await tx.scalars(sa.select(SessionRow))]
    assert rows == [token_digest(secret)]
    assert secret.encode() not in (site.data_dir / "control.sqlite-wal").read_bytes()


async def test_wrong_name_wrong_password_and_disabled_user_get_one_answer(site):
    kim = await site.user("kim", Role.VIEWER)
    admin = await site.admin()
    etag = (await admin.get(f"/users/{kim.id}")).headers["etag"]
    await admin.patch(f"/users/{kim.id}", json={"disabled": True}, headers={"If-Match": etag})
    answers = []
    for name, password in (("nobody", PASSWORD), ("admin", "wrong"), ("kim", PASSWORD)):
        answer = await site.client().post("/session", json={"name": name, "password": password})
        answers.append((answer.status_code, {**answer.json(), "request_id": ""}))
    assert answers[0] == answers[1] == answers[2]
    assert answers[0][0] == 401
    assert answers[0][1]["code"] == "auth.wrong_credentials"


async def test_a_planted_session_is_not_taken_over(site):
    """Session fixation: signing in never keeps the session the browser came with."""
    planted = await site.admin()
    secret = planted.cookies["haechi_session"]
    victim = site.client()
    victim.cookies.set("haechi_session", secret)
    answer = await victim.post("/session", json=LOG_IN)
    fresh = answer.headers["set-cookie"].split(";")[0].partition("=")[2]
    assert fresh != secret
    assert (await planted.get("/me")).status_code == 401


async def test_sessions_slide_and_end(site):
    client = await site.admin()
    for _ in range(4):
        await site.clock.advance(8 * 3600)
        assert (await client.get("/me")).status_code == 200
    await site.clock.advance(12 * 3600 + 1)
    assert (await client.get("/me")).status_code == 401


async def test_no_session_lives_longer_than_a_month(site):
    client = await site.admin()
    for hour in range(0, 31 * 24, 8):
        await site.clock.advance(8 * 3600)
        if (await client.get("/me")).status_code == 401:
            assert hour > 29 * 24
            return
    pytest.fail("still signed in")


async def test_a_changed_password_ends_every_other_session(site):
    one, two = await site.admin(), await site.admin()
    new = {"current": PASSWORD, "new": "another long password"}
    assert (await one.put("/me/password", json={**new, "current": "wrong"})).status_code == 422
    assert (await one.put("/me/password", json=new)).status_code == 204
    assert (await one.get("/me")).status_code == 200
    assert (await two.get("/me")).status_code == 401


async def test_guessing_gets_429_with_the_time_to_wait(site):
    client = site.client(address="10.0.0.9")
    for _ in range(5):
        await client.post("/session", json={"name": "admin", "password": "guess"})
    answer = await client.post("/session", json=LOG_IN)
    assert answer.status_code == 429
    assert 0 < int(answer.headers["retry-after"]) <= 300
    await site.clock.advance(301)
    assert (await client.post("/session", json=LOG_IN)).status_code == 200


async def test_parallel_guesses_do_not_slip_through(site):
    client = site.client(address="10.0.0.9")
    body = {"name": "admin", "password": "guess"}
    answers = await asyncio.gather(*(client.post("/session", json=body) for _ in range(30)))
    assert sorted(answer.status_code for answer in answers) == [401] * 5 + [429] * 25


async def test_a_given_password_must_be_changed_before_anything_else(site):
    admin = await site.admin()
    body = {"name": "lee", "password": "given by the admin", "role": "operator"}
    assert (await admin.post("/users", json=body)).status_code == 201
    lee = site.client()
    me = await lee.post("/session", json={"name": "lee", "password": "given by the admin"})
    assert me.json()["must_change_password"] is True
    refused = await lee.get("/tokens")
    assert refused.status_code == 403
    assert refused.json()["code"] == "auth.password_change_needed"
    assert (await lee.get("/me")).status_code == 200
    change = {"current": "given by the admin", "new": "given by the admin"}
    assert (await lee.put("/me/password", json=change)).json()["code"] == "auth.weak_password"
    change["new"] = "chosen by lee himself"
    assert (await lee.put("/me/password", json=change)).status_code == 204
    assert (await lee.get("/tokens")).status_code == 200


async def test_an_old_hash_is_renewed_at_log_in(site):
    weaker = "$argon2id$v=19$m=16,t=1,p=1$"
    import argon2

    stored = argon2.PasswordHasher(time_cost=1, memory_cost=16, parallelism=1).hash(PASSWORD)
    assert stored.startswith(weaker)
    async with site.db.write() as tx:
        await tx.execute(sa.update(UserRow).values(password_hash=stored))
    await site.admin()
    async with site.db.read() as tx:
        assert not (await tx.scalar(sa.select(UserRow.password_hash))).startswith(weaker)


async def test_the_language_is_the_users_own(site):
    client = await site.admin()
    assert (await client.patch("/me", json={"language": "ko"})).json()["language"] == "ko"
    answer = await client.get("/users/usr-nobody", headers={"Accept-Language": "en"})
    assert answer.json()["detail"] == "사용자 'usr-nobody'을(를) 찾을 수 없습니다."


async def test_failed_log_ins_are_audited_without_what_was_typed(site):
    await site.client().post("/session", json={"name": "my secret pw", "password": "x"})
    await site.client().post("/session", json={"name": "Admin", "password": "typed-secret"})
    page = await site.audit.find(action="refuse_log_in")
    assert [(entry.subject == "unknown", entry.details) for entry in page.items] == [
        (False, {"name": "admin"}),
        (True, {}),
    ]
