"""Nodes are wired to the site registry when they join, checked by a pull, and mended."""

import asyncio
import json
import socket

import pytest

from haechi.domains.clusters.host import ledger as ledgers
from haechi.domains.clusters.host.errors import HostUnreachable
from haechi.domains.deployments.node_trust import NodeCannotPull, NodeTrust
from haechi.protocol.commands import RegistryAccess
from haechi.testing.hosts import FakeHosts

NAME = "registry.haechi.internal:8425"
HOSTS = f"/etc/containerd/certs.d/{NAME}/hosts.toml"
PULL = "ctr -n k8s.io images pull"
NOT_FOUND = f"ctr: {NAME}/haechi/pull-check@sha256:000: not found"
DUMP = """\
[plugins.'io.containerd.cri.v1.images'.registry]
config_path = '/etc/containerd/certs.d'
"""


class World:
    def __init__(self):
        self.address = "10.0.0.1:8425"
        self.hosts = FakeHosts()
        self.host = self.hosts.add("dev-a", name="gate")
        self.host.put("/etc/hosts", "127.0.0.1 localhost\n")
        self.host.put(ledgers.PATH, json.dumps({"drop_in": DUMP}))
        self.host.on("containerd config dump", stdout=DUMP)
        self.host.on("rm -rf")
        self.host.on(PULL, status=1, stderr=NOT_FOUND)
        self.trust = NodeTrust(
            hosts=self.hosts, registry=lambda: NAME, access=self.access, nodes=self.nodes
        )
        self.said = []
        self.entered = []

    async def access(self, device_id):
        self.entered.append(device_id)
        return RegistryAccess(NAME, self.address, "the CA", user=device_id, password="pw")

    async def nodes(self):
        return ["dev-a"]

    async def join(self):
        await self.trust.joined("clu-1", "dev-a", log=self.said.append)


@pytest.fixture
def world():
    return World()


async def test_a_node_that_joins_knows_trusts_and_enters_the_registry(world):
    await world.join()
    assert "10.0.0.1" in world.host.text("/etc/hosts")
    assert "https://registry.haechi.internal:8425" in world.host.text(HOSTS)
    assert world.host.text(HOSTS.replace("hosts.toml", "ca.crt")) == "the CA"
    assert f"{NAME} was reached, trusted and entered" in world.said
    assert not [line for line in world.said if line.startswith("--")]
    assert "pw" not in " ".join(world.host.commands())


@pytest.mark.parametrize(
    "said",
    [
        "dial tcp 10.0.0.1:8425: connect: connection refused",
        "401 Unauthorized",
        "x509: certificate signed by unknown authority",
    ],
)
async def test_one_that_cannot_pull_is_said_and_not_kept_out(world, said):
    world.host.on(PULL, status=1, stderr=f"ctr: failed to resolve: {said}")
    await world.join()
    (line,) = [line for line in world.said if line.startswith("--")]
    assert said in line
    assert "gate" in line
    async with world.hosts.open("dev-a") as shell:
        with pytest.raises(NodeCannotPull):
            await world.trust.check_pull(shell, await world.access("dev-a"))


async def test_the_duty_follows_another_address_and_else_changes_nothing(world):
    await world.join()
    assert not await world.trust.mend("dev-a")
    world.address = "10.0.0.9:8425"
    await world.trust.look()
    assert "10.0.0.9" in world.host.text("/etc/hosts")
    assert "10.0.0.1 " not in world.host.text("/etc/hosts")


async def test_what_a_tool_took_away_is_put_back(world):
    await world.join()
    world.host.put(HOSTS, "")
    assert await world.trust.mend("dev-a")
    assert NAME.partition(":")[0] in world.host.text(HOSTS)


async def test_a_host_that_is_away_is_left_for_later(world):
    world.hosts.turn_off("dev-a")
    assert not await world.trust.mend("dev-a")
    with pytest.raises(HostUnreachable):
        await world.join()


async def test_a_node_that_leaves_forgets_the_registry(world):
    await world.join()
    world.entered.clear()
    await world.trust.leaving("clu-1", "dev-a", log=world.said.append)
    assert world.entered == [], "it would get another credential on its way out"
    assert "registry.haechi.internal" not in world.host.text("/etc/hosts")


async def test_a_registry_whose_name_leads_nowhere_keeps_no_node_out(world, monkeypatch):
    """And the look at the others goes on."""

    async def nowhere(*_args, **_kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", nowhere)
    world.address = "gone.site.example:8425"
    await world.join()
    assert any("gone.site.example" in one for one in world.said)
    assert not await world.trust.mend("dev-a")
    await world.trust.look()
