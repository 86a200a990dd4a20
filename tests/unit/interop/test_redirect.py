"""Old fixed addresses: what is led where, as the firewall and the kernel are told. Pure."""

import socket

from haechi.agent.deployments import Deployments
from haechi.agent.home import Home
from haechi.agent.netlink import address_message, route_message
from haechi.agent.node import Node
from haechi.agent.redirect import Redirector, allowed, chain_name, rules
from haechi.interop.redirects import parse
from haechi.protocol.desired import ContainerSpec, Redirect

DEVICE = "dev-abcdefghij234567"
OLD = [Redirect("192.0.2.10", 5231), Redirect("192.0.2.10", 6432)]


def test_rules_name_bridge_destination_and_port_and_nothing_wider():
    assert rules(DEVICE, [["-i", "br-1"]], ("172.20.0.1", 8430), OLD[:1]) == [
        [
            "-A",
            "HAECHI-ABCDEFGHIJ234567",
            "-i",
            "br-1",
            "-p",
            "tcp",
            "-d",
            "192.0.2.10/32",
            "--dport",
            "5231",
            "-j",
            "DNAT",
            "--to-destination",
            "172.20.0.1:8430",
        ]
    ]
    assert len(chain_name(DEVICE)) <= 28


def test_what_is_no_address_is_left_out():
    text = "192.0.2.10:5231, 192.0.2.10:6432 127.0.0.1:80 x:1 192.0.2.1 192.0.2.1:99999 224.0.0.1:1"
    assert parse(text) == OLD
    assert parse("") == []
    odd = [Redirect("::1", 1), Redirect("0.0.0.0", 1), Redirect("127.0.0.1", 1), *OLD, *OLD]
    assert allowed(odd) == OLD


def test_the_kernels_message():
    message = route_message(24, 0x500, "192.0.2.10", "172.20.0.1")
    assert len(message) == int.from_bytes(message[:4], "little") == 44
    assert message[16:18] == bytes([socket.AF_INET, 32])
    assert socket.inet_aton("192.0.2.10") in message
    assert socket.inet_aton("172.20.0.1") in message
    assert len(route_message(25, 0, "192.0.2.10", None)) == 36
    address = address_message("169.254.84.30", 1)
    assert len(address) == int.from_bytes(address[:4], "little") == 40
    assert address[16:20] == bytes([socket.AF_INET, 32, 0, 254])


async def test_each_pod_is_a_source_and_nobody_else():
    firewall, pods = Firewall(), []

    def sources():
        return list(pods)

    redirector = Redirector(
        device_id=DEVICE,
        sources=sources,
        intake=lambda: ("169.254.84.30", 8430),
        pids=list,
        run=firewall,
    )
    redirector.want(OLD[:1])
    await redirector.apply()
    assert firewall.chains == {}
    pods += [["-s", "10.244.1.5/32"], ["-s", "10.244.1.6/32"]]
    await redirector.apply()
    (content,) = firewall.chains.values()
    assert [rule[:2] for rule in content] == pods
    assert {rule[5] for rule in content} == {"192.0.2.10/32"}
    pods.clear()
    await redirector.apply()
    assert (firewall.chains, firewall.jumps) == ({}, [])


async def test_rules_that_are_made_anew_are_there_at_every_moment():
    firewall, pods = Firewall(), [["-s", "10.244.1.5/32"]]

    def sources():
        return list(pods)

    redirector = Redirector(
        device_id=DEVICE,
        sources=sources,
        intake=lambda: ("169.254.84.30", 8430),
        pids=list,
        run=firewall,
    )
    redirector.want(OLD)
    await redirector.apply()
    firewall.seen.clear()
    pods.append(["-s", "10.244.1.6/32"])
    await redirector.apply()
    redirector._made = None  # as it is looked at now and then
    await redirector.apply()
    assert sorted(set(firewall.seen)) == [2, 4], "those of before, or those of now"


async def test_until_an_ai_is_seen_any_pod_may_be_it(tmp_path):
    home = Home(tmp_path)
    home.prepare()
    deployments = Deployments(home)
    node = Node(deployments, address="127.0.0.1", on_pods=lambda: None)
    node.pod_networks = ["10.244.0.0/16", "fd00:244::/56"]
    assert node.sources() == []
    spec = ContainerSpec("dep-a", "pkg-a", "ver-a", "weather", "an-image")
    deployments.serve([spec])
    assert node.sources() == [["-s", "10.244.0.0/16"]]
    deployments.placed(deployments.get("dep-a"), ("10.244.1.5", "fd00:244::5"))
    assert node.sources() == [["-s", "10.244.1.5/32"]]
    deployments.serve([spec, ContainerSpec("dep-b", "pkg-a", "ver-b", "weather-2", "an-image")])
    assert node.sources() == [["-s", "10.244.0.0/16"]]
    node.pod_networks = []
    assert node.sources() == [["-s", "10.244.1.5/32"]]
    deployments.serve([])
    assert node.sources() == []


class Firewall:
    """Knows chains and jumps, as iptables and iptables-restore do; `seen` is how many rules there
    were after each call.
    """

    def __init__(self):
        self.chains = {}
        self.jumps = []
        self.calls = 0
        self.seen = []

    async def __call__(self, argv, stdin):
        self.calls += 1
        code = self._restored(stdin) if argv[0] == "iptables-restore" else self._done(argv[5:])
        self.seen.append(sum(len(content) for content in self.chains.values()))
        return code

    def _restored(self, text):
        table, declared, *rules, commit, end = text.split("\n")
        assert (table, commit, end) == ("*nat", "COMMIT", "")
        chain = declared.split()[0].removeprefix(":")
        self.chains[chain] = []
        return max(self._done(rule.split()) for rule in rules)

    def _done(self, arguments):
        action, chain, *rest = arguments
        if action in {"-C", "-D"}:
            if rest not in self.jumps:
                return 1
            if action == "-D":
                self.jumps.remove(rest)
        elif action == "-A":
            self.chains[chain].append(rest)
        elif action == "-I":
            self.jumps.append(rest)
        elif action == "-F":
            self.chains[chain] = []
        else:
            assert action == "-X"
            del self.chains[chain]
        return 0


async def test_rules_come_follow_the_intake_and_go():
    firewall = Firewall()
    intake = [None]

    def bridge():
        return [["-i", "br-1"]]

    redirector = Redirector(
        device_id=DEVICE, sources=bridge, intake=lambda: intake[0], pids=list, run=firewall
    )
    await redirector.apply()
    redirector.want(OLD)
    await redirector.apply()
    assert firewall.chains == {}
    intake[0] = ("172.20.0.1", 8430)
    for _ in range(2):
        await redirector.apply()
    (content,) = firewall.chains.values()
    assert [rule[7] for rule in content] == ["5231", "6432"]
    assert len(firewall.jumps) == 1
    calls = firewall.calls
    await redirector.apply()
    assert firewall.calls == calls
    intake[0] = ("172.21.0.1", 8430)
    await redirector.apply()
    (content,) = firewall.chains.values()
    assert {rule[-1] for rule in content} == {"172.21.0.1:8430"}
    assert len(firewall.jumps) == 1
    redirector.want([])
    await redirector.apply()
    assert (firewall.chains, firewall.jumps) == ({}, [])
