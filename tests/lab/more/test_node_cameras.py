"""A camera at a cluster's node: its AIs read the re-stream of their node's agent, which alone knows
the camera's login, and it goes on while the agents are updated by command.
"""

import asyncio
import base64
import json
from dataclasses import dataclass
from typing import Any

import pytest
from click.testing import CliRunner
from tests.lab.agents import agent_image, built  # noqa: F401 - a fixture

from haechi.cli.main import main
from haechi.protocol.desired import NODE_AGENT_ADDRESS
from haechi.testing import packages
from haechi.testing.cameras import Login, simulated_cameras
from lab import Host, ready
from lab.yard import KUBECTL, Yard

PASSWORD = "only-for-the-camera"
DOCKERFILE = """\
FROM python:3.11-slim
COPY main.py haechi_sdk.py /
CMD ["python3", "-u", "/main.py"]
"""
# RTSP over one TCP connection, with what Python brings along.
READS = '''\
import json, os, socket, struct, threading, time, urllib.parse, urllib.request
from haechi_sdk import Haechi


def packets(url):
    """The video's RTP packets, one after the other."""
    parts = urllib.parse.urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=30) as link:
        stream, number = link.makefile("rb"), 0

        def packet():
            _channel, length = struct.unpack(">BH", stream.read(3))
            return stream.read(length)

        def ask(method, target, *headers):
            nonlocal number
            number += 1
            lines = [f"{method} {target} RTSP/1.0", f"CSeq: {number}", *headers, "", ""]
            link.sendall("\\r\\n".join(lines).encode())
            while (first := stream.read(1)) == b"$":
                packet()
            status = (first + stream.readline()).decode().strip()
            found = {}
            while line := stream.readline().decode().strip():
                name, _, value = line.partition(":")
                found[name.lower()] = value.strip()
            body = stream.read(int(found.get("content-length", 0))).decode()
            if " 200 " not in status:
                raise OSError(f"{method}: {status}")
            return found, body

        _, sdp = ask("DESCRIBE", url, "Accept: application/sdp")
        video = sdp[sdp.index("m=video"):]
        control = next(
            line.partition("control:")[2].strip()
            for line in video.splitlines() if line.startswith("a=control:")
        )
        wish = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1"
        answer, _ = ask("SETUP", f"{url}/{control}", wish)
        ask("PLAY", url, "Session: " + answer["session"].partition(";")[0])
        while True:
            if stream.read(1) != b"$":
                raise OSError("the stream ended")
            yield packet()


def watch(url, tell):
    """For ever; every twenty packets are worth a word."""
    while True:
        try:
            for count, _packet in enumerate(packets(url()), start=1):
                if count % 20 == 0:
                    tell(count)
        except OSError as error:
            print("no video:", error)
            time.sleep(0.5)
'''
MANY = (
    READS
    + """
haechi, cameras = Haechi(), {}


def follow(camera_id):
    def tell(count):
        haechi.result(cameras[camera_id], name="seen", prob=0.9, attributes={"packets": count})

    watch(lambda: cameras[camera_id].url, tell)


haechi.ready()
for change in haechi.assignments():
    new = change.assignment.camera_id not in cameras
    cameras[change.assignment.camera_id] = change.assignment
    if new:
        threading.Thread(target=follow, args=[change.assignment.camera_id], daemon=True).start()
"""
)
ONE = (
    READS
    + """
def tell(count):
    body = {"class": "seen", "class_prob": 0.9, "attributes": {"packets": count}}
    call = urllib.request.Request(os.environ["HAECHI_RESULTS_URL"], json.dumps(body).encode())
    call.add_header("Content-Type", "application/json")
    call.add_header("Authorization", "Bearer " + os.environ["HAECHI_TOKEN"])
    urllib.request.urlopen(call, timeout=10).read()


watch(lambda: os.environ["HAECHI_CAMERA_URL"], tell)
"""
)


def package(name: str, camera: str, ready: str, script: str) -> dict[str, str]:
    manifest = f'[package]\nname = "{name}"\n[needs]\ncamera = "{camera}"\nmemory_mb = 64\n'
    return {
        "Dockerfile": DOCKERFILE,
        "main.py": script,
        "haechi_sdk.py": packages.sdk_source(),
        "haechi.toml": f'{manifest}[health]\nready = "{ready}"\nwithin_s = 180\n',
    }


@dataclass
class Watched:
    """One node with a camera."""

    yard: Yard
    node: Host
    camera_id: str

    async def results(self, deployment_id: str) -> list[dict[str, Any]]:
        params = {"deployment_id": deployment_id, "limit": 20}
        found = await self.yard.server.client.get("/results", params=params)
        return list(found.json()["items"])

    async def until_sees(self, *deployments: dict[str, Any]) -> None:
        """Each of them, from now on."""
        for one in deployments:
            before = {row["id"] for row in await self.results(one["id"])}

            async def newer(one: Any = one, before: Any = before) -> Any:
                return [row for row in await self.results(one["id"]) if row["id"] not in before]

            (row, *_) = await self.yard.until(f"{one['package_name']} sees the camera", newer)
            assert row["camera_id"] == self.camera_id
            assert row["attributes"]["packets"] >= 20

    async def deploy(self, name: str, camera: str, ready: str, script: str) -> dict[str, Any]:
        version = await self.yard.upload(name, "1", package(name, camera, ready, script))
        await self.yard.deploy(version, self.node, cameras={"assign": True})
        running = await self.yard.running(self.node)
        return next(row for row in running if row["package_name"] == name)

    async def pods(self) -> dict[str, int]:
        """Uid → restarts."""
        said = await self.node.shell(f"{KUBECTL} get pods -n haechi-ai -o json")
        return {
            pod["metadata"]["uid"]: sum(
                one["restartCount"] for one in pod["status"]["containerStatuses"]
            )
            for pod in json.loads(said)["items"]
        }

    async def environment(self, name: str) -> set[str]:
        """That variable's values in all AIs of the cluster."""
        said = await self.node.shell(f"{KUBECTL} get secrets -n haechi-ai -o json")
        found = [one.get("data", {}).get(name) for one in json.loads(said)["items"]]
        return {base64.b64decode(one).decode() for one in found if one}


async def agent_brought(yard: Yard, device_id: str) -> None:
    async def begun() -> Any:
        found = await yard.haechi.operations.find(subject=device_id)
        return [one for one in found.items if one.kind == "install_agent"]

    (operation, *_) = await yard.until("its agent is on the way", begun)
    await yard.ended(operation)


async def test_a_camera_at_a_node(
    site,
    bundle,
    tmp_path,
    agent_image,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    (node,) = await (await ready.by_haechi(bundle, agent=agent_image)).add(site, 1)
    flags = {"registry.listen": f"{site.gateway}:0", "agents.image": agent_image}
    login = Login("viewer", PASSWORD)
    async with (
        Yard.open(site, tmp_path / "data", **flags) as yard,
        simulated_cameras("gate", host=site.gateway, login=login) as cameras,
    ):
        await yard.map_base_image()
        await yard.form([node], [])
        device_id = yard.devices[node.name]
        await agent_brought(yard, device_id)
        body = {"name": "gate", "url": cameras["gate"].main_url, "device_id": device_id}
        made = await yard.server.client.post("/cameras", json=body)
        assert made.status_code == 201, made.text
        here = Watched(yard, node, made.json()["id"])

        many = await here.deploy("watcher", "many", "sdk", MANY)
        await here.until_sees(many)
        one = await here.deploy("counter", "one", "result", ONE)
        await here.until_sees(one, many)
        # Whoever watches, the camera is pulled once, and no AI is told of its login.
        assert cameras.process("gate").pulls["gate", "main"] == 1
        (url,) = await here.environment("HAECHI_CAMERA_URL")
        assert url.startswith(f"rtsp://{NODE_AGENT_ADDRESS}:")
        assert PASSWORD not in url

        await cameras.stop("gate")

        async def shown(state: str) -> bool:
            camera = (await yard.server.client.get(f"/cameras/{here.camera_id}")).json()
            return bool(camera["state"] == state)

        await yard.until("the camera is shown as away", lambda: shown("offline"))
        await cameras.restart("gate")
        await here.until_sees(many, one)

        before = await here.pods()
        image = built(agent_image, "two", "LABEL two=2\n")
        monkeypatch.setattr(yard.haechi.host_agents._steps._images, "_image", lambda: image)
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "cli"))
        token = await yard.server.client.post("/tokens", json={"name": "cli", "role": "operator"})
        given = ["--url", yard.server.url, "--token", token.json()["secret"], "--language", "en"]
        words = [*given, "cluster", "update-agents", "yard"]
        ended = await asyncio.to_thread(CliRunner().invoke, main, words)
        assert ended.exit_code == 0, ended.output
        assert "the agent has called in" in ended.output
        await here.until_sees(many, one)
        assert await here.pods() == before
        assert await here.environment("HAECHI_CAMERA_URL") == {url}
        assert cameras.process("gate").pulls["gate", "main"] == 1
