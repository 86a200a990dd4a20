import json

import pytest
import sqlalchemy as sa

from haechi.core.db import Database
from haechi.core.secrets import Secret
from haechi.domains.inventory import Inventory
from haechi.domains.inventory.model import (
    BadCameraUrl,
    BadValue,
    DuplicateLink,
    DuplicateName,
    Gps,
    PtzPreset,
    SelfLink,
    UnknownReference,
)

from .conftest import BY, KeptAudit

URL = "rtsp://root:p%2Fa@192.0.2.61/axis-media/media.amp"


async def test_media_gets_the_login_back_and_nobody_else(
    inventory: Inventory, db: Database, audit: KeptAudit
) -> None:
    made = await inventory.cameras.create(
        {"name": "c", "url": URL, "sub_url": "rtsp://192.0.2.61/axis-media/media.amp?r=half"}, by=BY
    )
    assert (made.url, made.login) == ("rtsp://192.0.2.61/axis-media/media.amp", "root")
    assert made.has_password
    main, sub = await inventory.camera_source(made.id)
    assert main.reveal() == URL
    assert sub is not None
    assert sub.reveal() == "rtsp://root:p%2Fa@192.0.2.61/axis-media/media.amp?r=half"
    async with db.read() as tx:
        row = (await tx.execute(sa.text("select * from cameras"))).one()
    assert "p/a" not in repr(row)
    assert "p%2Fa" not in repr(row) + json.dumps(audit.rows)


async def test_fields_win_over_the_url_and_odd_passwords_are_encoded(inventory: Inventory) -> None:
    made = await inventory.cameras.create(
        {"name": "c", "url": URL, "login": "u@x", "password": Secret("p:@/?#% 한")}, by=BY
    )
    main, _ = await inventory.camera_source(made.id)
    assert main.reveal().startswith("rtsp://u%40x:p%3A%40%2F%3F%23%25%20%ED%95%9C@192.0.2.61/")


async def test_editing_the_url_keeps_the_password(inventory: Inventory) -> None:
    made = await inventory.cameras.create({"name": "c", "url": URL}, by=BY)
    edited = await inventory.cameras.edit(made.id, {"url": "rtsp://192.0.2.99/x"}, by=BY)
    assert edited.has_password
    main, _ = await inventory.camera_source(made.id)
    assert main.reveal() == "rtsp://root:p%2Fa@192.0.2.99/x"
    cleared = await inventory.cameras.edit(made.id, {"login": None}, by=BY)
    assert (cleared.login, cleared.has_password) == (None, False)


async def test_a_masked_url_sent_back_means_unchanged(inventory: Inventory) -> None:
    secret = "rtsp://192.0.2.61/s?user=a&password=geheim"
    made = await inventory.cameras.create({"name": "c", "url": secret}, by=BY)
    assert "geheim" not in made.url
    await inventory.cameras.edit(made.id, {"url": made.url, "description": "x"}, by=BY)
    main, _ = await inventory.camera_source(made.id)
    assert main.reveal() == secret
    with pytest.raises(BadCameraUrl):
        await inventory.cameras.edit(made.id, {"url": "rtsp://192.0.2.9/?password=***"}, by=BY)


async def test_bad_cameras(inventory: Inventory) -> None:
    with pytest.raises(BadCameraUrl):
        await inventory.cameras.create({"name": "c", "url": "http://192.0.2.1/"}, by=BY)
    with pytest.raises(BadCameraUrl):
        await inventory.cameras.create(
            {"name": "c", "url": "rtsp://a:b@192.0.2.1/", "sub_url": "rtsp://c:d@192.0.2.1/"}, by=BY
        )
    with pytest.raises(UnknownReference):
        await inventory.cameras.create(
            {"name": "c", "url": "rtsp://192.0.2.1/", "device_id": "dev-x"}, by=BY
        )
    await inventory.cameras.create({"name": "c", "url": "rtsp://192.0.2.1/"}, by=BY)
    with pytest.raises(DuplicateName):
        await inventory.cameras.create({"name": "C", "url": "rtsp://192.0.2.1/"}, by=BY)


async def test_links(inventory: Inventory) -> None:
    device = await inventory.devices.create({"name": "d", "gps": Gps(37.5, 127.0)}, by=BY)
    a = await inventory.cameras.create(
        {
            "name": "a",
            "url": "rtsp://192.0.2.1/",
            "device_id": device.id,
            "ptz_presets": [PtzPreset("정문", "1")],
        },
        by=BY,
    )
    b = await inventory.cameras.create(
        {"name": "b", "url": "rtsp://192.0.2.2/", "gps": Gps(37.5001, 127.0)}, by=BY
    )
    await inventory.cameras.create(
        {"name": "far", "url": "rtsp://192.0.2.3/", "gps": Gps(38, 127)}, by=BY
    )
    (suggested,) = await inventory.links.suggest(max_m=50)
    assert {suggested.camera_a, suggested.camera_b} == {a.id, b.id}
    assert suggested.distance_m == pytest.approx(11.1, abs=0.2)
    with pytest.raises(BadValue):
        await inventory.links.create(b.id, a.id, by=BY, preset_b="후문")
    link = await inventory.links.create(b.id, a.id, by=BY, preset_b="정문")
    assert (link.preset_a if link.camera_a == a.id else link.preset_b) == "정문"
    assert await inventory.links.suggest(max_m=50) == []
    with pytest.raises(DuplicateLink):
        await inventory.links.create(a.id, b.id, by=BY)
    with pytest.raises(SelfLink):
        await inventory.links.create(a.id, a.id, by=BY)
    assert await inventory.links.neighbours(a.id) == [b.id]
    await inventory.cameras.delete(b.id, by=BY)
    assert await inventory.links.all() == []


async def test_groups(inventory: Inventory) -> None:
    devices = [await inventory.devices.create({"name": name}, by=BY) for name in "ab"]
    group = await inventory.groups.create("1층", [devices[0].id], by=BY)
    group = await inventory.groups.edit(
        group.id, by=BY, device_ids=[d.id for d in devices], revision=1
    )
    assert sorted(group.device_ids) == sorted(d.id for d in devices)
    with pytest.raises(UnknownReference):
        await inventory.groups.edit(group.id, by=BY, device_ids=["dev-x"])
    await inventory.devices.delete(devices[0].id, by=BY)
    assert (await inventory.groups.get(group.id)).device_ids == [devices[1].id]
    with pytest.raises(DuplicateName):
        await inventory.groups.create("1층", [], by=BY)
    await inventory.groups.delete(group.id, by=BY)
