"""The whole server on real sockets, driven by the historic calls alone: package to result.

Docker and the registry are real; the device is a scripted agent that plays its engine.
"""

import os
import socket
from pathlib import Path

import httpx2
import pytest

from haechi.core.tasks import Tasks
from haechi.protocol import commands
from haechi.protocol.commands import (
    CheckedImage,
    EngineInfo,
    LogsEnded,
    PulledImage,
    RemovedContainer,
    Statuses,
)
from haechi.protocol.desired import ContainerStatus
from haechi.protocol.frames import Results as ResultsFrame
from haechi.protocol.results import AgentResult, Result
from haechi.testing.agent_link import PairedSocket, ScriptedAgent
from haechi.testing.packages import zip_of
from haechi.testing.server import running_server
from haechi.testing.waiting import eventually

SOCKET = Path("/var/run/docker.sock")
BASE = "haechi/python:3.11-slim"
pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(not SOCKET.exists() or os.geteuid() != 0, reason="needs Docker and root"),
]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Device(ScriptedAgent):
    """Plays an engine: every container that is started is ready at once."""

    def __init__(self, link, device_id):
        super().__init__(link, device_id)
        self.running = {}
        self.started = []
        for verb, handler in {
            commands.ENGINE_INFO: self.info,
            commands.IMAGE_CHECK: self.check,
            commands.IMAGE_PULL: self.pull,
            commands.CONTAINER_START: self.start_container,
            commands.CONTAINER_REMOVE: self.remove_container,
            commands.CONTAINER_STATUS: self.status,
            commands.CONTAINER_LOGS: self.logs,
        }.items():
            self.on_command[verb.name] = handler

    async def info(self, _agent, _command):
        gigabyte = 1024**3
        return EngineInfo(
            engine="docker",
            version="played",
            platform="linux/amd64",
            cpu_cores=2,
            memory_bytes=4 * gigabyte,
            memory_available_bytes=2 * gigabyte,
            disk_free_bytes=10 * gigabyte,
        )

    async def check(self, _agent, _command):
        return CheckedImage(present=False)

    async def pull(self, _agent, command):
        assert command.args["registry"]["password"]
        return PulledImage("id", 1, "linux/amd64")

    async def start_container(self, _agent, command):
        spec = command.args["spec"]
        self.running[spec["deployment_id"]] = spec
        self.started.append(spec)
        return self.of(spec["deployment_id"])

    async def remove_container(self, _agent, command):
        gone = self.running.pop(command.args["deployment_id"], None)
        return RemovedContainer(gone is not None)

    async def status(self, _agent, command):
        return Statuses([self.of(one) for one in command.args["deployment_ids"]])

    async def logs(self, _agent, _command):
        return LogsEnded()

    def of(self, deployment_id):
        if deployment_id not in self.running:
            return ContainerStatus(deployment_id, "absent")
        return ContainerStatus(deployment_id, "running", started_ms=1, ready_ms=2)


@pytest.fixture
async def served(tmp_path):
    flags = {
        "registry.listen": f"127.0.0.1:{free_port()}",
        "registry.push_listen": f"127.0.0.1:{free_port()}",
        "interop.listen": ["127.0.0.1:0", "127.0.0.1:0"],
        "interop.allow": ["127.0.0.0/8"],
        "collaboration.weather_dwell_s": 0,
        "collaboration.weather_minimum_stay_s": 0,
    }
    async with running_server(tmp_path / "data", flags) as server:
        ports = [port for _, port in server.servers.addresses[2:]]
        assert len(ports) == 2
        async with httpx2.AsyncClient(timeout=300, trust_env=False) as client:
            server.old = client
            server.old_urls = [f"http://127.0.0.1:{port}" for port in ports]
            yield server


async def connect(server, ref):
    device = await server.haechi.inventory.devices.get(ref)
    async with server.haechi.db.write() as tx:
        await server.haechi.inventory.devices.set_enrolment(tx, device.id, "enrolled")
    there, here = PairedSocket.pair()
    tasks = Tasks("agent")
    _ = tasks.spawn("link", server.haechi.agents.serve(device.id, there, "127.0.0.1"))
    agent = Device(here, device.id)
    await agent.start()
    assert agent.welcome
    agent.tasks = tasks
    return agent


def package(version):
    script = (
        f"import time\nprint('version {version}', flush=True)\nwhile True:\n    time.sleep(1)\n"
    )
    return zip_of(
        {
            "Dockerfile": f'FROM {BASE}\nCOPY main.py /\nCMD ["python3", "/main.py"]\n',
            "main.py": script,
            "haechi.toml": '[needs]\ncamera = "none"\nmemory_mb = 64\n',
        }
    )


async def test_the_main_job_by_historic_calls_alone(served, tmp_path):
    async def post(path, body, at=0):
        answer = await served.old.post(served.old_urls[at] + path, json=body)
        assert answer.status_code == 200
        return answer.json()

    async def get(path, at=0, **query):
        return (await served.old.get(served.old_urls[at] + path, params=query)).json()

    greeting = await served.old.get(served.old_urls[1] + "/")
    assert greeting.text == "접속 완료"
    added = await post("/add_newDevice", {"name": "gate", "ip": "192.0.2.21", "id": "0x01"})
    assert added["id"] == "0x01"
    agent = await connect(served, "0x01")

    files = {"file": ("weather-01.zip", package("1"), "application/zip")}
    data = {"version": "0.01v"}
    url = served.old_urls[1] + "/upload_edgeAi"
    uploaded = (await served.old.post(url, files=files, data=data)).json()
    assert uploaded["code"] == "0000", uploaded
    assert uploaded["digest"].startswith("sha256:")
    operation = await served.client.get(f"/operations/{uploaded['operation_id']}")
    assert operation.json()["state"] == "succeeded"
    inbox = tmp_path / "data" / "inbox"
    (inbox / "weather-02.zip").write_bytes(package("2"))
    rain = await post(
        "/request_upload_edgeAi", {"filename": "weather", "version": "1", "ai_class": "02"}
    )
    assert rain["code"] == "0000", rain

    deployed = await post("/deploy_aiToDevice", {"sid": uploaded["id"], "did": "0x01"})
    assert deployed["code"] == "0000", deployed
    (spec,) = agent.running.values()
    assert spec["image"].endswith(uploaded["digest"])
    assert await get("/get_deployedAis_by_node", nid="0x01") == {
        "code": "0000",
        "message": "처리 성공",
        "aid_list": [uploaded["id"]],
    }

    result = {"eid": "0x01", "sid": spec["environment"]["HAECHI_SID"], "time": 202511201414}
    result |= {"version": "0.01v", "ainame": "WeatherAI", "class": 3, "class_prob": 0.7}
    assert await post("/add_newAiResult", result, at=1) == {"code": 200, "msg": "GOOD"}
    stored = (await served.client.get("/results")).json()["items"]
    assert stored[0]["version"] == "0.01v"
    assert stored[0]["class"] == "03"

    row = AgentResult(
        Result(class_="02", class_prob=0.9, attributes={"kind": "weather"}),
        spec["deployment_id"],
        agent.wall_ms(),
        agent.monotonic_ms(),
        "boot-1",
    )
    await agent.send(ResultsFrame("queue-1", 1, [row]))

    async def rains():
        return [one["image"].endswith(rain["digest"]) for one in agent.running.values()] == [True]

    await eventually(rains, timeout_s=30)
    assert len(agent.started) == 2
    switches = await served.haechi.weather.decisions()
    assert [one.reason for one in switches] == ["weather_changed"]
    await served.haechi.operations.wait(switches[0].operation_id)

    removed = await post("/remove_deploySwInfo", {"sid": rain["aid"], "did": "0x01"})
    assert removed["code"] == "0000", removed
    assert agent.running == {}
    for version in (uploaded["id"], rain["aid"]):
        gone = await post("/remove_uploadedEdgeAi", {"id": version})
        assert gone["code"] == "0000", gone
    assert (await get("/get_selectedEdgeAiInfo", id=rain["aid"]))["code"] == "0004"
    entries = (await served.client.get("/audit")).json()["items"]
    assert "interop 127.0.0.1" in {entry["by_name"] for entry in entries}
    await agent.close()
    await agent.tasks.close()


async def test_a_real_caller_that_hangs_up_and_one_that_sends_too_much(served):
    url = served.old_urls[0]
    async with httpx2.AsyncClient(timeout=30, trust_env=False) as client:
        big = b'{"name": "' + b"x" * (10 * 1024 * 1024) + b'"}'
        answer = await client.post(url + "/add_newDevice", content=big)
        assert (answer.status_code, answer.json()["code"]) == (200, "0016")
        with pytest.raises(httpx2.HTTPError):
            await client.post(
                url + "/upload_edgeAi",
                json={"filename": "nothing.zip", "version": "1"},
                timeout=0.000001,
            )
        assert (await client.get(url + "/get_edgeList")).json()["list"] == []
