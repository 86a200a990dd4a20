"""An external VMS on a real socket: ids it knows are imported; its failures are 0014, never a hang."""

import time

import pytest

from haechi.interop import Vms
from haechi.interop.lookups import FRESH_S
from haechi.testing import packages as zips
from haechi.testing.vms import MockVms
from haechi.testing.waiting import eventually

from .conftest import interop_world


@pytest.fixture
async def vms():
    made = MockVms(
        masters={"m1": {"name": "Master01", "ip": "192.0.2.10", "host_name": "edge-m1"}},
        devices={
            "d1": {"name": "EdgeCCTV01", "ip": "192.0.2.21", "host_pwd": "example"},
            "d2": {"name": "EdgeCCTV02", "ip": "192.0.2.22"},
        },
        clusters={"c1": {"name": "north", "mid": "m1", "wlist": [{"wid": "d1"}, {"wid": "d2"}]}},
        ais={"e1": {"name": "sleeper.zip", "version": "1"}},
        zips={"sleeper.zip": zips.sleeping()},
    )
    async with made.serve() as url:
        made.url = url
        yield made


@pytest.fixture
async def world(tmp_path, vms):
    async with interop_world(tmp_path, vms=Vms(vms.url, timeout_s=0.3)) as made:
        yield made


async def connect(world, *names):
    for name in names:
        device = await world.inventory.devices.by_name(name)
        world.devices.connected.add(device.id)


async def test_a_whole_deploy_with_ids_that_only_the_vms_knows(world, vms):
    for ref in ("d1", "d2"):
        assert (await world.get("/get_deviceInfo", id=ref)).json()["code"] == "0000"
    await connect(world, "EdgeCCTV01", "EdgeCCTV02")
    reply = (await world.post("/deploy_aiToCluster", {"sid": "e1", "cid": "c1"})).json()
    assert reply["code"] == "0000", reply
    assert [node["id"] for node in reply["nodes"]] == ["d1", "d2"]
    assert await world.running("d1") == ["sleeper:1"]
    assert await world.running("d2") == ["sleeper:1"]
    asked = len(vms.calls)
    again = (await world.post("/deploy_aiToDevice", {"sid": "e1", "did": "d1"})).json()
    assert again["code"] == "0000"
    assert len(vms.calls) == asked
    login = await world.inventory.devices.host_login("d1")
    assert login.password.reveal() == "example"
    master = await world.inventory.devices.get("m1")
    assert (master.role, master.host_name) == ("server", "edge-m1")


async def test_a_cluster_formed_here_is_found_by_its_master(world, vms):
    body = {"mid": "m1", "wlist": [{"wid": "d1"}]}
    formed = (await world.post("/add_newEdgeCluster", body)).json()
    info = (await world.get("/get_selectedClusterInfo", id="c1")).json()
    assert info["wlist"] == [{"wid": "d1"}]
    removed = (await world.post("/remove_selectedEdgeCluster", {"id": "c1"})).json()
    assert removed["id"] == formed["id"]
    vms.clusters.clear()
    assert (await world.post("/remove_selectedEdgeCluster", {"id": "c1"})).json()["code"] == "0004"


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("hang", "0014"),
        ("500", "0014"),
        ("not json", "0014"),
        ("not an object", "0014"),
        ("cut off", "0014"),
        ("9999", "0014"),
        ("0021", "0014"),
        ("0004", "0004"),
    ],
)
async def test_what_the_vms_does_wrong_is_told_with_its_reason(world, vms, fault, code):
    vms.faults["*"] = [fault]
    began = time.monotonic()
    for method, path, given in (
        ("get", "/get_deviceInfo", {"id": "d1"}),
        ("post", "/deploy_aiToDevice", {"sid": "e1", "did": "d1"}),
        ("post", "/remove_selectedEdgeCluster", {"id": "c1"}),
    ):
        answer = await (world.get(path, **given) if method == "get" else world.post(path, given))
        reply = answer.json()
        assert (answer.status_code, reply["code"]) == (200, code), reply
        assert "VMS" in reply["detail"]
        if fault in {"9999", "0021"}:
            assert fault in reply["detail"]
    assert time.monotonic() - began < 3 * 3 * 0.3 + 5
    assert await world.inventory.devices.all() == []


async def test_two_failures_are_tried_again(world, vms):
    vms.faults["/get_selectedDeviceInfo"] = ["500", "hang"]
    assert (await world.get("/get_deviceInfo", id="d1")).json()["code"] == "0000"


async def test_no_vms_at_the_address(tmp_path, free_port):
    vms = Vms(f"http://127.0.0.1:{free_port}", timeout_s=0.3)
    async with interop_world(tmp_path / "x", vms=vms) as world:
        reply = (await world.get("/get_deviceInfo", id="d1")).json()
        assert (reply["code"], "VMS" in reply["detail"]) == ("0014", True)
        upload = {"filename": "a.zip", "version": "1"}
        assert (await world.post("/upload_edgeAi", upload)).json()["code"] == "0014"


async def test_useless_records_are_0014_and_change_nothing(world, vms):
    vms.devices["bad"] = {"name": "x"}
    vms.devices["worse"] = {"name": ["x"], "ip": "192.0.2.1"}
    vms.devices["odd"] = {"name": "y", "ip": "not an address at all!"}
    for ref in ("bad", "worse", "odd"):
        assert (await world.get("/get_deviceInfo", id=ref)).json()["code"] == "0014"
    assert await world.inventory.devices.all() == []


async def test_what_was_imported_is_kept_fresh(world, vms):
    await world.get("/get_deviceInfo", id="d1")
    vms.devices["d1"]["ip"] = "192.0.2.99"
    assert (await world.get("/get_deviceInfo", id="d1")).json()["ip"] == "192.0.2.21"
    world.clock.skip(FRESH_S + 1)
    await world.get("/get_deviceInfo", id="d1")

    async def moved():
        return (await world.get("/get_deviceInfo", id="d1")).json()["ip"] == "192.0.2.99"

    await eventually(moved)
    vms.faults["*"] = ["hang"]
    world.clock.skip(FRESH_S + 1)
    assert (await world.get("/get_deviceInfo", id="d1")).json()["code"] == "0000"


async def test_an_id_that_the_vms_gave_to_a_newer_version_follows_it(world, vms):
    await world.get("/get_deviceInfo", id="d1")
    await connect(world, "EdgeCCTV01")
    await world.post("/deploy_aiToDevice", {"sid": "e1", "did": "d1"})
    await world.upload("sleeper.zip", "2", zips.sleeping(version="2"))
    vms.ais["e1"]["version"] = "2"
    world.clock.skip(FRESH_S + 1)
    await world.get("/get_selectedEdgeAiInfo", id="e1")

    async def follows():
        info = (await world.get("/get_selectedEdgeAiInfo", id="e1")).json()
        return info["version"] == "2"

    await eventually(follows)


async def test_uploads_take_the_freshest_zip(world, vms):
    upload = {"filename": "sleeper.zip", "version": "1"}
    first = (await world.post("/upload_edgeAi", upload)).json()
    assert first["code"] == "0000"
    vms.zips["sleeper.zip"] = zips.sleeping(version="from the vms")
    second = (await world.post("/upload_edgeAi", upload)).json()
    assert second["id"] == first["id"]
    assert second["digest"] != first["digest"]
    (world.path / "inbox" / "sleeper.zip").write_bytes(zips.sleeping(version="inbox"))
    third = (await world.post("/upload_edgeAi", upload)).json()
    assert len({first["digest"], second["digest"], third["digest"]}) == 3
    assert list((world.path / "inbox").iterdir()) == []
    files = {"file": ("sleeper.zip", zips.sleeping(version="sent"), "application/zip")}
    sent = await world.client.post("/upload_edgeAi", files=files, data={"version": "1"})
    assert sent.json()["code"] == "0000"
    assert sent.json()["digest"] not in {first["digest"], second["digest"], third["digest"]}
    assert [path.name for path in (world.path / "inbox").glob(".sent-*")] == []
    vms.zips.clear()
    stored = (await world.post("/upload_edgeAi", upload)).json()
    assert stored["digest"] == sent.json()["digest"]
    history = await world.packages.revisions(first["id"])
    assert len(history) == 4


async def test_a_zip_that_breaks_off_at_the_vms_leaves_nothing(world, vms):
    vms.zips["cut.zip"] = zips.truncated()
    reply = (await world.post("/upload_edgeAi", {"filename": "cut.zip", "version": "1"})).json()
    assert reply["code"] == "0010"
    assert (await world.packages.find()).items == []
