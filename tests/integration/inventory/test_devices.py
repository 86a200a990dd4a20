import json

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from haechi.core.bus import Bus
from haechi.core.db import Database
from haechi.core.secrets import Secret
from haechi.domains.inventory import Inventory
from haechi.domains.inventory.model import (
    AliasTaken,
    BadHostName,
    DuplicateHostName,
    DuplicateName,
    Gps,
    NoHostLogin,
    StillUsed,
    Use,
)
from haechi.errors import ObjectNotFound, StaleEdit

from .conftest import BY, KeptAudit


async def test_a_device_carries_all_the_historic_data(inventory: Inventory) -> None:
    made = await inventory.devices.create(
        {
            "name": "EdgeCCTV01",
            "type": 1,
            "gps": Gps(37.57, 126.98),
            "postal_address": "서울시 중구",
            "address": "192.0.2.21",
            "port": 5231,
            "supports_analysis": True,
            "description": "정문",
            "host_name": "edge-w1",
            "ssh_password": Secret("geheim"),
        },
        by=BY,
        alias="d1",
    )
    assert await inventory.devices.get("d1") == made
    assert made.gps == (37.57, 126.98)
    assert made.has_ssh_password
    login = await inventory.devices.host_login(made.id)
    assert (login.user, login.password) == ("edge-w1", Secret("geheim"))


async def test_no_secret_is_in_the_database_or_the_audit(
    inventory: Inventory, db: Database, audit: KeptAudit
) -> None:
    await inventory.devices.create(
        {"name": "a", "ssh_password": Secret("geheim-1"), "ssh_key": Secret("geheim-2")}, by=BY
    )
    async with db.read() as tx:
        row = (await tx.execute(sa.text("select * from devices"))).one()
    assert b"geheim" not in repr(row).encode()
    assert "geheim" not in json.dumps(audit.rows)
    assert audit.rows[0][0] == "create_device"


async def test_names_and_host_names_are_unique(inventory: Inventory) -> None:
    first = await inventory.devices.create({"name": "정문 1", "host_name": "w1"}, by=BY)
    with pytest.raises(DuplicateName) as caught:
        await inventory.devices.create({"name": "정문  1"}, by=BY)
    assert caught.value.data["id"] == first.id
    with pytest.raises(DuplicateHostName):
        await inventory.devices.create({"name": "b", "host_name": "w1"}, by=BY)
    other = await inventory.devices.create({"name": "b"}, by=BY)
    with pytest.raises(DuplicateName):
        await inventory.devices.edit(other.id, {"name": "정문 1"}, by=BY)


async def test_two_devices_may_share_an_address(inventory: Inventory) -> None:
    for name in ("a", "b"):
        await inventory.devices.create({"name": name, "address": "192.0.2.9"}, by=BY)
    assert len((await inventory.devices.find(address="192.0.2.9")).items) == 2


async def test_edits_raise_the_revision_and_stale_ones_are_refused(
    inventory: Inventory, bus: Bus
) -> None:
    made = await inventory.devices.create({"name": "a"}, by=BY)
    with bus.subscribe({"states"}) as told:
        edited = await inventory.devices.edit(
            made.id, {"name": "b", "gps": None}, by=BY, revision=made.revision
        )
        assert (await told.get()).data == {"kind": "device", "id": made.id, "change": "edit"}
    assert (edited.name, edited.revision) == ("b", 2)
    with pytest.raises(StaleEdit):
        await inventory.devices.edit(made.id, {"name": "c"}, by=BY, revision=1)
    same = await inventory.devices.edit(made.id, {"name": "b"}, by=BY)
    assert same.revision == 2


async def test_a_refused_edit_changes_nothing(inventory: Inventory) -> None:
    made = await inventory.devices.create({"name": "a"}, by=BY)
    with pytest.raises(BadHostName):
        await inventory.devices.edit(made.id, {"name": "b", "host_name": "A_B"}, by=BY)
    assert await inventory.devices.get(made.id) == made


async def test_what_an_agent_reports_is_no_edit(inventory: Inventory) -> None:
    made = await inventory.devices.create({"name": "a"}, by=BY)
    seen = await inventory.devices.report(
        made.id, {"machine_id": "abc", "platform": "linux/amd64", "seen_address": "192.0.2.77"}
    )
    assert (seen.platform, seen.revision, seen.address) == ("linux/amd64", 1, None)
    assert [d.id for d in (await inventory.devices.find(machine_id="abc")).items] == [made.id]


async def test_delete_asks_who_still_uses_it(inventory: Inventory) -> None:
    made = await inventory.devices.create({"name": "a"}, by=BY)
    camera = await inventory.cameras.create(
        {"name": "c", "url": "rtsp://192.0.2.61/x", "device_id": made.id}, by=BY
    )
    running = [Use(kind="deployment", id="dep-x", name="detector", blocking=True)]
    cleared: list[str] = []

    async def check(tx: AsyncSession, device_id: str) -> list[Use]:
        return list(running)

    async def hook(tx: AsyncSession, device_id: str) -> None:
        cleared.append(device_id)

    inventory.on_delete_check("device", check)
    inventory.on_delete("device", hook)
    with pytest.raises(StillUsed) as caught:
        await inventory.devices.delete(made.id, by=BY)
    assert [use["id"] for use in caught.value.data["where"]] == [camera.id, "dep-x"]
    with pytest.raises(StillUsed):
        await inventory.devices.delete(made.id, by=BY, force=True)
    running.clear()
    await inventory.devices.delete(made.id, by=BY, force=True)
    assert cleared == [made.id]
    assert (await inventory.cameras.get(camera.id)).device_id is None
    with pytest.raises(ObjectNotFound):
        await inventory.devices.get(made.id)


async def test_foreign_ids(inventory: Inventory) -> None:
    one = await inventory.devices.create({"name": "a"}, by=BY, alias="0x01")
    other = await inventory.devices.create({"name": "b"}, by=BY)
    with pytest.raises(AliasTaken):
        await inventory.devices.add_alias(other.id, "0x01", by=BY)
    await inventory.devices.add_alias(one.id, "0x01", by=BY)
    await inventory.devices.delete(one.id, by=BY)
    assert await inventory.resolve("device", "0x01") is None


async def test_a_device_without_login_says_so(inventory: Inventory) -> None:
    made = await inventory.devices.create({"name": "a"}, by=BY)
    with pytest.raises(NoHostLogin):
        await inventory.devices.host_login(made.id)


async def test_lists_go_by_name_and_page(inventory: Inventory) -> None:
    for name in ("c", "a", "b"):
        await inventory.devices.create({"name": name}, by=BY)
    page = await inventory.devices.find(limit=2)
    assert [d.name for d in page.items] == ["a", "b"]
    rest = await inventory.devices.find(limit=2, cursor=page.next_cursor)
    assert ([d.name for d in rest.items], rest.next_cursor) == (["c"], None)


async def test_there_is_one_site(inventory: Inventory) -> None:
    site = await inventory.site()
    edited = await inventory.edit_site(
        {"name": "판교", "gps": Gps(37.4, 127.1), "timezone": "Asia/Seoul"},
        by=BY,
        revision=site.revision,
    )
    assert (await inventory.site()) == edited
    with pytest.raises(StaleEdit):
        await inventory.edit_site({"name": "x"}, by=BY, revision=site.revision)
