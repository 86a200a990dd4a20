"""What a firewall surely closes, and that nothing is said where it is not sure."""

import json

import pytest

from haechi.domains.clusters.host.firewall import Port, closed

API, KUBELET, FLANNEL = Port("tcp", 6443), Port("tcp", 10250), Port("udp", 8472)
ALL = (API, KUBELET, FLANNEL)


def nft(*rules, policy="accept", family="inet", more=()):
    """A table whose input chain has these rules, each a list of expressions."""
    where = {"family": family, "table": "filter"}
    chain = {**where, "name": "input", "type": "filter", "hook": "input", "policy": policy}
    entries = [{"metainfo": {"version": "1.0.6"}}, {"table": {"family": family, "name": "filter"}}]
    entries += [{"chain": chain}]
    entries += [{"rule": {**where, "chain": "input", "expr": list(rule)}} for rule in rules]
    for name, its in dict(more).items():
        entries.append({"chain": {**where, "name": name}})
        entries += [{"rule": {**where, "chain": name, "expr": list(one)}} for one in its]
    return json.dumps({"nftables": entries})


def match(left, right, op="=="):
    return {"match": {"op": op, "left": left, "right": right}}


def port(protocol, right, op="=="):
    return match({"payload": {"protocol": protocol, "field": "dport"}}, right, op)


def meta(key, right, op="=="):
    return match({"meta": {"key": key}}, right, op)


STATE = {"ct": {"key": "state"}}
KNOWN = [match(STATE, ["established", "related"], "in"), {"accept": None}]
ACCEPT, DROP, REJECT = {"accept": None}, {"drop": None}, {"reject": None}
SSH = [port("tcp", 22), {"counter": {"packets": 0, "bytes": 0}}, ACCEPT]
SOURCE = match({"payload": {"protocol": "ip", "field": "saddr"}}, "192.0.2.0")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("not JSON", []),
        (nft(), []),
        (nft(KNOWN, SSH, policy="drop"), [*ALL]),
        (nft(KNOWN, SSH, policy="drop")[:-3], []),
        (nft(KNOWN, SSH, [REJECT]), [*ALL]),
        (nft(KNOWN, SSH, policy="drop", family="ip6"), []),
        (nft([port("tcp", 6443), DROP]), [API]),
        (nft([port("tcp", {"set": [22, {"range": [6000, 7000]}]}), DROP]), [API]),
        (nft([port("th", {"set": [6443, 8472]}), DROP]), [API, FLANNEL]),
        (nft([port("udp", 8472), DROP], [port("udp", 8472), ACCEPT]), [FLANNEL]),
        (nft([port("udp", 8472), ACCEPT], [port("udp", 8472), DROP]), []),
        (nft([port("tcp", 22, "!="), DROP]), [API, KUBELET]),
        (nft([meta("l4proto", {"set": ["udp", "icmp"]}), ACCEPT], policy="drop"), [API, KUBELET]),
        (nft([meta("iifname", "lo"), ACCEPT], policy="drop"), [*ALL]),
        (nft([meta("iifname", "lo", "!="), port("tcp", 6443), DROP]), [API]),
        # Another host of the site may well be meant: not sure.
        (nft([SOURCE, ACCEPT], policy="drop"), []),
        (nft([meta("iifname", "eth0"), ACCEPT], policy="drop"), []),
        (nft([port("tcp", "@allowed"), ACCEPT], policy="drop"), [FLANNEL]),
        (nft([{"xt": {"type": "match", "name": "set"}}, ACCEPT], policy="drop"), []),
        (nft([{"xt": {"type": "target", "name": "X"}}], policy="drop"), []),
        (nft([{"limit": {"rate": 5}}, ACCEPT], policy="drop"), []),
        (nft([SOURCE, DROP]), []),
        (nft([{}], [DROP]), []),
        ('{"nftables": [[]]}', []),
        ("[]", []),
        (nft([{"unheard of": {}}], policy="drop"), []),
        # Chains.
        (nft([{"jump": {"target": "a"}}], [DROP], more={"a": [SSH]}), [*ALL]),
        (
            nft([{"jump": {"target": "a"}}], [DROP], more={"a": [[port("tcp", 6443), ACCEPT]]}),
            [KUBELET, FLANNEL],
        ),
        (
            nft([{"jump": {"target": "a"}}], [DROP], more={"a": [[{"return": None}], [ACCEPT]]}),
            [*ALL],
        ),
        (nft([{"goto": {"target": "a"}}], [DROP], more={"a": []}), []),
        (nft([{"jump": {"target": "gone"}}], [DROP]), []),
        (nft([{"jump": {"target": "a"}}], [DROP], more={"a": [[{"jump": {"target": "a"}}]]}), []),
    ],
)
def test_nftables(text, found):
    assert closed(text, "", ALL) == found


def test_a_map_of_states_is_followed():
    states = {"set": [["established", ACCEPT], ["related", ACCEPT], ["invalid", DROP]]}
    text = nft([{"vmap": {"key": STATE, "data": states}}], SSH, policy="drop")
    assert closed(text, "", ALL) == [*ALL]
    ports = {"set": [[22, ACCEPT], [6443, {"jump": {"target": "api"}}]]}
    key = {"payload": {"protocol": "tcp", "field": "dport"}}
    api = {"api": [[ACCEPT]]}
    text = nft([{"vmap": {"key": key, "data": ports}}], policy="drop", more=api)
    assert closed(text, "", ALL) == [KUBELET, FLANNEL]
    text = nft([{"vmap": {"key": key, "data": "@named"}}], policy="drop")
    assert closed(text, "", ALL) == []


def firewalld(zone):
    """As firewalld 1.3 writes it, with the only interface in this zone."""
    icmp = [meta("l4proto", {"set": ["icmp", "ipv6-icmp"]}), ACCEPT]
    to_zone = {"goto": {"target": "filter_IN_zone"}}
    return nft(
        KNOWN,
        [match({"ct": {"key": "status"}}, "dnat", "in"), ACCEPT],
        [meta("iifname", "lo"), ACCEPT],
        [match(STATE, "invalid", "in"), DROP],
        [{"jump": {"target": "filter_INPUT_ZONES"}}],
        [REJECT],
        more={
            "filter_INPUT_ZONES": [[meta("iifname", "eth0"), to_zone], [to_zone]],
            "filter_IN_zone": [[{"jump": {"target": "filter_IN_zone_allow"}}], icmp, *zone],
            "filter_IN_zone_allow": [
                [port("tcp", 22), ACCEPT],
                [port("tcp", {"range": [6443, 6444]}), match(STATE, ["new"], "in"), ACCEPT],
            ],
        },
    )


def test_firewalld():
    assert closed(firewalld([[REJECT]]), "", ALL) == [KUBELET, FLANNEL]
    assert closed(firewalld([[ACCEPT]]), "", ALL) == []


UFW = """\
*filter
:INPUT DROP [12:900]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:ufw-after-input - [0:0]
:ufw-before-input - [0:0]
:ufw-logging-deny - [0:0]
:ufw-not-local - [0:0]
:ufw-user-input - [0:0]
:ufw-skip-to-policy-input - [0:0]
-A INPUT -j ufw-before-input
-A INPUT -j ufw-after-input
-A ufw-after-input -p udp -m udp --dport 137 -j ufw-skip-to-policy-input
-A ufw-after-input -m addrtype --dst-type BROADCAST -j ufw-skip-to-policy-input
-A ufw-before-input -i lo -j ACCEPT
-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-input -m conntrack --ctstate INVALID -j ufw-logging-deny
-A ufw-before-input -m conntrack --ctstate INVALID -j DROP
-A ufw-before-input -p icmp -m icmp --icmp-type 8 -j ACCEPT
-A ufw-before-input -j ufw-not-local
-A ufw-before-input -d 224.0.0.251/32 -p udp -m udp --dport 5353 -j ACCEPT
-A ufw-before-input -j ufw-user-input
-A ufw-logging-deny -m limit --limit 3/min --limit-burst 10 -j LOG --log-prefix "[UFW BLOCK] "
-A ufw-not-local -m addrtype --dst-type LOCAL -j RETURN
-A ufw-not-local -m addrtype --dst-type MULTICAST -j RETURN
-A ufw-not-local -m limit --limit 3/min --limit-burst 10 -j ufw-logging-deny
-A ufw-not-local -j DROP
-A ufw-skip-to-policy-input -j DROP
-A ufw-user-input -p tcp -m tcp --dport 22 -m comment --comment "it's -j ACCEPT" -j ACCEPT
USERS-A ufw-user-input -m multiport -p tcp --dports 80,443 -j ACCEPT
COMMIT
"""


def ufw(*rules):
    return UFW.replace("USERS", "".join(f"-A ufw-user-input {rule}\n" for rule in rules))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (ufw(), [*ALL]),
        (ufw("-p tcp -m tcp --dport 6443 -j ACCEPT"), [KUBELET, FLANNEL]),
        (ufw("-p tcp -m multiport --dports 6000:7000,10250 -j ACCEPT"), [FLANNEL]),
        (ufw("-s 192.0.2.0/24 -j ACCEPT"), []),
        (ufw("-i wlan0 -j ACCEPT"), []),
        (ufw("! -i lo -j ACCEPT"), []),
        (ufw("! -p tcp -j ACCEPT"), [API, KUBELET]),
        (ufw("-j UNKNOWN"), []),
        (ufw().replace("COMMIT\n", ""), []),
        (ufw('-m comment --comment "open'), []),
        (
            "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p udp -j REJECT --reject-with x\nCOMMIT\n",
            [FLANNEL],
        ),
        ("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -g A\n-A INPUT -j DROP\n:A - [0:0]\nCOMMIT\n", []),
    ],
)
def test_iptables(text, found):
    assert closed("", text, ALL) == found


def test_what_either_of_them_closes_is_closed():
    assert closed(nft([port("tcp", 6443), DROP]), ufw("-p tcp -j ACCEPT"), ALL) == [API, FLANNEL]
