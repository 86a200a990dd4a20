#!/bin/sh
# Stands for iptables and its kin until the first call, then makes them what this host already
# uses: two sets of rules, one in nf_tables and one in the old tables, would work against each
# other. The kubelet's own chains tell; without them the set with more rules; else nf_tables where
# the kernel has it (kernels of Jetson boards may not).
set -u

choose() {
    if ! xtables-nft-multi iptables-save >/dev/null 2>&1; then
        echo legacy
        return
    fi
    for mode in nft legacy; do
        for family in iptables ip6tables; do
            if "xtables-$mode-multi" "$family-save" -t mangle 2>/dev/null |
                grep -qE '^:(KUBE-IPTABLES-HINT|KUBE-KUBELET-CANARY)'; then
                echo "$mode"
                return
            fi
        done
    done
    nft=$(count nft)
    legacy=$(count legacy)
    if [ "$legacy" -gt "$nft" ]; then echo legacy; else echo nft; fi
}

count() {
    for family in iptables ip6tables; do
        "xtables-$1-multi" "$family-save" 2>/dev/null
    done | grep -c '^-'
}

mode=$(choose)
for name in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
    ln -s "xtables-$mode-multi" "/usr/sbin/.$name.$$" && mv -fT "/usr/sbin/.$name.$$" "/usr/sbin/$name"
done
exec "xtables-$mode-multi" "${0##*/}" "$@"
