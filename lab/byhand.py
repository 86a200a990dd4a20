"""A cluster formed with the bare commands: proof that lab hosts run Kubernetes with `profile`, and
what the product's times are measured beside. What a careful administrator would type, no more.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

from lab import engine, profile
from lab.host import Host

KUBECTL = "kubectl --kubeconfig /etc/kubernetes/admin.conf"
PACKAGES = "runc iptables nftables conntrack socat ethtool ebtables kmod ipset haproxy"
CONTAINERD = """\
version = 3
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
SystemdCgroup = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ['/opt/cni/bin']
[plugins.'io.containerd.cri.v1.images'.registry]
config_path = '/etc/containerd/certs.d'
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = 'registry.k8s.io/pause:3.10.2'
"""
CONTAINERD_UNIT = """\
[Unit]
After=network.target
[Service]
ExecStart=/usr/local/bin/containerd
Type=notify
Delegate=yes
KillMode=process
Restart=always
RestartSec=2
LimitNOFILE=infinity
[Install]
WantedBy=multi-user.target
"""
KUBELET_UNIT = """\
[Unit]
After=containerd.service
StartLimitIntervalSec=0
[Service]
Environment="A=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf"
Environment="B=--kubeconfig=/etc/kubernetes/kubelet.conf --config=/var/lib/kubelet/config.yaml"
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
ExecStart=/usr/local/bin/kubelet $A $B $KUBELET_KUBEADM_ARGS
Restart=always
RestartSec=2
[Install]
WantedBy=multi-user.target
"""
INSTALL = f"""\
cd /opt/bundle
install -m 755 -t /usr/local/bin bin/*
install -d /opt/cni/bin /etc/containerd
install -m 755 -t /opt/cni/bin cni/*
echo net.ipv4.ip_forward=1 > /etc/sysctl.d/90-kubernetes.conf
sysctl -q -p /etc/sysctl.d/90-kubernetes.conf
echo 'deb [trusted=yes] file:/opt/bundle/host ./' > /run/bundle.list
APT='-o Dir::Etc::sourcelist=/run/bundle.list -o Dir::Etc::sourceparts=-'
apt-get $APT update -q
DEBIAN_FRONTEND=noninteractive apt-get $APT install -yq --no-install-recommends {PACKAGES}
"""
IMPORT = "for file in /opt/bundle/images/*.tar; do ctr -n k8s.io images import --local $file; done"


async def install(host: Host, bundle: Path) -> None:
    """From a bare host to one with everything on it, images too; no cluster yet."""
    await engine.podman("cp", bundle, f"{host.container}:/opt/bundle", timeout_s=300)
    await host.shell(INSTALL, timeout_s=300)
    files = {
        "/etc/containerd/config.toml": CONTAINERD,
        "/etc/systemd/system/containerd.service": CONTAINERD_UNIT,
        "/etc/systemd/system/kubelet.service": KUBELET_UNIT,
    }
    for path, text in files.items():
        await host.shell(f"cat > {path}", stdin=text.encode())
    await host.shell("systemctl enable -q --now containerd && systemctl enable -q kubelet")
    await host.shell(f"{IMPORT}\nrm -r /opt/bundle", timeout_s=600)


async def form(control: Host, workers: list[Host], flannel: bytes, version: str) -> None:
    """`kubeadm init`, flannel, `kubeadm join` side by side, until all is ready."""
    documents: list[dict[str, Any]] = [
        {
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "kind": "ClusterConfiguration",
            "kubernetesVersion": f"v{version}",
            "networking": {"podSubnet": "10.244.0.0/16"},
        },
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            **profile.KUBELET,
        },
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            **profile.KUBE_PROXY,
        },
    ]
    ignored = f"--ignore-preflight-errors={','.join(profile.IGNORE_PREFLIGHT)}"
    configuration = "\n---\n".join(json.dumps(document) for document in documents)
    await control.shell("cat > /root/kubeadm.yaml", stdin=configuration.encode())
    await control.shell(f"kubeadm init --config /root/kubeadm.yaml {ignored} 2>&1", timeout_s=600)
    await control.shell(f"{KUBECTL} apply -f -", stdin=flannel)
    join = await control.shell("kubeadm token create --print-join-command")
    async with asyncio.TaskGroup() as group:
        for worker in workers:
            group.create_task(worker.shell(f"{join} {ignored} 2>&1", timeout_s=600))
    await until_ready(control, 1 + len(workers))


async def until_ready(control: Host, nodes: int) -> None:
    """All nodes Ready, and all pods of the system."""
    await control.until(
        f"test $({KUBECTL} get nodes --no-headers | grep -cw Ready) = {nodes}"
        f" && {KUBECTL} get pods -A --no-headers > /run/pods"
        f" && test $(grep -c flannel /run/pods) = {nodes}"
        " && ! grep -v '1/1  *Running' /run/pods",
        f"{nodes} nodes and their pods are ready",
        timeout_s=600,
    )
