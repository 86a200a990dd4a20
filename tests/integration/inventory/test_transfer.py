import json
from typing import Any

import pytest

from haechi.core.secrets import Secret
from haechi.domains.inventory import Inventory
from haechi.domains.inventory.model import Gps, ImportRefused, PtzPreset
from haechi.domains.inventory.transfer import Transfer

from .conftest import BY, KeptAudit

MASTER = {
    "name": "Master01",
    "ip": "192.0.2.10",
    "port": "5231",
    "description": "서버실",
    "host_name": "edge-m1",
    "host_pwd": "geheim-m",
}
DEVICE = {
    "id": "d1",
    "name": "EdgeCCTV01",
    "type": 1,
    "gps": {"latitude": "37.57", "longitude": "126.98"},
    "address": "서울시 중구",
    "ip": "192.0.2.21",
    "isSupportAnnalysis": "YES",
    "url": "rtsp://root:geheim-c@192.0.2.61/axis-media/media.amp",
    "description": "정문",
    "host_name": "edge-w1",
    "host_pwd": "geheim-d",
}


@pytest.mark.parametrize(
    "document",
    [[MASTER, DEVICE], {"masters": [MASTER], "devices": [DEVICE]}, {"devices": [DEVICE, MASTER]}],
)
async def test_historic_records_become_devices_and_cameras(
    inventory: Inventory, document: Any
) -> None:
    outcome = await Transfer(inventory).import_document(document, by=BY)
    assert len(outcome.created) == 3
    device = await inventory.devices.get("d1")
    assert device.gps == (37.57, 126.98)
    assert (device.address, device.postal_address) == ("192.0.2.21", "서울시 중구")
    assert (device.supports_analysis, device.host_name) == (True, "edge-w1")
    login = await inventory.devices.host_login(device.id)
    assert login.password == Secret("geheim-d")
    camera = await inventory.cameras.by_name("EdgeCCTV01")
    assert camera is not None
    assert (camera.device_id, camera.login) == (device.id, "root")
    master = await inventory.devices.by_name("Master01")
    assert master is not None
    assert master.port == 5231
    again = await Transfer(inventory).import_document(document, by=BY)
    assert (again.created, again.updated, again.unchanged) == ([], [], 3)


async def test_a_single_master_is_a_server_named_as_it_can(inventory: Inventory) -> None:
    await Transfer(inventory).import_document({"name": "m1", "ip": "192.0.2.10"}, by=BY)
    master = await inventory.devices.by_name("m1")
    assert master is not None
    assert (master.role, master.host_name) == ("server", "m1")


async def test_every_problem_is_listed_and_nothing_changed(inventory: Inventory) -> None:
    document = {
        "devices": [
            {"name": "a", "host_name": "A_B", "port": 80},
            {"name": "b", "port": "http"},
            {"name": "c", "prot": 1},
            {"name": "good"},
            {"name": "GOOD"},
            {"name": "far", "gps": {"latitude": 95, "longitude": 0}},
            {**DEVICE, "url": "http://user:geheim@192.0.2.61/"},
        ],
        "cameras": [{"name": "x", "url": "rtsp://192.0.2.1/", "device": "nobody"}],
        "links": [{"cameras": ["x", "y"]}],
        "nonsense": 1,
    }
    with pytest.raises(ImportRefused) as caught:
        await Transfer(inventory).import_document(document, by=BY)
    paths = [part["data"]["path"] for part in caught.value.data["problems"]]
    assert sorted(paths) == [
        "cameras[0]",
        "devices[0]",
        "devices[1]",
        "devices[2]",
        "devices[4]",
        "devices[5]",
        "devices[6]",
        "links[0]",
        "nonsense",
    ]
    for language in ("ko", "en"):
        text = json.dumps(caught.value.problem(language), ensure_ascii=False)
        assert "geheim" not in text
    assert await inventory.devices.all() == []


@pytest.mark.parametrize(
    "document", [[], {}, {"format": "x"}, [1], ["a"], [None], [{"name": "\ud800"}]]
)
async def test_what_is_no_inventory(inventory: Inventory, document: Any) -> None:
    with pytest.raises(ImportRefused):
        await Transfer(inventory).import_document(document, by=BY)


async def test_a_dry_run_changes_nothing(inventory: Inventory, audit: KeptAudit) -> None:
    outcome = await Transfer(inventory).import_document([DEVICE], by=BY, dry_run=True)
    assert [(item.kind, item.id) for item in outcome.created] == [("device", ""), ("camera", "")]
    assert await inventory.devices.all() == []


async def test_export_has_no_secret_and_comes_back_the_same(inventory: Inventory) -> None:
    transfer = Transfer(inventory)
    await transfer.import_document([MASTER, DEVICE], by=BY)
    device = await inventory.devices.get("d1")
    await inventory.edit_site({"name": "판교", "gps": Gps(37.4, 127.1)}, by=BY)
    other = await inventory.cameras.create(
        {"name": "후문", "url": "rtsp://192.0.2.62/x", "ptz_presets": [PtzPreset("문", "1")]}, by=BY
    )
    await inventory.links.create(
        other.id, (await inventory.cameras.of_device(device.id))[0].id, by=BY, preset_a="문"
    )
    await inventory.groups.create("1층", [device.id], by=BY)
    exported = await transfer.export()
    assert "geheim" not in json.dumps(exported)
    again = await transfer.import_document(exported, by=BY)
    assert (again.created, again.updated, again.unchanged) == ([], [], 7)


async def test_an_export_moves_to_another_site(
    inventory: Inventory, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from haechi.core.bus import Bus
    from haechi.core.clock import SystemClock
    from haechi.core.db import Database
    from haechi.core.secrets import Keyring

    await Transfer(inventory).import_document([DEVICE], by=BY)
    exported = await Transfer(inventory).export()
    db = Database(tmp_path_factory.mktemp("other") / "control.db")
    await db.create_all()
    other = Inventory(
        db=db,
        bus=Bus(lambda: 0),
        clock=SystemClock(),
        keyring=Keyring([b"k" * 32]),
        audit=KeptAudit(),
    )
    await Transfer(other).import_document(exported, by=BY)
    moved = await other.devices.get("d1")
    assert moved.name == "EdgeCCTV01"
    assert (await other.devices.get(exported["devices"][0]["id"])).id == moved.id
    again = await Transfer(other).import_document(exported, by=BY)
    assert again.created == []
    await db.close()


async def test_import_updates_by_name_and_keeps_passwords(inventory: Inventory) -> None:
    transfer = Transfer(inventory)
    await transfer.import_document([DEVICE], by=BY)
    await transfer.import_document(
        {"cameras": [{"name": "EdgeCCTV01", "url": "rtsp://192.0.2.99/new"}]}, by=BY
    )
    camera = await inventory.cameras.by_name("EdgeCCTV01")
    assert camera is not None
    main, _ = await inventory.camera_source(camera.id)
    assert main.reveal() == "rtsp://root:geheim-c@192.0.2.99/new"


@pytest.mark.parametrize(
    ("document", "path", "field"),
    [
        ({"cctvs": {}}, "cctvs", "document"),
        ({"devices": {}}, "devices", "document"),
        ({"": {}}, "", "document"),
        ([DEVICE | {"gps": {"latitude": [], "longitude": {}}}], "[0]", "gps.latitude"),
    ],
)
async def test_what_is_no_entry_is_named(
    inventory: Inventory, document: Any, path: str, field: str
) -> None:
    with pytest.raises(ImportRefused) as refused:
        await Transfer(inventory).import_document(document, by=BY)
    named = {
        (item["data"]["path"], item["data"]["field"]) for item in refused.value.data["problems"]
    }
    assert (path, field) in named
    assert await inventory.devices.all() == []
