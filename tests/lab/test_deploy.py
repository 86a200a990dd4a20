"""AIs on a cluster that a real server formed: from the zip to a pod, switched, taken back, mended,
adopted.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from haechi.testing import packages
from haechi.testing.processes import PASSWORD, ServerProcess
from lab import Host, Site, byhand, profile

LIMIT_S = 900.0
PROFILE = {
    "kubelet": profile.KUBELET,
    "kube_proxy": profile.KUBE_PROXY,
    "containerd": profile.CONTAINERD,
    "ignore_preflight": profile.IGNORE_PREFLIGHT,
}
ACCEPT = ["host_key_unknown", "module_missing", "disk_nearly_full", "memory_scarce"]
DOCKERFILE = 'FROM python:3.11-slim\nCOPY main.py /main.py\nCMD ["python3", "/main.py"]\n'
MANIFEST = '[package]\nname = "ticker"\n[needs]\ncamera = "none"\n[health]\nready = "uptime"\n'
RUNS = """\
import os, time

print("version {version} on", os.environ["HAECHI_DEVICE_ID"], flush=True)
while True:
    print("tick", flush=True)
    time.sleep(0.3)
"""
CRASHES = 'import sys\nprint("the model file is damaged", flush=True)\nsys.exit(3)\n'


async def until(true: Callable[[], Awaitable[Any]], within_s: float = LIMIT_S) -> Any:
    async with asyncio.timeout(within_s):
        while not (found := await true()):
            await asyncio.sleep(0.3)
        return found


@dataclass
class Deployed:
    """A server, and the cluster of one worker that it formed."""

    process: ServerProcess
    client: httpx2.AsyncClient
    master: Host
    worker: Host
    ids: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    cluster_id: str = ""

    async def call(self, method: str, path: str, **given: Any) -> Any:
        answer = await self.client.request(method, path, **given)
        assert answer.status_code < 400, f"{method} {path}: {answer.text}"
        return answer.json() if answer.content else None

    async def ended(self, accepted: dict[str, Any]) -> dict[str, Any]:
        async def done() -> dict[str, Any] | None:
            operation = await self.call("GET", f"/operations/{accepted['operation_id']}")
            return operation if operation["ended_at"] else None

        return dict(await until(done))

    async def log(self, operation_id: str) -> str:
        return (await self.client.get(f"/operations/{operation_id}/log")).text

    async def know(self, host: Host) -> None:
        body = {
            "name": host.name,
            "host_name": host.name,
            "address": host.address,
            "ssh_user": host.keeper.user,
            "ssh_password": host.keeper.password,
        }
        self.ids[host.name] = (await self.call("POST", "/devices", json=body))["id"]

    async def form(self) -> None:
        for host in (self.master, self.worker):
            await self.know(host)
        wish = {
            "name": "lab",
            "control_plane_ids": [self.ids[self.master.name]],
            "worker_ids": [self.ids[self.worker.name]],
            "options": {"accept": ACCEPT, "profile": PROFILE},
        }
        formed = await self.call("POST", "/clusters", json=wish)
        operation = await self.ended(formed)
        assert operation["state"] == "succeeded", await self.log(operation["id"])
        self.cluster_id = formed["cluster_id"]
        assert "was reached, trusted and entered" in await self.log(operation["id"])

    async def begin_site(self) -> None:
        await self.call("POST", "/session", json={"name": "admin", "password": PASSWORD})
        mapped = {"source": "python:3.11-slim", "target": "haechi/python:3.11-slim"}
        await self.call("PUT", "/base-images", json=mapped)
        await self.form()

    async def upload(self, version: str, script: str) -> None:
        files = {
            "Dockerfile": DOCKERFILE,
            "main.py": script.replace("{version}", version),
            "haechi.toml": MANIFEST,
        }
        found = await self.call(
            "POST",
            "/packages/upload",
            params={"filename": "a.zip", "name": "ticker", "version": version},
            content=packages.zip_of(files),
        )
        self.versions[version] = found["id"]

    async def begin(self, version: str, **wishes: Any) -> dict[str, Any]:
        targets = {"cluster_id": self.cluster_id} if "device_ids" not in wishes else {}
        body = {"version_id": self.versions[version], **targets, **wishes}
        return dict(await self.call("POST", "/deployments", json=body))

    async def deploy(self, version: str, **wishes: Any) -> dict[str, Any]:
        return await self.ended(await self.begin(version, **wishes))

    async def running(self, host: Host | None = None) -> list[dict[str, Any]]:
        device_id = self.ids[(host or self.worker).name]
        found = await self.call("GET", "/deployments", params={"device_id": device_id})
        return [row for row in found["items"] if row["state"] == "running"]

    async def version(self) -> str:
        return ",".join(row["version"] for row in await self.running())

    async def pods(self) -> dict[str, str]:
        """Uid → state of the AIs' containers, as the cluster sees them."""
        said = await self.master.shell(f"{byhand.KUBECTL} get pods -n haechi-ai -o json")
        return {
            pod["metadata"]["uid"]: next(iter(one["state"]))
            for pod in json.loads(said)["items"]
            for one in pod["status"].get("containerStatuses", [])
            if one["name"] == "ai"
        }

    async def remade(self, deployment_id: str) -> bool:
        """It is there, asks for its pod, and the pod runs."""
        said = await self.master.tries(
            f"{byhand.KUBECTL} get deployment -n haechi-ai {deployment_id}"
            " -o jsonpath='{.spec.replicas} {.status.readyReplicas}'"
        )
        return said.out.strip() == "1 1"

    async def kubectl(self, command: str) -> str:
        return await self.master.shell(f"{byhand.KUBECTL} {command}")


@pytest.fixture
async def lab(site: Site, bundle, tmp_path: Path) -> AsyncIterator[Deployed]:
    master, worker = await site.add(2)
    process = ServerProcess(tmp_path, bundle__folder=bundle.folder.parent)
    process.flags = (
        *process.flags[:-1],
        f"--registry-listen={site.gateway}:{process.registry_port}",
    )
    client = httpx2.AsyncClient(
        base_url=f"{process.url}/api/v1",
        headers={"Accept-Language": "en", "Connection": "close"},
        timeout=300,
        trust_env=False,
    )
    async with client:
        made = Deployed(process, client, master, worker)
        await asyncio.to_thread(process.start)
        try:
            await made.begin_site()
            yield made
        finally:
            await asyncio.to_thread(process.kill)


async def test_from_the_zip_to_a_pod_switched_taken_back_mended_and_adopted(lab: Deployed):
    for version, script in (("1", RUNS), ("2", RUNS), ("3", CRASHES)):
        await lab.upload(version, script)

    first = await lab.deploy("1")
    assert first["state"] == "succeeded", first
    (one,) = await lab.running()
    assert one["engine"] == "kubernetes"
    assert await lab.running(lab.master) == []
    lines = (await lab.client.get(f"/deployments/{one['id']}/logs", params={"tail": 500})).text
    assert f"version 1 on {lab.ids[lab.worker.name]}" in lines
    token = await lab.kubectl("get deployments -n haechi-ai -o yaml")
    assert "HAECHI_TOKEN" not in token

    # Overlap: at no moment is there no running AI.
    seen: list[int] = []
    watching = asyncio.Event()

    async def watch() -> None:
        while not watching.is_set():
            seen.append(list((await lab.pods()).values()).count("running"))

    async with asyncio.TaskGroup() as group:
        group.create_task(watch())
        second = await lab.deploy("2", strategy="overlap")
        watching.set()
    assert second["state"] == "succeeded", second
    assert min(seen) >= 1, seen
    assert await lab.version() == "2"

    bad = await lab.deploy("3")
    assert (bad["state"], bad["error"]["code"]) == ("failed", "deployments.not_proven")
    assert "the model file is damaged" in json.dumps(bad["error"])
    assert await lab.version() == "2"

    back = await lab.deploy("1", device_ids=[lab.ids[lab.worker.name]], strategy="recreate")
    assert back["state"] == "succeeded", back
    assert await lab.version() == "1"

    # Drift: deleted, then edited.
    (one,) = await lab.running()
    await lab.kubectl(f"delete deployment -n haechi-ai {one['id']}")
    await until(lambda: lab.remade(one["id"]))
    await lab.kubectl(f"scale deployment -n haechi-ai {one['id']} --replicas=0")
    await until(lambda: lab.remade(one["id"]))

    # The server dies and comes back: it finds what it had made.
    before = await lab.pods()
    await asyncio.to_thread(lab.process.kill)
    assert await lab.pods() == before
    await asyncio.to_thread(lab.process.start)

    async def observed() -> bool:
        return [row["observed_state"] for row in await lab.running()] == ["running"]

    await until(observed)
    assert await lab.pods() == before

    # All of its nodes, the control plane too.
    both = await lab.deploy("2", control_planes=True)
    assert both["state"] == "succeeded", both
    assert [row["version"] for row in await lab.running(lab.master)] == ["2"]

    removed = await lab.call("DELETE", f"/deployments/{(await lab.running())[0]['id']}")
    assert (await lab.ended(removed))["result"]["outcome"] == "removed"
    assert await lab.version() == ""
