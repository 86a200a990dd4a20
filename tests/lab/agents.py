"""A server whose agents go to lab hosts, and what tests ask of it."""

import asyncio
import fcntl
import hashlib
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from haechi.core.clock import SystemClock
from haechi.core.ids import new_id
from haechi.domains.deployments import store as deployments
from haechi.domains.deployments.model import Deployment, DeploymentState, Wishes
from haechi.testing.server import RunningServer, running_server
from lab import Host, Site, engine, profile, ready, stock, waiting

ROOT = Path(__file__).parents[2]
LIMIT_S = 240.0
FORM_S = 900.0
ACCEPT = ["host_key_unknown", "module_missing", "disk_nearly_full", "memory_scarce"]
"""What lab hosts may be told of: they share the machine's kernel, disk and memory."""
PROFILE = {
    "kubelet": profile.KUBELET,
    "kube_proxy": profile.KUBE_PROXY,
    "containerd": profile.CONTAINERD,
    "ignore_preflight": profile.IGNORE_PREFLIGHT,
}


IMAGES = "haechi-test/lab-agent"
KEEP = 6
"""Of the images of earlier code, and of the few that tests make of them."""


def docker(*words: str, stdin: str = "") -> str:
    done = subprocess.run(
        ["docker", *words], input=stdin, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def built(image: str, suffix: str, dockerfile: str) -> str:
    """Another one, made of the agent's image."""
    tag = f"{image}-{suffix}"
    dockerfile = f"FROM {image}\n{dockerfile}"
    docker("build", "--pull=false", "--network=none", "-t", tag, "-", stdin=dockerfile)
    return tag


def state_of_agent() -> str:
    """Of all that its image is made of."""
    found = hashlib.sha256(docker("image", "inspect", "-f", "{{.Id}}", ready.BASE).encode())
    places = ("packaging/agent", "src/haechi", "requirements.lock", "tools/provision")
    for place in places:
        for file in sorted([ROOT / place, *(ROOT / place).rglob("*")]):
            if file.is_file() and not {"__pycache__", "static"} & {*file.parts}:
                found.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return found.hexdigest()[:12]


@pytest.fixture(scope="session")
def agent_image() -> str:
    """Made once for each state of the code, by whoever asks first; the others wait for it."""
    tag = f"{IMAGES}:{state_of_agent()}"
    engine.root().mkdir(parents=True, exist_ok=True)
    with (engine.root() / ".agent-image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if docker("image", "ls", "-q", tag) == "":
            done = subprocess.run(
                [sys.executable, ROOT / "packaging/agent/build.py", "--tag", tag],
                capture_output=True,
                text=True,
                timeout=600,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            # It would be kept without what leads old addresses to it.
            assert "no iptables" not in done.stderr, done.stderr
            forget_older(tag)
    return tag


def forget_older(tag: str) -> None:
    known = docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", IMAGES).split()
    # An image like an earlier one has that one's date.
    for old in [one for one in known if not one.startswith(tag)][KEEP:]:
        docker("image", "rm", old)


@dataclass
class Fleet:
    server: RunningServer
    chosen: dict[str, str]
    """`image`: which one agents are made of."""
    anchor: Host
    """Another host of the site, which nothing is done to."""

    async def device(self, host: Host, **more: Any) -> str:
        body = {
            "name": host.name,
            "host_name": host.name,
            "address": host.address,
            "ssh_user": host.keeper.user,
            "ssh_password": host.keeper.password,
            **more,
        }
        answer = await self.server.client.post("/devices", json=body)
        assert answer.status_code == 201, answer.text
        device_id: str = answer.json()["id"]
        trusted = await self.server.client.post(f"/devices/{device_id}/host-key", json={})
        assert trusted.json()["fingerprint"].startswith("SHA256:")
        return device_id

    async def form(self, device_id: str) -> str:
        """A cluster of this one host, by id; its agent comes by itself."""
        body = {
            "name": "yard",
            "control_plane_ids": [device_id],
            "worker_ids": [],
            "options": {"accept": ACCEPT, "profile": PROFILE},
        }
        answer = await self.server.client.post("/clusters", json=body)
        ended = await self.ended(answer)
        assert ended.state == "succeeded", ended.error
        return str(answer.json()["cluster_id"])

    async def begun(self, kind: str, device_id: str) -> Any:
        """The operation of that kind on the device, ended."""
        operations = self.server.haechi.operations

        async def there() -> Any:
            params = {"subject": device_id}
            found = await self.server.client.get("/operations", params=params)
            return [row for row in found.json()["items"] if row["kind"] == kind]

        (row, *_) = await self.until(f"{kind} of {device_id}", there)
        ended = await asyncio.wait_for(operations.wait(row["id"]), LIMIT_S)
        print(operations.log_path(row["id"]).read_text())
        return ended

    async def does(self, what: str, path: str) -> Any:
        """Start an operation and see its end."""
        return await self.ended(await self.server.client.request(what, path))

    async def ended(self, answer: Any) -> Any:
        assert answer.status_code == 202, answer.text
        operation_id = answer.json()["operation_id"]
        haechi = self.server.haechi
        ended = await asyncio.wait_for(haechi.operations.wait(operation_id), FORM_S)
        print(haechi.operations.log_path(operation_id).read_text())
        return ended

    async def agent(self, device_id: str) -> dict[str, Any]:
        found: dict[str, Any] = (await self.server.client.get(f"/devices/{device_id}/agent")).json()
        return found

    async def until(self, what: str, true: Callable[[], Any]) -> Any:
        return await waiting.until(what, true, LIMIT_S)

    async def deployment(self, device_id: str) -> tuple[str, str]:
        """One that a cluster's engine runs, as the book has it; its token."""
        haechi, now = self.server.haechi, SystemClock().now()
        deployment_id = new_id("deployment")
        one = Deployment(
            id=deployment_id,
            package_id=new_id("package"),
            package_name="weather",
            version_id=new_id("version"),
            version="1",
            device_id=device_id,
            engine="kubernetes",
            image="an-image@sha256:00",
            image_digest="sha256:00",
            name="weather-1",
            strategy="overlap",
            camera="none",
            camera_id=None,
            wishes=Wishes(),
            needs={},
            generation=1,
            replaces=[],
            desired="running",
            state=DeploymentState.STARTING,
            outcome="",
            message="",
            operation_id=None,
            token_digest="",
            created_by="test",
            created_at=now,
            started_at=None,
            ended_at=None,
        )
        async with haechi.db.write() as tx:
            await deployments.add_deployment(tx, one)
            token, digest = await haechi.auth.machines.issue_deployment_token(
                tx, deployment_id=deployment_id, device_id=device_id, facts={}
            )
            row = await deployments.deployment_row(tx, deployment_id)
            row.token_digest = digest
        haechi.agents.changed(device_id)
        return deployment_id, token.reveal()


@pytest.fixture
async def fleet(
    tmp_path: Path, agent_image: str, bundle: Any
) -> AsyncIterator[Callable[[Site], Any]]:
    opened: list[Any] = []

    async def begin(site: Site, **more: Any) -> Fleet:
        """The site's gateway is there while a host is: one that no test switches off. `more` are
        settings, with `__` for the dot.
        """
        anchor = await site.host("anchor")
        with socket.socket() as probe:
            probe.bind((site.gateway, 0))
            port = probe.getsockname()[1]
        flags = {
            "server.listen": f"{site.gateway}:0",
            "server.tls": "off",
            "agents.listen": f"{site.gateway}:{port}",
            "registry.listen": f"{site.gateway}:0",
            "agents.image": agent_image,
            "bundle.folder": bundle.folder.parent,
            **{name.replace("__", "."): value for name, value in more.items()},
        }
        await stock.lay(tmp_path / "data")
        context = running_server(tmp_path / "data", flags)
        server = await context.__aenter__()
        opened.append(context)
        server.client.timeout = LIMIT_S
        chosen = {"image": agent_image}
        server.haechi.host_agents._steps._images._image = lambda: chosen["image"]
        return Fleet(server, chosen, anchor)

    yield begin
    for context in opened:
        await context.__aexit__(None, None, None)
