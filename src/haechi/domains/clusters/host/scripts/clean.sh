# Takes a cluster off a host. On standard input, lines of "word<TAB>…" with what the ledger says;
# without any, only what belongs to Kubernetes and its network goes. Idempotent. What cannot be
# removed is printed as "left<TAB>what". Runs as root under POSIX sh.
have() { command -v "$1" >/dev/null 2>&1; }
quietly() { "$@" >/dev/null 2>&1 || true; }
plan=$(cat)
told() { printf '%s\n' "$plan" | awk -F '\t' -v word="$1" '$1 == word {print $2}'; }
ours=$(told runtime)   # is the containerd here ours, with all its data?
containers=/var/lib/haechi/host/containers   # Docker's that ran when this was first begun

# --- what runs
quietly systemctl stop kubelet.service
# Docker goes back to its own containerd, which cannot take over what ours has started: its
# containers are stopped as long as ours is there to do it, and started again at the end.
told service | grep -qx docker.service && docker ps -q --no-trunc >"$containers.new" 2>/dev/null && {
  cat "$containers.new" >>"$containers"
  [ -s "$containers.new" ] && quietly docker stop $(cat "$containers.new")
  quietly systemctl stop docker.socket docker.service
}
if have ctr && [ -S /run/containerd/containerd.sock ]; then
  k8s() { ctr --timeout 20s -n k8s.io "$@" 2>/dev/null; }
  for task in $(k8s tasks ls -q); do quietly k8s tasks kill -a -s KILL "$task"; done
  [ "$ours" = yes ] || {
    for again in 1 2 3 4 5; do   # a container cannot go while its task has not ended
      [ -n "$(k8s containers ls -q)" ] || break
      [ "$again" = 1 ] || sleep 1
      for one in $(k8s containers ls -q); do
        quietly k8s tasks rm -f "$one"; quietly k8s containers rm "$one"
      done
    done
    k8s containers ls -q | sed 's/^/left\tcontainer /'
    k8s images ls -q | while read -r one; do quietly k8s images rm --sync "$one"; done
    quietly ctr namespaces rm k8s.io
  }
fi
for procs in $(find /sys/fs/cgroup -maxdepth 6 -path '*kubepods*' -name cgroup.procs 2>/dev/null); do
  while read -r pid; do quietly kill -KILL "$pid"; done <"$procs"
done
if [ "$ours" != yes ] && [ -n "$(told held)" ]; then   # who else keeps images or layers in it?
  kept=$(for one in $(ctr --timeout 20s namespaces ls -q | grep -vx k8s.io); do
    ctr --timeout 20s -n "$one" content ls -q; ctr --timeout 20s -n "$one" snapshots ls
  done 2>/dev/null | grep -v '^KEY')
  quietly systemctl stop containerd.service
fi
[ "$ours" = yes ] && quietly systemctl stop containerd.service
for pid in $(pgrep -x containerd-shim 2>/dev/null); do
  tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q -- '-namespace k8s.io' && quietly kill -KILL "$pid"
done

# --- mounts, innermost first
mounts() {
  awk '$2 ~ /^\/(var\/lib\/kubelet|run\/netns\/cni-|run\/flannel)/ && $2 != "/var/lib/kubelet" ||
    $2 ~ /^\/run\/containerd\/.*(\/k8s\.io\/|grpc\.v1\.cri\/)/ ||
    ours == "yes" && $2 ~ /^\/(run\/containerd|var\/lib\/containerd\/)/ {print $2}' \
    ours="$ours" /proc/self/mounts | sort -r
}
mounts | while read -r at; do quietly umount "$at" || quietly umount -l "$at"; done
mounts | while read -r at; do quietly umount -l "$at"; done

# --- what ours has made beside the data of a containerd that was there
[ "$ours" = yes ] || [ -z "$(told held)" ] ||
  for path in /opt/containerd /run/containerd/* /run/containerd/*/* /var/lib/containerd/* \
    /var/lib/containerd/*/*; do
    [ -e "$path" ] && ! told held | grep -qxF -- "$path" || continue
    case "$path" in
    */k8s.io) ;;
    */s/* | *.task/* | */runc/*) continue ;;   # of others' containers
    *.content.* | *.snapshotter.*) [ -z "$kept" ] || continue ;;
    esac
    quietly rm -rf --one-file-system -- "$path"
  done

# --- the pods' network
for namespace in /run/netns/cni-*; do [ -e "$namespace" ] && quietly ip netns delete "${namespace##*/}"; done
# The folder is a mount of its own once a namespace was in it; others' namespaces keep it.
if [ -d /run/netns ] && [ -z "$(ls -A /run/netns)" ]; then
  quietly umount /run/netns
  quietly rmdir /run/netns
fi
for name in cni0 flannel.1 flannel-v6.1 kube-ipvs0; do
  [ -e "/sys/class/net/$name" ] && quietly ip link delete "$name"
done
for tool in iptables ip6tables; do
  have "$tool-save" || continue
  rules=$("$tool-save" 2>/dev/null) || continue
  case "$rules" in *KUBE-* | *FLANNEL-* | *CNI-* | *HAECHI-*) ;; *) continue ;; esac
  printf '%s\n' "$rules" | grep -v -E -- '(KUBE|FLANNEL|CNI|HAECHI)-' | "$tool-restore" 2>/dev/null ||
    printf 'left\t%s rules\n' "$tool"
done
if have nft; then
  for family in ip ip6 inet; do quietly nft delete table "$family" kube-proxy; done
  # Tables that only iptables' own frame is left of; those of the host before stay.
  for family in ip ip6; do
    for table in nat filter mangle raw; do
      told nft | grep -qx "$family $table" && continue
      content=$(nft list table "$family" "$table" 2>/dev/null) || continue
      printf '%s\n' "$content" |
        grep -q -v -E '^[[:space:]]*(#.*|table .*|chain .*\{( \})?|type .* policy accept;|\}|)$' && continue
      quietly nft delete table "$family" "$table"
    done
  done
fi

# --- files of Kubernetes
empty() {
  # The folder goes too, unless it is a disk of its own or was there before.
  [ -e "$1" ] || return 0
  find "$1" -mindepth 1 -xdev -delete 2>/dev/null
  find "$1" -mindepth 1 -delete 2>/dev/null
  rmdir "$1" 2>/dev/null
  [ -n "$(ls -A "$1" 2>/dev/null)" ] && printf 'left\t%s\n' "$1"
  return 0
}
for folder in /etc/kubernetes /var/lib/kubelet /var/lib/etcd /var/lib/cni /run/flannel \
  /var/log/pods /var/log/containers /usr/libexec/kubernetes; do empty "$folder"; done
rm -f /etc/cni/net.d/*flannel* /etc/cni/net.d/.kubernetes-cni-keep
rm -f /run/xtables.lock.haechi
if [ "$ours" = yes ]; then empty /var/lib/containerd; empty /run/containerd; empty /run/nri; empty /opt/containerd; fi
rmdir /etc/cni/net.d /etc/cni 2>/dev/null

# --- what the ledger says
told unit | while read -r unit; do quietly systemctl disable "$unit"; done
printf '%s\n' "$plan" | while IFS='	' read -r word path how; do
  [ "$word" = file ] || continue
  rm -f -- "$path"
  [ "$how" = restore ] && [ -e "/var/lib/haechi/host/before$path" ] &&
    cp -a -T -- "/var/lib/haechi/host/before$path" "$path"
done
rm -f /usr/local/bin/.*.part /opt/cni/bin/.*.part /etc/.haechi.??????
told file | while read -r path; do rm -f -- "${path%/*}"/.haechi.??????; done
told folder | while read -r folder; do rmdir -- "$folder" 2>/dev/null; done
told sysctl | while read -r setting; do quietly sysctl -q -w "$setting"; done
quietly systemctl daemon-reload
quietly systemctl reset-failed kubelet.service containerd.service
told service | while read -r unit; do quietly systemctl restart "$unit"; done
[ -s "$containers" ] && quietly docker start $(sort -u "$containers")
exit 0
