"""Kubernetes' JSON as the shapes that the clusters domain knows. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from haechi.domains.clusters.model import DEVICE_LABEL
from haechi.domains.clusters.ports import Node, NodeCondition, Pod

CONTROL_PLANE_LABEL: Final = "node-role.kubernetes.io/control-plane"
NETWORK_ADDRESS: Final = "flannel.alpha.coreos.com/public-ip"
"""Annotation of a node, by its pods' network."""
MIRROR: Final = "kubernetes.io/config.mirror"
"""Annotation of a static pod's shadow in the API."""


def node_of(seen: Mapping[str, Any]) -> Node:
    meta, spec, status = seen["metadata"], seen.get("spec") or {}, seen.get("status") or {}
    labels = meta.get("labels") or {}
    info = status.get("nodeInfo") or {}
    conditions = tuple(
        NodeCondition(
            type=one["type"],
            status=one["status"],
            reason=one.get("reason") or "",
            message=one.get("message") or "",
            changed_at=at(one.get("lastTransitionTime")),
        )
        for one in status.get("conditions") or []
    )
    return Node(
        name=meta["name"],
        device_id=labels.get(DEVICE_LABEL),
        ready=any(one.type == "Ready" and one.status == "True" for one in conditions),
        unschedulable=bool(spec.get("unschedulable")),
        control_plane=CONTROL_PLANE_LABEL in labels,
        addresses=tuple(
            one["address"]
            for one in status.get("addresses") or []
            if one.get("type") == "InternalIP"
        ),
        kubelet_version=str(info.get("kubeletVersion") or "").removeprefix("v"),
        machine_id=str(info.get("machineID") or ""),
        boot_id=str(info.get("bootID") or ""),
        conditions=conditions,
        labels=labels,
        taints=tuple(
            f"{one['key']}={one.get('value') or ''}:{one['effect']}"
            for one in spec.get("taints") or []
        ),
        created_at=at(meta.get("creationTimestamp")),
        network_address=(meta.get("annotations") or {}).get(NETWORK_ADDRESS) or "",
    )


def pod_of(seen: Mapping[str, Any]) -> Pod:
    meta, status = seen["metadata"], seen.get("status") or {}
    owner: dict[str, Any] = next(iter(meta.get("ownerReferences") or []), {})
    containers = status.get("containerStatuses") or []
    return Pod(
        namespace=meta["namespace"],
        name=meta["name"],
        node=(seen.get("spec") or {}).get("nodeName"),
        phase=str(status.get("phase") or "Unknown"),
        ready=any(
            one["type"] == "Ready" and one["status"] == "True"
            for one in status.get("conditions") or []
        ),
        restarts=sum(int(one.get("restartCount") or 0) for one in containers),
        labels=meta.get("labels") or {},
        owner_kind="Node" if is_static(seen) else str(owner.get("kind") or ""),
        reason=why_waiting(seen),
    )


def is_static(pod: Mapping[str, Any]) -> bool:
    return MIRROR in (pod["metadata"].get("annotations") or {})


def why_waiting(pod: Mapping[str, Any]) -> str:
    """What a person would want to know of a pod that does not run; "" where nothing is wrong."""
    status = pod.get("status") or {}
    for list_name in ("initContainerStatuses", "containerStatuses"):
        for one in status.get(list_name) or []:
            state = one.get("state") or {}
            waiting, ended = state.get("waiting"), state.get("terminated")
            if waiting and waiting.get("reason") not in {
                "ContainerCreating",
                "PodInitializing",
                None,
            }:
                return _said(waiting)
            if ended and ended.get("exitCode"):
                return _said(ended)
    for one in status.get("conditions") or []:
        if one.get("type") == "PodScheduled" and one.get("status") == "False":
            return _said(one)
    if status.get("phase") == "Failed":
        return _said(status)
    return ""


def _said(state: Mapping[str, Any]) -> str:
    reason, message = str(state.get("reason") or ""), str(state.get("message") or "")
    return ": ".join(part for part in (reason, message.strip()) if part)


def at(text: str | None) -> datetime | None:
    """RFC 3339, as the API writes it."""
    return None if not text else datetime.fromisoformat(text)


def quantity(text: str | float | None) -> float:
    """`100m`, `2`, `1536Mi`, `2G`, `128974848` as a number; 0 where there is none."""
    if text is None:
        return 0.0
    if not isinstance(text, str):
        return float(text)
    digits = text.rstrip("EPTGMKkminu")
    return float(digits or 0) * _SUFFIXES[text[len(digits) :]]


_SUFFIXES: Final = {
    "": 1.0,
    "n": 1e-9,
    "u": 1e-6,
    "m": 1e-3,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "P": 1e15,
    "E": 1e18,
    "Ki": 2.0**10,
    "Mi": 2.0**20,
    "Gi": 2.0**30,
    "Ti": 2.0**40,
    "Pi": 2.0**50,
    "Ei": 2.0**60,
}
