"""The pods of its own that a cluster needs, and what is wrong with them.

Services (kube-proxy) and the pods' network (flannel) are each node's own; names (CoreDNS) are the
whole cluster's, and one that answers is enough.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from haechi.domains.clusters import manifests
from haechi.domains.clusters.ports import HostFinding, Kube, Pod
from haechi.domains.clusters.system_errors import (
    NamesDown,
    NamesWeakened,
    PodNetworkDown,
    ServicesDown,
    SystemPodMissing,
)
from haechi.errors import AppError

KUBE_SYSTEM: Final = "kube-system"
_ENDED: Final = {"Succeeded", "Failed"}
"""Phases of pods that nobody waits for: another one was made."""


@dataclass(frozen=True, slots=True)
class _Part:
    """Pods of one kind, known by a label."""

    namespace: str
    name: str
    label: tuple[str, str]

    def of(self, pods: Sequence[Pod]) -> list[Pod]:
        key, value = self.label
        return [
            one
            for one in pods
            if one.namespace == self.namespace
            and one.labels.get(key) == value
            and one.phase not in _ENDED
        ]


_ON_EACH_NODE: Final[tuple[tuple[_Part, type[AppError]], ...]] = (
    (_Part(KUBE_SYSTEM, "kube-proxy", ("k8s-app", "kube-proxy")), ServicesDown),
    (
        _Part(manifests.FLANNEL_NAMESPACE, manifests.FLANNEL_NAME, ("app", "flannel")),
        PodNetworkDown,
    ),
)
_NAMES: Final = _Part(KUBE_SYSTEM, "coredns", ("k8s-app", "kube-dns"))


async def pods(kube: Kube) -> list[Pod]:
    """Where they are; two lists, small in every cluster."""
    spaces = (KUBE_SYSTEM, manifests.FLANNEL_NAMESPACE)
    found = await asyncio.gather(*(kube.pods(namespace=one) for one in spaces))
    return [pod for some in found for pod in some]


def on_nodes(nodes: Mapping[str, str], there: Sequence[Pod]) -> Iterator[HostFinding]:
    """`nodes`: name → device of those that are well; a lost node has its own reason."""
    for part, error_of in _ON_EACH_NODE:
        known = part.of(there)
        for name, device_id in nodes.items():
            own = [one for one in known if one.node == name]
            if not own:
                error: AppError = SystemPodMissing(
                    host=name, pod=part.name, namespace=part.namespace
                )
            elif any(one.ready for one in own):
                continue
            else:
                pod = max(own, key=lambda one: bool(one.reason))
                error = error_of(host=name, pod=pod.name, namespace=pod.namespace, reason=_why(pod))
            yield _finding(error, device_id, "error")


def names(nodes: Mapping[str, str], there: Sequence[Pod]) -> Iterator[HostFinding]:
    known = _NAMES.of(there)
    late = [one for one in known if not one.ready]
    if len(late) == len(known):
        told = "; ".join(f"{one.name} ({one.node or '-'}): {_why(one)}" for one in late)
        host = next((one.node for one in late if one.node), "")
        error = NamesDown(host=host, pods=told or "0")
        yield _finding(error, nodes.get(host, ""), "error")
        return
    for one in late:
        if one.node is not None and one.node in nodes:
            weak = NamesWeakened(host=one.node, pod=one.name, reason=_why(one))
            yield _finding(weak, nodes[one.node], "warning")


def every_name_server_answers(there: Sequence[Pod]) -> bool:
    known = _NAMES.of(there)
    return bool(known) and all(one.ready for one in known)


def _why(pod: Pod) -> str:
    said = pod.reason or pod.phase
    return f"{said} (restarts: {pod.restarts})" if pod.restarts else said


def _finding(error: AppError, device_id: str, level: Literal["error", "warning"]) -> HostFinding:
    return HostFinding(
        device_id=device_id,
        host=error.data["host"],
        name=error.code.rpartition(".")[2],
        level=level,
        code=error.code,
        data=error.data,
    )
