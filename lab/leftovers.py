"""What an earlier cluster leaves on a host, as it was found on real ones (LAB facts, 4)."""

from lab.host import Host

CONFLIST = (
    '{"name":"cbr0","cniVersion":"0.3.1","plugins":[{"type":"flannel",'
    '"delegate":{"hairpinMode":true,"isDefaultGateway":true}},{"type":"portmap",'
    '"capabilities":{"portMappings":true}}]}'
)
RULES = """\
table ip nat {
 chain KUBE-SERVICES { }
 chain KUBE-POSTROUTING { }
 chain FLANNEL-POSTRTG { }
}
"""
FILES = (
    "/var/lib/kubelet/pki/kubelet-client-current.pem",
    "/var/lib/kubelet/config.yaml",
    "/etc/kubernetes/admin.conf",
    "/etc/kubernetes/kubelet.conf",
    "/etc/kubernetes/manifests/kube-apiserver.yaml",
    "/var/lib/etcd/member/snap/db",
    "/var/lib/cni/flannel/0",
    "/run/flannel/subnet.env",
)


async def of_a_cluster(host: Host) -> None:
    """All of it: keys, kubeadm's files, etcd's data, CNI, interfaces, rules, kubeconfig."""
    await host.shell(
        "\n".join(f"install -D -m 600 /dev/null {file}" for file in FILES)
        + "\ninstall -D -m 644 /dev/stdin /etc/cni/net.d/10-flannel.conflist",
        stdin=CONFLIST.encode(),
    )
    user = host.keeper.user
    await host.shell(
        f"install -d -o {user} -g {user} /home/{user}/.kube\n"
        f"echo 'apiVersion: v1' | install -o {user} -m 600 /dev/stdin /home/{user}/.kube/config\n"
        "ip link add cni0 type bridge; ip addr add 10.244.0.1/24 dev cni0; ip link set cni0 up\n"
        "ip link add flannel.1 type vxlan id 1 dev eth0 dstport 8472"
    )
    await host.on_its_network("nft", "-f", "-", stdin=RULES.encode())


async def kubelet_keys(host: Host) -> None:
    """Only the ones that let a join end in `Unauthorized`: `kubeadm reset` was forgotten."""
    await host.shell(f"install -D -m 600 /dev/null {FILES[0]}")
