"""What Kubernetes needs to be told on lab hosts, and why: explicit options of the caller.

A lab host has no CAP_SYS_RESOURCE, a read-only kernel for some settings, and on many machines
cgroup v1. None of this is ever a default of the product; real hosts need none of it.
"""

from typing import Any

KUBELET: dict[str, Any] = {
    "failCgroupV1": False,  # kubelet 1.35 and later refuse cgroup v1
    "featureGates": {"KubeletInUserNamespace": True},  # forgives what needs CAP_SYS_RESOURCE
    "cgroupDriver": "systemd",
}
KUBE_PROXY: dict[str, Any] = {
    # These sysctls cannot be written from inside a container.
    "conntrack": {
        "maxPerCore": 0,
        "min": 0,
        "tcpEstablishedTimeout": "0s",
        "tcpCloseWaitTimeout": "0s",
    },
}
IGNORE_PREFLIGHT = ["SystemVerification"]  # it refuses cgroup v1
# containerd 2, config version 3: plugin → its settings.
CONTAINERD: dict[str, Any] = {
    "io.containerd.cri.v1.runtime": {"restrict_oom_score_adj": True},
}
