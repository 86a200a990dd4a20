"""Docker hosts without an agent: a server that deploys to them over SSH, and words to drive both."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from haechi.core.access import SYSTEM
from haechi.testing import packages
from haechi.testing.server import RunningServer, running_server
from lab import Host, Site, images, stock
from lab.host import Login

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
