"""What forming would do, before it does: members, names, networks, steps."""

import ipaddress
from collections.abc import Sequence
from typing import Final

from haechi.core.operations import Step
from haechi.domains.clusters.errors import BadMembers, BadNetwork
from haechi.domains.clusters.model import (
    ClusterPlan,
    FormOptions,
    MemberRole,
    PlannedMember,
    PlannedStep,
    api_name,
)
from haechi.domains.clusters.naming import node_name
from haechi.domains.clusters.ports import ClusterDevice

_MAX_CONTROL_PLANES: Final = 7
_SMALLEST: Final = {"pod_cidr": 22, "service_cidr": 24}
"""Longest prefixes: every node gets a /24 of the pods' network."""
_WHERE: Final[dict[str, str]] = {
    "check": "all",
    "snapshot": "all",
    "prepare": "all",
    "initialise": "first",
    "keep_kubeconfig": "first",
    "join_control_planes": "further",
    "join_workers": "workers",
    "wait_ready": "all",
    "apply_hooks": "all",
}


def check_members(control_planes: Sequence[str], workers: Sequence[str]) -> None:
    """Raises BadMembers. An even number of control planes bears no more than one less."""
    everyone = [*control_planes, *workers]
    if not control_planes:
        raise BadMembers(reason="no control plane / 제어 노드 없음")
    if len(control_planes) % 2 == 0 or len(control_planes) > _MAX_CONTROL_PLANES:
        raise BadMembers(reason=f"control planes: {len(control_planes)}")
    twice = sorted({one for one in everyone if everyone.count(one) > 1})
    if twice:
        raise BadMembers(reason=f"named twice: {', '.join(twice)}")


def check_networks(options: FormOptions, addresses: Sequence[str]) -> None:
    """Raises BadNetwork where the networks are none, overlap, or hold a host's own address."""
    networks: list[ipaddress.IPv4Network] = []
    for field, longest in _SMALLEST.items():
        cidr: str = getattr(options, field)
        try:
            network = ipaddress.IPv4Network(cidr)
        except ValueError as error:
            raise BadNetwork(cidr=cidr[:64], reason=str(error)[:200]) from error
        if network.prefixlen > longest:
            raise BadNetwork(cidr=cidr, reason=f"smaller than /{longest}")
        networks.append(network)
    pods, services = networks
    if pods.overlaps(services):
        raise BadNetwork(cidr=str(pods), reason=f"overlaps {services}")
    for text in addresses:
        try:
            address = ipaddress.IPv4Address(text)
        except ValueError:
            continue  # a name; the check of the host sees its address
        for network in networks:
            if address in network:
                raise BadNetwork(cidr=str(network), reason=f"holds the host {address}")


def plan_members(
    devices: Sequence[tuple[ClusterDevice, MemberRole]], taken: Sequence[str] = ()
) -> list[PlannedMember]:
    """In order; `taken` node names are those of members that are there."""
    names = list(taken)
    planned = []
    for device, role in devices:
        name = node_name(device.host_name or device.name, device.id, names)
        names.append(name)
        planned.append(PlannedMember(device.id, device.name, role, name, device.address or ""))
    return planned


def plan(
    name: str,
    version: str,
    members: list[PlannedMember],
    options: FormOptions,
    steps: Sequence[Step],
    cluster_id: str = "<cluster-id>",
) -> ClusterPlan:
    first = [one.node_name for one in members if one.role == "control_plane"][:1]
    hosts = {
        "all": [one.node_name for one in members],
        "first": first,
        "further": [
            one.node_name
            for one in members
            if one.role == "control_plane" and one.node_name not in first
        ],
        "workers": [one.node_name for one in members if one.role == "worker"],
    }
    lines = []
    for step in steps:
        where = _WHERE.get(step.name)
        if where is None or hosts[where]:
            lines.append(
                PlannedStep(step.name, step.title.ko, step.title.en, hosts[where] if where else [])
            )
    return ClusterPlan(name, version, api_name(cluster_id), options, members, lines)
