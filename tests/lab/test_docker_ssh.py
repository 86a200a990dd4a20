"""Docker hosts without an agent: a whole server deploys to them over SSH, results come by HTTP.

One host and one server for all scenes but that of HTTPS.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from haechi.core.access import SYSTEM
from haechi.testing import packages
from haechi.testing.server import RunningServer, running_server
from lab import Host, Site, faults, images, stock
from lab.host import Login

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMIT_S = 240.0
SCRIPT = """\
import json, os, time, urllib.request

print("version {version} is running", flush=True)
while True:
    body = json.dumps({{"class": "tick", "class_prob": 0.9, "attributes": {{"v": "{version}"}}}})
    call = urllib.request.Request(os.environ["HAECHI_RESULTS_URL"], body.encode(), method="POST")
    call.add_header("Authorization", "Bearer " + os.environ["HAECHI_TOKEN"])
    call.add_header("Content-Type", "application/json")
    try:
        urllib.request.urlopen(call, timeout=5).read()
    except OSError as error:
        print("not taken:", error, flush=True)
    time.sleep(0.3)
"""
CRASH = 'import sys\nprint("the model file is damaged", flush=True)\nsys.exit(3)\n'
DOCKERFILE = 'FROM python:3.11-slim\nCOPY main.py /main.py\nCMD ["python3", "/main.py"]\n'
MANIFEST = '[package]\nname = "ticker"\n[needs]\ncamera = "none"\ninternet = {internet}\n[health]\nready = "result"\n'


def zip_of(
    version: str,
    script: str = SCRIPT,
    *,
    sdk: bool = False,
    internet: bool = False,
    more: str = "",
) -> bytes:
    """`more`: of how it is proven, in the manifest's own words."""
    files = {
        "Dockerfile": DOCKERFILE.replace("main.py /main.py", "*.py /") if sdk else DOCKERFILE,
        "main.py": script.replace("{version}", version).replace("{{", "{").replace("}}", "}"),
        "haechi.toml": MANIFEST.format(internet=str(internet).lower()) + more,
    }
    if sdk:
        files["haechi_sdk.py"] = packages.sdk_source()
    return packages.zip_of(files)


def free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
    return port


@dataclass
class Dock:
    """A server and the Docker host of its site."""

    site: Site
    host: Host
    server: RunningServer
    versions: dict[str, str] = field(default_factory=dict)

    async def device(self, name: str, host: Host, login: Login) -> str:
        body: dict[str, Any] = {
            "name": name,
            "address": host.address,
            "ssh_user": login.user,
            "labels": {"engine": "docker-ssh"},
        }
        if login.key_file is not None:
            body["ssh_key"] = login.key_file.read_text()
        if login.password is not None:
            body["ssh_password"] = login.password
        answer = await self.server.client.post("/devices", json=body)
        assert answer.status_code == 201, answer.text
        device_id: str = answer.json()["id"]
        await self.server.haechi.hosts.learn(device_id, by=SYSTEM)
        return device_id

    async def upload(self, version: str, data: bytes) -> None:
        """Unless it is there: a version's number says what is in it."""
        if version in self.versions:
            return
        answer = await self.server.client.post(
            "/packages/upload",
            params={"filename": "a.zip", "name": "ticker", "version": version},
            content=data,
        )
        assert answer.status_code == 201, answer.text
        self.versions[version] = answer.json()["id"]

    async def deploy(self, version: str, device_id: str, **more: Any) -> Any:
        body = {"version_id": self.versions[version], "device_ids": [device_id], **more}
        answer = await self.server.client.post("/deployments", json=body)
        assert answer.status_code == 202, answer.text
        return await self.ended(answer)

    async def ended(self, answer: Any) -> Any:
        assert answer.status_code == 202, answer.text
        operations = self.server.haechi.operations
        return await asyncio.wait_for(operations.wait(answer.json()["operation_id"]), LIMIT_S)

    async def running(self, device_id: str) -> dict[str, Any]:
        found = (
            await self.server.client.get("/deployments", params={"device_id": device_id})
        ).json()
        (one,) = [row for row in found["items"] if row["state"] == "running"]
        return one

    async def clear(self) -> None:
        """Nothing of ours runs there any more."""
        if not await self.host.running():
            await self.host.start()
        found = (await self.server.client.get("/deployments", params={"limit": 1000})).json()
        for row in found["items"]:
            if row["state"] == "running":
                await self.ended(await self.server.client.delete(f"/deployments/{row['id']}"))
        assert await names(self.host) == []

    async def results(self, deployment_id: str) -> int:
        params = {"deployment_id": deployment_id, "limit": 1000}
        return len((await self.server.client.get("/results", params=params)).json()["items"])

    async def until_presence(self, device_id: str, presence: str, reason: str) -> None:
        async with asyncio.timeout(LIMIT_S):
            while True:
                agent = (await self.server.client.get(f"/devices/{device_id}/agent")).json()
                if (agent["presence"], agent["presence_reason"]) == (presence, reason):
                    break
                await asyncio.sleep(0.5)
        shown = (await self.server.client.get(f"/devices/{device_id}")).json()
        assert shown["state"] == presence

    async def until_more_results(self, deployment_id: str) -> None:
        before = await self.results(deployment_id)
        async with asyncio.timeout(LIMIT_S):
            while await self.results(deployment_id) <= before:
                await asyncio.sleep(0.5)


async def names(host: Host) -> list[str]:
    return (await host.shell("docker ps --format '{{.Names}}'")).split()


@asynccontextmanager
async def docked(folder: Path, *, tls: str) -> AsyncIterator[Dock]:
    async with Site() as site:
        # The site's gateway is there while a host is: one that no test switches off.
        _, host = await asyncio.gather(
            site.host("anchor"), site.host("docker-1", image=images.docker())
        )
        await host.until("docker info > /dev/null", "Docker runs")
        flags = {
            "server.listen": f"{site.gateway}:{free_port(site.gateway)}",
            "server.tls": tls,
            "registry.listen": f"{site.gateway}:0",
        }
        await stock.lay(folder)
        async with running_server(folder, flags) as server:
            server.client.timeout = LIMIT_S
            mapped = {"source": "python:3.11-slim", "target": "haechi/python:3.11-slim"}
            assert (await server.client.put("/base-images", json=mapped)).status_code == 200
            yield Dock(site, host, server)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory) -> AsyncIterator[Dock]:
    async with docked(tmp_path_factory.mktemp("docker-ssh") / "data", tls="off") as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def dock(shared: Dock) -> AsyncIterator[Dock]:
    yield shared
    await shared.clear()


@pytest_asyncio.fixture(loop_scope="module")
async def safe_dock(tmp_path: Path) -> AsyncIterator[Dock]:
    """The server speaks HTTPS, by a certificate of the site's CA."""
    async with docked(tmp_path / "data", tls="on") as made:
        yield made


async def test_three_kinds_of_login(dock: Dock):
    """By password with a sudo that asks, by key with one that does not, and a member of the group
    `docker` without any sudo, once somebody has wired the registry. First: nobody has yet.
    """
    await dock.host.shell(
        "useradd -m -G docker docker-only\n"
        "install -d -m 700 -o docker-only ~docker-only/.ssh\n"
        "cp ~robot/.ssh/authorized_keys ~docker-only/.ssh/\n"
        "chown docker-only ~docker-only/.ssh/authorized_keys"
    )
    member = Login("docker-only", key_file=dock.host.robot.key_file)
    await dock.upload("1", zip_of("1"))

    before = await dock.device("member", dock.host, member)
    refused = await dock.deploy("1", before)
    assert refused.state == "failed"
    (child,) = refused.ctx["result"]["devices"]
    assert child["error"]["code"] == "docker_host.registry_not_wired", child
    assert child["error"]["data"]["host"] == "member"

    for name, login in (("keeper", dock.host.keeper), ("robot", dock.host.robot)):
        device = await dock.device(name, dock.host, login)
        ended = await dock.deploy("1", device)
        assert ended.state == "succeeded", ended.error
        await dock.until_more_results((await dock.running(device))["id"])
    # Without root's rights nobody can keep an AI from calling others: it has to be allowed to.
    refused = await dock.deploy("1", before)
    (child,) = refused.ctx["result"]["devices"]
    assert child["error"]["code"] == "docker_host.not_fenced", child
    await dock.upload("open", zip_of("open", internet=True))
    ended = await dock.deploy("open", before, allow=["internet"])
    assert ended.state == "succeeded", ended.error
    await dock.until_more_results((await dock.running(before))["id"])
    assert len(await names(dock.host)) == 3
    # No password in anybody's list of processes or in the host's log of logins.
    secret = dock.host.keeper.password
    assert secret not in await dock.host.shell("ps axww -o args")
    assert secret not in await dock.host.journal(lines=2000)


async def test_deploy_switch_roll_back_read_and_remove(dock: Dock):
    device = await dock.device("gate", dock.host, dock.host.robot)
    for version, script in (("1", SCRIPT), ("2", SCRIPT), ("3", CRASH)):
        await dock.upload(version, zip_of(version, script))
    first = await dock.deploy("1", device)
    assert first.state == "succeeded", first.error
    one = await dock.running(device)
    assert one["engine"] == "docker-ssh"
    # `ready = "result"`: it was proven by what it posted to this server.
    await dock.until_more_results(one["id"])
    (row, *_) = (
        await dock.server.client.get("/results", params={"deployment_id": one["id"]})
    ).json()["items"]
    assert (row["device_id"], row["package_name"], row["version"]) == (device, "ticker", "1")

    second = await dock.deploy("2", device)
    assert second.state == "succeeded", second.error
    two = await dock.running(device)
    assert await names(dock.host) == [two["name"]]

    failed = await dock.deploy("3", device)
    assert failed.state == "failed"
    (child,) = failed.ctx["result"]["devices"]
    assert child["state"] == "failed"
    assert (await dock.running(device))["id"] == two["id"]
    assert await names(dock.host) == [two["name"]]
    lines = await dock.server.client.get(f"/deployments/{two['id']}/logs")
    assert "version 2 is running" in lines.text

    back = await dock.ended(await dock.server.client.post(f"/deployments/{two['id']}/rollback"))
    assert back.state == "succeeded", back.error
    three = await dock.running(device)
    assert three["version"] == "1"
    gone = await dock.ended(await dock.server.client.delete(f"/deployments/{three['id']}"))
    assert gone.ctx["result"]["outcome"] == "removed"
    assert await names(dock.host) == []


async def test_what_vanished_comes_back_and_a_host_that_was_off_goes_on(dock: Dock):
    device = await dock.device("barn", dock.host, dock.host.keeper)
    await dock.upload("1", zip_of("1"))
    assert (await dock.deploy("1", device)).state == "succeeded"
    one = await dock.running(device)
    await dock.host.shell(f"docker rm -f {one['name']}")
    async with asyncio.timeout(LIMIT_S):
        while await names(dock.host) != [one["name"]]:
            await asyncio.sleep(0.5)
    await dock.until_more_results(one["id"])

    await dock.host.kill()
    await dock.upload("2", zip_of("2"))
    removing = await dock.server.client.delete(f"/deployments/{one['id']}")
    removed = await dock.ended(removing)
    assert removed.ctx["result"]["outcome"] == "pending"
    await dock.host.start()
    # It went up again by Docker itself; now that it can be reached, it is taken away.
    async with asyncio.timeout(LIMIT_S):
        while (await dock.server.client.get(f"/deployments/{one['id']}")).json()["state"] != "gone":
            await asyncio.sleep(0.5)
    assert await names(dock.host) == []


async def test_a_host_without_power_is_shown_dead_and_why_until_it_is_back(dock: Dock):
    device = await dock.device("pier", dock.host, dock.host.robot)
    await dock.until_presence(device, "ok", "connected")
    await dock.host.kill()
    await dock.until_presence(device, "dead", "unreachable")
    await dock.host.start()
    await dock.until_presence(device, "ok", "connected")
    await faults.refuse_ssh(dock.host)
    try:
        await dock.until_presence(device, "dead", "sshd_dead")
    finally:
        await faults.accept_ssh(dock.host)
    await dock.until_presence(device, "ok", "connected")


async def test_an_ai_goes_on_over_a_reboot_of_its_host(dock: Dock):
    device = await dock.device("mast", dock.host, dock.host.robot)
    await dock.upload("1", zip_of("1"))
    assert (await dock.deploy("1", device)).state == "succeeded"
    one = await dock.running(device)
    await dock.host.kill()
    await dock.host.start()
    await dock.until_more_results(one["id"])
    shown = await dock.server.client.get(f"/deployments/{one['id']}")
    assert shown.json()["state"] == "running"


WITH_THE_CA = """\
import ssl

os.environ.pop("SSL_CERT_FILE", None)
trusting = ssl.create_default_context(cafile=os.environ["HAECHI_CA_FILE"])
opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=trusting))
urllib.request.install_opener(opener)
"""
WITHOUT = """\
for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
    os.environ.pop(name, None)
"""
BY_SDK = """\
from haechi_sdk import Haechi

haechi = Haechi()
while not haechi.wait(0.3):
    haechi.result(None, name="tick", prob=0.9, attributes={"v": "{version}"})
"""


async def test_results_over_https(safe_dock: Dock):
    """A plain client trusts the site's CA by its environment, one that makes its own context by the
    file, the SDK by itself; whoever trusts only the world's CAs is kept from talking to anybody.
    """
    dock = safe_dock
    assert dock.server.url.startswith("https://")
    async with httpx2.AsyncClient(trust_env=False, timeout=60) as stranger:
        with pytest.raises(httpx2.ConnectError):
            await stranger.get(f"{dock.server.url}/api/v1/session")
    head, loop = SCRIPT.split("\n\n", 1)
    own_context, blind = (f"{head}\n{more}\n{loop}" for more in (WITH_THE_CA, WITHOUT))
    device = await dock.device("gate", dock.host, dock.host.keeper)
    await dock.upload("1", zip_of("1"))
    await dock.upload("2", zip_of("2", own_context))
    await dock.upload("3", zip_of("3", BY_SDK, sdk=True))
    for version in ("1", "2", "3"):
        # `ready = "result"`: proven by what came over TLS.
        ended = await dock.deploy(version, device)
        assert ended.state == "succeeded", ended.error
        one = await dock.running(device)
        assert one["version"] == version
        await dock.until_more_results(one["id"])
    environment = await dock.host.shell(f"docker exec {one['name']} env")
    assert f"HAECHI_RESULTS_URL={dock.server.url}/api/v1/results" in environment
    trusted = await dock.host.shell(f"docker exec {one['name']} cat /etc/haechi/site-ca.pem")
    assert trusted.strip() == dock.server.haechi.ca.pem.strip()

    await dock.host.kill()
    await dock.host.start()
    await dock.until_more_results(one["id"])

    await dock.upload("4", zip_of("4", blind, more="within_s = 15\n"))
    failed = await dock.deploy("4", device)
    assert failed.state == "failed"
    assert failed.error["code"] == "deployments.not_proven"
    assert "CERTIFICATE_VERIFY_FAILED" in str(failed.error["data"]["log"])
    assert (await dock.running(device))["id"] == one["id"]


async def test_a_host_with_a_new_address_is_found_by_its_key(safe_dock: Dock):
    dock = safe_dock
    device = await dock.device("gate", dock.host, dock.host.robot)
    await dock.upload("1", zip_of("1"))
    assert (await dock.deploy("1", device)).state == "succeeded"
    one = await dock.running(device)
    new = await faults.readdress(dock.site, dock.host)
    async with asyncio.timeout(LIMIT_S):
        while (await dock.server.client.get(f"/devices/{device}")).json()["address"] != new:
            await asyncio.sleep(0.5)
    await dock.until_presence(device, "ok", "connected")
    await dock.until_more_results(one["id"])
    removed = await dock.ended(await dock.server.client.delete(f"/deployments/{one['id']}"))
    assert removed.ctx["result"]["outcome"] == "removed"
