"""The exported playbooks, run by the real ansible-core against real Docker hosts.

Two hosts and one server for all scenes.
"""

import asyncio
import io
import json
import os
import re
import sys
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from haechi.core.access import SYSTEM
from haechi.testing import packages as zips
from haechi.testing.server import RunningServer, running_server
from lab import Host, Site, images, stock

pytestmark = pytest.mark.asyncio(loop_scope="module")

ANSIBLE = Path(sys.executable).with_name("ansible-playbook")
NAME = "haechi-sleeper"


@dataclass
class Played:
    code: int
    text: str

    def recap(self, host: str) -> dict[str, int]:
        line = re.search(rf"^{host}\s*: (.*)$", self.text, re.MULTILINE)
        assert line, self.text
        return {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", line[1])}


@dataclass
class Ansible:
    server: RunningServer
    folder: Path
    login: dict[str, str]
    devices: dict[str, Host]
    built: set[str] = field(default_factory=set)

    async def export(self, version: str) -> Path:
        params = {"package": "sleeper", "version": version, "group": "doors"}
        answer = await self.server.client.get("/playbooks", params=params)
        assert answer.status_code == 200, answer.text
        folder = self.folder / f"export-{version}"
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            archive.extractall(folder)
        return folder

    async def play(self, folder: Path, book: str, *more: str) -> Played:
        one = next(iter(self.devices.values()))
        environment = {
            **{key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ},
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_HOST_KEY_CHECKING": "False",  # fresh hosts of the lab, on a network of their own
            "ANSIBLE_LOCAL_TEMP": str(self.folder / "tmp"),
            "HAECHI_URL": self.server.url,
            "HAECHI_TOKEN": "no-results-in-this-test",
            "HAECHI_REGISTRY_USER": self.login["user"],
            "HAECHI_REGISTRY_PASSWORD": self.login["password"],
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, ANSIBLE, "-i", "inventory.yml", book),
            *("--user", one.robot.user, "--private-key", str(one.robot.key_file)),
            *("-e", "haechi_proof_s=4", "-e", "haechi_network=open", *more),
            cwd=folder,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await asyncio.wait_for(process.communicate(), 420)
        assert self.login["password"] not in out.decode()
        return Played(process.returncode or 0, out.decode())

    async def build(self, version: str, data: bytes) -> None:
        """Unless it is there: a version's number says what is in it."""
        if version in self.built:
            return
        self.built.add(version)
        answer = await self.server.client.post(
            "/packages/upload",
            params={"filename": "a.zip", "name": "sleeper", "version": version},
            content=data,
        )
        assert answer.status_code == 201, answer.text
        haechi = self.server.haechi
        operation = await haechi.builds.ensure_built(answer.json()["id"], "linux/amd64", by=SYSTEM)
        if operation is not None:
            ended = await haechi.operations.wait(operation.id)
            assert ended.state == "succeeded", ended.error


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ansible(tmp_path_factory) -> AsyncIterator[Ansible]:
    folder = tmp_path_factory.mktemp("ansible")
    async with Site() as site:
        hosts = await asyncio.gather(
            *(site.host(f"door-{number}", image=images.docker()) for number in (1, 2))
        )
        for host in hosts:
            await host.until("docker info > /dev/null", "Docker runs")
        flags = {
            "server.listen": f"{site.gateway}:0",
            "server.tls": "off",
            "registry.listen": f"{site.gateway}:0",
        }
        await stock.lay(folder / "data")
        async with running_server(folder / "data", flags) as server:
            mapped = {"source": "python:3.11-slim", "target": "haechi/python:3.11-slim"}
            assert (await server.client.put("/base-images", json=mapped)).status_code == 200
            ids = {}
            for host in hosts:
                body = {"name": host.name, "address": host.address, "host_name": host.name}
                answer = await server.client.post("/devices", json=body)
                assert answer.status_code == 201, answer.text
                ids[answer.json()["id"]] = host
            group = {"name": "doors", "device_ids": list(ids)}
            assert (await server.client.post("/groups", json=group)).status_code == 201
            login = (await server.client.post("/playbooks/registry-login")).json()
            yield Ansible(server, folder, login, ids)


async def running(host: Host) -> dict[str, str]:
    """Container name → image of what runs."""
    out = await host.shell("docker ps --format '{{.Names}} {{.Image}}'")
    return dict(line.split() for line in out.splitlines())


async def test_deploy_again_switch_fail_roll_back_remove(ansible):
    await ansible.build("1", zips.sleeping(version="1"))
    first = await ansible.export("1")
    played = await ansible.play(first, "deploy.yml")
    assert played.code == 0, played.text
    for device_id, host in ansible.devices.items():
        assert played.recap(device_id)["changed"] > 0
        assert list(await running(host)) == [NAME]
        assert "version 1 is running" in await host.shell(f"docker logs {NAME}")
        assert not await host.holds("ls /root/.docker/config.json /tmp/haechi-*")
        capabilities = await host.shell(f"docker inspect -f '{{{{.HostConfig.CapDrop}}}}' {NAME}")
        assert capabilities.strip() == "[ALL]"

    again = await ansible.play(first, "deploy.yml")
    assert again.code == 0, again.text
    for device_id in ansible.devices:
        assert again.recap(device_id)["changed"] == 0

    await ansible.build("2", zips.sleeping(version="2"))
    second = await ansible.export("2")
    assert (await ansible.play(second, "deploy.yml")).code == 0
    for host in ansible.devices.values():
        assert "version 2 is running" in await host.shell(f"docker logs {NAME}")
        assert await host.holds(f"docker inspect {NAME}-previous")

    await ansible.build("3", zips.crashing("sleeper"))
    third = await ansible.export("3")
    failed = await ansible.play(third, "deploy.yml")
    assert failed.code != 0
    assert "the model file is damaged" in failed.text
    for host in ansible.devices.values():
        assert list(await running(host)) == [NAME]
        assert "version 2 is running" in await host.shell(f"docker logs {NAME}")

    for host in ansible.devices.values():
        await host.shell(f"docker rename {NAME}-previous kept")
        await host.shell(
            f"docker run --detach --restart unless-stopped --name {NAME}-previous "
            f"$(docker inspect --format '{{{{.Image}}}}' {NAME}) "
            "sh -c 'echo the backup is damaged; exit 3'"
        )
        await host.shell(f"docker stop {NAME}-previous")
    failed = await ansible.play(second, "rollback.yml")
    assert failed.code != 0
    assert "the backup is damaged" in failed.text
    for host in ansible.devices.values():
        assert list(await running(host)) == [NAME]
        assert "version 2 is running" in await host.shell(f"docker logs {NAME}")
        await host.shell(f"docker rm {NAME}-previous && docker rename kept {NAME}-previous")

    back = await ansible.play(second, "rollback.yml")
    assert back.code == 0, back.text
    for host in ansible.devices.values():
        assert list(await running(host)) == [NAME]
        assert "version 1 is running" in await host.shell(f"docker logs {NAME}")

    removed = await ansible.play(first, "remove.yml")
    assert removed.code == 0, removed.text
    for host in ansible.devices.values():
        assert await running(host) == {}
    again = await ansible.play(first, "remove.yml")
    for device_id in ansible.devices:
        assert again.recap(device_id)["changed"] == 0
    assert (await ansible.play(first, "rollback.yml")).code == 0
    gone = await ansible.play(first, "remove.yml", "-e", "haechi_keep_backup=false")
    assert gone.code == 0, gone.text
    for host in ansible.devices.values():
        assert await host.shell("docker ps --all --quiet") == ""


async def test_one_host_that_is_off_does_not_stop_the_other(ansible):
    await ansible.build("1", zips.sleeping(version="1"))
    folder = await ansible.export("1")
    (off_id, off), (on_id, on) = ansible.devices.items()
    await off.stop()
    played = await ansible.play(folder, "deploy.yml", "--timeout", "5")
    assert played.recap(off_id)["unreachable"] == 1
    assert played.recap(on_id)["failed"] == 0
    assert list(await running(on)) == [NAME]

    await off.start()
    await off.until("docker info > /dev/null", "Docker runs")
    gone = await ansible.play(folder, "remove.yml", "-e", "haechi_keep_backup=false")
    assert gone.code == 0, gone.text
    assert await running(on) == {}


async def test_the_dynamic_inventory_by_the_command_line(ansible):
    token = (
        await ansible.server.client.post("/tokens", json={"name": "ci", "role": "operator"})
    ).json()["secret"]
    process = await asyncio.create_subprocess_exec(
        *(Path(sys.executable).with_name("haechi"), "inventory", "--list"),
        env={**os.environ, "HAECHI_URL": ansible.server.url, "HAECHI_TOKEN": token},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    document = json.loads(out)
    assert sorted(document["doors"]["hosts"]) == sorted(ansible.devices)
    hosts = document["_meta"]["hostvars"]
    assert {one["ansible_host"] for one in hosts.values()} == {
        host.address for host in ansible.devices.values()
    }
