"""From a ContainerSpec to the objects of one AI on one node: pure, golden-tested.

A Deployment of one replica, bound to the node by haechi's identity of the device (a label), never
by a name or an address; and one Secret with its environment and token. The safety defaults of
every pod live here and nowhere else: all capabilities dropped, no privilege escalation, the
runtime's seccomp profile, no service account token, limits on memory and CPU, no host network. How
many processes a pod may have is the kubelet's to limit (`podPidsLimit`).
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from haechi.core.secrets import Secret
from haechi.domains.clusters.model import DEVICE_LABEL
from haechi.protocol.commands import RegistryAccess
from haechi.protocol.desired import NODE_AGENT_URL, ContainerSpec

NAMESPACE: Final = "haechi-ai"
PRIVILEGED_NAMESPACE: Final = "haechi-ai-privileged"
"""Packages that an administrator allowed to be privileged; the other one refuses such pods."""
DEPLOYMENT_LABEL: Final = "haechi.internal/deployment-id"
PACKAGE_LABEL: Final = "haechi.internal/package-id"
VERSION_LABEL: Final = "haechi.internal/version-id"
INTERNET_LABEL: Final = "haechi.internal/internet"
GPU_LABEL: Final = "haechi.internal/gpu"
"""Of a node: `runtime` where GPUs are reached by a container runtime (Jetson), not by a device
plugin. For nodes whose kubelet does not report a handler `nvidia` by itself."""
MANAGED: Final = {"app.kubernetes.io/managed-by": "haechi"}
SPEC_NOTE: Final = "haechi.internal/spec"
"""Digest of what the pod is made from: another one means another pod."""
MADE_NOTE: Final = "haechi.internal/made"
"""Digest of the object's spec as the API answered haechi's own last change: another one is somebody
else's. (Not its generation: that rises with every note on a Deployment as well.)"""
CONTAINER: Final = "ai"
NVIDIA: Final = "nvidia"
"""Handler and name of the RuntimeClass for GPUs without a device plugin."""
GPU_RESOURCE: Final = "nvidia.com/gpu"

MEMORY_SHARE: Final = 0.8
"""Of the node's memory, for a package that names no limit (as with Docker)."""
TMP_BYTES: Final = 256 * 1024 * 1024
_ASKED_CPU: Final = "20m"
_ASKED_MEMORY: Final = 32 * 1024 * 1024
_CONTROL_PLANE: Final = "node-role.kubernetes.io/control-plane"

Gpu = Literal["", "plugin", "runtime"]


@dataclass(frozen=True, slots=True)
class NodeRoom:
    """What the node adds to a spec."""

    device_id: str
    platform: str
    """OCI platform, e.g. `linux/arm64`."""
    cores: float
    memory_bytes: int
    gpu: Gpu = ""


def namespace_of(spec: ContainerSpec) -> str:
    return PRIVILEGED_NAMESPACE if spec.privileged else NAMESPACE


def base_objects() -> list[dict[str, Any]]:
    """What every cluster needs before its first AI: namespaces, and that pods call nobody but
    their node's agent unless they were allowed the internet: for networks that enforce policies.
    Flannel does not; there the node's agent sees to it (docs/decisions/0020).
    """
    objects: list[dict[str, Any]] = []
    for name, level in ((NAMESPACE, "baseline"), (PRIVILEGED_NAMESPACE, "privileged")):
        labels = {**MANAGED, "pod-security.kubernetes.io/enforce": level}
        objects += [
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": name, "labels": labels},
            },
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": {"name": "agent-only", "namespace": name, "labels": MANAGED},
                "spec": {
                    "podSelector": {"matchLabels": {INTERNET_LABEL: "no"}},
                    "policyTypes": ["Ingress", "Egress"],
                    "egress": [{"to": [{"ipBlock": {"cidr": f"{_agent_address()}/32"}}]}],
                },
            },
        ]
    return objects


def runtime_class() -> dict[str, Any]:
    return {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": NVIDIA, "labels": MANAGED},
        "handler": NVIDIA,
    }


def secret_of(spec: ContainerSpec, token: Secret, *, camera_url: str, gpu: Gpu) -> dict[str, Any]:
    """Everything that the AI's environment holds; it cannot be edited, only replaced."""
    values = environment(spec, camera_url=camera_url, gpu=gpu if spec.gpu else "")
    if token:
        values["HAECHI_TOKEN"] = token.reveal()
    encoded = {
        name: base64.b64encode(value.encode()).decode() for name, value in sorted(values.items())
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": f"{spec.deployment_id}-{_digest(encoded)[:10]}",
            "namespace": namespace_of(spec),
            "labels": _labels(spec),
        },
        "type": "Opaque",
        "immutable": True,
        "data": encoded,
    }


def environment(spec: ContainerSpec, *, camera_url: str, gpu: Gpu) -> dict[str, str]:
    values = dict(spec.environment)
    values |= {
        "HAECHI_AGENT_URL": NODE_AGENT_URL,
        "HAECHI_RESULTS_URL": f"{NODE_AGENT_URL}/v1/results",
        "HAECHI_USAGE_URL": f"{NODE_AGENT_URL}/usage",
    }
    values.setdefault("HAECHI_MASTER_URL", NODE_AGENT_URL)
    if camera_url:
        values["HAECHI_CAMERA_URL"] = camera_url
    if gpu == "runtime":
        # Without a device plugin nobody else tells the runtime which GPUs to hand in.
        values |= {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "all"}
    return values


def deployment_of(spec: ContainerSpec, room: NodeRoom, secret_name: str) -> dict[str, Any]:
    labels = _labels(spec)
    pod_labels = {
        **labels,
        DEVICE_LABEL: room.device_id,
        INTERNET_LABEL: "yes" if spec.internet else "no",
    }
    pod = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "affinity": _affinity(room),
        "tolerations": _tolerations(),
        "imagePullSecrets": [{"name": pull_secret_name(room.device_id)}],
        "restartPolicy": "Always",
        # The AI is not process 1 then: signals end it, and its orphans are reaped.
        "shareProcessNamespace": True,
        "terminationGracePeriodSeconds": max(1, round(spec.stop_grace_s)),
        "hostname": spec.name[:63],
        "containers": [_container(spec, room, secret_name)],
        "volumes": [
            {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": _tmp(spec, room)}}
        ],
    }
    if spec.gpu and room.gpu == "runtime":
        pod["runtimeClassName"] = NVIDIA
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": spec.deployment_id,
            "namespace": namespace_of(spec),
            "labels": {**labels, DEVICE_LABEL: room.device_id},
        },
        "spec": {
            "replicas": 1,
            "revisionHistoryLimit": 0,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": {DEPLOYMENT_LABEL: spec.deployment_id}},
            "template": {
                "metadata": {"labels": pod_labels, "annotations": {SPEC_NOTE: _digest(pod)}},
                "spec": pod,
            },
        },
    }


def _container(spec: ContainerSpec, room: NodeRoom, secret_name: str) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": spec.image,
        # By digest: what is there is what is meant.
        "imagePullPolicy": "IfNotPresent",
        "envFrom": [{"secretRef": {"name": secret_name}}],
        "resources": _resources(spec, room),
        "securityContext": _security(spec),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - the container's
        "terminationMessagePolicy": "File",
    }
    return container


def _security(spec: ContainerSpec) -> dict[str, Any]:
    if spec.privileged:
        # Only an administrator can allow it, per package (CONTRACTS 7).
        return {"privileged": True}
    return {
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _resources(spec: ContainerSpec, room: NodeRoom) -> dict[str, Any]:
    """Limits are what the package may use. What it asks of the scheduler is what it says it
    needs; without that next to nothing, because the node is fixed already and two versions must
    fit beside each other for a moment.
    """
    memory = _memory(spec, room)
    cores = min(spec.cpu_limit or room.cores, room.cores)
    limits: dict[str, Any] = {"cpu": f"{max(1, round(cores * 1000))}m", "memory": str(memory)}
    asked = spec.memory_limit_bytes or _ASKED_MEMORY
    requests = {"cpu": _ASKED_CPU, "memory": str(min(asked, memory))}
    if cores < 0.02:
        requests["cpu"] = limits["cpu"]
    if spec.gpu and room.gpu == "plugin":
        limits[GPU_RESOURCE] = "1"
    return {"limits": limits, "requests": requests}


def _memory(spec: ContainerSpec, room: NodeRoom) -> int:
    wanted = spec.memory_limit_bytes or int(room.memory_bytes * MEMORY_SHARE)
    return min(wanted, room.memory_bytes)


def _tmp(spec: ContainerSpec, room: NodeRoom) -> str:
    return str(min(TMP_BYTES, _memory(spec, room) // 4))


def _affinity(room: NodeRoom) -> dict[str, Any]:
    architecture = room.platform.partition("/")[2].partition("/")[0]
    wanted = [
        {"key": DEVICE_LABEL, "operator": "In", "values": [room.device_id]},
        {"key": "kubernetes.io/arch", "operator": "In", "values": [architecture]},
    ]
    return {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": wanted}]
            }
        }
    }


def _tolerations() -> list[dict[str, Any]]:
    """A node that is away keeps its pods: they go on there, and there is no other place for them.
    A control plane is a target only where somebody asked for it.
    """
    away = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
    return [
        *({"key": key, "operator": "Exists", "effect": "NoExecute"} for key in away),
        {"key": _CONTROL_PLANE, "operator": "Exists", "effect": "NoSchedule"},
    ]


# --- pulling


def pull_secret_name(device_id: str) -> str:
    return f"pull-{device_id}"


def pull_secret(device_id: str, namespace: str, access: RegistryAccess) -> dict[str, Any]:
    """The device's own pull credential, for the name by which images are called."""
    login = base64.b64encode(f"{access.user}:{access.password}".encode()).decode()
    config = msgspec.json.encode({"auths": {access.name: {"auth": login}}})
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": pull_secret_name(device_id),
            "namespace": namespace,
            "labels": {**MANAGED, DEVICE_LABEL: device_id},
        },
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": base64.b64encode(config).decode()},
    }


def pull_pod(room: NodeRoom, image: str) -> dict[str, Any]:
    """Has the kubelet pull an image and run nothing of it: its one command does not exist, so that
    the container's start fails once the image is there. Works with every runtime and needs
    nothing inside the image.
    """
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"pull-{_digest([room.device_id, image])[:16]}",
            "namespace": NAMESPACE,
            "labels": {**MANAGED, DEVICE_LABEL: room.device_id, INTERNET_LABEL: "no"},
        },
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "affinity": _affinity(room),
            "tolerations": _tolerations(),
            "imagePullSecrets": [{"name": pull_secret_name(room.device_id)}],
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {
                    "name": "image",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["/haechi/only-pulled"],
                    "resources": {
                        "limits": {"cpu": "100m", "memory": "32Mi"},
                        "requests": {"cpu": "1m", "memory": "1Mi"},
                    },
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                }
            ],
        },
    }


# --- small


def _labels(spec: ContainerSpec) -> dict[str, str]:
    return {
        **MANAGED,
        DEPLOYMENT_LABEL: spec.deployment_id,
        PACKAGE_LABEL: spec.package_id,
        VERSION_LABEL: spec.version_id,
    }


def digest_of_spec(made: Mapping[str, Any]) -> str:
    """Of a whole object's spec, defaults of the API included."""
    return _digest(made["spec"])


def _digest(value: Mapping[str, Any] | list[str]) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()


def _agent_address() -> str:
    return NODE_AGENT_URL.partition("://")[2].partition(":")[0]
