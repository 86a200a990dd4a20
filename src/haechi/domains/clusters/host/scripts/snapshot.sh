# The state of a host as far as a cluster would change it: lines of "kind<TAB>name<TAB>value", read
# by snapshot.py. Changes nothing. Runs as root under POSIX sh.
say() { printf '%s\t%s\t%s\n' "$1" "$2" "$3"; }
have() { command -v "$1" >/dev/null 2>&1; }

have dpkg-query && dpkg-query -W -f 'package\t${binary:Package}\t${db:Status-Abbrev}${Version}\n'

# Everything under /etc but what is rewritten by itself; the size is no part of it, the digest is.
# Names only where contents are secret or large.
{ find /etc -xdev \
  \( -path /etc/ld.so.cache -o -path /etc/mtab -o -path /etc/resolv.conf -o -path '/etc/.*' \
  -o -path '/etc/passwd-' -o -path '/etc/group-' -o -path '/etc/shadow-' -o -path '/etc/gshadow-' \
  -o -path '/etc/subuid-' -o -path '/etc/subgid-' -o -path '*/__pycache__' \) -prune \
  -o \( -type f -o -type l -o -type d \) -printf '%y\t%m\t%U:%G\t%p\t%l\n' 2>/dev/null
  # A kubectl's cache tells nothing of a cluster.
  find /root/.kube /home/*/.kube -xdev -mindepth 1 -name cache -prune \
    -o -printf '%y\t%m\t%U:%G\t%p\t%l\n' 2>/dev/null
  find /usr/local /opt -xdev -mindepth 1 -maxdepth 2 -printf '%y\t%m\t%U:%G\t%p\t%l\n' 2>/dev/null
} | awk -F '\t' '{print "file\t" $4 "\t" $1 " " $2 " " $3 ($5 == "" ? "" : " -> " $5)}'
find /etc /usr/local/etc /root/.kube /home/*/.kube -xdev -type f \
  ! -path /etc/ld.so.cache ! -path /etc/resolv.conf ! -path '/etc/*-' ! -path '/etc/.*' \
  ! -path '*/.kube/cache/*' \
  -exec sha256sum {} + 2>/dev/null |
  awk '{digest = $1; sub(/^\\?[0-9a-f]+ [ *]/, ""); print "content\t" $0 "\t" digest}'
find /usr/local/bin /usr/local/sbin /opt/cni -xdev -type f -printf 'content\t%p\t%s bytes\n' 2>/dev/null

# What belongs to clusters and runtimes, by name.
for folder in /var/lib/kubelet /var/lib/etcd /var/lib/cni /var/lib/containerd /var/lib/haechi \
  /var/lib/haechi-agent /var/lib/haproxy /run/flannel /run/haproxy /run/containerd /var/log/pods \
  /var/log/containers /run/netns /usr/libexec/kubernetes; do
  [ -e "$folder" ] || continue
  mountpoint -q "$folder" 2>/dev/null || say file "$folder" there
  find "$folder" -mindepth 1 -maxdepth 2 ! -name 'ttrpc*' ! -path '/run/containerd/s/*' 2>/dev/null |
    head -n 2000 | while read -r path; do say file "$path" there; done
done
for path in /var/lib/*; do [ -e "$path" ] && say file "$path" there; done

for path in /sys/class/net/*; do
  # Those of Docker's containers come and go with them.
  case "${path##*/} $(basename "$(readlink "$path/master")")" in veth*" docker0" | veth*" br-"*) ;;
  *) say interface "${path##*/}" there ;; esac
done
have ip && {
  ip -o -4 addr show | awk '{print "address\t" $2 " " $4 "\tthere"}'
  ip -4 route show | sed 's/ *$//; s/ linkdown//; s/ expires [^ ]*//' |
    while read -r line; do say route "$line" there; done
}

# Rules without counters and comments; none where no tool can tell.
for tool in iptables-save ip6tables-save; do
  have "$tool" || continue
  say tool "$tool" there
  table=
  "$tool" 2>/dev/null | grep -v '^#' | sed 's/ \[[0-9:]*\]$//' | while read -r line; do
    case "$line" in
    '*'*) table=$line ;; COMMIT) ;;
    ':'*' ACCEPT' | ':'*' DROP') case "$line" in *' DROP') say rule "$tool $table $line" there ;; esac ;;
    *) say rule "$tool $table $line" there ;;
    esac
  done
done
have nft && {
  say tool nft there
  nft list tables 2>/dev/null | while read -r line; do say nft "$line" there; done
}

for name in net.ipv4.ip_forward net.ipv4.conf.all.forwarding net.ipv6.conf.all.forwarding \
  net.bridge.bridge-nf-call-iptables net.bridge.bridge-nf-call-ip6tables vm.overcommit_memory \
  vm.panic_on_oom kernel.panic kernel.panic_on_oops kernel.keys.root_maxkeys \
  kernel.keys.root_maxbytes net.ipv4.conf.all.route_localnet net.netfilter.nf_conntrack_max; do
  at=/proc/sys/$(echo "$name" | tr . /)
  [ -r "$at" ] && say sysctl "$name" "$(cat "$at")"
done

# What is enabled or masked is a link under /etc. To ask systemd for all of it takes over half a second.
find /usr/lib/systemd/system /usr/local/lib/systemd/system -maxdepth 1 ! -type d \
  -printf 'unit_file\t%p\tthere\n' 2>/dev/null
have systemctl && {
  for unit in containerd docker crio kubelet haproxy haechi-api-proxy haechi-agent; do
    say service "$unit" "$(systemctl is-active "$unit.service" 2>/dev/null)"
  done
  systemctl list-units --no-legend --no-pager --plain --state=failed 2>/dev/null |
    awk '{print "failed\t" $1 "\tfailed"}'
}
awk '$2 !~ /^\/(proc|sys|dev|run\/user|run\/credentials|run\/docker|var\/lib\/docker\/)/ {print "mount\t" $2 "\t" $3}' /proc/self/mounts
tail -n +2 /proc/swaps 2>/dev/null | while read -r name _; do say swap "$name" on; done
