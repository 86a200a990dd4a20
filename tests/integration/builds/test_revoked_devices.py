"""A device that is revoked or deleted can pull no more images."""

import pytest

from haechi.testing.server import running_server
from haechi.testing.waiting import eventually


@pytest.fixture
async def server(tmp_path):
    async with running_server(tmp_path) as running:
        yield running


@pytest.mark.parametrize("act", ["revoke", "delete"])
async def test_its_pull_credential_ends(server, act, tmp_path):
    made = await server.client.post("/devices", json={"name": "nuc-1"})
    device_id = made.json()["id"]
    await server.haechi.registry.pull_login(device_id)
    files = [path for path in tmp_path.rglob("*htpasswd*") if path.is_file()]

    def named():
        return any(device_id in path.read_text() for path in files)

    assert named()
    if act == "revoke":
        answer = await server.client.post(f"/devices/{device_id}/revoke")
    else:
        answer = await server.client.delete(f"/devices/{device_id}")
    assert answer.is_success
    await eventually(lambda: not named())
