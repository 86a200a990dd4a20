"""A Docker host that is reached over SSH only, as a whole server watches it: a real SSH server on
loopback, stopped and started.
"""

from concurrent.futures import ThreadPoolExecutor

import pytest

from haechi.core.access import SYSTEM
from haechi.domains.clusters.lone_hosts import is_ip, look_up
from haechi.domains.clusters.neighbours import InventoryLoneHosts
from haechi.errors import StaleEdit
from haechi.testing.server import running_server
from haechi.testing.ssh import ssh_server
from haechi.testing.waiting import eventually

FLAGS = {"agents.silent_after_s": 2.0, "agents.dead_after_s": 4.0}


class Watched:
    def __init__(self, server, device_id):
        self.server, self.id = server, device_id
        self.told = []
        server.haechi.bus.on("states", self._hear)

    def _hear(self, _topic, data):
        if (data.get("kind"), data.get("id")) == ("device", self.id) and "state" in data:
            self.told.append((data["state"], data["reason"]))

    async def device(self):
        return (await self.server.client.get(f"/devices/{self.id}")).json()

    async def edit(self, **fields):
        known = await self.server.client.get(f"/devices/{self.id}")
        etag = {"If-Match": known.headers["ETag"]}
        answer = await self.server.client.patch(f"/devices/{self.id}", json=fields, headers=etag)
        assert answer.status_code == 200, answer.text

    async def until(self, state, reason):
        """The same everywhere: on the bus, in the list, in the detail, with the reason."""

        async def shown():
            (listed,) = (await self.server.client.get("/devices")).json()["items"]
            agent = (await self.server.client.get(f"/devices/{self.id}/agent")).json()
            seen = {listed["state"], (await self.device())["state"], agent["presence"]}
            return seen == {state} and agent["presence_reason"] == reason

        await eventually(shown)
        assert self.told[-1] == (state, reason)


@pytest.fixture
async def server(tmp_path):
    async with running_server(tmp_path / "data", FLAGS) as made:
        yield made


async def add(server, port, **more):
    body = {"name": "gate", "address": "127.0.0.1", "port": port, "ssh_user": "tester", **more}
    answer = await server.client.post("/devices", json=body)
    assert answer.status_code == 201, answer.text
    return Watched(server, answer.json()["id"])


async def test_a_docker_host_that_is_off_is_dead_and_why_until_it_is_back(tmp_path, server):
    async with ssh_server(tmp_path) as host:
        gate = await add(server, host.port, labels={"engine": "docker-ssh"})
        await gate.until("ok", "connected")
        assert (await gate.device())["last_seen_at"]
        await host.stop()
        await gate.until("dead", "sshd_dead")
        assert gate.told[-2:] == [("silent", "sshd_dead"), ("dead", "sshd_dead")]
        await host.start()
        await gate.until("ok", "connected")
        assert host.logins == 0

        await gate.edit(labels={})
        await gate.until("new", "never_called")


async def test_one_that_was_off_from_the_start_is_dead(tmp_path, server):
    async with ssh_server(tmp_path) as host:
        await host.stop()
        gate = await add(server, host.port, labels={"engine": "docker-ssh"})
        await gate.until("dead", "sshd_dead")
        await host.start()
        await gate.until("ok", "connected")


async def pinned(server, gate):
    await server.haechi.hosts.learn(gate.id, by=SYSTEM)
    key = (await gate.device())["ssh_host_key"]
    assert key
    return key


async def test_one_with_a_new_address_is_found_by_its_pinned_key(tmp_path, server):
    async with ssh_server(tmp_path) as host:
        password = {"ssh_password": host.password}
        gate = await add(server, host.port, labels={"engine": "docker-ssh"}, **password)
        await gate.until("ok", "connected")
        await pinned(server, gate)
        await host.stop()
        host.address = "127.0.0.7"
        await host.start()

        async def moved():
            device = await gate.device()
            return (device["address"], device["state"]) == (host.address, "ok")

        await eventually(moved)
        wanted = {"subject": gate.id, "action": "edit_device"}
        newest, *_ = (await server.client.get("/audit", params=wanted)).json()["items"]
        assert newest["details"] == {"address": host.address}
        assert newest["by_kind"] == "system"


async def test_several_logins_on_one_host_move_with_it(tmp_path, server):
    async with ssh_server(tmp_path) as host:
        engine = {"labels": {"engine": "docker-ssh"}, "ssh_password": host.password}
        logins = [await add(server, host.port, **engine, name=name) for name in ("left", "right")]
        key, _ = [await pinned(server, login) for login in logins]
        # What is reached there by another port is another host, were it a copy of this one.
        other = await add(server, host.port + 1, **engine, name="other")
        await server.haechi.inventory.devices.pin_host_key(other.id, key)
        await host.stop()
        host.address = "127.0.0.7"
        await host.start()

        async def moved():
            devices = [await login.device() for login in logins]
            return {(one["address"], one["state"]) for one in devices} == {(host.address, "ok")}

        await eventually(moved)
        assert (await other.device())["address"] == "127.0.0.1"

        devices = server.haechi.inventory.devices
        read = [await devices.get(login.id) for login in logins]
        await logins[1].edit(name="south")
        with pytest.raises(StaleEdit):
            await devices.readdress(read, "127.0.0.9", by=SYSTEM)
        assert (await logins[0].device())["address"] == host.address


async def test_a_copy_of_its_disk_is_not_taken_for_it(tmp_path, server):
    async with ssh_server(tmp_path) as host:
        password = {"ssh_password": host.password}
        gate = await add(server, host.port, labels={"engine": "docker-ssh"}, **password)
        key = await pinned(server, gate)
        twin = await server.client.post("/devices", json={"name": "twin", "address": "127.0.0.7"})
        devices = server.haechi.inventory.devices
        await devices.pin_host_key(twin.json()["id"], f"{key} of-the-twin")
        book = InventoryLoneHosts(server.haechi.inventory, lambda device: device.id == gate.id)
        (listed,) = await book.listed()
        assert not await book.readdress(listed, "127.0.0.7")
        assert (await gate.device())["address"] == "127.0.0.1"
        assert await book.readdress(listed, "127.0.0.8")
        # It has another address meanwhile: what was found for the old one is not taken up.
        assert not await book.readdress(listed, "127.0.0.9")
        assert (await gate.device())["address"] == "127.0.0.8"


async def test_a_name_leads_somewhere_and_a_wrong_one_nowhere():
    with ThreadPoolExecutor(1) as pool:
        assert is_ip(await look_up(pool, "localhost"))
        assert await look_up(pool, "a" * 64 + ".invalid") == ""
