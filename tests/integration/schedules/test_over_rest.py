"""Schedules and maintenance hours over REST and by the command line, on a whole server."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from haechi.cli.main import main
from haechi.testing import packages as zips
from haechi.testing.server import running_server
from haechi.testing.waiting import eventually


@pytest.fixture
async def server(tmp_path):
    async with running_server(tmp_path / "data") as running:
        yield running


async def made(server, path, body, status=201):
    answer = await server.client.post(path, json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


async def version_of(server, data=None):
    answer = await server.client.post(
        "/packages/upload",
        params={"filename": "a.zip", "version": "1", "name": "sleeper"},
        content=data or zips.sleeping(),
    )
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_a_schedule_from_its_making_to_its_run(server):
    device = await made(server, "/devices", {"name": "gate", "host_name": "gate"})
    version = await version_of(server)
    action = {
        "type": "deploy_package",
        "version_id": version["id"],
        "device_ids": [device["id"]],
        "environment": {"PASSWORD": "hidden-1"},
    }
    schedule = await made(
        server, "/schedules", {"name": "nightly", "action": action, "cron": "30 3 * * mon-fri"}
    )
    assert schedule["timezone"] == "Asia/Seoul"
    assert "hidden-1" not in json.dumps(schedule)
    assert (await server.client.get(f"/schedules/{schedule['id']}")).json() == schedule
    audited = (await server.client.get("/audit")).text
    assert "create_schedule" in audited
    assert "hidden-1" not in audited

    refused = await server.client.delete(f"/packages/{version['package_id']}")
    assert refused.status_code == 409
    assert "nightly" in refused.text

    run = await made(server, f"/schedules/{schedule['id']}/run", None, status=202)

    async def begun():
        runs = (await server.client.get(f"/schedules/{schedule['id']}/runs")).json()["items"]
        assert [one["id"] for one in runs] == [run["id"]]
        return runs[0]["operations"]

    (operation_id,) = await eventually(begun)
    operation = (await server.client.get(f"/operations/{operation_id}")).json()
    assert (operation["kind"], operation["requested_by"]) == ("deploy_package", "nightly")

    async def waits():
        """The device never called: it is waited for, longer than a moment."""
        params = {"parent_id": operation_id}
        for one in (await server.client.get("/operations", params=params)).json()["items"]:
            child = await server.haechi.operations.get(one["id"])
            if "waiting for gate" in child.progress_text:
                return child
        return None

    assert (await eventually(waits)).ctx["wait_s"] == 600
    await server.client.post(f"/operations/{operation_id}/cancel")

    async def ended():
        runs = (await server.client.get(f"/schedules/{schedule['id']}/runs")).json()["items"]
        return runs[0]["state"] == "failed" and runs[0]

    error = (await eventually(ended))["errors"][0]
    assert error["code"] == "schedules.operation_failed"
    assert operation_id in error["detail"]
    assert error["remedy"]
    assert error["device_ids"] == []
    assert (await server.client.delete(f"/schedules/{schedule['id']}")).status_code == 204
    assert (await server.client.get(f"/schedules/{schedule['id']}")).status_code == 404


async def test_edits_need_what_was_read(server):
    version = await version_of(server)
    device = await made(server, "/devices", {"name": "gate"})
    at = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    action = {
        "type": "remove_package",
        "package_id": version["package_id"],
        "device_ids": [device["id"]],
    }
    schedule = await made(server, "/schedules", {"name": "once", "action": action, "at": at})
    path = f"/schedules/{schedule['id']}"
    etag = (await server.client.get(path)).headers["etag"]
    assert (await server.client.patch(path, json={"name": "x"})).status_code == 428
    changed = await server.client.patch(path, json={"cron": "@daily"}, headers={"If-Match": etag})
    assert (changed.json()["cron"], changed.json()["at"]) == ("0 0 * * *", None)
    stale = await server.client.patch(path, json={"name": "x"}, headers={"If-Match": etag})
    assert stale.status_code == 412


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"cron": "61 * * * *"}, 422, "schedules.bad_cron"),
        ({"cron": None}, 422, "schedules.at_or_cron"),
        ({"cron": None, "at": "2020-01-01T00:00:00Z"}, 422, "schedules.never_due"),
        ({"cron": None, "at": "2030-01-01T00:00:00"}, 422, "core.bad_request"),
        ({"timezone": "Mars/Base"}, 422, "core.bad_request"),
        ({"timezone": "../../etc/passwd"}, 422, "core.bad_request"),
        (
            {"action": {"type": "back_up_cluster", "cluster_id": "clu-nothing"}},
            404,
            "clusters.not_found",
        ),
        ({"action": {"type": "explode"}}, 422, "core.bad_request"),
        ({"more": 1}, 422, "core.bad_request"),
    ],
)
async def test_what_is_refused(server, change, status, code):
    version = await version_of(server)
    device = await made(server, "/devices", {"name": "gate"})
    action = {
        "type": "remove_package",
        "package_id": version["package_id"],
        "device_ids": [device["id"]],
    }
    body = {"name": "n", "action": action, "cron": "@daily", **change}
    answer = await server.client.post("/schedules", json=body)
    assert 400 <= answer.status_code < 500
    if status is not None:
        assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert (await server.client.get("/schedules")).json()["items"] == []


async def test_unknown_targets_are_refused_when_it_is_made(server):
    version = await version_of(server)
    for targets, status in (
        ({"device_ids": ["dev-nothing"]}, 404),
        ({"group_id": "grp-nothing"}, 404),
        ({}, 422),
    ):
        action = {"type": "deploy_package", "version_id": version["id"], **targets}
        body = {"name": "n", "action": action, "cron": "@daily"}
        assert (await server.client.post("/schedules", json=body)).status_code == status


async def test_an_operator_schedules_nothing_privileged(server):
    version = await version_of(server)
    device = await made(server, "/devices", {"name": "gate"})
    token = await made(server, "/tokens", {"name": "ci", "role": "operator"})
    async with server.anonymous(Authorization=f"Bearer {token['secret']}") as operator:
        action = {
            "type": "deploy_package",
            "version_id": version["id"],
            "device_ids": [device["id"]],
            "allow": ["privileged"],
        }
        body = {"name": "n", "action": action, "cron": "@daily"}
        refused = await operator.post("/schedules", json=body)
    assert refused.json()["code"] == "deployments.not_agreed"


async def test_maintenance_hours(server):
    device = await made(server, "/devices", {"name": "gate"})
    path = f"/devices/{device['id']}/maintenance"
    none = await server.client.get(path)
    assert none.json() == {"device_id": device["id"], "hours": []}
    night = {"days": ["mon", "sun"], "start": "22:00", "end": "05:00"}
    headers = {"If-Match": none.headers["etag"]}
    put = await server.client.put(path, json={"hours": [night]}, headers=headers)
    assert put.json()["hours"] == [night]
    assert (await server.client.put(path, json={"hours": []}, headers=headers)).status_code == 412
    bad = {**night, "end": "22:00"}
    headers = {"If-Match": put.headers["etag"]}
    refused = await server.client.put(path, json={"hours": [bad]}, headers=headers)
    assert refused.json()["code"] == "schedules.bad_hours"
    assert (await server.client.get("/devices/dev-nothing/maintenance")).status_code == 404


async def test_by_the_command_line(server, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    token = await made(server, "/tokens", {"name": "cli", "role": "operator"})
    version = await version_of(server)
    device = await made(server, "/devices", {"name": "gate"})
    await made(server, "/groups", {"name": "doors", "device_ids": [device["id"]]})

    async def cli(*words):
        given = ["--url", server.url, "--token", token["secret"], "--language", "en", "--json"]
        run = CliRunner().invoke
        done = await asyncio.to_thread(run, main, [*given, *words])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout) if done.stdout else None

    name = version["package_name"]
    deploy = await cli(
        *("schedule", "create-deploy", "nightly", name, "1"),
        *("--device", "gate", "--group", "doors", "--cron", "30 3 * * *"),
    )
    assert deploy["arguments"]["device_ids"] == [device["id"]]
    remove = await cli(
        *("schedule", "create-remove", "away", name, "--device", "gate"),
        *("--at", "2099-01-01T00:00", "--catch-up-s", "60"),
    )
    assert remove["catch_up_s"] == 60
    listed = await cli("schedule", "list")
    assert [one["name"] for one in listed] == ["away", "nightly"]
    assert (await cli("schedule", "edit", "away", "--name", "gone"))["name"] == "gone"
    assert (await cli("schedule", "pause", "nightly"))["enabled"] is False
    assert (await cli("schedule", "resume", "nightly"))["enabled"] is True
    assert (await cli("schedule", "show", "nightly"))["id"] == deploy["id"]
    run = await cli("schedule", "run", "gone")

    async def ended():
        runs = (await cli("schedule", "runs", "gone"))["items"]
        return runs[0]["state"] == "succeeded" and runs[0]

    assert (await eventually(ended))["id"] == run["id"]  # nothing runs there: nothing to remove
    await cli("schedule", "delete", "gone")
    hours = await cli("maintenance", "set", "gate", "mon-fri 02:00-05:00", "sun 01:00-02:00")
    assert [one["start"] for one in hours] == ["02:00", "01:00"]
    assert await cli("maintenance", "show", "gate") == hours
    assert await cli("maintenance", "clear", "gate") == []
