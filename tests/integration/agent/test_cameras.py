"""From a camera to an AI in its container: media supervised, paths by token, no password shown."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from haechi.protocol import commands as c
from haechi.protocol.assignments import Assignment
from haechi.protocol.desired import CameraSource, DesiredState
from haechi.testing.cameras import CHECKOUT, simulated_cameras

from .conftest import CommandError, Edge, ScriptedServer, holds
from .test_containers import SDK, image, spec_of, token_of  # noqa: F401 - fixture

WATCHER = """
import base64, os, socket, sys, types, urllib.parse
sdk = types.ModuleType("haechi_sdk"); sys.modules["haechi_sdk"] = sdk
exec(base64.b64decode(os.environ["SDK"]), sdk.__dict__)
h = sdk.Haechi(); h.ready()
def describe(url):
    parts = urllib.parse.urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=60) as s:
        s.sendall(f"DESCRIBE {url} RTSP/1.0\\r\\nCSeq: 1\\r\\nAccept: application/sdp\\r\\n\\r\\n".encode())
        return s.recv(4096).decode("latin-1").split("\\r\\n")[0]
print("env", os.environ.get("HAECHI_CAMERA_URL", ""), flush=True)
for change in h.assignments():
    print(change.kind, change.assignment.url, flush=True)
    if change.kind != "stopped":
        print("described", describe(change.assignment.url), flush=True)
        h.result(change.assignment)
"""


@pytest.fixture
def _go2rtc(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = subprocess.run(
        [sys.executable, CHECKOUT / "tools" / "setup.py", "--path"],
        capture_output=True,
        check=True,
        timeout=30,
    )
    binary = Path(json.loads(answer.stdout)["go2rtc"])
    if not binary.is_file():
        pytest.skip("run tools/setup.py first")
    monkeypatch.setenv("HAECHI_GO2RTC", str(binary))
    edge.options["media"] = True


async def texts(server: ScriptedServer, deployment_id: str) -> list[str]:
    command_id, done = await server.begin("container.logs", c.ReadLogs(deployment_id))
    await done
    return [x["text"] for chunk in server.chunks.get(command_id, []) for x in chunk["lines"]]


def media_pid(edge: Edge) -> int:
    assert edge.process is not None
    children = Path(f"/proc/{edge.process.pid}/task/{edge.process.pid}/children").read_text()
    return int((children.split() or ["0"])[0])


@pytest.mark.usefixtures("_go2rtc")
async def test_a_camera_reaches_its_ai(
    server: ScriptedServer,
    docker_edge: Edge,
    image,  # noqa: F811
) -> None:
    edge = docker_edge
    async with simulated_cameras("gate") as site:
        camera = site["gate"]
        edge.start()
        await server.until(lambda: server.samples)
        spec = spec_of(image, WATCHER)
        old = spec_of(image, WATCHER, camera="one", camera_id="cam-1")
        given = [Assignment("asg-1", "cam-1", spec.deployment_id, "watch", 5.0, "sub", 3)]
        sources = [CameraSource("cam-1", camera.main_url, camera.sub_url)]
        await server.order("container.start", c.StartContainer(spec, token_of(spec)))
        await server.want(
            DesiredState(revision=1, deployments=[spec], assignments=given, cameras=sources)
        )
        await server.until(lambda: server.states[-1].assignments == ["asg-1"])
        await server.until(
            lambda: server.states[-1].media.streams and server.states[-1].media.streams[0].online
        )
        await server.until(lambda: server.results)
        row = server.results[0][1].result
        assert (row.camera_id, row.assignment_id, row.epoch) == ("cam-1", "asg-1", 3)
        said = await texts(server, spec.deployment_id)
        url_line = next(one for one in said if one.startswith("started rtsp://"))
        assert "described RTSP/1.0 200 OK" in said
        assert "root:" not in " ".join(said)

        still = await server.order("media.still", c.TakeStill("cam-1", width=320))
        assert still.jpeg[:2] == b"\xff\xd8"
        assert still.captured_ms > 0
        with pytest.raises(CommandError) as failed:
            await server.order("media.still", c.TakeStill("cam-none"))
        assert failed.value.code == "agent.camera_failed"

        # An AI that knows no assignments has its camera in the environment.
        await server.order("container.start", c.StartContainer(old, token_of(old)))
        follow, _done = await server.begin(
            "container.logs", c.ReadLogs(old.deployment_id, follow=True)
        )
        await server.until(lambda: "env rtsp://" in str(server.chunks.get(follow)))
        await server.cancel(follow)

        # One that another engine starts (a pod): its address is asked for before.
        pod = spec_of(image, WATCHER, camera="one", camera_id="cam-1")
        asked = c.AskCameraUrl(pod.deployment_id)
        with pytest.raises(CommandError) as unknown:
            await server.order("media.url", asked)
        assert unknown.value.code == "agent.no_container"
        await server.want(
            DesiredState(
                revision=2,
                deployments=[spec],
                assignments=given,
                cameras=sources,
                workloads=[pod],
            )
        )
        await server.until(lambda: server.states[-1].revision == 2)
        told = await server.order("media.url", asked)
        assert told.url.startswith("rtsp://")
        assert (await server.order("media.url", asked)).url == told.url
        await server.want(
            DesiredState(revision=3, deployments=[spec], assignments=given, cameras=sources)
        )
        await server.until(lambda: server.states[-1].revision == 3)

        # Media dies: it comes back by itself and serves the same address.
        pid = media_pid(edge)
        os.kill(pid, 9)
        await edge.says("the media process ended")
        await holds(lambda: media_pid(edge) not in {0, pid})
        await server.until(lambda: server.states[-1].assignments == ["asg-1"])
        assert [one for one in await texts(server, spec.deployment_id) if "started" in one] == [
            url_line
        ]
        secret = camera.main_url.partition("//")[2].partition("@")[0].encode()
        for file in edge.home.root.iterdir():
            if file.is_file():
                assert secret not in file.read_bytes()

        # Power loss, no server: the AI is handed its camera again from what is on the device.
        edge.kill()
        await server.stop()
        count = len([one for one in said if one.startswith("described")])
        edge.start()
        await edge.says("intake on")
        await server.start()
        server.desired = None
        await server.until(lambda: server.sockets)
        await server.until(lambda: server.states[-1].assignments == ["asg-1"])
        assert count == 1
