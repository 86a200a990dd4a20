"""Deployments and assignments over REST."""

import httpx2
import pytest
from starlette.requests import HTTPConnection

from haechi.core.access import Principal, Role
from haechi.domains.deployments import api as deployments_api
from haechi.web import operations as operations_api
from haechi.web.app import create_api


@pytest.fixture
async def client(world):
    async def guard(connection: HTTPConnection) -> None:
        role = Role[connection.headers.get("x-test-role", "operator").upper()]
        connection.state.principal = Principal(kind="user", id="usr-1", name="kim", role=role)

    api = create_api(
        routers=[
            deployments_api.router(world.deployments, world.places),
            operations_api.router(world.operations),
        ],
        root_routers=[],
        guard=guard,
        bus=world.bus,
        default_language="en",
        static_dir=None,
    )
    transport = httpx2.ASGITransport(app=api)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test/api/v1") as made:
        yield made


async def run(world, client, answer):
    assert answer.status_code == 202, answer.text
    operation_id = answer.json()["operation_id"]
    assert answer.headers["location"] == f"/api/v1/operations/{operation_id}"
    await world.operations.wait(operation_id)
    return (await client.get(f"/operations/{operation_id}")).json()


async def test_deploy_look_roll_back_remove(world, client):
    body = {"version_id": "ver-1", "device_ids": ["dev-a"], "environment": {"A": "1"}}
    ended = await run(world, client, await client.post("/deployments", json=body))
    assert ended["state"] == "succeeded"
    assert ended["result"]["devices"][0]["device"] == "gate"

    listed = (await client.get("/deployments", params={"device_id": "dev-a"})).json()
    (one,) = listed["items"]
    assert (one["device_name"], one["version"], one["state"]) == ("gate", "1", "running")
    assert one["started_at"] and one["previous_version"] is None
    assert "token" not in str(one).replace("token_digest", "")

    body["version_id"] = "ver-2"
    await run(world, client, await client.post("/deployments", json=body))
    (two,) = (await client.get("/deployments")).json()["items"]
    assert (two["version"], two["previous_version"]) == ("2", "1")
    both = (await client.get("/deployments", params={"include_removed": True})).json()["items"]
    assert len(both) == 2
    logs = await client.get(f"/deployments/{two['id']}/logs")
    assert logs.text.splitlines()[-1].endswith("Traceback: boom")

    back = await client.post(f"/deployments/{two['id']}/rollback")
    assert (await run(world, client, back))["state"] == "succeeded"
    (three,) = (await client.get("/deployments")).json()["items"]
    assert three["version"] == "1"
    gone = await client.delete(f"/deployments/{three['id']}")
    assert (await run(world, client, gone))["state"] == "succeeded"
    assert (await client.get("/deployments")).json()["items"] == []


async def test_assignments(world, client):
    for device in ("dev-a", "dev-b"):
        body = {"version_id": "ver-1", "device_ids": [device]}
        await run(world, client, await client.post("/deployments", json=body))
    found = (await client.get("/assignments", params={"camera_id": "cam-1"})).json()["items"]
    (one,) = found
    target = (await world.running("dev-b"))[0]
    moved = await client.post(f"/assignments/{one['id']}/move", json={"deployment_id": target.id})
    assert moved.status_code == 201
    assert (moved.json()["state"], moved.json()["device_id"]) == ("trial", "dev-b")
    world.places.cameras["cam-7"] = "dev-b"
    made = await client.post(
        "/assignments", json={"camera_id": "cam-7", "deployment_id": target.id, "fps": 2}
    )
    assert made.json()["fps"] == 2
    assert (await client.delete(f"/assignments/{made.json()['id']}")).status_code == 204


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"version_id": "ver-9", "device_ids": ["dev-a"]}, 404, "core.not_found"),
        ({"version_id": "ver-1", "device_ids": ["dev-x"]}, 404, "core.not_found"),
        ({"version_id": "ver-1"}, 422, "deployments.no_devices"),
        ({"version_id": "ver-1", "surprise": 1}, 422, "core.bad_request"),
        ({"version_id": "ver-1", "environment": {"1A": "x"}}, 422, "core.bad_request"),
        ({"version_id": "ver-1", "resources": {"memory_bytes": 1}}, 422, "core.bad_request"),
        (
            {"version_id": "ver-1", "device_ids": ["dev-a"], "allow": ["privileged"]},
            403,
            "deployments.not_agreed",
        ),
    ],
)
async def test_bad_requests(client, body, status, code):
    answer = await client.post("/deployments", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_missing_things(client):
    for path in ("/deployments/dep-x", "/deployments/dep-x/logs", "/assignments/asg-x"):
        answer = await client.get(path)
        assert answer.status_code == 404
        assert answer.json()["remedy"]


async def test_every_route_declares_access(world):
    from haechi.core.access import access_of

    router = deployments_api.router(world.deployments, world.places)
    for route in router.routes:
        assert access_of(route.endpoint) is not None, route.path


def as_(role: str) -> dict[str, dict[str, str]]:
    return {"headers": {"X-Test-Role": role}}


async def test_viewers_see_no_values_of_the_environment(world, client):
    body = {
        "version_id": "ver-1",
        "device_ids": ["dev-a"],
        "environment": {"API_KEY": "hunter2", "MODE": "fast"},
    }
    await run(world, client, await client.post("/deployments", json=body))
    [shown] = (await client.get("/deployments")).json()["items"]
    assert shown["environment"] == {"API_KEY": "hunter2", "MODE": "fast"}
    for path in ("/deployments", f"/deployments/{shown['id']}"):
        answer = await client.get(path, **as_("viewer"))
        assert answer.status_code == 200
        assert "hunter2" not in answer.text
        assert '"API_KEY":"***"' in answer.text
    operations = await client.get("/operations", **as_("viewer"))
    assert "hunter2" not in operations.text


async def test_no_way_back_to_privilege_without_an_administrator(world, client):
    world.versions.change("ver-1", privileged=True)
    body = {"version_id": "ver-1", "device_ids": ["dev-a"], "allow": ["privileged"]}
    await run(world, client, await client.post("/deployments", json=body, **as_("admin")))
    await run(
        world,
        client,
        await client.post("/deployments", json={**body, "version_id": "ver-2", "allow": []}),
    )
    [now] = (await client.get("/deployments")).json()["items"]
    path = f"/deployments/{now['id']}/rollback"
    refused = await client.post(path)
    assert (refused.status_code, refused.json()["code"]) == (403, "deployments.not_agreed")
    ended = await run(world, client, await client.post(path, **as_("admin")))
    assert ended["state"] == "succeeded"
    await world.check_one("1")
