"""What speaks against making nodes of these hosts: pure rules from facts to findings, all at once.

The rules know one host (`of_host`) or all of them beside each other (`of_all`); nothing is read
and nothing is changed here.
"""

import ipaddress
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from haechi.domains.clusters.host import findings as f
from haechi.domains.clusters.host.facts import Facts
from haechi.domains.clusters.host.findings import Finding

Role = Literal["control_plane", "worker"]

KERNEL_NEEDED: Final = (4, 19)
CPUS_NEEDED: Final = 2
MB: Final = 1024 * 1024
CONTROL_PLANE_MB: Final = 1700
"""What kubeadm itself insists on."""
WORKER_MB: Final = 700
SCARCE_MB: Final = 400
CLOCK_WRONG_S: Final = 30.0
CLOCK_OFF_S: Final = 2.0
EVICTION_PERCENT: Final = 15
ITEMS_SHOWN: Final = 8
ETCD_MB: Final = 512
KUBELET_MB: Final = 64

PORTS: Final[Mapping[Role, tuple[tuple[str, int, str], ...]]] = {
    "worker": (
        ("tcp", 6444, "haechi API proxy"),
        ("tcp", 10248, "kubelet"),
        ("tcp", 10249, "kube-proxy"),
        ("tcp", 10250, "kubelet"),
        ("tcp", 10256, "kube-proxy"),
        ("udp", 8472, "flannel"),
    ),
    "control_plane": (
        ("tcp", 2379, "etcd"),
        ("tcp", 2380, "etcd"),
        ("tcp", 6443, "Kubernetes API"),
        ("tcp", 10257, "kube-controller-manager"),
        ("tcp", 10259, "kube-scheduler"),
    ),
}
_CALLED: Final = {"10250/tcp": "kubelet", "8472/udp": "flannel"}
"""Ports of every node that others call; below, those of control planes."""
_CALLED_OF_API: Final = {"6443/tcp": "Kubernetes API"}
_CALLED_AMONG_SEVERAL: Final = {"2379/tcp": "etcd", "2380/tcp": "etcd"}
_CLUSTER_SERVICES: Final = (
    *("kubelet", "k3s", "k3s-agent", "k0scontroller", "k0sworker", "rke2-server", "rke2-agent"),
    "snap.microk8s.daemon-kubelite",
)
_KUBELET_FILES: Final = (
    *("/etc/kubernetes/kubelet.conf", "/etc/kubernetes/bootstrap-kubelet.conf"),
    "/var/lib/kubelet/config.yaml",
)
_RUNTIMES: Final = ("docker", "containerd", "crio")


@dataclass(frozen=True, slots=True)
class Supply:
    """What a host of one platform and role is given, as far as the rules need it."""

    version: str
    system: str
    """The packages' distribution, for example `debian 12`."""
    packages: tuple[str, ...]
    needed_bytes: Mapping[str, int]
    """Folder → what preparing puts there."""


@dataclass(frozen=True, slots=True)
class Wish:
    """The options that the rules look at."""

    pod_cidr: str
    service_cidr: str
    source: Literal["bundle", "distribution"] = "bundle"
    version: str = ""
    clean_leftovers: bool = False
    kubelet: Mapping[str, Any] = field(default_factory=dict)
    ignore_preflight: Sequence[str] = ()
    control_planes: int = 0
    """That the cluster has already, beside these hosts."""


@dataclass(frozen=True, slots=True)
class Candidate:
    name: str
    role: Role
    facts: Facts
    supply: Supply | None
    """None where no bundle is there for its platform."""
    address: str


def of_all(hosts: Sequence[Candidate], wish: Wish) -> list[tuple[int, Finding]]:
    """Each finding with the place of its host in `hosts`."""
    found = [(place, one) for place, host in enumerate(hosts) for one in of_host(host, wish)]
    found += _beside(hosts, wish)
    return sorted(found, key=lambda pair: pair[0])


def of_host(host: Candidate, wish: Wish) -> list[Finding]:
    rules = (
        _system,
        _supply,
        _kernel,
        _size,
        _disks,
        _clock,
        _cluster,
        _networks,
        _packages,
    )
    return [one for rule in rules for one in rule(host, wish)]


def _system(host: Candidate, wish: Wish) -> Iterator[Finding]:
    del wish
    facts = host.facts
    if not facts.is_debian:
        yield f.UnsupportedSystem(host=host.name, system=facts.os_name or facts.os_id or "?")
    if facts.init != "systemd":
        yield f.NoSystemd(host=host.name, init=facts.init or "?")
    if not facts.machine_id:
        yield f.NoMachineId(host=host.name)
    if not host.address:
        yield f.NoOwnAddress(host=host.name)


def _supply(host: Candidate, wish: Wish) -> Iterator[Finding]:
    facts = host.facts
    if facts.arch not in {"amd64", "arm64"}:
        yield f.UnsupportedArchitecture(host=host.name, arch=facts.arch)
    elif host.supply is None and wish.source == "bundle":
        yield f.BundleLacksPlatform(
            host=host.name, platform=facts.platform, version=wish.version or "-"
        )


def _kernel(host: Candidate, wish: Wish) -> Iterator[Finding]:
    facts = host.facts
    numbers = tuple(int(part) for part in re.findall(r"\d+", facts.kernel)[:2])
    if numbers and numbers < KERNEL_NEEDED:
        needed = ".".join(map(str, KERNEL_NEEDED))
        yield f.KernelTooOld(host=host.name, kernel=facts.kernel, needed=needed)
    there = {*facts.modules, *facts.modules_available}
    if "net.bridge.bridge-nf-call-iptables" in facts.sysctls:
        there.add("br_netfilter")
    for module in ("overlay", "br_netfilter", "vxlan"):
        if module not in there:
            yield f.ModuleMissing(host=host.name, module=module)
    if facts.cgroup == 1 and wish.kubelet.get("failCgroupV1") is not False:
        yield f.CgroupV1(host=host.name)


def _size(host: Candidate, wish: Wish) -> Iterator[Finding]:
    facts = host.facts
    leads = host.role == "control_plane"
    if leads and facts.cpus < CPUS_NEEDED and "NumCPU" not in wish.ignore_preflight:
        yield f.FewCpus(host=host.name, cpus=facts.cpus, needed=CPUS_NEEDED)
    needed_mb = CONTROL_PLANE_MB if leads else WORKER_MB
    total_mb = facts.memory_total_bytes // MB
    available_mb = facts.memory_available_bytes // MB
    if total_mb < needed_mb and "Mem" not in wish.ignore_preflight:
        role = "control plane" if leads else "worker"
        yield f.LittleMemory(host=host.name, total_mb=total_mb, needed_mb=needed_mb, role=role)
    elif available_mb < SCARCE_MB:
        yield f.MemoryScarce(host=host.name, available_mb=available_mb)
    if facts.swap and wish.kubelet.get("failSwapOn") is not False:
        yield f.SwapOn(host=host.name, swap=", ".join(facts.swap))


def _disks(host: Candidate, wish: Wish) -> Iterator[Finding]:
    del wish
    needed: dict[str, int] = defaultdict(int)
    mounts = {}
    wanted = dict(host.supply.needed_bytes) if host.supply is not None else {}
    wanted["/var/lib/kubelet"] = KUBELET_MB * MB
    if host.role == "control_plane":
        wanted["/var/lib/etcd"] = ETCD_MB * MB
    for folder, size in wanted.items():
        disk = host.facts.disk(folder)
        if disk is not None:
            needed[disk.mount] += size
            mounts[disk.mount] = disk
    for mount, size in needed.items():
        disk = mounts[mount]
        if disk.free_bytes < size:
            yield f.DiskTooSmall(
                host=host.name,
                mount=mount,
                free_mb=disk.free_bytes // MB,
                needed_mb=-(-size // MB),
            )
            continue
        percent = 100 * (disk.free_bytes - size) // max(disk.total_bytes, 1)
        if percent < EVICTION_PERCENT:
            yield f.DiskNearlyFull(host=host.name, mount=mount, left_percent=percent)


def _clock(host: Candidate, wish: Wish) -> Iterator[Finding]:
    del wish
    offset, error = host.facts.clock_offset_s, host.facts.clock_error_s
    surely = abs(offset) - error
    if surely > CLOCK_WRONG_S:
        yield f.ClockWrong(host=host.name, offset_s=round(offset, 1))
    elif surely > CLOCK_OFF_S:
        yield f.ClockOff(host=host.name, offset_s=round(offset, 1))


def _leftovers(host: Candidate, wish: Wish) -> Iterator[Finding]:
    found = host.facts.leftovers
    if found and not wish.clean_leftovers:
        shown = list(found[:ITEMS_SHOWN])
        if len(found) > ITEMS_SHOWN:
            shown.append("…")
        yield f.Leftovers(host=host.name, count=len(found), items=", ".join(shown))


def _cluster(host: Candidate, wish: Wish) -> Iterator[Finding]:
    """An existing cluster explains its ports, runtime and files: those are not told again."""
    facts = host.facts
    evidence: list[str] = [name for name in _CLUSTER_SERVICES if name in facts.running]
    evidence += [name for name in facts.processes if name not in evidence and name != "etcd"]
    if "kubelet" in evidence and not _is_node(facts):
        evidence.remove("kubelet")
    if evidence:
        yield f.ExistingCluster(host=host.name, evidence=", ".join(evidence))
        return
    ours = any("ledger.json" in one for one in facts.leftovers)
    if not ours or len(facts.leftovers) > 1:  # the ledger alone: prepared, and no node yet
        yield from _leftovers(host, wish)
    for runtime in _RUNTIMES:
        mine = runtime == "containerd" and (ours or "docker" in facts.running)
        if runtime in facts.running and not mine:
            yield f.OtherRuntime(host=host.name, runtime=runtime)
    if ours and wish.clean_leftovers:
        return  # what haechi left running goes with it
    wanted = PORTS["worker"] + (PORTS["control_plane"] if host.role == "control_plane" else ())
    taken = {(one.protocol, one.port): one.process for one in facts.listeners}
    for protocol, port, purpose in wanted:
        if (protocol, port) in taken:
            yield f.PortTaken(
                host=host.name,
                protocol=protocol.upper(),
                port=port,
                purpose=purpose,
                process=taken[protocol, port] or "?",
            )


def _is_node(facts: Facts) -> bool:
    """Whether the kubelet serves a cluster. One without configuration fails and is started again
    for ever, as packages leave it, and is seen running in between; it never listens.
    """
    configured = any(path in facts.leftovers for path in _KUBELET_FILES)
    return configured or any(one.process == "kubelet" for one in facts.listeners)


def _networks(host: Candidate, wish: Wish) -> Iterator[Finding]:
    for purpose, cidr in (("pod", wish.pod_cidr), ("service", wish.service_cidr)):
        wanted = ipaddress.ip_network(cidr)
        for network in sorted(set(host.facts.networks())):
            if network.prefixlen and wanted.overlaps(network):
                yield f.NetworkOverlap(
                    host=host.name, purpose=purpose, cidr=cidr, network=str(network)
                )
                break


def _packages(host: Candidate, wish: Wish) -> Iterator[Finding]:
    facts, supply = host.facts, host.supply
    if supply is None:
        return
    missing = [name for name in supply.packages if name not in facts.packages]
    if not missing:
        return
    system = f"{facts.os_id} {facts.os_version}"
    if wish.source == "bundle" and system != supply.system:
        yield f.PackagesMissing(
            host=host.name,
            system=system,
            bundle_system=supply.system,
            packages=" ".join(missing),
        )
    if facts.packages_broken:
        yield f.PackagesBroken(host=host.name, packages=", ".join(facts.packages_broken))


def of_one_to_be_joined(host: str, closed: Collection[str]) -> list[Finding]:
    """Of a control plane that a further one is to join: what would keep that out, and nothing else
    of a host that has been a node for long. `closed`: as in its facts.
    """
    return _firewall(host, closed, _CALLED_OF_API | _CALLED_AMONG_SEVERAL)


def of_firewall(host: str, role: Role, closed: Collection[str], several: bool) -> list[Finding]:
    """`several`: whether the cluster will have more than one control plane."""
    called = dict(_CALLED)
    if role == "control_plane":
        called |= _CALLED_OF_API | (_CALLED_AMONG_SEVERAL if several else {})
    return _firewall(host, closed, called)


def _firewall(host: str, closed: Collection[str], called: Mapping[str, str]) -> list[Finding]:
    shut = [f"{port} ({called[port]})" for port in closed if port in called]
    return [f.FirewallClosed(host=host, ports=", ".join(shut))] if shut else []


def _beside(hosts: Sequence[Candidate], wish: Wish) -> list[tuple[int, Finding]]:
    found: list[tuple[int, Finding]] = []
    several = wish.control_planes + sum(host.role == "control_plane" for host in hosts) > 1
    for place, host in enumerate(hosts):
        shut = of_firewall(host.name, host.role, host.facts.closed, several)
        found += [(place, one) for one in shut]
        others = [one for other, one in enumerate(hosts) if other != place]
        mine = host.facts.machine_id
        same = [one.name for one in others if mine and one.facts.machine_id == mine]
        if same:
            found.append((place, f.SameMachineId(host=host.name, others=", ".join(same))))
        name = host.facts.host_name
        same = [one.name for one in others if name and one.facts.host_name == name]
        if same:
            others_named = ", ".join(same)
            found.append(
                (place, f.SameHostName(host=host.name, host_name=name, others=others_named))
            )
    return found
