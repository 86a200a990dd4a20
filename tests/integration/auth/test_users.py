"""Users, roles, the last administrator, the first start."""

import asyncio
import logging
import stat

import pytest

from haechi.core.access import SYSTEM, Role
from haechi.core.db import Database
from haechi.core.secrets import Secret
from haechi.domains.audit.service import Audit
from haechi.domains.auth.errors import LastAdmin, WeakPassword
from haechi.domains.auth.model import UserChange
from haechi.domains.auth.service import Auth
from haechi.testing.auth import PASSWORD, cheap_passwords

pytestmark = pytest.mark.integration


async def edit(client, user_id, **changes):
    etag = (await client.get(f"/users/{user_id}")).headers["etag"]
    return await client.patch(f"/users/{user_id}", json=changes, headers={"If-Match": etag})


async def test_create_list_edit_delete(site):
    admin = await site.admin()
    body = {"name": " 김유나 ", "password": PASSWORD, "role": "viewer", "language": "ko"}
    made = await admin.post("/users", json=body)
    assert made.status_code == 201
    user = made.json()
    assert user["name"] == "김유나"
    assert PASSWORD not in made.text
    listed = (await admin.get("/users", params={"limit": 1})).json()
    assert [u["name"] for u in listed["items"]] == ["admin"]
    rest = (await admin.get("/users", params={"cursor": listed["next_cursor"]})).json()
    assert [u["name"] for u in rest["items"]] == ["김유나"]
    changed = await edit(admin, user["id"], role="operator", name="yuna.kim")
    assert (changed.json()["role"], changed.json()["name"]) == ("operator", "yuna.kim")
    assert (await admin.delete(f"/users/{user['id']}")).status_code == 204
    assert (await admin.get(f"/users/{user['id']}")).status_code == 404
    actions = [e.action for e in (await site.audit.find(subject=user["id"])).items]
    assert actions == ["delete_user", "edit_user", "create_user"]


async def test_edits_need_a_current_etag(site):
    admin = await site.admin()
    kim = await site.user("kim", Role.VIEWER)
    body = {"role": "operator"}
    assert (await admin.patch(f"/users/{kim.id}", json=body)).status_code == 428
    stale = {"If-Match": '"0"'}
    assert (await admin.patch(f"/users/{kim.id}", json=body, headers=stale)).status_code == 412


@pytest.mark.parametrize("name", ["Kim", "ＫＩＭ"])
async def test_names_that_look_alike_are_one_name(site, name):
    await site.user("kim", Role.VIEWER)
    admin = await site.admin()
    body = {"name": name, "password": PASSWORD, "role": "viewer"}
    assert (await admin.post("/users", json=body)).json()["code"] == "auth.user_name_taken"


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "a\nb", "<script>", "a/b"])
async def test_bad_names(site, name):
    admin = await site.admin()
    body = {"name": name, "password": PASSWORD, "role": "viewer"}
    assert (await admin.post("/users", json=body)).json()["code"] == "auth.bad_user_name"


async def test_the_last_administrator_stays(site):
    admin = await site.admin()
    me = (await admin.get("/me")).json()["id"]
    for changes in ({"role": "operator"}, {"disabled": True}):
        answer = await edit(admin, me, **changes)
        assert (answer.status_code, answer.json()["code"]) == (409, "auth.last_admin")
    assert (await admin.delete(f"/users/{me}")).json()["code"] == "auth.last_admin"
    other = await site.user("kim", Role.ADMIN)
    assert (await edit(admin, other.id, disabled=True)).status_code == 200
    assert (await admin.delete(f"/users/{me}")).json()["code"] == "auth.last_admin"
    assert (await edit(admin, other.id, disabled=False)).status_code == 200
    assert (await admin.delete(f"/users/{me}")).status_code == 204


async def test_two_administrators_cannot_remove_each_other_at_once(site):
    me = (await (await site.admin()).get("/me")).json()["id"]
    other = (await site.user("kim", Role.ADMIN)).id
    users = site.auth.users
    done = await asyncio.gather(
        users.edit_user(SYSTEM, me, UserChange(role=Role.VIEWER)),
        users.delete_user(SYSTEM, other),
        return_exceptions=True,
    )
    assert sum(isinstance(outcome, LastAdmin) for outcome in done) == 1


async def test_a_demotion_counts_at_once(site):
    kim = await site.user("kim", Role.OPERATOR)
    assert (await kim.client.post("/upload", content=b"x")).status_code == 200
    await edit(await site.admin(), kim.id, role="viewer")
    assert (await kim.client.post("/upload", content=b"x")).status_code == 403


async def test_a_reset_password_ends_sessions_and_must_be_changed(site):
    kim = await site.user("kim", Role.OPERATOR)
    admin = await site.admin()
    answer = await edit(admin, kim.id, password="reset by the admin")
    assert answer.json()["must_change_password"] is True
    assert (await kim.client.get("/me")).status_code == 401
    assert (await site.audit.find(action="edit_user")).items[0].details == {"reset": True}


async def test_ones_own_password_needs_the_current_one(site):
    admin = await site.admin()
    me = (await admin.get("/me")).json()["id"]
    answer = await edit(admin, me, password="without the current one")
    assert answer.json()["code"] == "auth.own_password"


@pytest.mark.parametrize(
    ("role", "path", "status"),
    [
        (Role.VIEWER, "/users", 403),
        (Role.OPERATOR, "/users", 403),
        (Role.ADMIN, "/users", 200),
        (Role.VIEWER, "/audit", 403),
        (Role.ADMIN, "/audit", 200),
        (Role.VIEWER, "/tokens", 200),
    ],
)
async def test_roles(site, role, path, status):
    kim = await site.user("kim", role)
    assert (await kim.client.get(path)).status_code == status


@pytest.fixture
async def fresh(tmp_path, site):
    """A server before its first start."""
    db = Database(tmp_path / "fresh.sqlite")
    await db.create_all()
    auth = Auth(
        db=db,
        clock=site.clock,
        audit=Audit(db=db, clock=site.clock),
        ca=site.ca,
        data_dir=tmp_path / "fresh",
        session_hours=12,
        max_failures=5,
        passwords=cheap_passwords(),
    )
    (tmp_path / "fresh").mkdir()
    yield auth, tmp_path / "fresh" / "initial-admin-password"
    await db.close()


async def test_the_first_start_makes_an_admin_and_keeps_its_password_in_a_file(fresh, caplog):
    auth, file = fresh
    with caplog.at_level(logging.DEBUG):
        await auth.start({})
        await auth.start({})
    password = file.read_text().strip()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert str(file) in caplog.text
    assert password not in caplog.text
    done = await auth.sessions.log_in(name="admin", password=Secret(password), address="")
    assert done.user.must_change_password
    by = await auth.authenticator.by_token(done.secret.reveal())
    await auth.sessions.change_password(
        by, current=Secret(password), new=Secret("chosen by the owner"), address=""
    )
    assert not file.exists()


async def test_an_automated_set_up_gives_the_password(fresh, caplog):
    auth, file = fresh
    with caplog.at_level(logging.DEBUG):
        await auth.start({"HAECHI_ADMIN_PASSWORD": PASSWORD})
    assert not file.exists()
    assert PASSWORD not in caplog.text
    done = await auth.sessions.log_in(name="admin", password=Secret(PASSWORD), address="")
    assert not done.user.must_change_password


async def test_a_weak_given_password_stops_the_start(fresh):
    auth, _ = fresh
    with pytest.raises(WeakPassword):
        await auth.start({"HAECHI_ADMIN_PASSWORD": "short"})
