"""AIs of a Docker host without an agent: real Docker and firewall, a real SSH server on loopback.

What they may and may not reach are ports that the test opens at addresses of this machine's own
Docker networks.
"""

import asyncio
import secrets
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from haechi.adapters.docker_api import gateway_of
from haechi.adapters.docker_bodies import fenced_name
from haechi.adapters.docker_ssh_errors import NotFenced
from haechi.adapters.engine_docker_ssh import DockerSshEngine
from haechi.adapters.fence_rules import chain_name
from haechi.adapters.iptables import Chain, firewall
from haechi.core.names import NameUnknown
from haechi.core.secrets import Secret
from haechi.domains.clusters.host.errors import SudoAsks
from haechi.testing.fence import CALLS, lines_about, service
from haechi.testing.waiting import eventually

from .test_engine import SOCKET, docker, image, over_ssh, sshd  # noqa: F401 - fixtures

pytestmark = [
    pytest.mark.integration,
    pytest.mark.docker,
    pytest.mark.skipif(not Path(SOCKET).exists(), reason="no Docker daemon here"),
    pytest.mark.skipif(shutil.which("iptables") is None, reason="needs iptables"),
]


def chains(device_id: str) -> list[str]:
    return lines_about(chain_name(device_id, over_ssh=True))


@pytest.fixture
async def elsewhere(docker) -> AsyncIterator[str]:  # noqa: F811 - the fixture
    """Another address of this machine; the server's, here."""
    name = f"haechi-test-{secrets.token_hex(4)}"
    yield gateway_of(await docker.ensure_bridge(name))
    await docker.remove_network(name)


@pytest.fixture
async def ports(elsewhere) -> AsyncIterator[tuple[int, int]]:
    """The server's, and another that the same machine serves."""
    async with service(elsewhere) as one, service(elsewhere) as other:
        yield one, other


@pytest.fixture
async def site(over_ssh, elsewhere, ports, monkeypatch):  # noqa: F811 - the fixture
    """Its server is called by a name that only this process knows."""

    async def address_of(name: str, **_: object) -> str:
        assert name == "haechi.site"
        return elsewhere

    monkeypatch.setattr("haechi.adapters.docker_ssh_fence.address_of", address_of)
    hosts = over_ssh.engine._hosts._hosts
    await over_ssh.engine.close()
    over_ssh.engine = DockerSshEngine(
        hosts, server_url=lambda: f"http://haechi.site:{ports[0]}", ca_pem=lambda: ""
    )
    yield over_ssh
    await over_ssh.engine.close()


async def calls(site, spec) -> set[str]:
    async def look() -> set[str]:
        pieces = site.engine.logs(site.device_id, spec.deployment_id, tail=500)
        lines = {line.text async for piece in pieces for line in piece.lines}
        return {line for line in lines if line.startswith("calls:")}

    return await eventually(look)


async def test_an_ai_reaches_the_server_and_nobody_else(site, ports):
    spec = site.spec(CALLS, GOALS=f"door:{ports[1]}")
    await site.start(spec)
    assert await calls(site, spec) == {"calls: reached refused"}

    # A host that was off, or whose firewall was flushed, gets its rules again.
    await Chain("filter", chain_name(site.device_id, over_ssh=True), firewall).fill([])
    await site.engine.close()
    await site.state(spec)
    assert chains(site.device_id)

    await site.engine.stop(site.device_id, spec.deployment_id, 1)
    await site.state(spec)
    assert chains(site.device_id), "Docker may start it again"
    await site.engine.remove(site.device_id, spec.deployment_id, 1, 0)
    assert chains(site.device_id) == []


async def test_one_that_was_allowed_the_internet_is_not_fenced(site, ports):
    spec = site.spec(CALLS, GOALS=f"door:{ports[1]}")
    spec = msgspec.structs.replace(spec, internet=True)
    await site.start(spec)
    assert await calls(site, spec) == {"calls: reached reached"}
    assert chains(site.device_id) == []


async def test_where_nobody_is_fenced_the_firewall_is_left_alone(site, monkeypatch):
    """Its login may have no right to it."""
    monkeypatch.setattr("haechi.adapters.docker_ssh_fence.LOOK_S", 0)
    spec = msgspec.structs.replace(site.spec(), internet=True)
    await site.start(spec)
    calls: list[object] = []
    monkeypatch.setattr("haechi.adapters.docker_ssh_fence._over", calls.append)
    for _ in range(3):
        await site.state(spec)
    await site.engine.remove(site.device_id, spec.deployment_id, 1, 0)
    assert calls == []


async def test_it_is_seen_where_ais_stand_though_their_fence_cannot_be_seen_to(
    site,
    docker,  # noqa: F811 - the fixture
    monkeypatch,
):
    monkeypatch.setattr("haechi.adapters.docker_ssh_fence.LOOK_S", 0)
    spec = site.spec()
    await site.start(spec)

    async def unknown(name: str, **_: object) -> str:
        raise NameUnknown(name=name, reason="no answer")

    monkeypatch.setattr("haechi.adapters.docker_ssh_fence.address_of", unknown)
    assert await site.state(spec) == "running"
    assert chains(site.device_id), "what is there stays"

    # Somebody took its network away.
    await site.engine.stop(site.device_id, spec.deployment_id, 1)
    await docker.remove_network(fenced_name(site.device_id))
    assert await site.state(spec) == "exited"


async def test_where_ais_stand_is_seen_while_one_is_begun(site, monkeypatch):
    """To replace one may take as long as it is given to end."""
    monkeypatch.setattr("haechi.adapters.docker_ssh_fence.LOOK_S", 0)
    fences, device_id, spec = site.engine._fences, site.device_id, site.spec()
    async with site.engine._hosts.open(device_id) as way, fences.laid(way, device_id):
        async with asyncio.timeout(30):
            assert await site.state(spec) == "absent"
        assert chains(device_id)


async def test_an_ai_that_cannot_be_fenced_does_not_begin(site, docker, monkeypatch):  # noqa: F811
    """The login may use Docker and has no sudo."""

    async def run(*_: object, **__: object) -> int:
        raise SudoAsks(host="gate", user="member")

    monkeypatch.setattr("haechi.adapters.docker_ssh_fence._over", lambda _shell: run)
    spec = site.spec()
    with pytest.raises(NotFenced) as refused:
        await site.engine.start(site.device_id, spec, Secret("a token"), [])
    assert refused.value.data["host"] == "gate"
    assert await docker.containers(labels=[f"haechi.deployment={spec.deployment_id}"]) == []
    assert await docker.network(fenced_name(site.device_id))
