"""What one node is and has room for, as the engine needs it."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from haechi.adapters.kube_calls import Calls
from haechi.adapters.kube_errors import KubeObjectMissing, KubeRefused, KubeUnreachable, NodeAway
from haechi.adapters.kube_shapes import node_of, quantity
from haechi.adapters.kube_specs import GPU_LABEL, GPU_RESOURCE, NVIDIA, Gpu, NodeRoom
from haechi.domains.clusters.ports import KubeAccess
from haechi.protocol.commands import EngineInfo

log = logging.getLogger(__name__)

_ENDED: Final = frozenset({"Succeeded", "Failed"})


@dataclass(frozen=True, slots=True)
class Seat:
    """A device's place in a cluster that is formed."""

    cluster_id: str
    device_id: str
    node: str
    host: str
    """As people call the device."""
    access: KubeAccess


Locate = Callable[[str], Awaitable[Seat | None]]
"""Where a device is a node; None: it belongs to no cluster (any more)."""


async def seen_node(calls: Calls, seat: Seat) -> dict[str, Any]:
    """The Node object. Raises NodeAway where there is none, or it does not answer."""
    try:
        seen = await calls.get("v1", "Node", seat.node)
    except KubeObjectMissing:
        raise NodeAway(
            cluster_id=seat.cluster_id, host=seat.host, node=seat.node, reason="it has not joined"
        ) from None
    node = node_of(seen)
    if not node.ready:
        reason = node.why_not_ready or "NotReady"
        raise NodeAway(cluster_id=seat.cluster_id, host=seat.host, node=seat.node, reason=reason)
    return seen


def room_of(seat: Seat, seen: Mapping[str, Any]) -> NodeRoom:
    allocatable = seen["status"].get("allocatable") or {}
    return NodeRoom(
        device_id=seat.device_id,
        platform=_platform(seen),
        cores=quantity(allocatable.get("cpu")),
        memory_bytes=int(quantity(allocatable.get("memory"))),
        gpu=_gpu(seen),
    )


def _platform(seen: Mapping[str, Any]) -> str:
    info = seen["status"].get("nodeInfo") or {}
    return f"{info.get('operatingSystem', 'linux')}/{info.get('architecture', 'amd64')}"


def _gpu(seen: Mapping[str, Any]) -> Gpu:
    if quantity((seen["status"].get("allocatable") or {}).get(GPU_RESOURCE)) >= 1:
        return "plugin"
    labels = seen["metadata"].get("labels") or {}
    # The kubelet reports the handlers that its container runtime was set up with.
    handlers = {one.get("name") for one in seen["status"].get("runtimeHandlers") or []}
    return "runtime" if labels.get(GPU_LABEL) == "runtime" or NVIDIA in handlers else ""


def has_image(seen: Mapping[str, Any], image: str) -> bool:
    """By what the kubelet reports: the largest images, a few seconds late. A No may be wrong."""
    return any(image in (one.get("names") or []) for one in seen["status"].get("images") or [])


async def engine_info(calls: Calls, seat: Seat) -> EngineInfo:
    """Raises NodeAway also where the kubelet does not answer: the API itself calls a host that
    lost its power ready for most of a minute.
    """
    seen = await seen_node(calls, seat)
    room = room_of(seat, seen)
    stats = await _stats(calls, seat)
    pods, _ = await calls.list("v1", "Pod", fields={"spec.nodeName": seat.node})
    asked = sum(_asked_memory(pod) for pod in pods)
    node_stats = stats.get("node") or {}
    free = [int(room.memory_bytes - asked)]
    if "availableBytes" in (node_stats.get("memory") or {}):
        free.append(int(node_stats["memory"]["availableBytes"]))
    image_disk = (node_stats.get("runtime") or {}).get("imageFs") or {}
    return EngineInfo(
        engine="kubernetes",
        version=node_of(seen).kubelet_version,
        platform=room.platform,
        cpu_cores=room.cores,
        memory_bytes=room.memory_bytes,
        memory_available_bytes=max(0, min(free)),
        disk_free_bytes=int(image_disk.get("availableBytes") or 0),
        gpu={"plugin": GPU_RESOURCE, "runtime": "nvidia (runtime class)", "": ""}[room.gpu],
    )


async def _stats(calls: Calls, seat: Seat) -> dict[str, Any]:
    """The kubelet's own figures, through the API: proves that it answers. One that answers and has
    none (its cgroups are not as it likes them) is there all the same.
    """
    try:
        return await calls.raw(f"api/v1/nodes/{seat.node}/proxy/stats/summary")
    except KubeRefused as error:
        log.info("node %s tells no figures: %s", seat.node, error)
        return {}
    except KubeUnreachable as error:
        raise NodeAway(
            cluster_id=seat.cluster_id,
            host=seat.host,
            node=seat.node,
            reason=f"its kubelet does not answer: {error.data.get('reason', '')}",
        ) from error


def _asked_memory(pod: Mapping[str, Any]) -> float:
    if (pod.get("status") or {}).get("phase") in _ENDED:
        return 0.0
    return sum(
        quantity(((one.get("resources") or {}).get("requests") or {}).get("memory"))
        for one in pod["spec"].get("containers") or []
    )
