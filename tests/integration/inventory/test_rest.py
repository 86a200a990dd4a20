"""The inventory's REST face on a real server process."""

import base64
import json
import sqlite3

import pytest

from ..packages.conftest import Server  # noqa: TID252 - tests are no package to import from

pytestmark = pytest.mark.integration


def test_devices(server: Server) -> None:
    body = {
        "name": "정문 장치",
        "host_name": "edge-r1",
        "gps": {"latitude": 37.5, "longitude": 127},
        "ssh_password": "geheim-1",
        "address": "192.0.2.5",
    }
    made = server.http.post("/devices", json=body)
    assert made.status_code == 201
    device = made.json()
    assert (device["state"], device["enrolled"]) == ("new", False)
    assert device["has_ssh_password"]
    assert "geheim" not in made.text
    path = f"/devices/{device['id']}"
    assert made.headers["location"] == f"/api/v1{path}"
    again = server.http.post("/devices", json={"name": "정문  장치"})
    assert (again.status_code, again.json()["code"]) == (409, "inventory.duplicate_name")
    assert server.http.patch(path, json={"name": "x"}).status_code == 428
    etag = server.http.get(path).headers["etag"]
    edited = server.http.patch(
        path, json={"port": None, "gps": None, "role": "analysis"}, headers={"If-Match": etag}
    )
    assert (edited.json()["gps"], edited.json()["role"]) == (None, "analysis")
    assert edited.json()["has_ssh_password"]
    stale = server.http.patch(path, json={"name": "x"}, headers={"If-Match": etag})
    assert (stale.status_code, stale.json()["code"]) == (412, "core.stale_edit")
    assert (
        server.http.get("/devices", params={"name": "정문 장치"}).json()["items"][0]["id"]
        == (device["id"])
    )
    assert server.http.delete(path).status_code == 204
    assert server.http.get(path).status_code == 404


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/devices", {"name": ""}),
        ("/devices", {"name": "a\nb"}),
        ("/devices", {"name": "x", "host_name": "A_B"}),
        ("/devices", {"name": "x", "port": "80"}),
        ("/devices", {"name": "x", "port": 0}),
        ("/devices", {"name": "x", "gps": {"latitude": 91, "longitude": 0}}),
        ("/devices", {"name": "x", "nmae": 1}),
        ("/devices", {"name": "x", "address": "http://192.0.2.1"}),
        ("/devices", {"name": "x" * 129}),
        ("/cameras", {"name": "x", "url": "http://root:geheim@192.0.2.1/"}),
        ("/cameras", {"name": "x", "url": "rtsp://root:ge#heim@192.0.2.1/"}),
        ("/cameras", {"name": "x", "url": "rtsp://192.0.2.1/", "device_id": "dev-x"}),
        ("/cameras", {"name": "x", "url": "rtsp://192.0.2.1/", "password": "geheim"}),
        ("/links", {"camera_a": "cam-x", "camera_b": "cam-y"}),
        ("/groups", {"name": "x", "device_ids": ["dev-x"]}),
        ("/inventory/import", [{"name": "x"}]),
    ],
)
def test_bad_input_is_one_problem_document(server: Server, path: str, body: object) -> None:
    answer = server.http.post(path, json=body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]
    assert "geheim" not in answer.text


@pytest.mark.parametrize("raw", [b'{"name": "\\ud800"}', b'{"name": NaN}', b"[", b'"x"', b"\xff"])
def test_bad_json(server: Server, raw: bytes) -> None:
    for path in ("/devices", "/inventory/import"):
        answer = server.http.post(path, content=raw, headers={"Content-Type": "application/json"})
        assert answer.status_code in {400, 422}


def test_cameras_links_groups(server: Server) -> None:
    device = server.http.post("/devices", json={"name": "d"}).json()
    cameras = [
        server.http.post(
            "/cameras",
            json={
                "name": f"카메라 {number}",
                "url": f"rtsp://root:geheim-2@192.0.2.6{number}/axis-media/media.amp",
                "device_id": device["id"],
                "gps": {"latitude": 37.5 + number * 0.0001, "longitude": 127},
                "ptz_presets": [{"name": "문", "token": "1"}],
            },
        ).json()
        for number in (1, 2)
    ]
    assert cameras[0]["url"] == "rtsp://192.0.2.61/axis-media/media.amp"
    assert (cameras[0]["login"], cameras[0]["has_password"]) == ("root", True)
    (suggested,) = server.http.get("/links/suggestions", params={"max_m": 50}).json()["items"]
    link = server.http.post(
        "/links",
        json={"camera_a": cameras[0]["id"], "camera_b": cameras[1]["id"], "preset_a": "문"},
    )
    assert link.status_code == 201
    assert link.json()["distance_m"] == suggested["distance_m"]
    refused = server.http.delete(f"/devices/{device['id']}")
    assert refused.status_code == 409
    where = refused.json()["data"]["where"]
    assert [use["id"] for use in where] == [camera["id"] for camera in cameras]
    group = server.http.post("/groups", json={"name": "1층", "device_ids": [device["id"]]}).json()
    assert group["device_ids"] == [device["id"]]
    exported = server.http.get("/inventory/export")
    assert "geheim" not in exported.text
    assert server.http.post("/inventory/import", json=exported.json()).json()["created"] == []
    assert server.http.delete(f"/devices/{device['id']}", params={"force": True}).status_code == 204
    assert server.http.get(f"/cameras/{cameras[0]['id']}").json()["device_id"] is None
    raw = sqlite3.connect(server.data_dir / "control.db")
    for (table,) in raw.execute("select name from sqlite_master where type = 'table'").fetchall():
        for row in raw.execute(f'select * from "{table}"').fetchall():
            assert "geheim" not in json.dumps([str(value) for value in row])
    raw.close()


@pytest.mark.parametrize("key", ['["\\ud800"]', "[{}]", "[1e400]", "[null]", "{}", "[1,2,3]", "x"])
def test_cursors_that_are_not_ours(server: Server, key: str) -> None:
    cursor = base64.urlsafe_b64encode(key.encode()).decode()
    for path in ("/devices", "/cameras", "/groups", "/packages"):
        assert server.http.get(path, params={"cursor": cursor}).status_code in {200, 422}
