"""API tokens act for their owner, with no more than he may do at that moment."""

import pytest
import sqlalchemy as sa

from haechi.core.access import Role
from haechi.core.clock import to_text
from haechi.domains.auth.store import ApiTokenRow

pytestmark = pytest.mark.integration


async def make(client, **body):
    answer = await client.post("/tokens", json={"name": "ci", **body})
    assert answer.status_code == 201, answer.text
    return answer.json()


def bearer(site, secret, **headers):
    return site.client(**{"Authorization": f"Bearer {secret}", **headers})


async def test_the_secret_is_shown_once_and_works(site):
    kim = await site.user("kim", Role.OPERATOR)
    token = await make(kim.client)
    assert token["role"] == "operator"
    listed = (await kim.client.get("/tokens")).json()["items"]
    assert [(t["id"], "secret" in t) for t in listed] == [(token["id"], False)]
    me = (await bearer(site, token["secret"]).get("/me")).json()
    assert (me["id"], me["kind"], me["role"]) == (kim.id, "token", "operator")
    used = (await kim.client.get("/tokens")).json()["items"][0]["last_used_at"]
    assert used is not None
    async with site.db.read() as tx:
        assert token["secret"] not in str(
            (await tx.execute(sa.select(ApiTokenRow.__table__))).all()
        )


async def test_a_token_has_at_most_its_owners_role(site):
    kim = await site.user("kim", Role.OPERATOR)
    refused = await kim.client.post("/tokens", json={"name": "x", "role": "admin"})
    assert refused.json()["code"] == "auth.token_role_too_high"
    token = await make(kim.client, role="operator")
    program = bearer(site, token["secret"])
    assert (await program.post("/upload", content=b"x")).status_code == 200
    admin = await site.admin()
    await admin.patch(f"/users/{kim.id}", json={"role": "viewer"}, headers={"If-Match": "*"})
    assert (await program.post("/upload", content=b"x")).status_code == 403
    await admin.patch(f"/users/{kim.id}", json={"disabled": True}, headers={"If-Match": "*"})
    assert (await program.get("/me")).status_code == 401


async def test_a_token_cannot_make_tokens_nor_take_over_its_owner(site):
    admin = await site.admin()
    program = bearer(site, (await make(admin))["secret"])
    assert (await program.post("/tokens", json={"name": "x"})).json()[
        "code"
    ] == "auth.needs_session"
    change = {"current": "x", "new": "a new long password"}
    assert (await program.put("/me/password", json=change)).json()["code"] == "auth.needs_session"


async def test_no_token_changes_who_there_is(site):
    """A leaked token of an administrator must not make him a friend, nor shut others out."""
    admin = await site.admin()
    kim = await site.user("kim", Role.OPERATOR)
    program = bearer(site, (await make(admin))["secret"])
    body = {"name": "mallory", "password": "a new long password", "role": "admin"}
    path, any_revision = f"/users/{kim.id}", {"If-Match": "*"}
    for answer in (
        await program.post("/users", json=body),
        await program.patch(path, json={"role": "admin"}, headers=any_revision),
        await program.patch(path, json={"disabled": True}, headers=any_revision),
        await program.delete(path),
    ):
        assert answer.status_code == 403
        assert answer.json()["code"] == "auth.needs_session"
    names = {user["name"] for user in (await program.get("/users")).json()["items"]}
    assert names == {"admin", "kim"}
    assert (await admin.post("/users", json=body)).status_code == 201


async def test_expiry(site):
    admin = await site.admin()
    past = to_text(site.clock.now())
    assert (await admin.post("/tokens", json={"name": "x", "expires_at": past})).status_code == 422
    await site.clock.advance(1)
    token = await make(admin, expires_at="2026-01-01T01:00:00+00:00")
    program = bearer(site, token["secret"])
    assert (await program.get("/me")).status_code == 200
    await site.clock.advance(3600)
    assert (await program.get("/me")).status_code == 401


async def test_revoked_at_once_in_spite_of_the_cache(site):
    admin = await site.admin()
    token = await make(admin)
    program = bearer(site, token["secret"])
    assert (await program.get("/me")).status_code == 200
    assert (await admin.delete(f"/tokens/{token['id']}")).status_code == 204
    assert (await program.get("/me")).status_code == 401


async def test_tokens_of_others_are_not_even_admitted_to_exist(site):
    kim, lee = await site.user("kim", Role.OPERATOR), await site.user("lee", Role.OPERATOR)
    token = await make(kim.client)
    assert (await lee.client.get("/tokens", params={"everyone": True})).json()["items"] == []
    assert (await lee.client.delete(f"/tokens/{token['id']}")).status_code == 404
    admin = await site.admin()
    everyone = (await admin.get("/tokens", params={"everyone": True})).json()["items"]
    assert [(t["id"], t["user_name"]) for t in everyone] == [(token["id"], "kim")]
    assert (await admin.delete(f"/tokens/{token['id']}")).status_code == 204


async def test_they_go_with_their_user(site):
    kim = await site.user("kim", Role.OPERATOR)
    program = bearer(site, (await make(kim.client))["secret"])
    await (await site.admin()).delete(f"/users/{kim.id}")
    assert (await program.get("/me")).status_code == 401


@pytest.mark.parametrize(
    "header",
    ["Bearer nonsense", "Bearer ", "Basic YTpi", "bearer hct_x", "Bearer " + "x" * 5000, "é"],
)
async def test_a_bad_header_is_not_mended_by_a_cookie(site, header):
    admin = await site.admin()
    answer = await admin.get("/me", headers={"Authorization": header.encode()})
    assert answer.status_code == 401


async def test_a_session_works_as_bearer_for_the_command_line(site):
    secret = (await site.admin()).cookies["haechi_session"]
    line = bearer(site, secret)
    assert (await line.post("/echo", json={"text": "x"})).status_code == 200
    assert (await line.delete("/session")).status_code == 204
    assert (await line.get("/me")).status_code == 401


async def test_secrets_stay_out_of_the_audit_log_and_the_reprs(site, caplog):
    caplog.set_level("DEBUG")
    admin = await site.admin()
    token = await make(admin)
    entries = (await admin.get("/audit")).text
    session = admin.cookies["haechi_session"]
    for secret in (token["secret"], session):
        assert secret not in entries
        assert secret not in caplog.text
        assert secret not in repr(site.auth.authenticator._cache)
