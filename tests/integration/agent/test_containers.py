"""AI containers on a real Docker: commands, intake with the SDK inside, drift, daemon events."""

import asyncio
import base64
import hashlib
from pathlib import Path

import msgspec
import pytest

import haechi.sdk
from haechi.core import ids
from haechi.protocol import commands as c
from haechi.protocol.assignments import Assignment
from haechi.protocol.desired import ContainerSpec, DesiredState

from .conftest import BASE, SOCKET, CommandError, Edge, ScriptedServer

SDK = base64.b64encode(Path(haechi.sdk.__file__).read_bytes()).decode()
AI = """
import base64, os, sys, types
sdk = types.ModuleType("haechi_sdk"); sys.modules["haechi_sdk"] = sdk
exec(base64.b64decode(os.environ["SDK"]), sdk.__dict__)
h = sdk.Haechi(); h.ready()
print("started", flush=True)
n = 0
while not h.wait(0.2):
    n += 1
    h.result("cam-x", objects=[sdk.detected("person", 0.9, (.1, .1, .2, .2))])
h.close()
print("ended", flush=True)
"""


def spec_of(image: str, script: str = AI, **more) -> ContainerSpec:
    """The AI's code comes by the environment: the image is only Python."""
    deployment_id = ids.new_id("deployment")
    token = f"token-of-{deployment_id}"
    environment = {
        "SDK": SDK,
        "SCRIPT": script,
        "PYTHONUNBUFFERED": "1",
        **more.pop("environment", {}),
    }
    return ContainerSpec(
        deployment_id=deployment_id,
        package_id=ids.new_id("package"),
        version_id=ids.new_id("version"),
        name=f"test-{deployment_id[4:]}",
        image=image,
        environment=environment,
        token_digest=hashlib.sha256(token.encode()).hexdigest(),
        memory_limit_bytes=256 * 1024 * 1024,
        **more,
    )


def token_of(spec: ContainerSpec) -> str:
    return f"token-of-{spec.deployment_id}"


@pytest.fixture
async def image(docker) -> str:
    """Python whose command runs what SCRIPT says."""
    name = "haechi-test/agent-ai"
    if not await docker.has_image(f"{name}:1"):
        config = {
            "Image": BASE,
            "Cmd": ["python3", "-c", "import os; exec(os.environ['SCRIPT'])"],
        }
        container = await docker.create_container("haechi-test-agent-ai", config)
        query = {"container": container, "repo": name, "tag": "1"}
        await docker._json("POST", "/commit", query, payload=config)
        await docker.remove_container(container, force=True)
    return f"{name}:1"


async def status_of(server: ScriptedServer, deployment_id: str):
    answer = await server.order("container.status", c.AskStatus([deployment_id]))
    return answer.containers[0]


def reported(server: ScriptedServer, deployment_id: str, true):
    def look():
        for one in server.states[-1].deployments if server.states else ():
            if one.deployment_id == deployment_id and true(one):
                return one
        return None

    return look


async def test_life_of_a_container(
    server: ScriptedServer, docker_edge: Edge, docker, image
) -> None:
    edge = docker_edge
    edge.start()
    await server.until(lambda: server.sockets and server.samples)
    spec = spec_of(image)
    start = c.StartContainer(spec, token_of(spec))

    with pytest.raises(CommandError) as missing:
        await server.order(
            "container.start",
            c.StartContainer(msgspec.structs.replace(spec, image="absent:1"), "t" * 20),
        )
    assert missing.value.code == "agent.image_missing"

    began = await server.order("container.start", start)
    assert began.state == "running"
    again = await server.order("container.start", start)
    assert again.container_id == began.container_id

    ready = await server.until(reported(server, spec.deployment_id, lambda one: one.ready_ms))
    assert ready.container_id == began.container_id
    await server.until(lambda: len(server.results) >= 3)
    numbers = [number for number, _row in server.results]
    assert numbers == list(range(1, len(numbers) + 1))
    row = server.results[0][1]
    assert row.deployment_id == spec.deployment_id
    assert row.result.objects[0].class_ == "person"
    await server.until(reported(server, spec.deployment_id, lambda one: one.first_result_ms))
    await server.until(
        lambda: [
            one
            for sample in server.samples
            for one in sample.containers
            if one.memory_bytes > 1_000_000 and one.frame_lag_ms is not None
        ]
    )

    inspected = await docker.container(began.container_id)
    host = inspected["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert host["PidsLimit"] == 256
    assert host["Memory"] == 256 * 1024 * 1024
    assert not host["Binds"]
    network = await docker.network(f"haechi-{edge.device_id}")
    assert network["Internal"] is True

    info = await server.order("engine.info", c.AskEngine())
    assert info.engine == "docker"
    assert info.platform.startswith("linux/")

    command_id, ended = await server.begin(
        "container.logs", c.ReadLogs(spec.deployment_id, follow=True)
    )
    await server.until(lambda: "started" in str(server.chunks.get(command_id)))
    stopped = await server.order("container.stop", c.StopContainer(spec.deployment_id, 8))
    assert stopped.state == "exited"
    done = await ended
    assert done.error is None
    assert done.result["state"] == "exited"
    assert "ended" in str(server.chunks[command_id])

    removed = await server.order("container.remove", c.RemoveContainer(spec.deployment_id))
    assert removed.removed
    assert "ended" in [line.text for line in removed.log_tail]
    assert removed.last is not None
    assert removed.last.exit_code == 0
    assert (await status_of(server, spec.deployment_id)).state == "absent"
    gone = await server.order("container.remove", c.RemoveContainer(spec.deployment_id))
    assert not gone.removed
    assert not list(edge.home.containers.glob("*.json"))


async def test_drift_is_mended_with_and_without_the_server(
    server: ScriptedServer, docker_edge: Edge, docker, image
) -> None:
    edge = docker_edge
    edge.start()
    await server.until(lambda: server.samples)
    spec = spec_of(image)
    began = await server.order("container.start", c.StartContainer(spec, token_of(spec)))
    await server.want(DesiredState(revision=5, deployments=[spec]))
    await server.until(lambda: server.states and server.states[-1].revision == 5)

    await docker.kill_container(began.container_id)
    back = await server.until(
        reported(
            server,
            spec.deployment_id,
            lambda one: one.state == "running" and one.started_ms != began.started_ms,
        )
    )
    assert back.container_id == began.container_id
    assert back.restarts >= 1

    await docker.remove_container(began.container_id, force=True)
    made_anew = await server.until(
        reported(
            server,
            spec.deployment_id,
            lambda one: one.state == "running" and one.container_id != began.container_id,
        )
    )

    # Power loss of the whole device, and no server when it returns.
    edge.kill()
    await server.stop()
    await docker.remove_container(made_anew.container_id, force=True)
    edge.start()
    label = f"haechi.deployment={spec.deployment_id}"
    async with asyncio.timeout(20):
        while not await docker.containers(labels=[label], running_only=True):
            await asyncio.sleep(0.2)

    # It is told to go: it goes, and stays away.
    server.states.clear()
    await server.start()
    await server.until(lambda: server.sockets)
    await server.want(DesiredState(revision=6, stopping=[spec.deployment_id]))
    await server.until(reported(server, spec.deployment_id, lambda one: one.state == "absent"))
    assert not await docker.containers(labels=[label])


async def test_a_stolen_token_is_refused_and_a_plain_client_known_by_its_address(
    server: ScriptedServer, docker_edge: Edge, docker, image
) -> None:
    edge = docker_edge
    edge.start()
    await server.until(lambda: server.samples)
    honest = spec_of(image, "import time; time.sleep(600)")
    began = await server.order("container.start", c.StartContainer(honest, token_of(honest)))
    assert began.state == "running"
    thief_code = """
import json, os, urllib.error, urllib.request
def post(path, body, **headers):
    url = os.environ["HAECHI_AGENT_URL"] + path
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
print("stolen", post("/v1/results", {}, Authorization="Bearer " + os.environ["STOLEN"])[0])
print("unknown", post("/v1/results", {}, Authorization="Bearer nonsense")[0])
print("plain", post("/v1/results", {"camera_id": "cam-p", "device_id": "dev-claimed"})[0])
print("old", post("/add_newAiResult", {"sid": "0xs01", "time": 202511201414, "version": "0.01v",
      "ainame": "WeatherAI", "class": 3, "class_prob": 0.7})[1])
print("usage", post("/usage", json.dumps({"cpu": 12.5, "memory": 41.0, "username": "root"}))[1])
print("done", flush=True)
import time; time.sleep(600)
"""
    thief = spec_of(image, thief_code, environment={"STOLEN": token_of(honest)})
    await server.order("container.start", c.StartContainer(thief, token_of(thief)))
    command_id, logs = await server.begin(
        "container.logs", c.ReadLogs(thief.deployment_id, follow=True)
    )
    await server.until(lambda: "done" in str(server.chunks.get(command_id)))
    await server.cancel(command_id)
    assert (await logs).error["code"] == "agent.cancelled"
    said = [line["text"] for chunk in server.chunks[command_id] for line in chunk["lines"]]
    assert said[:3] == ["stolen 403", "unknown 403", "plain 200"]
    assert said[3] == 'old {"code":200,"msg":"GOOD"}'
    assert said[4] == "usage usage"
    await server.until(lambda: len(server.results) >= 3)
    rows = [row for _number, row in server.results]
    assert {row.deployment_id for row in rows} == {thief.deployment_id}
    assert rows[0].result.claimed == {"device_id": "dev-claimed"}
    assert rows[1].result.class_ == "03"
    assert rows[2].result.attributes["cpu"] == 12.5


async def test_assignments_without_media_wait(
    server: ScriptedServer, docker_edge: Edge, image
) -> None:
    """An AI is never handed a camera that it could not open."""
    edge = docker_edge
    edge.start()
    await server.until(lambda: server.samples)
    spec = spec_of(image)
    given = Assignment("asg-1", "cam-x", spec.deployment_id, "watch", 5.0, "sub", 1)
    start = c.StartContainer(spec, token_of(spec), [given])
    await server.order("container.start", start)
    await server.until(reported(server, spec.deployment_id, lambda one: one.ready_ms))
    assert server.states[-1].assignments == []


class Doorway:
    """A unix socket in front of the engine's: closed, it is as if the daemon were gone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_unix_server(self._pass, str(self.path))

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            self.path.unlink(missing_ok=True)
        for writer in list(self._open):
            writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there = await asyncio.open_unix_connection(SOCKET)
        self._open |= {writer, there}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_copy(reader, there))
                group.create_task(_copy(there_reader, writer))
        finally:
            self._open -= {writer, there}
            writer.transport.abort()
            there.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except (OSError, RuntimeError):
        writer.transport.abort()


async def test_the_daemon_goes_and_comes_back(
    server: ScriptedServer, docker_edge: Edge, docker, image, tmp_path: Path
) -> None:
    edge = docker_edge
    door = Doorway(tmp_path / "engine.sock")
    await door.open()
    edge.start(docker_socket=str(door.path))
    await server.until(lambda: server.samples)
    spec = spec_of(image)
    began = await server.order("container.start", c.StartContainer(spec, token_of(spec)))
    await server.want(DesiredState(revision=1, deployments=[spec]))
    await server.until(lambda: server.states[-1].revision == 1)

    await door.close()
    await edge.says("the container engine is away")
    with pytest.raises(CommandError) as away:
        await server.order("engine.info", c.AskEngine())
    assert away.value.code == "agent.engine_away"
    # Results go on meanwhile; what happens to the container is found out afterwards.
    count = len(server.results)
    await server.until(lambda: len(server.results) > count + 2)
    await docker.remove_container(began.container_id, force=True)
    await door.open()
    await server.until(
        reported(
            server,
            spec.deployment_id,
            lambda one: one.state == "running" and one.container_id != began.container_id,
        )
    )
    await asyncio.to_thread(edge.stop)
    await door.close()
