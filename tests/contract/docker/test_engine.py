"""The `Engine` port, over the fake and over a real Docker behind a real SSH server on loopback."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from haechi.adapters import engine_docker_ssh
from haechi.adapters.docker_api import DockerApi
from haechi.adapters.docker_bodies import fenced_name, internet_name
from haechi.adapters.docker_ssh_errors import NeedsAgent, NoDocker
from haechi.adapters.docker_ssh_hosts import DockerHosts
from haechi.adapters.engine_docker_ssh import DockerSshEngine
from haechi.adapters.iptables import sweep
from haechi.adapters.ssh_asyncssh import AsyncsshHosts, Pace
from haechi.core import ids
from haechi.core.secrets import Secret
from haechi.domains.clusters.host.errors import HostConnectionLost
from haechi.domains.clusters.host.ports import Target
from haechi.domains.deployments.ports import Engine
from haechi.errors import Unavailable
from haechi.protocol.desired import ContainerSpec
from haechi.protocol.problems import ImageMissing
from haechi.testing.engine import FakeEngine
from haechi.testing.ssh import SshServer, ssh_server
from haechi.testing.waiting import eventually

SOCKET = "/var/run/docker.sock"
BASE = "haechi/python:3.11-slim"
LOOP = "import time; print('hello', flush=True)\nwhile True: time.sleep(0.2)"
PACE = Pace(dial_s=30, login_s=90, attempts=2, retry_s=0.05, keepalive_s=20, open_s=60)

pytestmark = [
    pytest.mark.integration,
    pytest.mark.docker,
    pytest.mark.skipif(not Path(SOCKET).exists(), reason="no Docker daemon here"),
]


@dataclass
class Site:
    engine: Engine
    device_id: str
    image: str
    lose: Callable[[str], Any]
    """Takes a container away behind the engine's back."""

    def spec(self, script: str = LOOP, **environment: str) -> ContainerSpec:
        deployment_id = ids.new_id("deployment")
        return ContainerSpec(
            deployment_id=deployment_id,
            package_id=ids.new_id("package"),
            version_id=ids.new_id("version"),
            name=f"test-{deployment_id[4:]}",
            image=self.image,
            environment={"SCRIPT": script, **environment},
            memory_limit_bytes=128 * 1024**2,
            stop_grace_s=1,
        )

    async def start(self, spec: ContainerSpec):
        return await self.engine.start(self.device_id, spec, Secret("a token"), [])

    async def state(self, spec: ContainerSpec) -> str:
        (status,) = await self.engine.status(self.device_id, [spec.deployment_id])
        return status.state


class Book:
    def __init__(self, server: SshServer) -> None:
        self.server = server

    async def target(self, device_id: str) -> Target:
        return Target(
            device_id=device_id,
            name="gate",
            addresses=("127.0.0.1",),
            port=self.server.port,
            user=self.server.user,
            password=Secret(self.server.password),
            key=None,
            host_key=self.server.public_key,
        )

    async def pin(self, device_id, host_key, *, by):
        raise AssertionError("it is pinned")


@pytest.fixture
async def docker() -> DockerApi:
    api = DockerApi(SOCKET)
    await api.ping()
    if not await api.has_image(BASE):
        pytest.skip(f"{BASE} was not made on this machine")
    return api


@pytest.fixture
async def image(docker) -> AsyncIterator[str]:
    """Python that runs what SCRIPT says."""
    name = f"haechi-test/engine-{uuid.uuid4().hex[:8]}"
    command = ["python3", "-c", "import os; exec(os.environ['SCRIPT'])"]
    config = {"Image": BASE, "Cmd": command}
    container = await docker.create_container(name.replace("/", "-"), config)
    query = {"container": container, "repo": name, "tag": "1"}
    await docker._json("POST", "/commit", query, payload=config)
    await docker.remove_container(container, force=True)
    yield f"{name}:1"
    await docker.remove_image(f"{name}:1", force=True)


@pytest.fixture
async def sshd(tmp_path) -> AsyncIterator[SshServer]:
    async with ssh_server(tmp_path) as server:
        yield server


@pytest.fixture
async def over_ssh(docker, image, sshd) -> AsyncIterator[Site]:
    device_id = ids.new_id("device")
    hosts = AsyncsshHosts(Book(sshd), pace=PACE)
    engine = DockerSshEngine(
        hosts, server_url=lambda: "https://127.0.0.1:8420", ca_pem=lambda: "the site's CA"
    )

    async def lose(deployment_id: str) -> None:
        for one in await docker.containers(labels=[f"haechi.deployment={deployment_id}"]):
            await docker.remove_container(one["Id"], force=True)

    yield Site(engine, device_id, image, lose)
    await engine.close()
    await hosts.close()
    for one in await docker.containers(labels=[f"haechi.device={device_id}"]):
        await docker.remove_container(one["Id"], force=True)
    for name in (internet_name(device_id), fenced_name(device_id)):
        await docker.remove_network(name)
    await sweep()


@pytest.fixture(params=["fake", "over_ssh"])
def site(request) -> Site:
    if request.param == "over_ssh":
        return request.getfixturevalue("over_ssh")
    engine = FakeEngine(images={"dev-a": {"an-image"}})

    async def lose(deployment_id: str) -> None:
        del engine.containers["dev-a"][deployment_id]

    return Site(engine, "dev-a", "an-image", lose)


async def test_life_of_a_container(site):
    spec = site.spec()
    device, deployment = site.device_id, spec.deployment_id
    assert await site.engine.has_image(device, spec.image)
    assert await site.state(spec) == "absent"
    began = await site.start(spec)
    assert began.state == "running"
    again = await site.start(spec)
    assert again.container_id == began.container_id

    lines = [
        line.text async for piece in site.engine.logs(device, deployment) for line in piece.lines
    ]
    assert isinstance(lines, list)
    assert (await site.engine.stop(device, deployment, 1)).state == "exited"
    assert (await site.start(spec)).state == "running"
    removed = await site.engine.remove(device, deployment, 1, 50)
    assert removed.removed
    assert removed.log_tail
    assert await site.state(spec) == "absent"
    assert not (await site.engine.remove(device, deployment, 1, 50)).removed


async def test_one_that_vanished_is_made_anew(site):
    spec = site.spec()
    await site.start(spec)
    await site.lose(spec.deployment_id)
    assert await site.state(spec) == "absent"
    assert (await site.start(spec)).state == "running"


async def test_without_its_image_nothing_is_started(site):
    site.image = "haechi-test/absent:1"
    spec = site.spec()
    with pytest.raises(ImageMissing):
        await site.start(spec)
    assert await site.state(spec) == "absent"


async def test_what_the_device_is(site):
    info = await site.engine.info(site.device_id)
    assert info.engine == "docker"
    assert info.platform.startswith("linux/")
    assert min(info.cpu_cores, info.memory_bytes, info.disk_free_bytes) > 0
    assert info.memory_available_bytes > 0
    assert await site.engine.name_of(site.device_id) == site.engine.name


# --- over SSH only


async def test_the_container_is_as_safe_as_an_agents_and_calls_the_server(over_ssh, docker):
    spec = over_ssh.spec()
    status = await over_ssh.start(spec)
    found = await docker.container(status.container_id)
    host = found["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert (host["PidsLimit"], host["Memory"]) == (256, 128 * 1024**2)
    environment = dict(entry.split("=", 1) for entry in found["Config"]["Env"])
    assert environment["HAECHI_RESULTS_URL"] == "https://127.0.0.1:8420/api/v1/results"
    assert environment["HAECHI_TOKEN"] == "a token"
    assert "HAECHI_AGENT_URL" not in environment
    assert environment["SSL_CERT_FILE"] == environment["HAECHI_CA_FILE"]

    reads = over_ssh.spec()
    reads.environment["SCRIPT"] = (
        f"import time; print(open({environment['HAECHI_CA_FILE']!r}).read(), flush=True)\n"
        "while True: time.sleep(0.2)"
    )
    await over_ssh.start(reads)
    async with contextlib.aclosing(
        over_ssh.engine.logs(over_ssh.device_id, reads.deployment_id, follow=True)
    ) as pieces:
        async for piece in pieces:
            assert [line.text for line in piece.lines] == ["the site's CA"]
            break


async def test_a_start_that_was_cut_off_is_begun_anew(over_ssh, monkeypatch):
    """Where the connection dies between the making of a container and its start."""
    put = engine_docker_ssh._put

    async def cut(*_given):
        raise HostConnectionLost(host="gate", address="127.0.0.1", what="docker", reason="reset")

    script = "import os, time; print(open(os.environ['HAECHI_CA_FILE']).read(), flush=True)"
    spec = over_ssh.spec()
    spec.environment["SCRIPT"] = f"{script}\nwhile True: time.sleep(0.2)"
    monkeypatch.setattr(engine_docker_ssh, "_put", cut)
    with pytest.raises(HostConnectionLost):
        await over_ssh.start(spec)
    # Nobody waits for one that will never begin by itself.
    assert await over_ssh.state(spec) == "exited"
    monkeypatch.setattr(engine_docker_ssh, "_put", put)
    assert (await over_ssh.start(spec)).state == "running"
    pieces = over_ssh.engine.logs(over_ssh.device_id, spec.deployment_id, follow=True)
    async with contextlib.aclosing(pieces):
        assert [line.text for line in (await anext(pieces)).lines] == ["the site's CA"]


async def test_a_package_that_needs_a_camera_by_environment_is_refused(over_ssh):
    with pytest.raises(NeedsAgent):
        spec = msgspec.structs.replace(over_ssh.spec(), camera="one", camera_id="cam-1")
        await over_ssh.start(spec)


async def test_a_host_that_is_away_and_back(over_ssh, sshd):
    spec = over_ssh.spec()
    await over_ssh.start(spec)
    await sshd.stop()
    with pytest.raises(Unavailable) as away:
        await over_ssh.state(spec)
    assert "gate" in away.value.problem("en")["detail"]
    await sshd.start()
    assert await over_ssh.state(spec) == "running"


async def test_connections_that_are_cut_are_made_anew(over_ssh, sshd):
    spec = over_ssh.spec()
    await over_ssh.start(spec)
    for _ in range(3):
        sshd.cut()
        states = await asyncio.gather(*(_patient(over_ssh, spec) for _ in range(4)))
        assert states == ["running"] * 4


async def _patient(site: Site, spec: ContainerSpec) -> str:
    """As the keeper is: what cannot be reached now is asked again."""
    for _ in range(20):
        with contextlib.suppress(Unavailable):
            return await site.state(spec)
        await asyncio.sleep(0.05)
    return await site.state(spec)


async def test_a_host_without_docker_says_so(sshd):
    hosts = AsyncsshHosts(Book(sshd), pace=PACE)
    dockers = DockerHosts(hosts, socket="/nowhere/docker.sock")
    try:
        with pytest.raises(NoDocker) as caught:
            async with dockers.open(ids.new_id("device")):
                pass
        assert caught.value.data["host"] == "gate"
    finally:
        await dockers.close()
        await hosts.close()


async def test_a_connection_nobody_uses_ends_by_itself(sshd, docker):
    hosts = AsyncsshHosts(Book(sshd), pace=PACE)
    dockers = DockerHosts(hosts, idle_s=0.05)
    try:
        async with dockers.open("dev-a") as way:
            await way.docker.ping()
        await eventually(lambda: not dockers._kept)
    finally:
        await dockers.close()
        await hosts.close()
