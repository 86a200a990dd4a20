"""A Docker host keeps its AIs from everybody but their agent: real Docker, rules and packets.

What an AI may not reach are ports that this test opens at addresses of the Docker host itself, and
another AI beside it: nothing here could leave the machine.
"""

import asyncio
import os
import secrets
import shutil

import pytest

from haechi.adapters.docker_api import gateway_of
from haechi.adapters.fence_rules import chain_name
from haechi.adapters.iptables import sweep
from haechi.protocol import commands as c
from haechi.protocol.desired import DesiredState
from haechi.testing.fence import CALLS, lines_about, service
from haechi.testing.waiting import eventually

from .conftest import Edge, ScriptedServer, holds
from .test_containers import image, spec_of, token_of  # noqa: F401 - a fixture

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("iptables") is None, reason="needs root and iptables"
    ),
]

LISTENS = """
import socket, time
listening = socket.create_server(("0.0.0.0", 9000))
print("listens", flush=True)
while True:
    listening.accept()[0].close()
"""


def chains(device_id: str) -> list[str]:
    return lines_about(chain_name(device_id))


@pytest.fixture
async def host_port():
    """A service of the Docker host, at every address it has."""
    async with service("0.0.0.0") as port:
        yield port


@pytest.fixture
async def elsewhere(docker):
    """Another of the host's addresses."""
    name = f"haechi-test-{secrets.token_hex(4)}"
    yield gateway_of(await docker.ensure_bridge(name))
    await docker.remove_network(name)


async def test_an_ai_reaches_its_agent_and_nobody_else(
    server: ScriptedServer,
    docker_edge: Edge,
    docker,
    image,  # noqa: F811 - the fixture
    host_port: int,
    elsewhere: str,
) -> None:
    edge = docker_edge
    edge.start()
    await server.until(lambda: server.sockets and server.samples)
    other = spec_of(image, LISTENS)
    await server.order("container.start", c.StartContainer(other, token_of(other)))
    await said(server, other.deployment_id, "listens")
    (neighbour,) = [one for one in await docker.containers() if other.deployment_id in str(one)]
    network = neighbour["NetworkSettings"]["Networks"][f"haechi-{edge.device_id}"]

    goals = f"door:{host_port} {elsewhere}:{host_port} {network['IPAddress']}:9000"
    spec = spec_of(image, CALLS, environment={"GOALS": goals})
    await server.order("container.start", c.StartContainer(spec, token_of(spec)))
    # From its first call on, and while the agent is away.
    assert await said(server, spec.deployment_id, "calls:") == [
        "calls: reached refused refused refused"
    ]
    await asyncio.to_thread(edge.stop)
    fence = chains(edge.device_id)
    assert fence
    (ai,) = await docker.containers(labels=[f"haechi.deployment={spec.deployment_id}"])
    nobody = "calls: refused refused refused refused"

    async def called_while_it_was_away() -> bool:
        return nobody in [line.text async for line in docker.container_logs(ai["Id"])]

    await eventually(called_while_it_was_away)

    edge.start()
    await server.until(lambda: len(server.hellos) == 2)
    await server.want(DesiredState(revision=1, deployments=[spec, other]))
    await server.until(lambda: server.states and server.states[-1].revision == 1)
    assert set(await said(server, spec.deployment_id, "calls:")) == {
        "calls: reached refused refused refused",
        nobody,
    }
    assert chains(edge.device_id) == fence

    # Nobody to fence: nothing of it on the host.
    for one in (spec, other):
        await server.order("container.remove", c.RemoveContainer(one.deployment_id, grace_s=0))
    await server.want(DesiredState(revision=2))
    await holds(lambda: chains(edge.device_id) == [])


async def test_an_ai_that_was_allowed_the_internet_gets_out_by_its_second_network(
    server: ScriptedServer,
    docker_edge: Edge,
    image,  # noqa: F811 - the fixture
    host_port: int,
    elsewhere: str,
) -> None:
    docker_edge.start()
    await server.until(lambda: server.sockets and server.samples)
    goals = f"{elsewhere}:{host_port}"
    spec = spec_of(image, CALLS, internet=True, environment={"GOALS": goals})
    await server.order("container.start", c.StartContainer(spec, token_of(spec)))
    assert await said(server, spec.deployment_id, "calls:") == ["calls: reached reached"]


async def test_what_a_killed_device_left_in_the_firewall_goes_with_its_network(
    server: ScriptedServer,
    docker_edge: Edge,
    docker,
    image,  # noqa: F811 - the fixture
    tmp_path,
    monkeypatch,
) -> None:
    edge = docker_edge
    edge.start()
    await server.until(lambda: server.sockets and server.samples)
    spec = spec_of(image, LISTENS)
    await server.order("container.start", c.StartContainer(spec, token_of(spec)))
    await asyncio.to_thread(edge.kill)
    await sweep()
    assert chains(edge.device_id), "its network is there, and an AI on it"
    for container in await docker.containers(labels=[f"haechi.device={edge.device_id}"]):
        await docker.remove_container(container["Id"], force=True)
    await docker.remove_network(f"haechi-{edge.device_id}")
    with monkeypatch.context() as programs:
        # All that the agent's image has.
        for name in ("iptables", "iptables-restore"):
            (tmp_path / name).symlink_to(shutil.which(name))
        programs.setenv("PATH", str(tmp_path))
        await sweep()
    assert chains(edge.device_id) == []


async def said(server: ScriptedServer, deployment_id: str, what: str) -> list[str]:
    """The lines of its log that begin so, each once, as soon as there is one."""
    found: list[str] = []
    async with asyncio.timeout(60):
        while not found:
            asked = c.ReadLogs(deployment_id, tail=500)
            command_id, done = await server.begin("container.logs", asked)
            await done
            chunks = server.chunks.pop(command_id, [])
            lines = [line["text"] for chunk in chunks for line in chunk["lines"]]
            found = sorted({line for line in lines if line.startswith(what)})
    return found
