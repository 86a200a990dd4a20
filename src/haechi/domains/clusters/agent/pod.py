"""The agent of a node as a static pod: what the kubelet runs by itself, API or no API. Pure.

Host network: it dials the server, and pods reach it at an address of the node. Host processes and
cgroups, read-only: it recognises and measures pods by them. Of root's rights it gets what that and
redirected addresses need, and no engine's socket.
"""

from typing import Any, Final

NAME: Final = "haechi-agent"
NAMESPACE: Final = "kube-system"
DATA: Final = "/var/lib/haechi-agent"
GRACE_S: Final = 20
CAPABILITIES: Final = ("DAC_OVERRIDE", "NET_ADMIN", "NET_RAW", "SYS_PTRACE")


def agent_pod(image: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": NAME,
            "namespace": NAMESPACE,
            "labels": {"app.kubernetes.io/name": NAME, "app.kubernetes.io/part-of": "haechi"},
        },
        "spec": {
            "hostNetwork": True,
            "hostPID": True,
            "dnsPolicy": "Default",
            "priorityClassName": "system-node-critical",
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": GRACE_S,
            "automountServiceAccountToken": False,
            "tolerations": [{"operator": "Exists"}],
            "containers": [_container(image)],
            "volumes": [
                _host_path("data", DATA, "DirectoryOrCreate"),
                _host_path("cgroup", "/sys/fs/cgroup", "Directory"),
                _host_path("machine-id", "/etc/machine-id", "File"),
            ],
        },
    }


def image_of(pod: dict[str, Any]) -> str:
    """The reference that a manifest made here names; "" where it is none."""
    try:
        return str(pod["spec"]["containers"][0]["image"])
    except (KeyError, IndexError, TypeError):
        return ""


def _container(image: str) -> dict[str, Any]:
    return {
        "name": "agent",
        "image": image,
        "imagePullPolicy": "Never",
        "args": ["run", "--data-dir", "/data", "--node", "--cgroup", "/"],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"], "add": list(CAPABILITIES)},
        },
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}},
        "volumeMounts": [
            {"name": "data", "mountPath": "/data"},
            {"name": "cgroup", "mountPath": "/sys/fs/cgroup", "readOnly": True},
            {"name": "machine-id", "mountPath": "/host/machine-id", "readOnly": True},
        ],
    }


def _host_path(name: str, path: str, kind: str) -> dict[str, Any]:
    return {"name": name, "hostPath": {"path": path, "type": kind}}
