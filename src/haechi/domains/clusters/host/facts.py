"""What a host is like, read in one round trip by `scripts/facts.sh` and typed here.

Facts are told, never judged: `preflight` does that. They travel as JSON (`as_json`, `of_json`).
"""

import ipaddress
import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Any, Final, Self

import msgspec

from haechi.core.clock import Clock
from haechi.domains.clusters.host import firewall
from haechi.domains.clusters.host.errors import FactsUnreadable, short
from haechi.domains.clusters.host.ports import Shell

SCRIPT: Final = files(__package__).joinpath("scripts/facts.sh").read_text()
GATHER_S: Final = 90.0
_ARCHES: Final = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_PROCESS: Final = re.compile(r'"([^"]+)"')
_MINE: Final = ("cni0", "flannel", "docker", "veth", "lo", "kube-", "podman")
"""Interfaces whose networks are no networks of the site."""


class Disk(msgspec.Struct, frozen=True):
    """The file system that `folder` is on, or will be."""

    folder: str
    mount: str
    total_bytes: int
    free_bytes: int


class Listener(msgspec.Struct, frozen=True):
    protocol: str
    port: int
    process: str
    """Empty where it is not told."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    arch: str
    """As Debian and Go say it: `amd64`, `arm64`; as uname says it where it is another."""
    kernel: str = ""
    host_name: str = ""
    machine_id: str = ""
    boot_id: str = ""
    init: str = ""
    os_id: str = ""
    os_like: str = ""
    os_version: str = ""
    os_suite: str = ""
    os_name: str = ""
    cpus: int = 0
    memory_total_bytes: int = 0
    """Of the host itself, or its cgroup's limit where that is less."""
    memory_available_bytes: int = 0
    swap: tuple[str, ...] = ()
    cgroup: int = 0
    clock_offset_s: float = 0.0
    """The host's clock minus ours."""
    clock_error_s: float = 0.0
    """How far that may be wrong: half the round trip."""
    disks: tuple[Disk, ...] = ()
    sysctls: dict[str, str] = {}
    modules: tuple[str, ...] = ()
    """Loaded, or part of the kernel."""
    modules_available: tuple[str, ...] = ()
    listeners: tuple[Listener, ...] = ()
    interfaces: tuple[str, ...] = ()
    addresses: dict[str, tuple[str, ...]] = {}
    """Interface → IPv4 addresses with prefix length."""
    routes: tuple[tuple[str, str], ...] = ()
    """IPv4 network (or `default`), interface."""
    programs: dict[str, str] = {}
    """Name → path, of those that matter."""
    containerd_version: str = ""
    running: tuple[str, ...] = ()
    """Services that matter and run."""
    processes: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()
    kubeconfigs: tuple[str, ...] = ()
    nft_lines: int | None = None
    """Lines of the rule set; None where no tool can say."""
    closed: tuple[str, ...] = ()
    """Ports of nodes that the host's own firewall surely closes to others: `6443/tcp`."""
    packages: tuple[str, ...] = ()
    packages_broken: tuple[str, ...] = ()
    jetson: str = ""
    gpu: bool = False

    @property
    def platform(self) -> str:
        return f"linux/{self.arch}"

    @property
    def is_debian(self) -> bool:
        """Debian, or one of its children (Ubuntu, Raspberry Pi OS, JetPack)."""
        return "debian" in {self.os_id, *self.os_like.split()} or self.os_id == "ubuntu"

    def disk(self, folder: str) -> Disk | None:
        return next((one for one in self.disks if one.folder == folder), None)

    def address_near(self, known: str) -> str:
        """Its own IPv4 by which others reach it: `known` where it has that one, else the one on
        the interface of the default route, else any.
        """
        own = {
            interface: [one.split("/")[0] for one in found]
            for interface, found in self.addresses.items()
            if not interface.startswith(_MINE)
        }
        everything = [one for found in own.values() for one in found]
        if known in everything:
            return known
        for network, interface in self.routes:
            if network == "default" and own.get(interface):
                return own[interface][0]
        return everything[0] if everything else ""

    def networks(self) -> Iterator[ipaddress.IPv4Network]:
        """Those that the host reaches directly or by a route of its own, without the default."""
        for interface, found in self.addresses.items():
            if not interface.startswith(_MINE):
                for one in found:
                    yield ipaddress.IPv4Interface(one).network
        for network, interface in self.routes:
            if interface and network != "default" and not interface.startswith(_MINE):
                yield ipaddress.IPv4Network(network, strict=False)

    def as_json(self) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return found

    @classmethod
    def of_json(cls, saved: dict[str, Any]) -> Self:
        return msgspec.convert(saved, cls)


async def gather(shell: Shell, clock: Clock) -> Facts:
    """Read them. Raises FactsUnreadable, HostAway, SudoAsks, SudoRefused."""
    before = clock.now().timestamp()
    ran = await shell.run(["sh", "-s"], root=True, stdin=SCRIPT, timeout_s=GATHER_S)
    after = clock.now().timestamp()
    try:
        return parse(ran.stdout, before, after)
    except (ValueError, LookupError) as error:
        reason = short(f"{type(error).__name__}: {error}")
        raise FactsUnreadable(host=shell.host.name, reason=reason) from error


async def platform_of(shell: Shell) -> str:
    """`linux/amd64`: what alone is needed where the host was looked at before."""
    ran = await shell.run(["uname", "-m"])
    arch = ran.stdout.strip()
    return f"linux/{_ARCHES.get(arch, arch)}"


def parse(text: str, sent_at: float, received_at: float) -> Facts:
    """`sent_at`, `received_at`: our clock (seconds since the epoch) around the script. Raises
    ValueError, KeyError where the output is not what the script prints.
    """
    lines = [line.split("\t") for line in text.splitlines() if "\t" in line]
    one = {line[0]: line[1] for line in lines}
    many: dict[str, list[list[str]]] = {}
    for line in lines:
        many.setdefault(line[0], []).append(line[1:])
    began, ended = float(one["began"]), float(one["ended"])
    return Facts(
        arch=_ARCHES.get(one["arch"], one["arch"]),
        kernel=one.get("kernel", ""),
        host_name=one.get("host_name", ""),
        machine_id=one.get("machine_id", ""),
        boot_id=one.get("boot_id", ""),
        init=one.get("init", ""),
        os_id=one.get("os_id", ""),
        os_like=one.get("os_like", ""),
        os_version=one.get("os_version", ""),
        os_suite=one.get("os_suite", ""),
        os_name=one.get("os_name", ""),
        cpus=int(one.get("cpus", "0")),
        memory_total_bytes=_memory(one),
        memory_available_bytes=int(one.get("memory_available_kb", "0")) * 1024,
        swap=_column(many, "swap"),
        cgroup=int(one.get("cgroup", "0")),
        # As NTP does it: the host's time between the two readings is no part of the round trip.
        clock_offset_s=((began - sent_at) + (ended - received_at)) / 2,
        clock_error_s=max(0.0, ((received_at - sent_at) - (ended - began)) / 2),
        disks=tuple(
            Disk(folder, mount, int(total) * 1024, int(free) * 1024)
            for folder, mount, total, free in many.get("disk", [])
        ),
        sysctls=dict(many.get("sysctl", [])),
        modules=_column(many, "module"),
        modules_available=_column(many, "module_available"),
        listeners=tuple(_listeners(many.get("listen", []))),
        interfaces=_column(many, "interface"),
        addresses=_grouped(many.get("address", [])),
        routes=tuple(_routes(many.get("route", []))),
        programs=dict(many.get("program", [])),
        containerd_version=one.get("containerd_version", "").removeprefix("v"),
        running=_column(many, "running"),
        processes=_column(many, "process"),
        leftovers=_column(many, "leftover"),
        kubeconfigs=_column(many, "kubeconfig"),
        nft_lines=int(one["nft_lines"]) if "nft_lines" in one else None,
        closed=tuple(
            str(port)
            for port in firewall.closed(
                one.get("nft_rules", ""),
                "\n".join(_column(many, "filter")),
                firewall.OF_NODES,
            )
        ),
        packages=tuple(sorted(set(_column(many, "package")))),
        packages_broken=_column(many, "package_broken"),
        jetson=one.get("jetson", ""),
        gpu="gpu" in one,
    )


def _memory(one: dict[str, str]) -> int:
    total = int(one.get("memory_total_kb", "0")) * 1024
    limit = one.get("memory_limit", "max")
    return min(total, int(limit)) if limit.isdecimal() else total


def _column(many: dict[str, list[list[str]]], key: str) -> tuple[str, ...]:
    return tuple(row[0] for row in many.get(key, []) if row[0])


def _grouped(rows: list[list[str]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for interface, address in rows:
        known = str(ipaddress.IPv4Interface(address))  # it becomes part of other hosts' files
        found[interface] = (*found.get(interface, ()), known)
    return found


def _routes(rows: list[list[str]]) -> Iterator[tuple[str, str]]:
    """Those that lead somewhere: `ip route` also prints ways of one route, each on a line of its
    own (`nexthop …`), and networks that are refused (`blackhole …`).
    """
    for network, interface in rows:
        if network == "default" or network[:1].isdigit():
            yield network, interface


def _listeners(rows: list[list[str]]) -> Iterator[Listener]:
    """Each port once; what listens on loopback takes it too."""
    seen = set()
    for protocol, end, *rest in rows:
        port = int(end.rpartition(":")[2])
        names = _PROCESS.findall(rest[0]) if rest else []
        if (protocol, port) not in seen:
            seen.add((protocol, port))
            yield Listener(protocol, port, names[0] if names else "")
