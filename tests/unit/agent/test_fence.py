"""What a device refuses its AIs, as its firewall is told; on a firewall in memory."""

import pytest

from haechi.adapters.fence_rules import Door, chain_name, rules
from haechi.adapters.iptables import stale
from haechi.agent.containers import Containers
from haechi.agent.deployments import Deployments, Kept
from haechi.agent.fence import Fence
from haechi.agent.home import Home
from haechi.agent.node import Node
from haechi.agent.pods import Pods
from haechi.protocol.desired import ContainerSpec

DEVICE = "dev-abcdefghij234567"
AGENT = "169.254.84.30"
CHAIN = "HAECHI-AI-ABCDEFGHIJ234567"
INTAKE = 8430


class Firewall:
    """The filter table as iptables keeps it: what a packet meets, in order."""

    def __init__(self):
        self.chains = {"INPUT": [], "FORWARD": ["-j KUBE-FORWARD"]}
        self.calls = 0
        self.broken = False
        """True, or a word of the commands that are."""

    async def __call__(self, argv, stdin):
        self.calls += 1
        if self.broken is True or self.broken in argv:
            raise OSError("iptables: not found")
        if argv[0] == "iptables-restore":
            table, declared, *lines, commit, end = stdin.split("\n")
            assert (table, commit, end) == ("*filter", "COMMIT", "")
            assert "--noflush" in argv
            self.chains[declared.split()[0][1:]] = []
            assert [self.do(*line.split()) for line in lines] == [0] * len(lines)
            return 0
        assert argv[3:5] == ["-t", "filter"]
        return self.do(*argv[5:])

    def do(self, verb, name, *rest):
        rule = " ".join(rest)
        match verb:
            case "-C":
                return 0 if rule in self.chains.get(name, []) else 1
            case "-A":
                self.chains[name].append(rule)
            case "-I":
                self.chains[name].insert(0, rule)
            case "-D":
                if rule not in self.chains.get(name, []):
                    return 1
                self.chains[name].remove(rule)
            case "-F":
                if name not in self.chains:
                    return 1
                self.chains[name] = []
            case "-X":
                if self.chains.pop(name, None) is None:
                    return 1
        return 0

    @staticmethod
    def match_first(rule):
        """Nothing is decided about somebody who is not named."""
        return rule.split()[0] in ("-s", "-i")

    def verdict(self, where, source, target, port=INTAKE):
        """What becomes of a packet at our chain; `pass` where it says nothing."""
        if f"-j {CHAIN}" != (self.chains[where] or [""])[0]:
            return "pass"
        for rule in self.chains[CHAIN]:
            assert self.match_first(rule)
            words = rule.split()
            match = dict(zip(words[::2], words[1::2], strict=False))
            if source not in (match.get("-s", "").removesuffix("/32"), match.get("-i")):
                continue
            if match.get("-d", f"{target}/32") != f"{target}/32":
                continue
            if match.get("--dport", str(port)) != str(port):
                continue
            return "pass" if match["-j"] == "RETURN" else match["-j"]
        return "pass"


@pytest.fixture
def pods(tmp_path):
    """Two AIs, the second allowed the internet."""
    home = Home(tmp_path)
    home.prepare()
    deployments = Deployments(home)
    deployments.serve(
        [
            ContainerSpec("dep-a", "pkg-a", "ver-a", "weather", "an-image"),
            ContainerSpec("dep-b", "pkg-b", "ver-b", "cloud", "an-image", internet=True),
        ]
    )
    found = Pods(deployments, proc=tmp_path)
    found.deployments = deployments
    found.place = lambda name, *addresses: deployments.placed(deployments.get(name), addresses)
    return found


@pytest.fixture
def node(pods):
    made = Node(pods.deployments, address=AGENT, on_pods=lambda: None)
    made.pods = pods
    return made


def fence_of(device, firewall, agent=AGENT):
    return Fence(
        device_id=DEVICE,
        doors=lambda: [Door(agent, INTAKE)],
        fenced=device.fenced,
        run=firewall,
    )


async def test_what_an_earlier_agent_laid_stays_until_pods_are_looked_for(pods, node):
    firewall = Firewall()
    firewall.chains[CHAIN] = ["-s 10.244.1.5/32 -j REJECT"]
    firewall.chains["FORWARD"].insert(0, f"-j {CHAIN}")
    fence = fence_of(node, firewall)
    assert await fence.apply()
    assert firewall.verdict("FORWARD", "10.244.1.5", "198.51.100.1") == "REJECT"
    await pods.look()
    assert not await fence.apply()
    assert CHAIN not in firewall.chains


def test_a_chain_s_name_is_one_that_iptables_takes():
    assert chain_name(DEVICE) == CHAIN
    for name in (CHAIN, chain_name(DEVICE, over_ssh=True)):
        assert len(name) <= 28
    assert rules(CHAIN, [Door(AGENT, INTAKE)], []) == []


async def test_an_ai_reaches_its_agent_and_nobody_else(pods, node):
    firewall = Firewall()
    fence = fence_of(node, firewall)
    await pods.look()
    assert not await fence.apply()
    assert firewall.chains == {"INPUT": [], "FORWARD": ["-j KUBE-FORWARD"]}
    pods.place("dep-a", "10.244.1.5", "fd00::5")
    pods.place("dep-b", "10.244.1.6")
    assert await fence.apply()
    assert firewall.verdict("INPUT", "10.244.1.5", AGENT) == "pass"
    assert firewall.verdict("INPUT", "10.244.1.5", AGENT, port=22) == "REJECT"
    for where, target in (("INPUT", "192.168.0.11"), ("FORWARD", "198.51.100.1")):
        assert firewall.verdict(where, "10.244.1.5", target) == "REJECT"
        assert firewall.verdict(where, "10.244.1.6", target) == "pass", "it was allowed"
        assert firewall.verdict(where, "10.244.0.2", target) == "pass", "it is no AI"
    # Nothing is done twice; another pod is fenced, one that ended is let go.
    calls = firewall.calls
    await fence.apply()
    assert firewall.calls == calls
    pods.place("dep-a", "10.244.1.9")
    await fence.apply()
    assert firewall.verdict("FORWARD", "10.244.1.9", "198.51.100.1") == "REJECT"
    assert firewall.verdict("FORWARD", "10.244.1.5", "198.51.100.1") == "pass"
    assert firewall.chains["FORWARD"] == [f"-j {CHAIN}", "-j KUBE-FORWARD"]
    pods.place("dep-a")
    assert not await fence.apply()
    assert firewall.chains == {"INPUT": [], "FORWARD": ["-j KUBE-FORWARD"]}


async def test_rules_that_somebody_flushed_come_back(pods, node):
    firewall = Firewall()
    fence = fence_of(node, firewall)
    await pods.look()
    pods.place("dep-a", "10.244.1.5")
    await fence.apply()
    firewall.chains = {"INPUT": [], "FORWARD": []}
    fence._forget()  # as the rounds do now and then
    await fence.apply()
    assert firewall.verdict("FORWARD", "10.244.1.5", "198.51.100.1") == "REJECT"


async def test_it_comes_first_again_where_others_put_theirs_before_it(pods, node):
    """As a Docker does that was started again."""
    firewall = Firewall()
    fence = fence_of(node, firewall)
    await pods.look()
    pods.place("dep-a", "10.244.1.5")
    await fence.apply()
    firewall.chains["FORWARD"].insert(0, "-j DOCKER-FORWARD")
    fence._forget()  # as the rounds do now and then
    await fence.apply()
    jumps = [f"-j {CHAIN}", "-j DOCKER-FORWARD", "-j KUBE-FORWARD"]
    assert firewall.chains["FORWARD"] == jumps


async def test_what_was_done_by_half_is_not_taken_for_done(pods, node):
    firewall = Firewall()
    fence = fence_of(node, firewall)
    await pods.look()
    pods.place("dep-a", "10.244.1.5")
    await fence.apply()
    pods.place("dep-a")
    firewall.broken = "-F"
    with pytest.raises(OSError, match="not found"):
        await fence.apply()
    firewall.broken = False
    pods.place("dep-a", "10.244.1.5")
    await fence.apply()
    assert firewall.verdict("FORWARD", "10.244.1.5", "198.51.100.1") == "REJECT"


async def test_a_firewall_that_cannot_be_used_is_tried_again(pods, node):
    firewall = Firewall()
    fence = fence_of(node, firewall)
    await pods.look()
    pods.place("dep-a", "10.244.1.5")
    firewall.broken = True
    with pytest.raises(OSError, match="not found"):
        await fence.apply()
    firewall.broken = False
    await fence.apply()
    assert firewall.verdict("FORWARD", "10.244.1.5", "198.51.100.1") == "REJECT"


async def test_ais_of_a_docker_host_are_fenced_by_their_network(tmp_path):
    home, firewall, gateway = Home(tmp_path), Firewall(), "172.20.0.1"
    home.prepare()
    deployments = Deployments(home)
    containers = Containers(
        engine=None,
        deployments=deployments,
        device_id=DEVICE,
        cores=1.0,
        memory_bytes=1,
        cgroup_parent="",
        intake_port=INTAKE,
        camera_url=None,
    )
    fence = fence_of(containers, firewall, gateway)
    assert await fence.apply(), "what an earlier agent laid stays until the network was seen"
    assert firewall.calls == 0
    containers.interface = "br-0123456789ab"
    assert not await fence.apply()
    assert CHAIN not in firewall.chains, "there is no AI"
    deployments.keep(Kept(ContainerSpec("dep-a", "pkg-a", "ver-a", "weather", "an-image")))
    await fence.lay()
    assert firewall.verdict("INPUT", "br-0123456789ab", gateway) == "pass"
    assert firewall.verdict("INPUT", "br-0123456789ab", gateway, port=22) == "REJECT"
    assert firewall.verdict("FORWARD", "br-0123456789ab", "198.51.100.1") == "REJECT"
    assert firewall.verdict("INPUT", "eth0", gateway, port=22) == "pass"
    deployments.forget("dep-a")
    assert not await fence.apply()
    assert firewall.chains == {"INPUT": [], "FORWARD": ["-j KUBE-FORWARD"]}


async def test_a_fence_that_cannot_be_laid_hinders_no_ai_and_wakes_the_rounds(pods, node):
    firewall = Firewall()
    fence = fence_of(node, firewall)
    await pods.look()
    pods.place("dep-a", "10.244.1.5")
    firewall.broken = True
    await fence.lay()
    assert fence._rounds._wake.is_set()


def test_chains_of_interfaces_that_are_gone_are_stale():
    listed = """
-P INPUT ACCEPT
-N HAECHI-AI-AAAA
-N HAECHI-AI-BBBB
-N HAECHI-AI-HALF
-A INPUT -j HAECHI-AI-BBBB
-A INPUT -i br-gone -j ACCEPT
-A HAECHI-AI-AAAA -d 172.20.0.1/32 -i br-gone -p tcp -m tcp --dport 8430 -j RETURN
-A HAECHI-AI-AAAA -i br-gone -j REJECT --reject-with icmp-admin-prohibited
-A HAECHI-AI-BBBB -i br-here -j REJECT --reject-with icmp-admin-prohibited
-A HAECHI-AI-NODE -s 10.244.1.5/32 -j REJECT --reject-with icmp-admin-prohibited
-A HAECHI-AI-BOTH -i br-gone -j REJECT
-A HAECHI-AI-BOTH -i br-here -j REJECT
"""
    gone = stale(listed, {"lo", "br-here"})
    assert gone == ["HAECHI-AI-AAAA", "HAECHI-AI-HALF"], "and what was being removed when it died"
    assert stale(listed, {"lo", "br-here"}, but=gone) == [], "they are being filled"
    assert stale("", {"lo"}) == []
