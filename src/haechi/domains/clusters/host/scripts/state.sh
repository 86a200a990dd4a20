# What of a host's preparation is there already; read by placing.py. Changes nothing. Arguments: paths.
# Lines of "kind<TAB>name<TAB>value".
# A node's programs are 300 MB; openssl takes a quarter of the time.
digest() { openssl dgst -sha256 -r "$1" 2>/dev/null || sha256sum -- "$1"; }
for path in "$@"; do
  if [ -f "$path" ] && [ ! -L "$path" ]; then
    is=$(digest "$path"); is=${is#\\}
    printf 'file\t%s\t%s %s\n' "$path" "${is%% *}" "$(stat -c %a -- "$path")"
  elif [ -e "$path" ] || [ -L "$path" ]; then printf 'file\t%s\tother\n' "$path"; fi
  folder=$(dirname "$path")
  while [ ! -e "$folder" ]; do
    printf 'no_folder\t%s\t-\n' "$folder"
    folder=$(dirname "$folder")
  done
done
dpkg-query -W -f 'package\t${Package}\t${db:Status-Abbrev}${Version}\n' 2>/dev/null
for unit in containerd docker kubelet; do
  printf 'service\t%s\t%s\n' "$unit" "$(systemctl is-active "$unit.service" 2>/dev/null)"
  printf 'enabled\t%s\t%s\n' "$unit" "$(systemctl is-enabled "$unit.service" 2>/dev/null)"
done
command -v nft >/dev/null && nft list tables 2>/dev/null |
  while read -r _ table; do printf 'nft\t%s\t-\n' "$table"; done
[ -e /var/lib/containerd/io.containerd.metadata.v1.bolt ] && {
  printf 'data\tcontainerd\tthere\n'
  for path in /opt/containerd /run/containerd/* /run/containerd/*/* /var/lib/containerd/* \
    /var/lib/containerd/*/*; do
    [ -e "$path" ] && printf 'held\t%s\t-\n' "$path"
  done
}
[ -S /run/containerd/containerd.sock ] && [ -x /usr/local/bin/ctr ] &&
  /usr/local/bin/ctr --timeout 20s -n k8s.io images ls 2>/dev/null |
  awk 'NR > 1 {print "image\t" $1 "\t" $3}'
exit 0
