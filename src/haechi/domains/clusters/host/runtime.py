"""containerd and kubelet on a host: their configuration and units, as texts.

Sources: containerd's `docs/man/containerd-config.toml.5.md` (configuration version 3) and
`containerd.service`; Kubernetes' release packages (`kubelet.service`, `10-kubeadm.conf`).

What haechi sets stands in a drop-in. Tools that rewrite containerd's main file (NVIDIA's container
toolkit does) leave it alone; should they drop the line that reads drop-ins, `registry_trust` puts
it back.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

import yaml

CONTAINERD_CONFIG: Final = "/etc/containerd/config.toml"
DROP_INS: Final = "/etc/containerd/conf.d"
CONTAINERD_DROP_IN: Final = f"{DROP_INS}/50-haechi.toml"
CERTS_FOLDER: Final = "/etc/containerd/certs.d"
CONTAINERD_SOCKET: Final = "/run/containerd/containerd.sock"
CONTAINERD_UNIT: Final = "/etc/systemd/system/containerd.service"
KUBELET_UNIT: Final = "/etc/systemd/system/kubelet.service"
KUBELET_DROP_IN: Final = "/etc/systemd/system/kubelet.service.d/10-kubeadm.conf"
KUBELET_CONFIG: Final = "/var/lib/kubelet/config.yaml"
KUBELET_CONDITION: Final = "/etc/systemd/system/kubelet.service.d/50-haechi.conf"
SYSCTL_FILE: Final = "/etc/sysctl.d/90-haechi-kubernetes.conf"
MODULES_FILE: Final = "/etc/modules-load.d/haechi-kubernetes.conf"

CRI_RUNTIME: Final = "io.containerd.cri.v1.runtime"
CRI_IMAGES: Final = "io.containerd.cri.v1.images"

MODULES: Final = ("overlay", "br_netfilter")
SYSCTLS: Final[Mapping[str, str]] = {
    "net.ipv4.ip_forward": "1",
    "net.bridge.bridge-nf-call-iptables": "1",
    "net.bridge.bridge-nf-call-ip6tables": "1",
}
# kubelet sets these by itself and never sets them back.
KUBELET_SYSCTLS: Final = (
    "vm.overcommit_memory",
    "vm.panic_on_oom",
    "kernel.panic",
    "kernel.panic_on_oops",
    "kernel.keys.root_maxkeys",
    "kernel.keys.root_maxbytes",
    "net.ipv4.conf.all.route_localnet",
)

PATCHES_FOLDER: Final = "/var/lib/haechi/kubeadm-patches"
"""What kubeadm lays over the manifests that it makes of a control plane's own pods."""
READY_ASK_S: Final = 10
"""kubeadm has three of these pods asked every second whether they are ready, over a connection made
anew each time. Nobody here waits for that word; whether they live is asked every ten seconds, too.
Asked as seldom, a control plane that has nothing to do takes a fifth less of a processor.
"""

MAIN_TEXT: Final = f"""\
# Written by haechi. Settings are in {DROP_INS}.
version = 3
imports = ["{DROP_INS}/*.toml"]
"""

CONTAINERD_UNIT_TEXT: Final = """\
[Unit]
Description=containerd (installed by haechi)
Documentation=https://containerd.io
After=network.target local-fs.target dbus.service

[Service]
ExecStart=/usr/local/bin/containerd
Type=notify
Delegate=yes
KillMode=process
Restart=always
RestartSec=2
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
OOMScoreAdjust=-999

[Install]
WantedBy=multi-user.target
"""

# Enabled from the beginning, so that kubeadm is content and reboots are survived. Without the
# condition, a kubelet that was not configured yet would fail and be started again for ever.
KUBELET_UNIT_TEXT: Final = f"""\
[Unit]
Description=kubelet (installed by haechi)
Documentation=https://kubernetes.io/docs/
Wants=network-online.target
After=network-online.target containerd.service
ConditionPathExists={KUBELET_CONFIG}
StartLimitIntervalSec=0

[Service]
ExecStart=/usr/local/bin/kubelet
Restart=always
RestartSec=2

[Install]
WantedBy=multi-user.target
"""

KUBELET_DROP_IN_TEXT: Final = """\
# Written by haechi, as Kubernetes' own packages have it.
[Service]
Environment="KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf\
 --kubeconfig=/etc/kubernetes/kubelet.conf"
Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
EnvironmentFile=-/etc/default/kubelet
ExecStart=
ExecStart=/usr/local/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS\
 $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS
"""

# For a kubelet whose unit is its package's: as in ours.
KUBELET_CONDITION_TEXT: Final = f"""\
# Written by haechi: kubeadm configures the kubelet, then starts it.
[Unit]
ConditionPathExists={KUBELET_CONFIG}
"""


def sysctl_text() -> str:
    """A leading `-`: what this kernel does not have is no failure."""
    lines = [f"-{name} = {value}" for name, value in SYSCTLS.items()]
    return "\n".join(["# Written by haechi: pods reach each other through this host.", *lines, ""])


def patches() -> dict[str, str]:
    """Path → text: strategic merges, for the pods that kubeadm has asked each second."""
    found = {}
    for name in ("etcd", "kube-apiserver", "kube-scheduler"):
        container = {"name": name, "readinessProbe": {"periodSeconds": READY_ASK_S}}
        text = yaml.safe_dump({"spec": {"containers": [container]}}, sort_keys=False)
        found[f"{PATCHES_FOLDER}/{name}+strategic.yaml"] = f"# Written by haechi.\n{text}"
    return found


def modules_text() -> str:
    return "\n".join(["# Written by haechi for containers and their network.", *MODULES, ""])


def containerd_settings(pause: str, more: Mapping[str, Any]) -> dict[str, Any]:
    """`pause`: reference of the sandbox image. `more`: plugin → settings, laid over ours."""
    plugins: dict[str, Any] = {
        CRI_RUNTIME: {"containerd": {"runtimes": {"runc": _runc()}}},
        CRI_IMAGES: {
            "registry": {"config_path": CERTS_FOLDER},
            "pinned_images": {"sandbox": pause},
        },
    }
    return {"version": 3, "plugins": _over(plugins, more)}


def _runc() -> dict[str, Any]:
    return {"runtime_type": "io.containerd.runc.v2", "options": {"SystemdCgroup": True}}


def containerd_text(pause: str, more: Mapping[str, Any]) -> str:
    head = "# Written by haechi; changes are overwritten.\n"
    return head + to_toml(containerd_settings(pause, more))


def _over(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in more.items():
        own = merged.get(key)
        both = isinstance(own, Mapping) and isinstance(value, Mapping)
        merged[key] = _over(own, value) if both and isinstance(own, Mapping) else value
    return merged


def to_toml(table: Mapping[str, Any]) -> str:
    """Tables of text, numbers, booleans, lists of these, and tables."""
    return "\n".join(_lines(table, ())) + "\n"


def _lines(table: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    plain = {key: value for key, value in table.items() if not isinstance(value, Mapping)}
    lines = [
        f"{_key(key)} = {json.dumps(value, ensure_ascii=False)}" for key, value in plain.items()
    ]
    if path and plain:
        lines.insert(0, f"\n[{'.'.join(_key(part) for part in path)}]")
    for key, value in table.items():
        if isinstance(value, Mapping):
            lines += _lines(value, (*path, key))
    return lines


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() else json.dumps(key)
