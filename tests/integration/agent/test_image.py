"""The agent as its own container image: built by the recipe, run as the recipe says."""

import subprocess
import sys
from pathlib import Path

import pytest

from haechi.adapters.docker_api import DockerApi
from haechi.protocol import commands as c

from .conftest import SOCKET, Edge, ScriptedServer
from .test_containers import image, spec_of, token_of  # noqa: F401 - fixture

ROOT = Path(__file__).parents[3]
TAG = "haechi-test/agent:1"


@pytest.fixture
def agent_image(docker: DockerApi) -> str:
    built = subprocess.run(
        [sys.executable, ROOT / "packaging/agent/build.py", "--tag", TAG],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-2000:]
    return TAG


async def test_it_runs_as_a_container(
    server: ScriptedServer,
    docker_edge: Edge,
    docker: DockerApi,
    image,  # noqa: F811
    agent_image,
    tmp_path: Path,
) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1\tlocalhost\n")
    (tmp_path / "docker").mkdir()
    binds = [
        f"{docker_edge.home.root}:/data",
        f"{SOCKET}:{SOCKET}",
        "/sys/fs/cgroup:/sys/fs/cgroup:ro",
        f"{hosts}:/host/hosts",
        f"{tmp_path / 'docker'}:/host/docker",
    ]
    name = f"agent-of-{docker_edge.device_id}"
    container = await docker.create_container(
        name,
        {
            "Image": agent_image,
            "HostConfig": {
                "NetworkMode": "host",
                "PidMode": "host",
                "CgroupnsMode": "host",
                "CapDrop": ["ALL"],
                "CapAdd": ["DAC_OVERRIDE"],
                "Binds": binds,
            },
        },
    )
    try:
        await docker.start_container(container)
        await server.until(lambda: server.samples)
        assert server.hellos[0].capacity is not None
        assert server.hellos[0].capacity.engine.startswith("docker ")
        spec = spec_of(image)
        await server.order("container.start", c.StartContainer(spec, token_of(spec)))
        await server.until(lambda: server.results)
        await server.until(
            lambda: any(one.memory_bytes for x in server.samples for one in x.containers)
        )
        access = c.RegistryAccess("registry.haechi.internal:9", "172.17.0.1:9", "a CA", "u", "p")
        pull = c.PullImage(spec.image, access)
        pulled = await server.order("image.pull", pull)
        assert pulled.pulled is False
        assert "registry.haechi.internal" in hosts.read_text()
        trusted = tmp_path / "docker/certs.d/registry.haechi.internal:9/ca.crt"
        assert trusted.read_text() == "a CA"
        pid = (await docker.container(container))["State"]["Pid"]
        status = Path(f"/proc/{pid}/status").read_text()
        rss_mb = int(status.partition("VmRSS:")[2].split()[0]) / 1024
        print(f"\nagent in its container: {rss_mb:.1f} MB")
        assert rss_mb <= 40
        await docker.stop_container(container, grace_s=15)
        ended = await docker.container(container)
        assert ended["State"]["ExitCode"] == 0
    finally:
        async for line in docker.container_logs(container):
            print(line.text)
        await docker.remove_container(container, force=True)
