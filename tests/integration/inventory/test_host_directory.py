"""Logins and pinned keys of hosts live in the inventory; a real SSH server is the host."""

import pytest

from haechi.adapters.ssh_asyncssh import AsyncsshHosts, Pace
from haechi.core.secrets import Secret
from haechi.domains.clusters.host.directory import SSH_PORT, InventoryDirectory
from haechi.domains.clusters.host.errors import HostKeyUnknown, NoAddress
from haechi.domains.clusters.neighbours import InventoryDevices
from haechi.domains.inventory.model import NoHostLogin
from haechi.errors import ObjectNotFound
from haechi.testing.ssh import ssh_server

from .conftest import BY

PACE = Pace(dial_s=30, login_s=90, attempts=2, keepalive_s=20, open_s=60)


async def test_first_contact_pins_the_key_in_the_inventory(inventory, audit, tmp_path):
    async with ssh_server(tmp_path) as server:
        device = await inventory.devices.create(
            {
                "name": "edge",
                "address": "127.0.0.1",
                "port": server.port,
                "ssh_user": server.user,
                "ssh_password": Secret(server.password),
            },
            by=BY,
        )
        hosts = AsyncsshHosts(InventoryDirectory(inventory), pace=PACE)
        try:
            with pytest.raises(HostKeyUnknown):
                async with hosts.open(device.id):
                    pass
            key = await hosts.learn(device.id, by=BY)
            async with hosts.open(device.id) as shell:
                assert (await shell.run(["echo", "hello"])).stdout == "hello\n"
                assert shell.host.name == "edge"
        finally:
            await hosts.close()
    known = await inventory.devices.get(device.id)
    assert known.ssh_host_key == key.public == server.public_key
    action, subject, details = audit.rows[-1]
    assert (action, subject) == ("edit_device", device.id)
    assert details == {"ssh_host_key": key.public}


async def test_what_is_missing_is_said(inventory):
    directory = InventoryDirectory(inventory)
    with pytest.raises(ObjectNotFound):
        await directory.target("dev-aaaaaaaaaaaaaaaa")
    device = await inventory.devices.create({"name": "edge"}, by=BY)
    with pytest.raises(NoAddress):
        await directory.target(device.id)
    await inventory.devices.edit(device.id, {"address": "192.0.2.7"}, by=BY)
    with pytest.raises(NoHostLogin):
        await directory.target(device.id)


async def test_the_entered_address_comes_before_the_one_last_seen(inventory):
    device = await inventory.devices.create(
        {"name": "edge", "host_name": "edge-1", "address": "192.0.2.7", "ssh_key": Secret("k")},
        by=BY,
    )
    await inventory.devices.report(device.id, {"seen_address": "192.0.2.9"})
    target = await InventoryDirectory(inventory).target(device.id)
    assert target.addresses == ("192.0.2.7", "192.0.2.9")
    assert (target.user, target.port, target.password) == ("edge-1", SSH_PORT, None)
    await inventory.devices.report(device.id, {"seen_address": "192.0.2.7"})
    target = await InventoryDirectory(inventory).target(device.id)
    assert target.addresses == ("192.0.2.7",)


async def test_a_device_whose_key_another_shows_too_has_a_twin(inventory):
    """Whatever the comment behind the key; one whose key is not known has none."""
    edge, copy, other, unknown = [
        await inventory.devices.create({"name": name}, by=BY)
        for name in ("edge", "copy", "other", "unknown")
    ]
    devices = InventoryDevices(inventory)
    await inventory.devices.pin_host_key(edge.id, "ssh-ed25519 AAAA root@edge")
    await inventory.devices.pin_host_key(other.id, "ssh-ed25519 BBBB")
    assert await devices.twins(edge.id) == []
    await inventory.devices.pin_host_key(copy.id, "ssh-ed25519 AAAA")
    assert await devices.twins(edge.id) == [copy.id]
    assert await devices.twins(other.id) == []
    assert await devices.twins(unknown.id) == []
