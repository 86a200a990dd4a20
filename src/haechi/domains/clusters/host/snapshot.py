"""A host before and after, as far as a cluster would change it; what differs is the proof.

A snapshot is JSON: kind → name → value. Contents of files are there as digests, so nothing secret
leaves the host.
"""

import fnmatch
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final

from haechi.domains.clusters.host.ports import Shell

SCRIPT: Final = files(__package__).joinpath("scripts/snapshot.sh").read_text()
TAKE_S: Final = 120.0

# What an earlier cluster left and forming removed with consent is no damage when it stays away.
_LEFTOVERS: Final = (
    ("file", "/etc/kubernetes*"),
    ("content", "/etc/kubernetes*"),
    ("file", "/etc/cni*"),
    ("content", "/etc/cni*"),
    ("file", "/opt/cni*"),
    ("content", "/opt/cni*"),
    ("file", "/var/lib/kubelet*"),
    ("file", "/var/lib/etcd*"),
    ("file", "/var/lib/cni*"),
    ("file", "/var/lib/haechi*"),
    ("file", "/run/flannel*"),
    ("file", "/var/log/pods*"),
    ("file", "/var/log/containers*"),
    ("file", "/run/netns*"),
    ("interface", "cni0"),
    ("interface", "flannel.1"),
    ("interface", "kube-ipvs0"),
    ("interface", "veth*"),
    ("address", "cni0 *"),
    ("address", "flannel.1 *"),
    ("route", "* cni0 *"),
    ("route", "* flannel.1 *"),
    ("rule", "*KUBE-*"),
    ("rule", "*FLANNEL-*"),
    ("rule", "*CNI-*"),
    ("nft", "*"),
    ("mount", "/var/lib/kubelet/*"),
    ("mount", "/run/netns/*"),
    ("failed", "*"),
)
_BY_ITSELF: Final = ("kernel", "dhcp", "ra")
"""Routes that come with an address."""
# Kinds that tell nothing where no tool was there to ask.
_ASKED: Final = {"rule": ("iptables-save", "ip6tables-save"), "nft": ("nft",)}


async def take(shell: Shell) -> dict[str, Any]:
    """Raises HostAway, SudoAsks, SudoRefused, CommandFailed."""
    ran = await shell.run(["sh", "-s"], root=True, stdin=SCRIPT, timeout_s=TAKE_S)
    return parse(ran.stdout)


def parse(text: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        kind, tab, rest = line.partition("\t")
        name, _, value = rest.partition("\t")
        if tab and name:
            found.setdefault(kind, {})[name] = value.strip()
    return found


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]]:
    """`{kind, name, before, after}`, None where it was or is not there; empty where the host is as
    it was.
    """
    found = []
    kinds = {*before, *after} - {"tool"}
    # An earlier release asked systemd for them, later ones look at the files themselves.
    kinds -= {kind for kind in ("unit", "unit_file") if kind not in before or kind not in after}
    for kind in sorted(kinds):
        old, new = before.get(kind, {}), after.get(kind, {})
        for name in sorted({*old, *new}):
            was, now = old.get(name), new.get(name)
            if was == now or _is_no_damage(kind, name, was, now, before):
                continue
            if _is_of_the_site(kind, name, before, after):
                continue
            found.append({"kind": kind, "name": name, "before": was, "after": now})
    return found


def _is_no_damage(
    kind: str, name: str, was: str | None, now: str | None, before: Mapping[str, Any]
) -> bool:
    if kind in _ASKED and now is not None:
        # The tool came with the cluster and stayed: an empty table of it is not told as a change.
        return not any(tool in before.get("tool", {}) for tool in _ASKED[kind]) and not _left(name)
    if kind in {"service", "unit"} and {was, now} <= {None, "", "inactive", "unknown"}:
        return True
    if now is not None:
        return False
    return any(kind == one and fnmatch.fnmatchcase(name, like) for one, like in _LEFTOVERS)


def _is_of_the_site(
    kind: str, name: str, before: Mapping[str, Any], after: Mapping[str, Any]
) -> bool:
    """Addresses of the host's own interfaces come from the site's DHCP, and routes with them."""
    words = name.split()
    if kind == "address":
        interface = words[0]
    elif kind == "route" and "dev" in words[:-1]:
        if words[0] != "default" and not any(f" proto {one} " in name for one in _BY_ITSELF):
            return False
        interface = words[words.index("dev") + 1]
    else:
        return False
    return all(interface in one.get("interface", {}) for one in (before, after))


def _left(name: str) -> bool:
    return any(word in name for word in ("KUBE-", "FLANNEL-", "CNI-", "kube-proxy"))
