# What a host is like, in one round trip: lines of "key<TAB>value…", read by facts.py. Changes nothing.
# Runs as root under POSIX sh on Debian and Ubuntu; a tool that is missing leaves its lines out.
say() { printf '%s\t%s\n' "$1" "$2"; }
first() { head -n 1 "$1" 2>/dev/null; }
have() { command -v "$1" >/dev/null 2>&1; }

say began "$(date +%s.%N)"
say arch "$(uname -m)"
say kernel "$(uname -r)"
say host_name "$(uname -n)"
say machine_id "$(first /etc/machine-id)"
say boot_id "$(first /proc/sys/kernel/random/boot_id)"
say init "$(first /proc/1/comm)"
if [ -r /etc/os-release ]; then
  (. /etc/os-release; say os_id "$ID"; say os_like "$ID_LIKE"; say os_version "$VERSION_ID"
   say os_name "$PRETTY_NAME"; say os_suite "$VERSION_CODENAME")
fi
have dpkg && say dpkg_arch "$(dpkg --print-architecture)"

say cpus "$(nproc)"
awk '/^MemTotal:/ {print "memory_total_kb\t" $2} /^MemAvailable:/ {print "memory_available_kb\t" $2}' \
  /proc/meminfo
for limit in /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes; do
  [ -r "$limit" ] && say memory_limit "$(cat "$limit")"
done
tail -n +2 /proc/swaps 2>/dev/null | while read -r name _; do say swap "$name"; done
case "$(stat -f -c %T /sys/fs/cgroup)" in cgroup2fs) say cgroup 2 ;; *) say cgroup 1 ;; esac

# The folder itself, or the nearest that exists: where it will be made.
for folder in / /usr/local/bin /opt/cni /etc /var/lib/haechi /var/lib/containerd /var/lib/kubelet /var/lib/etcd; do
  at=$folder
  while [ ! -d "$at" ]; do at=$(dirname "$at"); done
  df -Pk "$at" 2>/dev/null | awk -v folder="$folder" \
    'NR == 2 {print "disk\t" folder "\t" $NF "\t" $(NF-4) "\t" $(NF-2)}'
done

for name in net.ipv4.ip_forward net.bridge.bridge-nf-call-iptables vm.overcommit_memory; do
  at=/proc/sys/$(echo "$name" | tr . /)
  [ -r "$at" ] && printf 'sysctl\t%s\t%s\n' "$name" "$(first "$at")"
done
for module in overlay br_netfilter vxlan; do
  if [ -d "/sys/module/$module" ] || grep -qw "$module" /proc/filesystems; then say module "$module"
  elif have modprobe && modprobe -n -q "$module"; then say module_available "$module"; fi
done

have ss && {
  ss -Hltnp 2>/dev/null | awk '{print "listen\ttcp\t" $4 "\t" $6}'
  ss -Hlunp 2>/dev/null | awk '{print "listen\tudp\t" $4 "\t" $6}'
}
for folder in /sys/class/net/*; do say interface "${folder##*/}"; done
have ip && {
  ip -o -4 addr show | awk '{print "address\t" $2 "\t" $4}'
  ip -4 route show | awk '{dev = ""; for (n = 1; n < NF; n++) if ($n == "dev") dev = $(n+1)
    print "route\t" $1 "\t" dev}'
}

for program in containerd dockerd crio podman runc kubelet kubeadm k3s k0s rke2 microk8s \
  nvidia-ctk nvidia-container-runtime nvidia-smi iptables nft haproxy apt-get systemctl timeout; do
  at=$(command -v "$program") && printf 'program\t%s\t%s\n' "$program" "$at"
done
have containerd && say containerd_version "$(containerd --version 2>/dev/null | awk '{print $3}')"
[ -e /etc/nv_tegra_release ] && say jetson "$(first /etc/nv_tegra_release)"
[ -e /dev/nvidia0 ] && say gpu nvidia0
if have systemctl; then
  for unit in containerd docker crio kubelet k3s k3s-agent k0scontroller k0sworker rke2-server \
    rke2-agent snap.microk8s.daemon-kubelite haproxy; do
    [ "$(systemctl is-active "$unit.service" 2>/dev/null)" = active ] && say running "$unit"
  done
fi
[ -S /run/containerd/containerd.sock ] && say containerd_socket yes
if have pgrep; then
  for name in kube-apiserver etcd kubelet; do pgrep -x "$name" >/dev/null && say process "$name"; done
fi

# What an earlier cluster leaves.
for path in /etc/kubernetes/*.conf /etc/kubernetes/manifests/* /etc/kubernetes/pki/* \
  /var/lib/kubelet/pki/* /var/lib/kubelet/config.yaml /var/lib/kubelet/kubeadm-flags.env \
  /var/lib/kubelet/pods/* /var/lib/etcd/member /etc/cni/net.d/*flannel* /etc/cni/net.d/*calico* \
  /etc/cni/net.d/*cilium* /etc/cni/net.d/*weave* /var/lib/cni/flannel /var/lib/cni/networks/cbr0 /run/flannel/* \
  /var/lib/calico /var/lib/weave /var/lib/rancher /var/lib/k0s \
  /etc/haechi/node.json /var/lib/haechi/host/ledger.json; do
  [ -e "$path" ] && say leftover "$path"
done
for name in cni0 flannel.1 flannel-v6.1 kube-ipvs0 kube-bridge vxlan.calico cilium_host weave; do
  [ -e "/sys/class/net/$name" ] && say leftover "interface $name"
done
rules=0
have iptables-save && rules=$(iptables-save 2>/dev/null | grep -c -E -- '-A (KUBE|FLANNEL|CNI)-|^:(KUBE|FLANNEL|CNI)-')
[ "${rules:-0}" -gt 0 ] && say leftover "$rules iptables lines"
have nft && { say nft_lines "$(nft list ruleset 2>/dev/null | grep -c .)"
  nft list tables 2>/dev/null | grep -q -w kube-proxy && say leftover "nft table kube-proxy"; }
# Whole or unreadable: half a rule set would say something else.
have nft && say nft_rules "$(nft -j list ruleset 2>/dev/null | head -c 262144)"
have iptables-save && iptables-save -t filter 2>/dev/null | head -c 262144 | sed 's/^/filter\t/'
for file in /root/.kube/config /home/*/.kube/config; do [ -f "$file" ] && say kubeconfig "$file"; done

have dpkg-query && dpkg-query -W -f '${db:Status-Abbrev}\t${binary:Package}\n' 2>/dev/null |
  awk -F '\t' 'substr($1, 2, 1) == "i" {sub(/:.*/, "", $2); print "package\t" $2}
    substr($1, 2, 1) != "i" && substr($1, 2, 1) != "c" && substr($1, 2, 1) != "n" {print "package_broken\t" $2}'
say ended "$(date +%s.%N)"
