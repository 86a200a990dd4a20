"""Long calls, identity, uploads in the request, limits: what old callers meet in the field."""

import asyncio
import json

import pytest
import sqlalchemy as sa

from haechi.core.access import Principal, Role
from haechi.domains.results.model import Filter
from haechi.interop.codes import CODES
from haechi.testing import packages as zips
from haechi.testing.waiting import eventually

from .conftest import interop_world

DEPLOY = "/deploy_aiToDevice"


async def kinds(world):
    page = await world.operations.find(limit=500)
    return [one.kind for one in page.items]


async def test_twenty_deploy_calls_at_once_are_one_operation(site):
    body = {"sid": site.e1, "did": "ni01"}
    answers = await asyncio.gather(*(site.post(DEPLOY, body) for _ in range(20)))
    replies = [answer.json() for answer in answers]
    assert {reply["code"] for reply in replies} == {"0000"}
    assert len({reply["operation_id"] for reply in replies}) == 1
    assert (await kinds(site)).count("deploy_to_device") == 1
    assert [stage for stage, _ in site.engine.calls].count("start") == 1
    assert await site.running("ni01") == ["sleeper:1"]


async def test_a_different_call_on_a_busy_subject_is_told_who_holds_it(site):
    e2 = (await site.upload("sleeper.zip", "2", zips.sleeping(version="2")))["id"]
    site.engine.hold["start"] = asyncio.Event()
    loop = asyncio.get_running_loop()
    first = loop.create_task(site.post(DEPLOY, {"sid": site.e1, "did": "ni01"}))
    await asyncio.wait_for(site.engine.held.wait(), 60)
    other = (await site.post(DEPLOY, {"sid": e2, "did": "ni01"})).json()
    assert other["code"] == "9999"
    removal = (await site.post("/remove_uploadedEdgeAi", {"id": site.e1})).json()
    assert removal["code"] == "9999"
    site.engine.hold["start"].set()
    reply = (await first).json()
    assert other["busy_with"] == reply["operation_id"]
    assert await site.running("ni01") == ["sleeper:1"]


async def test_a_dashboards_operation_makes_it_busy_too(site):
    from haechi.core.access import SYSTEM

    e2 = (await site.upload("sleeper.zip", "2", zips.sleeping(version="2")))["id"]
    site.engine.hold["start"] = asyncio.Event()
    device = await site.inventory.devices.get("ni01")
    held = await site.deployments.deploy_package(site.e1, [device.id], by=SYSTEM)
    await asyncio.wait_for(site.engine.held.wait(), 60)
    reply = (await site.post(DEPLOY, {"sid": e2, "did": "ni01"})).json()
    assert reply["code"] == "9999"
    holder = await site.operations.get(reply["busy_with"])
    assert held.id in {holder.id, holder.parent_id}
    site.engine.hold["start"].set()
    await site.operations.wait(held.id)


async def test_held_only_so_long_as_set_then_running_then_joined(tmp_path):
    async with interop_world(tmp_path, interop_settings={"wait_s": 0.05}) as world:
        await world.add_device("edge-1", "192.0.2.21", id="ni01")
        upload = await world.upload("sleeper.zip", "1", zips.sleeping())
        if upload["state"] == "running":
            await world.operations.wait(upload["operation_id"])
            page = await world.packages.versions("sleeper")
            upload["id"] = page.items[0].id
        world.engine.hold["start"] = asyncio.Event()
        body = {"sid": upload["id"], "did": "ni01"}
        first = (await world.post(DEPLOY, body)).json()
        assert (first["code"], first["state"]) == ("0000", "running")
        second = (await world.post(DEPLOY, body)).json()
        assert second == first
        world.engine.hold["start"].set()
        await world.operations.wait(first["operation_id"])

        async def done():
            return (await world.post(DEPLOY, body)).json()["state"] == "done"

        await eventually(done)
        assert await world.running("ni01") == ["sleeper:1"]


async def test_a_caller_who_goes_away_does_not_stop_it(site):
    site.engine.hold["start"] = asyncio.Event()
    gone = asyncio.Event()
    body = json.dumps({"sid": site.e1, "did": "ni01"}).encode()
    messages = [{"type": "http.request", "body": body, "more_body": False}]
    sent = []

    async def receive():
        if messages:
            return messages.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": DEPLOY,
        "query_string": b"",
        "headers": [],
        "client": ("127.0.0.1", 1),
    }
    loop = asyncio.get_running_loop()
    call = loop.create_task(site.interop.app(scope, receive, send))
    await asyncio.wait_for(site.engine.held.wait(), 60)
    gone.set()
    await asyncio.wait_for(call, 60)
    assert sent == []
    again = loop.create_task(site.post(DEPLOY, {"sid": site.e1, "did": "ni01"}))
    await asyncio.sleep(0.05)
    site.engine.hold["start"].set()
    assert (await again).json()["code"] == "0000"
    assert (await kinds(site)).count("deploy_package") == 1


async def test_a_package_that_does_not_work_is_told_with_its_last_lines(site):
    await site.post(DEPLOY, {"sid": site.e1, "did": "ni01"})
    e2 = (await site.upload("sleeper.zip", "2", zips.crashing("sleeper")))["id"]
    site.engine.behaviour[site.images._image(e2, "").reference] = "crash"
    reply = (await site.post(DEPLOY, {"sid": e2, "did": "ni01"})).json()
    assert (reply["code"], reply["state"]) == ("0014", "failed")
    assert "Traceback: boom" in reply["nodes"][0]["log"][-1]
    assert await site.running("ni01") == ["sleeper:1"]


async def test_one_bad_worker_stops_no_other(site):
    await site.add_device("edge-2", "192.0.2.22", id="ni02")
    await site.add_device("edge-3", "192.0.2.23", id="ni03")
    cluster = await site.post(
        "/add_newCluster",
        {"name": "n", "mid": "ni03", "wlist": [{"wid": "ni01"}, {"wid": "ni02"}]},
    )
    from haechi.errors import TimedOut

    site.engine.fail["pull"] = [TimedOut(what="registry", timeout_s=1)]
    body = {"sid": site.e1, "cid": cluster.json()["id"]}
    reply = (await site.post("/deploy_aiToCluster", body)).json()
    assert (reply["code"], reply["state"]) == ("0014", "failed")
    assert sorted(node["code"] for node in reply["nodes"]) == ["0000", "0014"]
    repeated = (await site.post("/deploy_aiToCluster", body)).json()
    assert repeated["code"] == "0000"
    assert await site.running("ni01") == await site.running("ni02") == ["sleeper:1"]


async def test_removing_from_a_device_that_is_away_says_so(site):
    await site.post(DEPLOY, {"sid": site.e1, "did": "ni01"})
    site.devices.connected.clear()
    reply = (await site.post("/remove_deploySwInfo", {"sid": site.e1, "did": "ni01"})).json()
    assert (reply["code"], reply["nodes"][0]["code"]) == ("0014", "0014")


async def test_a_failed_build_is_told_and_may_be_repeated(world):
    from haechi.domains.builds.model import BuildFailed

    world.builds.fail = [BuildFailed(step="RUN make", exit_code=2, log=["no such file"])]
    failed = await world.upload("sleeper.zip", "1", zips.sleeping())
    assert (failed["code"], failed["state"]) == ("0014", "failed")
    assert failed["operation_id"].startswith("op-")
    again = await world.post("/upload_edgeAi", {"filename": "sleeper.zip", "version": "1"})
    assert again.json()["code"] == "0000"
    assert world.builds.count == 2


async def test_uploads_build_for_the_platforms_of_the_devices(site):
    device = await site.inventory.devices.get("ni01")
    await site.inventory.devices.report(device.id, {"platform": "linux/arm64"})
    reply = await site.upload("other.zip", "1", zips.sleeping("other"))
    assert site.builds.built[reply["id"]][1] == ["linux/arm64"]
    assert "built" in {f.state for f in (await site.packages.build_facts([site.e1])).values()}


# --- who calls


async def rows(world):
    page = await world.results.find(Filter(), limit=100, cursor=None)
    return page.items


RESULT = {
    "sid": "0xs01",
    "time": "20251120141405",
    "version": "0.01v",
    "ainame": "WeatherAI",
    "class": 3,
    "class_prob": 0.7,
}


async def test_a_result_is_stored_with_what_was_claimed(site):
    await site.post(DEPLOY, {"sid": site.e1, "did": "ni01"})
    for sid in ("0xs01", site.e1):
        answer = await site.post("/add_newAiResult", RESULT | {"sid": sid, "eid": "ni01"})
        assert answer.json() == {"code": 200, "msg": "GOOD"}
    known, unknown = await rows(site)
    device = await site.inventory.devices.get("ni01")
    assert {known.source.device_id, unknown.source.device_id} == {device.id}
    assert (unknown.class_, unknown.class_prob) == ("03", 0.7)
    assert unknown.claimed == {
        "eid": "ni01",
        "sid": "0xs01",
        "version": "0.01v",
        "ainame": "WeatherAI",
    }
    assert unknown.captured_at.isoformat() == "2025-11-20T05:14:05+00:00"
    assert (known.source.version_id, known.source.version) == (site.e1, "1")
    assert unknown.camera_id is not None


async def test_a_token_decides_and_a_different_id_is_kept_as_claimed(site):
    other = await site.add_device("edge-2", "192.0.2.22", id="ni02")
    device = await site.inventory.devices.get("ni01")
    site.principals["hcd-token"] = Principal(
        kind="deployment",
        id="dep-1",
        name="poster",
        device_id=device.id,
        deployment_id="dep-1",
        facts={"package_id": "pkg-1", "package_name": "poster", "version": "9"},
    )
    auth = {"Authorization": "Bearer hcd-token"}
    assert other == "ni02"
    for body in (RESULT | {"eid": "ni02"}, RESULT | {"eid": "nobody knows"}, RESULT):
        answer = await site.client.post("/add_newAiResult", json=body, headers=auth)
        assert answer.json() == {"code": 200, "msg": "GOOD"}
    found = await rows(site)
    assert {row.source.device_id for row in found} == {device.id}
    assert {row.source.package_name for row in found} == {"poster"}
    assert [row.claimed.get("eid") for row in found] == [None, "nobody knows", "ni02"]
    refused = await site.client.post(DEPLOY, json={"sid": "a", "did": "b"}, headers=auth)
    assert refused.json()["code"] == "0005"


async def test_a_viewers_token_may_look_but_not_change(site):
    site.principals["hct"] = Principal(kind="token", id="tok-1", name="v", role=Role.VIEWER)
    auth = {"Authorization": "Bearer hct"}
    assert (await site.client.get("/get_edgeList", headers=auth)).json()["code"] == "0000"
    body = {"name": "x", "ip": "192.0.2.99"}
    assert (await site.client.post("/add_newDevice", json=body, headers=auth)).json()["code"] == (
        "0005"
    )


async def test_an_address_identifies_only_where_it_is_one_devices_own(site):
    """Its own device's; not where two share it, nor one that never enrolled."""
    from haechi.interop.app import networks_of

    site.interop.app._networks = networks_of(["192.0.2.0/24"])
    usage = {"username": "root", "cpu": 1, "memory": 2}
    one = site.client_from("192.0.2.21")
    assert (await one.post("/usage", json=usage)).json()["code"] == "0000"
    assert (await one.get("/usage")).json()["did"] == "ni01"
    stranger = site.client_from("192.0.2.77")
    assert (await stranger.post("/usage", json=usage)).json()["code"] == "0004"
    device = await site.inventory.devices.create(
        {"name": "twin", "address": "192.0.2.50"}, by=site_principal()
    )
    async with site.db.write() as tx:
        await site.inventory.devices.set_enrolment(tx, device.id, "enrolled")
    await site.inventory.devices.report(device.id, {"seen_address": "192.0.2.21"})
    assert (await one.post("/usage", json=usage)).json()["code"] == "0004"
    known = await one.post("/usage", json=usage | {"did": "ni01"})
    assert known.json()["code"] == "0000"
    page = await site.audit.find(action="refuse_unknown_caller")
    assert {entry.subject for entry in page.items} == {"192.0.2.21", "192.0.2.77"}


def site_principal():
    from haechi.core.access import SYSTEM

    return SYSTEM


async def test_changes_are_audited_by_address(site):
    page = await site.audit.find(action="create_device")
    assert {entry.by_name for entry in page.items} == {"interop 127.0.0.1"}


async def test_passwords_are_never_returned_nor_logged(world, caplog):
    body = {
        "name": "edge-1",
        "ip": "192.0.2.21",
        "id": "d1",
        "host_pwd": "Geheim!23",
        "url": "rtsp://root:Camera!45@192.0.2.61/a?token=Tok!67",
    }
    caplog.set_level("DEBUG")
    texts = [(await world.post("/add_newDevice", body)).text]
    texts += [(await world.get("/get_selectedDeviceInfo", id="d1")).text, caplog.text]
    for entry in (await world.audit.find()).items:
        texts.append(json.dumps(entry.details))
    for secret in ("Geheim!23", "Camera!45", "Tok!67"):
        assert not [text for text in texts if secret in text]
    login = await world.inventory.devices.host_login("d1")
    assert login.password.reveal() == "Geheim!23"
    assert login.user == "edge-1"


# --- limits and faults


async def test_others_get_nothing(world):
    for address in ("192.0.2.1", "10.0.0.1", "::1", "not an address"):
        answer = await world.client_from(address).get("/get_edgeList")
        assert (answer.status_code, answer.text) == (403, "forbidden")
    assert (await world.client_from("::ffff:127.0.0.1").get("/")).status_code == 200


async def test_nobody_is_served_where_no_network_is_allowed(tmp_path):
    async with interop_world(tmp_path, interop_settings={"allow": []}) as world:
        assert (await world.get("/")).status_code == 403


async def test_too_many_calls_are_told_to_come_back(tmp_path):
    async with interop_world(tmp_path, interop_settings={"rate_per_s": 5}) as world:
        answers = [await world.get("/get_edgeList") for _ in range(30)]
        late = [one for one in answers if one.status_code == 503]
        assert late
        assert late[0].headers["retry-after"] == "1"
        assert late[0].json()["code"] == "9999"
        assert "retry_after_s" not in late[0].json()


async def test_a_database_that_fails_is_0011(world, monkeypatch):
    async def broken(*_args, **_kwargs):
        raise sa.exc.OperationalError("SELECT", {}, Exception("disk I/O error"))

    monkeypatch.setattr(world.inventory.devices, "all", broken)
    answer = await world.get("/get_edgeList")
    assert (answer.status_code, answer.json()["code"]) == (200, "0011")


async def test_a_bug_is_9999_with_an_id_and_no_text(world, monkeypatch):
    async def broken(*_args, **_kwargs):
        raise RuntimeError("secret detail")

    monkeypatch.setattr(world.inventory.devices, "all", broken)
    answer = await world.get("/get_edgeList")
    assert (answer.status_code, answer.json()["code"]) == (200, "9999")
    assert "secret" not in answer.text


async def test_details_in_english_where_asked(world):
    answer = await world.client.post(
        "/add_newDevice", json={}, headers={"Accept-Language": "en-GB"}
    )
    assert answer.json()["detail"] == "Missing: name, ip"
    assert answer.json()["message"] == CODES["0015"].message


async def test_any_content_type(world):
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        content = b'{"name": "n", "ip": "192.0.2.9"}'
        answer = await world.client.post(
            "/add_newDevice", content=content, headers={"Content-Type": kind}
        )
        assert answer.json()["code"] == "0000"


@pytest.mark.parametrize("path", ["/get_servicePort", "/get_targetPort", "/get_nodePort"])
async def test_ports_are_never_given_twice_within_ten_minutes(site, path):
    cluster = (await site.post("/add_newCluster", {"name": "n", "mid": "ni01", "wlist": []})).json()
    body = {"cid": cluster["id"]}
    answers = await asyncio.gather(*(site.post(path, body) for _ in range(50)))
    ports = {answer.json()["port"] for answer in answers}
    assert len(ports) == 50
    low, high = {"s": (6000, 6999), "t": (5000, 5999), "n": (30000, 32766)}[path[5]]
    assert all(low <= int(port) <= high for port in ports)


async def test_a_double_upload_in_the_request_is_joined_and_nothing_is_left(world):
    content = zips.sleeping()

    async def send():
        files = {"file": ("a.zip", content, "application/zip")}
        return await world.client.post("/upload_edgeAi", files=files, data={"version": "1"})

    answers = await asyncio.gather(*(send() for _ in range(4)))
    replies = [answer.json() for answer in answers]
    assert {reply["code"] for reply in replies} == {"0000"}
    assert len({reply["id"] for reply in replies}) == 1
    assert world.builds.count == 1
    assert list((world.path / "inbox").glob(".sent-*")) == []


async def test_requests_that_are_forms_but_no_uploads(world):
    for data, files, code in (
        ({"version": "1"}, {"other": ("", b"", "text/plain")}, None),
        ({"version": "1", "filename": "a.zip"}, None, "0021"),
        ({"version": "-"}, {"file": ("a.zip", b"x", "a/b")}, "0019"),
        ({}, {"file": ("a.zip", b"x", "a/b")}, "0015"),
        ({"version": "1"}, {"file": ("a.zip", b"x", "a/b")}, "0010"),
    ):
        answer = await world.client.post("/upload_edgeAi", data=data, files=files)
        assert answer.status_code == 200
        assert code is None or answer.json()["code"] == code, answer.text
    assert list((world.path / "inbox").glob(".sent-*")) == []


async def test_the_latest_usage_is_what_was_said_or_measured_last(site):
    from haechi.protocol.samples import Sample

    device = await site.inventory.devices.get("ni01")
    assert (await site.get("/usage", did="ni01")).status_code == 404
    now_ms = round(site.clock.now().timestamp() * 1000)
    site.samples[device.id] = (now_ms, Sample("boot", 1, now_ms, 1, 0.125, 41, 100, 1))
    measured = (await site.get("/usage")).json()
    assert (measured["did"], measured["cpu"], measured["memory"]) == ("ni01", 12.5, 41.0)
    await site.post("/usage", {"did": "ni01", "cpu": 99, "memory": 1, "func": "RAINY"})
    said = (await site.get("/usage", did="ni01")).json()
    assert (said["cpu"], said["ai_class"]) == (99.0, "02")
    site.clock.skip(5.1)
    gone = await site.get("/usage", did="ni01")
    assert (gone.status_code, gone.json()) == (404, {"code": "0004", "message": "데이터 없음"})


LAYOUTS = [
    ("without_manifest", "0000"),
    ("in_one_folder", "0000"),
    ("with_folder_in_copy", "0000"),
    ("with_backslashes", "0000"),
    ("with_cp949_names", "0000"),
    ("with_syntax_line", "0000"),
    ("without_dockerfile", "0020"),
    ("two_dockerfiles", "0019"),
    ("with_traversal", "0019"),
    ("with_absolute_path", "0019"),
    ("with_link", "0019"),
    ("with_everything_wrong", "0019"),
    ("bomb", "0019"),
    ("overlapping_bomb", "0019"),
    ("many_files", "0019"),
    ("encrypted", "0019"),
    ("truncated", "0010"),
    ("not_a_zip", "0010"),
]


@pytest.mark.parametrize(("layout", "code"), LAYOUTS)
async def test_zip_layouts(world, layout, code):
    reply = await world.upload("pack.zip", "1", getattr(zips, layout)())
    assert reply["code"] == code, reply
    page = await world.packages.find()
    assert bool(page.items) == (code == "0000")
    assert world.builds.count == (code == "0000")


async def test_copied_files_that_are_nowhere_are_named(world):
    content = zips.zip_of({"Dockerfile": "FROM x\nCOPY model.onnx here.py /\n", "here.py": ""})
    reply = await world.upload("pack.zip", "1", content)
    assert reply["code"] == "0020"
    assert "model.onnx" in reply["detail"]


async def test_a_devices_label_names_old_addresses_for_its_agent(site):
    from haechi.protocol.desired import Redirect

    device = await site.inventory.devices.get("ni01")
    await site.devices.push(device.id)
    assert site.devices.desired[device.id].redirects == []
    site.devices.dirty.clear()
    labels = {"redirect": "192.0.2.10:5231, 192.0.2.10:6432, nonsense"}
    await site.inventory.devices.edit(device.id, {"labels": labels}, by=site_principal())
    assert site.devices.dirty == [device.id]
    await site.devices.push(device.id)
    assert site.devices.desired[device.id].redirects == [
        Redirect("192.0.2.10", 5231),
        Redirect("192.0.2.10", 6432),
    ]
