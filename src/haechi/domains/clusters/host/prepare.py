"""A host gets what a node needs, from the offline bundle: idempotent, only what differs is sent.

packages and kernel settings, beside them programs, plugins and image archives; then containerd;
then images. Each thing is noted in the host's ledger before it is made. kubelet is enabled here and
started by kubeadm.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from haechi.domains.clusters.bundle.model import Bundle, Part
from haechi.domains.clusters.bundle.model import Role as BundleRole
from haechi.domains.clusters.host import ledger as ledgers
from haechi.domains.clusters.host import packages, runtime
from haechi.domains.clusters.host.errors import (
    CommandFailed,
    ImagesNotImported,
    RuntimeNotStarting,
    short,
)
from haechi.domains.clusters.host.ledger import Ledger
from haechi.domains.clusters.host.placing import (
    Item,
    State,
    announce,
    look,
    put_all,
    side_by_side,
)
from haechi.domains.clusters.host.ports import Shell

PROGRAMS: Final = "/usr/local/bin"
PLUGINS: Final = "/opt/cni/bin"
ARCHIVES: Final = "/var/lib/haechi/host/images"
CTR: Final = (f"{PROGRAMS}/ctr", "--timeout", "60s", "-n", "k8s.io")
START_S: Final = 90.0
IMPORT_S: Final = 900.0

OnText = Callable[[str], None]
Role = Literal["control_plane", "worker"]


@dataclass(frozen=True, slots=True)
class Preparation:
    """What to make of a host."""

    bundle: Bundle
    role: Role
    containerd: Mapping[str, Any] = field(default_factory=dict)
    """Plugin → settings, laid over haechi's own: given by the caller."""

    @property
    def bundle_role(self) -> BundleRole:
        return "control-plane" if self.role == "control_plane" else "worker"


class _Progress:
    """Bytes that arrived, as a share of what may have to be sent."""

    def __init__(self, total: int, tell: Callable[[float], None]) -> None:
        self._total = max(total, 1)
        self._there = 0
        self._tell = tell

    def moved(self, count: int) -> None:
        self._there += count
        self._tell(min(self._there / self._total, 0.99))


async def prepare(
    shell: Shell, wanted: Preparation, *, log: OnText, progress: Callable[[float], None]
) -> None:
    """Raises HostAway, HostDiskFull, PackagesNotInstalled, RuntimeNotStarting, ImagesNotImported,
    TransferDamaged. What was done before an error stays noted: `clean` takes it back.
    """
    bundle, role = wanted.bundle, wanted.bundle_role
    items = _items(wanted)
    state = await look(shell, [item.path for item in items])
    ledger = await ledgers.read(shell) or Ledger()
    todo = sum(item.size_bytes for item in items if not state.has(item))
    archives = _archives_missing(wanted, state)
    todo += sum(part.size_bytes for part in archives)
    bar = _Progress(todo, progress)

    if not ledger.files:
        ledger.note(nft_tables=state.nft_tables)
    ledger.note(drop_in=_text_of(items, runtime.CONTAINERD_DROP_IN))
    coming = await announce(shell, ledger, state, items)
    # Only a containerd that runs can say what it has.
    told = bool(state.images) or not state.runtime_data

    async def install() -> None:
        """The only one of them that writes to the ledger."""
        await packages.install_from_bundle(
            shell, ledger, state, bundle, log=log, on_bytes=lambda _: None
        )
        await settle_kernel(shell, ledger, log)

    async def send() -> None:
        await put_all(shell, coming, bar.moved)
        if told:
            await put_all(shell, [_archive(bundle, part) for part in archives], bar.moved)

    await side_by_side(install(), send())
    written = [item.path for item in coming]
    log(f"{len(written)} files written, {len(items) - len(written)} were there")
    await start(shell, ledger, state, written, log)
    if archives and not told:
        archives = _archives_missing(wanted, await look(shell, []))
        await put_all(shell, [_archive(bundle, part) for part in archives], bar.moved)
    if archives:
        await side_by_side(*(_import(shell, part, log) for part in archives))
        await shell.run(["rm", "-rf", ARCHIVES], root=True)
    if ledger.note(bundle=bundle.digest):
        await ledgers.save(shell, ledger)
    log(f"prepared as {role} from {bundle.name}")
    progress(1.0)


def _items(wanted: Preparation) -> list[Item]:
    bundle = wanted.bundle
    items = [
        _item(bundle, part, f"{PROGRAMS}/{part.name}", 0o755)
        for part in bundle.files_for(wanted.bundle_role, "program")
    ]
    items += [
        _item(bundle, part, f"{PLUGINS}/{part.name}", 0o755)
        for part in bundle.files_for(wanted.bundle_role, "plugin")
    ]
    pause = bundle.image("pause").reference
    drop_in = runtime.containerd_text(pause, wanted.containerd)
    texts = {
        runtime.CONTAINERD_CONFIG: runtime.MAIN_TEXT,
        runtime.CONTAINERD_DROP_IN: drop_in,
        runtime.CONTAINERD_UNIT: runtime.CONTAINERD_UNIT_TEXT,
        runtime.KUBELET_UNIT: runtime.KUBELET_UNIT_TEXT,
        runtime.KUBELET_DROP_IN: runtime.KUBELET_DROP_IN_TEXT,
        runtime.SYSCTL_FILE: runtime.sysctl_text(),
        runtime.MODULES_FILE: runtime.modules_text(),
    }
    if wanted.role == "control_plane":
        texts |= runtime.patches()
    return items + [Item.text(path, text) for path, text in texts.items()]


def _text_of(items: Sequence[Item], path: str) -> str:
    return next(item.content.decode() for item in items if item.path == path)


def _item(bundle: Bundle, part: Part, path: str, mode: int) -> Item:
    return Item(path, mode, b"", bundle.path_of(part), part.sha256, part.size_bytes)


def _archive(bundle: Bundle, part: Part) -> Item:
    return _item(bundle, part, f"{ARCHIVES}/{part.name}", 0o600)


def _archives_missing(wanted: Preparation, state: State) -> list[Part]:
    """Archives that hold an image which the host does not have."""
    needed = {
        image.archive
        for image in wanted.bundle.images_for(wanted.bundle_role)
        if state.images.get(image.reference) != image.digest
    }
    return [part for part in wanted.bundle.parts if part.path in needed]


async def settle_kernel(shell: Shell, ledger: Ledger, log: OnText) -> None:
    """Note what is set now, load the modules, and set it; the files that keep it come with the
    others, so that it holds after a reboot.
    """
    names = [*runtime.SYSCTLS, *runtime.KUBELET_SYSCTLS]
    # `-e`: what this kernel does not have is left out.
    await shell.run(["modprobe", "-q", "-a", *runtime.MODULES], root=True, check=False)
    ran = await shell.run(["sysctl", "-e", *names], root=True, check=False)
    now: dict[str, str] = {}
    for line in ran.stdout.splitlines():
        name, equals, value = line.partition("=")
        if equals:
            now[name.strip()] = value.strip()
    if ledger.note(sysctls=now):
        await ledgers.save(shell, ledger)
    wrong = {
        name: value for name, value in runtime.SYSCTLS.items() if now.get(name, value) != value
    }
    if wrong:
        words = [f"{name}={value}" for name, value in wrong.items()]
        await shell.run(["sysctl", "-q", "-w", *words], root=True)
        log(f"set, now and after each start: {', '.join(words)}")


async def note_runtime(shell: Shell, ledger: Ledger, state: State) -> None:
    """What of a container runtime was here before anything of ours ran: once."""
    if ledger.looked or ledger.started:
        return
    new = [name for name in ("containerd", "kubelet") if name not in state.enabled]
    running = [name for name in ("containerd", "docker") if state.services.get(name) == "active"]
    ledger.note(
        units=[f"{name}.service" for name in new],
        services=running,
        runtime=not state.runtime_data,
        held=state.held,
        looked=True,
    )
    await ledgers.save(shell, ledger)


async def start(
    shell: Shell,
    ledger: Ledger,
    state: State,
    written: list[str],
    log: OnText,
    *,
    client: Sequence[str] = CTR,
) -> None:
    """The runtime runs with this program and configuration. `client`: the ctr to ask it with."""
    await note_runtime(shell, ledger, state)
    first = not ledger.started
    theirs = any(path.startswith(("/etc/containerd", "/etc/systemd")) for path in written)
    changed = theirs or f"{PROGRAMS}/containerd" in written
    if theirs or first:
        # Enabling reloads too, which takes a tenth of a second each time.
        enable = ["systemctl", "enable", "--quiet", "--no-reload"]
        await shell.run([*enable, "containerd.service", "kubelet.service"], root=True)
        await shell.run(["systemctl", "daemon-reload"], root=True)
    if changed or state.services.get("containerd") != "active":
        verb = "restart" if changed else "start"
        log(f"containerd: {verb}")
        ran = await shell.run(
            ["systemctl", verb, "containerd.service"], root=True, timeout_s=START_S, check=False
        )
        if ran.status:
            await _refuse(shell, ran.last_line)
        # Docker finds it again by itself, and its containers have run on.
    ran = await shell.run([*client, "version"], root=True, timeout_s=START_S, check=False)
    if ran.status:
        await _refuse(shell, ran.last_line)
    if ledger.note(started=True):
        await ledgers.save(shell, ledger)


async def _refuse(shell: Shell, message: str) -> None:
    journal = await shell.run(
        ["journalctl", "-u", "containerd", "-n", "5", "-o", "cat", "--no-pager"],
        root=True,
        check=False,
    )
    words = journal.stdout.strip() or message
    raise RuntimeNotStarting(host=shell.host.name, message=short(words))


async def _import(shell: Shell, part: Part, log: OnText) -> None:
    log(f"images: {part.name}")
    argv = [*CTR, "images", "import", "--local", "--digests=false", f"{ARCHIVES}/{part.name}"]
    try:
        await shell.run(argv, root=True, timeout_s=IMPORT_S)
    except CommandFailed as error:
        message = str(error.data["message"])
        raise ImagesNotImported(host=shell.host.name, message=short(message)) from error
