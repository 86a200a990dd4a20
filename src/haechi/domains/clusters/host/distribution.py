"""A host gets what a node needs by its own apt, where the site has internet or a mirror.

haechi adds no package source: which ones a host trusts is its owner's affair. The host must be able
to install Kubernetes' packages of the wanted version and a containerd 2; images come from the
registries that they name. The CNI plugin `flannel` is in none of these packages: the pods' network
brings it to each node by an image of its own.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from haechi.domains.clusters.bundle.recipe import image_name, load
from haechi.domains.clusters.host import ledger as ledgers
from haechi.domains.clusters.host import packages, runtime
from haechi.domains.clusters.host.errors import PackagesUnavailable, RepositoriesUnreachable
from haechi.domains.clusters.host.ledger import Ledger
from haechi.domains.clusters.host.placing import Item, announce, look, place
from haechi.domains.clusters.host.ports import Shell
from haechi.domains.clusters.host.prepare import PLUGINS, Role, note_runtime, settle_kernel, start

TOOLS: Final = (
    *("iptables", "nftables", "conntrack", "socat", "ethtool", "ebtables", "kmod", "ipset"),
    "haproxy",
)
PACKAGES: Final = TOOLS
NEEDED_BYTES: Final[Mapping[str, int]] = {
    "/usr/local/bin": 600 * 1024 * 1024,
    "/var/lib/containerd": 2 * 1024 * 1024 * 1024,
}
CONTAINERD_MAJOR: Final = 2
_RUNTIMES: Final = ("containerd.io", "containerd")
"""Docker's build of containerd, and the distribution's."""
_RUNTIME_NAME: Final = f"containerd (>= {CONTAINERD_MAJOR})"

OnText = Callable[[str], None]


async def prepare(
    shell: Shell,
    role: Role,
    version: str,
    containerd: Mapping[str, Any],
    *,
    log: OnText,
    progress: Callable[[float], None],
) -> None:
    """`version`: exact, without `v`. Raises PackagesUnavailable, RepositoriesUnreachable,
    PackagesNotInstalled.
    """
    pause = next(one for one in load(version).references if image_name(one) == "pause")
    drop_in = runtime.containerd_text(pause, containerd)
    items = _items(role, drop_in)
    plugin = Item.text(f"{PLUGINS}/flannel", "")
    state = await look(shell, [item.path for item in (*items, plugin)])
    ledger = await ledgers.read(shell) or Ledger()
    if not ledger.files:
        ledger.note(nft_tables=state.nft_tables)
    unreached = await packages.update(shell)
    progress(0.2)
    runtime_package = await _runtime(shell)
    names = [*TOOLS, "kubernetes-cni", *(f"{one}={version}-*" for one in _KUBERNETES)]
    lacking = await packages.lacking(shell, names, state)
    if runtime_package is None or lacking:
        # All at once: whoever adds a source wants to know what it must bring.
        all_of_it = [*([] if runtime_package else [_RUNTIME_NAME]), *lacking]
        if unreached:
            log(f"lacking: {', '.join(all_of_it)}")
            raise RepositoriesUnreachable(host=shell.host.name, sources=unreached)
        raise PackagesUnavailable(host=shell.host.name, packages=", ".join(all_of_it))
    names.append(runtime_package)
    # Before apt: a package starts its services by itself.
    ledger.note(drop_in=drop_in)
    await note_runtime(shell, ledger, state)
    _ = await announce(shell, ledger, state, [plugin])
    await packages.install_from_distribution(shell, ledger, state, names, log=log)
    progress(0.8)
    await settle_kernel(shell, ledger, log)
    written = await place(shell, ledger, state, items, on_bytes=lambda _: None)
    await start(shell, ledger, state, written, log, client=["ctr", "--timeout", "60s"])
    log(f"prepared from the distribution: Kubernetes {version}, {runtime_package}")
    progress(1.0)


_KUBERNETES: Final = ("kubelet", "kubeadm", "kubectl")


async def _runtime(shell: Shell) -> str | None:
    """The package that brings containerd 2."""
    for name in _RUNTIMES:
        ran = await shell.run(["apt-cache", "policy", name], root=True, check=False)
        candidate = next(
            (line.split()[1] for line in ran.stdout.splitlines() if "Candidate:" in line), ""
        )
        if _major(candidate) >= CONTAINERD_MAJOR:
            return name
    return None


def _major(version: str) -> int:
    number = version.rpartition(":")[2].partition(".")[0]
    return int(number) if number.isdecimal() else 0


def _items(role: Role, drop_in: str) -> list[Item]:
    texts = {
        runtime.CONTAINERD_CONFIG: runtime.MAIN_TEXT,
        runtime.CONTAINERD_DROP_IN: drop_in,
        runtime.KUBELET_CONDITION: runtime.KUBELET_CONDITION_TEXT,
        runtime.SYSCTL_FILE: runtime.sysctl_text(),
        runtime.MODULES_FILE: runtime.modules_text(),
    }
    if role == "control_plane":
        texts |= runtime.patches()
    return [Item.text(path, text) for path, text in texts.items()]
