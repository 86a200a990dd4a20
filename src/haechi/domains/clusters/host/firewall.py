"""Which ports a host's own firewall surely closes to the other hosts: pure, from its rules as
`nft -j list ruleset` (firewalld, nftables) and `iptables-save` (ufw, iptables) print them.

The rules are followed for the first packet of a connection from another host. What cannot be told
here (a source address, a set, an extension) is taken both ways: a port is closed only where no way
lets it in, so that a firewall that knows the site's hosts is never blamed.
"""

import contextlib
import json
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

_PROTOCOLS: Final = {"6": "tcp", "17": "udp"}
_OURS: Final = ("ip", "inet")
_TRANSPORTS: Final = (
    "tcp",
    "udp",
    "icmp",
    "icmpv6",
    "igmp",
    "sctp",
    "dccp",
    "udplite",
    "esp",
    "ah",
)
_OUTSIDE: Final = "an interface that is not lo"
_NEUTRAL: Final = ("counter", "log", "mangle", "notrack", "comment", "ct helper", "ct timeout")
_UNSURE: Final = ("limit", "quota", "ct count", "set", "map", "meter")


class Port(NamedTuple):
    protocol: str
    """`tcp` or `udp`."""
    number: int

    def __str__(self) -> str:
        return f"{self.number}/{self.protocol}"


OF_NODES: Final = (
    *(Port("tcp", 6443), Port("tcp", 2379), Port("tcp", 2380)),
    *(Port("tcp", 10250), Port("udp", 8472)),
)
"""That other nodes or this server call."""


class _Verdict(NamedTuple):
    """`accept`, `drop`, `on` (to the next rule), `return`, and `jump` or `goto` a chain."""

    kind: str
    chain: str = ""


_ON: Final = _Verdict("on")
_ANYTHING: Final = (_Verdict("accept"), _Verdict("drop"), _ON)
_Rule = Callable[[Port], Sequence[_Verdict]]
"""What may become of the packet at one rule; several where that cannot be told."""


@dataclass
class _Chain:
    policy: str = ""
    """`accept` or `drop` where it is the beginning of a packet's way in."""
    rules: list[_Rule] = field(default_factory=list)


def closed(nft: str, iptables: str, ports: Iterable[Port]) -> list[Port]:
    """Those of `ports` that nothing from outside gets to. What cannot be read closes nothing."""
    found: set[Port] = set()
    wanted = list(ports)
    for tables in (_of_nft(nft), _of_iptables(iptables)):
        with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError, StopIteration):
            found |= {port for table in tables for port in wanted if _drops(table, port)}
    return [port for port in wanted if port in found]


def _drops(table: Mapping[str, _Chain], port: Port) -> bool:
    for name, chain in table.items():
        if chain.policy:
            found = _walk(table, name, port, {})
            if {chain.policy if one == "on" else one for one in found} == {"drop"}:
                return True
    return False


def _walk(
    table: Mapping[str, _Chain], name: str, port: Port, known: dict[str, set[str]]
) -> set[str]:
    """How a packet may come out of a chain: `accept`, `drop`, `on` (back to who called it)."""
    if name not in known:
        known[name] = {"accept", "drop", "on"}  # of one that comes back to itself, or is not there
        if name in table:
            known[name] = _through(table, table[name], port, known)
    return known[name]


def _through(
    table: Mapping[str, _Chain], chain: _Chain, port: Port, known: dict[str, set[str]]
) -> set[str]:
    found: set[str] = set()
    for rule in chain.rules:
        goes_on = False
        for verdict in rule(port):
            if verdict.kind == "on":
                goes_on = True
            elif verdict.kind == "return":
                found.add("on")
            elif verdict.kind in {"jump", "goto"}:
                inner = _walk(table, verdict.chain, port, known)
                goes_on = goes_on or (verdict.kind == "jump" and "on" in inner)
                found |= inner if verdict.kind == "goto" else inner - {"on"}
            else:
                found.add(verdict.kind)
        if not goes_on:
            return found
    return found | {"on"}


def _either(fits: bool | None, verdicts: Sequence[_Verdict]) -> Sequence[_Verdict]:
    """`fits`: whether the rule is one for this packet; None where that cannot be told."""
    if fits is False:
        return (_ON,)
    return verdicts if fits else (*verdicts, _ON)


def _all(found: Iterable[bool | None]) -> bool | None:
    known = list(found)
    if False in known:
        return False
    return None if None in known else True


def _any(found: Iterable[bool | None]) -> bool | None:
    known = list(found)
    if True in known:
        return True
    return None if None in known else False


def _not(fits: bool | None) -> bool | None:
    return None if fits is None else not fits


# --- nftables


def _of_nft(text: str) -> Iterator[dict[str, _Chain]]:
    listed = json.loads(text).get("nftables", []) if text else []
    tables: dict[tuple[str, str], dict[str, _Chain]] = {}
    for entry in listed:
        kind, about = next(iter(entry.items()))
        if kind not in {"chain", "rule"} or about.get("family") not in _OURS:
            continue
        table = tables.setdefault((about["family"], about["table"]), {})
        chain = table.setdefault(about["name"] if kind == "chain" else about["chain"], _Chain())
        if kind == "rule":
            chain.rules.append(_nft_rule(about.get("expr", [])))
        elif about.get("hook") == "input":
            chain.policy = about.get("policy", "accept")
    yield from tables.values()


def _nft_rule(expressions: Sequence[Mapping[str, Any]]) -> _Rule:
    def rule(port: Port) -> Sequence[_Verdict]:
        fits: list[bool | None] = []
        for expression in expressions:
            kind, about = next(iter(expression.items()))
            if kind == "match":
                right = about["right"]
                fits.append(_compared(about["op"], _nft_value(about["left"], port), right))
            elif kind == "vmap":
                return _either(_all(fits), _nft_map(about, port))
            elif kind in _UNSURE or (kind == "xt" and (about or {}).get("type") == "match"):
                fits.append(None)
            elif kind not in _NEUTRAL:
                return _either(_all(fits), _nft_verdict(kind, about))
        return (_ON,)

    return rule


def _nft_verdict(kind: str, about: Any) -> Sequence[_Verdict]:
    if kind in {"jump", "goto"}:
        return (_Verdict(kind, about["target"]),)
    if kind in {"accept", "drop", "return"}:
        return (_Verdict(kind),)
    return (_Verdict("drop"),) if kind == "reject" else _ANYTHING


def _nft_map(about: Mapping[str, Any], port: Port) -> Sequence[_Verdict]:
    data = about["data"]
    if not isinstance(data, Mapping):
        return _ANYTHING  # a named map
    value = _nft_value(about["key"], port)
    found: list[_Verdict] = []
    for key, verdict in data["set"]:
        fits = _compared("==", value, key)
        if fits is not False:
            found += _nft_verdict(*next(iter(verdict.items())))
        if fits:
            return found
    return [*found, _ON]


def _nft_value(left: Any, port: Port) -> Any:
    """What the packet has there: None where that cannot be told, `""` where it has no such part."""
    kind, about = next(iter(left.items())) if isinstance(left, Mapping) else ("", {})
    if kind == "payload" and "protocol" in about:
        its, what = about["protocol"], about["field"]
        if its == "ip6" or (its in _TRANSPORTS and its != port.protocol):
            return ""
        if what == "dport":
            return port.number
        return port.protocol if (its, what) == ("ip", "protocol") else None
    if kind == "meta":
        known = {"l4proto": port.protocol, "nfproto": "ipv4", "protocol": "ip"}
        return _OUTSIDE if about["key"] in {"iifname", "iif"} else known.get(about["key"])
    if kind == "ct":
        return {"state": "new", "status": "nothing"}.get(about["key"])
    return None


def _compared(op: str, value: Any, right: Any) -> bool | None:
    if value == "":
        return False
    if value is None or op not in {"==", "in", "!="}:
        return None
    fits = _among(value, right)
    return _not(fits) if op == "!=" else fits


def _among(value: Any, right: Any) -> bool | None:
    """`right`: a value, a list, `{"set": [...]}`, `{"range": [a, b]}`, `{"elem": {"val": …}}`; of
    named sets (`@…`) and prefixes nothing can be told.
    """
    if isinstance(right, list):
        return _any(_among(value, one) for one in right)
    if isinstance(right, Mapping):
        kind, about = next(iter(right.items()))
        if kind == "range" and isinstance(value, int):
            return bool(about[0] <= value <= about[1])
        inner = {"set": about, "elem": about["val"] if kind == "elem" else None}.get(kind)
        return None if inner is None else _among(value, inner)
    if value == _OUTSIDE:
        return False if right == "lo" else None
    if isinstance(right, str) and right.startswith("@"):
        return None
    return str(value) == _PROTOCOLS.get(str(right), str(right))


# --- iptables


def _of_iptables(text: str) -> Iterator[dict[str, _Chain]]:
    table: dict[str, _Chain] = {}
    lines = text.splitlines()
    if "COMMIT" not in lines:
        return  # none, or not all of it
    for line in lines:
        if line.startswith(":"):
            name, policy = line[1:].split()[:2]
            known = table.setdefault(name, _Chain())
            known.policy = policy.lower() if name == "INPUT" else ""
        elif line.startswith("-A "):
            _, name, *words = shlex.split(line)
            table.setdefault(name, _Chain()).rules.append(_iptables_rule(words))
    yield table


def _iptables_rule(words: Sequence[str]) -> _Rule:
    def rule(port: Port) -> Sequence[_Verdict]:
        fits: list[bool | None] = []
        left, negated = list(words), False
        while left:
            option = left.pop(0)
            if option == "!":
                negated = True
                continue
            if option in {"-j", "-g"}:
                return _either(_all(fits), _iptables_verdict(option, left[0]))
            values = []
            while left and not left[0].startswith("-") and left[0] != "!":
                values.append(left.pop(0))
            if option not in {"-m", "--comment"}:
                one = _option_fits(option, values[0] if values else "", port)
                fits.append(_not(one) if negated else one)
            negated = False
        return (_ON,)

    return rule


def _iptables_verdict(option: str, target: str) -> Sequence[_Verdict]:
    known = {"ACCEPT": "accept", "DROP": "drop", "REJECT": "drop", "RETURN": "return"}
    if target in known:
        return (_Verdict(known[target]),)
    if target in {"LOG", "NFLOG", "MARK", "CONNMARK", "AUDIT"}:
        return (_ON,)
    return (_Verdict("goto" if option == "-g" else "jump", target),)


def _option_fits(option: str, value: str, port: Port) -> bool | None:
    match option:
        case "-p":
            return value in {"all", "0"} or _PROTOCOLS.get(value, value) == port.protocol
        case "--dport" | "--dports" | "--destination-port" | "--destination-ports":
            return any(_in_range(one, port.number) for one in value.split(","))
        case "-i":
            return False if value == "lo" else True if value == "+" else None
        case "--ctstate" | "--state":
            return "NEW" in value.split(",")
    return None


def _in_range(text: str, number: int) -> bool:
    first, _, last = text.partition(":")
    low, high = first or "0", last or ("65535" if ":" in text else first)
    return low.isdecimal() and high.isdecimal() and int(low) <= number <= int(high)
