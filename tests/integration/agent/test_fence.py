"""The node's own firewall keeps an AI from everybody but its agent: real rules, real packets, in
network namespaces of their own (a pod, its node, and somebody beyond).
"""

import asyncio
import os
import secrets
import shutil
import subprocess
import sys

import pytest

from haechi.adapters.fence_rules import Door, chain_name
from haechi.adapters.iptables import firewall
from haechi.agent.fence import Fence
from haechi.domains.clusters.agent.places import _FORGET_RULES

AGENT, NODE, POD, OTHER_POD, BEYOND = (
    *("169.254.84.30", "10.244.1.1", "10.244.1.5", "10.244.1.6"),
    "198.18.9.2",
)
INTAKE, MEDIA, SSHD = 8430, 18554, 22
CALL = """
import socket, sys
source, target, port = sys.argv[1:]
try:
    socket.create_connection((target, int(port)), timeout=20, source_address=(source, 0))
except OSError as error:
    print(type(error).__name__)
"""
DEVICE = "dev-abcdefghij234567"


def run(*argv, check=True):
    return subprocess.run(argv, check=check, capture_output=True, text=True, timeout=60)


def may_make_namespaces() -> bool:
    if os.geteuid() or not all(shutil.which(one) for one in ("ip", "iptables", "python3")):
        return False
    return run("unshare", "-n", "iptables", "-S", check=False).returncode == 0


pytestmark = pytest.mark.skipif(
    not may_make_namespaces(), reason="needs root, iptables and network namespaces"
)


class Net:
    def __init__(self):
        self.names = [f"haechi-{secrets.token_hex(3)}-{role}" for role in ("pod", "node", "far")]
        self.pod, self.node, self.far = self.names

    def make(self):
        for name in self.names:
            run("ip", "netns", "add", name)
            self.ip(name, "link", "set", "lo", "up")
        self.join(self.pod, POD, self.node, NODE)
        self.ip(self.pod, "address", "add", f"{OTHER_POD}/24", "dev", "eth0")
        self.join(self.far, BEYOND, self.node, "198.18.9.1")
        for name, gateway in ((self.pod, NODE), (self.far, "198.18.9.1")):
            self.ip(name, "route", "add", "default", "via", gateway)
        self.ip(self.node, "address", "add", f"{AGENT}/32", "dev", "lo")
        forward = "echo 1 > /proc/sys/net/ipv4/ip_forward"
        run("ip", "netns", "exec", self.node, "sh", "-c", forward)

    def join(self, inner, address, outer, gateway):
        end = f"v{secrets.token_hex(4)}"
        self.ip(inner, "link", "add", "eth0", "type", "veth", "peer", end, "netns", outer)
        for name, device, its in ((inner, "eth0", address), (outer, end, gateway)):
            self.ip(name, "address", "add", f"{its}/24", "dev", device)
            self.ip(name, "link", "set", device, "up")

    def ip(self, name, *words):
        run("ip", "-n", name, *words)

    def reaches(self, source, target, port) -> bool:
        """A call from one of the pod's addresses: nobody listens, so who is there refuses it."""
        call = ("ip", "netns", "exec", self.pod, sys.executable, "-c", CALL)
        return run(*call, source, target, str(port)).stdout.strip() == "ConnectionRefusedError"

    async def iptables(self, argv, stdin):
        return await firewall(["ip", "netns", "exec", self.node, *argv], stdin)

    def rules(self):
        return run("ip", "netns", "exec", self.node, "iptables-save").stdout

    def remove(self):
        for name in self.names:
            run("ip", "netns", "delete", name, check=False)


@pytest.fixture
def net():
    made = Net()
    try:
        made.make()
        yield made
    finally:
        made.remove()


def fence_of(net, fenced, ports):
    return Fence(
        device_id=DEVICE,
        doors=lambda: [Door(AGENT, one) for one in ports],
        fenced=lambda: [["-s", one] for one in fenced],
        run=net.iptables,
    )


async def test_an_ai_reaches_its_agent_and_nobody_beyond_it(net):
    agent = [(AGENT, INTAKE), (AGENT, MEDIA)]
    # What else its host serves at all of its addresses is there at the agent's as well.
    everybody = [*agent, (AGENT, SSHD), (NODE, SSHD), (NODE, INTAKE), (BEYOND, INTAKE)]

    async def reached(source):
        found = [await asyncio.to_thread(net.reaches, source, *target) for target in everybody]
        return [target for target, there in zip(everybody, found, strict=True) if there]

    assert await reached(POD) == everybody
    fenced, ports = [POD], [INTAKE, MEDIA]
    fence = fence_of(net, fenced, ports)
    await fence.apply()
    assert await reached(POD) == agent
    assert await reached(OTHER_POD) == everybody, "another pod is not concerned"
    ports.remove(MEDIA)
    await fence.apply()
    assert await reached(POD) == [(AGENT, INTAKE)]
    fenced.clear()
    await fence.apply()
    assert await reached(POD) == everybody
    assert "HAECHI" not in net.rules()


async def test_what_others_accept_before_it_is_fenced_again_at_the_next_look(net):
    """A Docker that is started again puts its own rules first."""
    fence = fence_of(net, [POD], [INTAKE])
    await fence.apply()
    accept = ("iptables", "-I", "FORWARD", "-s", POD, "-j", "ACCEPT")
    assert await net.iptables(accept, "") == 0
    assert await asyncio.to_thread(net.reaches, POD, BEYOND, INTAKE)
    fence._forget()  # as the rounds do now and then
    await fence.apply()
    assert not await asyncio.to_thread(net.reaches, POD, BEYOND, INTAKE)
    jumps = [line for line in net.rules().splitlines() if line.endswith(chain_name(DEVICE))]
    assert len(jumps) == 2, "one of INPUT, one of FORWARD"


async def test_rules_go_with_the_agent_and_others_stay(net):
    async def at_the_node(*argv):
        assert await net.iptables(argv, "") == 0

    await at_the_node("iptables", "-A", "FORWARD", "-s", "192.0.2.1", "-j", "DROP")
    fence = fence_of(net, [POD], [INTAKE])
    await fence.apply()
    assert chain_name(DEVICE) in net.rules()
    await at_the_node("sh", "-c", _FORGET_RULES)
    assert "HAECHI" not in net.rules()
    assert "-A FORWARD -s 192.0.2.1/32 -j DROP" in net.rules()
