"""Packages of the host's own distribution: from the bundle without any network, or by the host's
own apt where a site has internet.

apt is asked nothing and answers nothing: configuration files that are there are kept, no service is
started by an installation, a lock that somebody else holds is waited for. From the bundle, only
the packages that apt would install are sent; the host's own lists are neither read nor changed.
"""

import re
import shlex
from collections.abc import Callable, Sequence
from typing import Final

from haechi.domains.clusters.bundle.model import Bundle, Part
from haechi.domains.clusters.host import ledger as ledgers
from haechi.domains.clusters.host.errors import (
    CommandFailed,
    PackagesNotInstalled,
    PackagesUnavailable,
    RepositoriesUnreachable,
    short,
)
from haechi.domains.clusters.host.failures import failure_of, named
from haechi.domains.clusters.host.ledger import Ledger
from haechi.domains.clusters.host.placing import Item, State, put, put_all
from haechi.domains.clusters.host.ports import Ran, Shell

SHELF: Final = "/var/lib/haechi/host/apt"
LOCK_S: Final = 300
APT_S: Final = 900.0
_ENVIRONMENT: Final = (
    "DEBIAN_FRONTEND=noninteractive",
    "APT_LISTCHANGES_FRONTEND=none",
    "NEEDRESTART_SUSPEND=1",
)
_OPTIONS: Final = (
    "-y",
    "-q",
    "--no-install-recommends",
    "-o",
    "Dpkg::Options::=--force-confold",
    "-o",
    "Dpkg::Options::=--force-confdef",
    "-o",
    f"DPkg::Lock::Timeout={LOCK_S}",
    "-o",
    "Dpkg::Use-Pty=0",
)
_OWN_SHELF: Final = (
    f"Dir::Etc::sourcelist={SHELF}/sources.list",
    "Dir::Etc::sourceparts=/dev/null",
    f"Dir::State::lists={SHELF}/lists",
    f"Dir::Cache={SHELF}/cache",
    "APT::Get::List-Cleanup=0",
    "APT::Sandbox::User=root",
)
QUIET_UNITS: Final = {"haproxy": "haproxy.service"}
"""Package → its service that must not run beside ours."""
LEFT_BY: Final = {"haproxy": ("/run/haproxy", "/var/lib/haproxy")}
"""Package → folders that its removal leaves."""

_NOT_FETCHED: Final = re.compile(
    r"[WE]: Failed to fetch \w+://(?P<source>[^/\s]+)\S* +(?P<reason>.+)"
)
_NO_WAY: Final = re.compile(r"resolv|connect|timed out|unreachable|no route", re.IGNORECASE)

_CONFIGURE: Final = "dpkg --configure -a"
"""What apt asks for where a dpkg was broken off: by a power cut, or with our connection."""

OnText = Callable[[str], None]


def apt(*words: str, shelf: bool) -> list[str]:
    """The argv of an apt-get that asks nothing. `shelf`: of the bundle's packages alone."""
    own = [part for option in _OWN_SHELF for part in ("-o", option)] if shelf else []
    return ["env", *_ENVIRONMENT, "apt-get", *_OPTIONS, *own, *words]


async def install_from_bundle(
    shell: Shell,
    ledger: Ledger,
    state: State,
    bundle: Bundle,
    *,
    log: OnText,
    on_bytes: Callable[[int], None],
) -> None:
    """Idempotent: what is installed already is left alone."""
    missing = [name for name in bundle.host.packages if name not in state.packages]
    if not missing:
        return
    log(f"installing packages: {' '.join(missing)}")
    source = f"deb [trusted=yes] file:{SHELF} ./\n"
    await put(shell, Item.text(f"{SHELF}/sources.list", source), lambda _: None)
    for listed in bundle.files_for("worker", "index"):
        await put(shell, _on_shelf(bundle, listed), on_bytes)
    await shell.run(
        ["mkdir", "-p", f"{SHELF}/lists/partial", f"{SHELF}/cache/archives/partial"], root=True
    )
    await _apt(shell, apt("update", shelf=True), "update")
    wanted = await _would_install(shell, missing)
    by_name = {part.name: part for part in bundle.files_for("worker", "package")}
    for name in wanted:
        if name not in by_name:
            raise PackagesUnavailable(host=shell.host.name, packages=name)
    await put_all(shell, [_on_shelf(bundle, by_name[name]) for name in wanted], on_bytes)
    coming = [name.partition("_")[0] for name in wanted]
    await _install(shell, ledger, state, missing, coming, shelf=True, log=log)
    await shell.run(["rm", "-rf", SHELF], root=True)


def _on_shelf(bundle: Bundle, part: Part) -> Item:
    source = bundle.path_of(part)
    return Item(f"{SHELF}/{part.name}", 0o644, b"", source, part.sha256, part.size_bytes)


async def install_from_distribution(
    shell: Shell, ledger: Ledger, state: State, names: Sequence[str], *, log: OnText
) -> None:
    """By the host's own sources, read before. `names` may pin a version: `kubelet=1.36.3-*`."""
    missing = [name for name in names if not there(name, state)]
    if not missing:
        return
    log(f"installing packages from the distribution: {' '.join(missing)}")
    coming = await _simulated(shell, missing)
    await _install(shell, ledger, state, missing, coming, shelf=False, log=log)


async def update(shell: Shell) -> str:
    """Read the lists of the host's own sources: those that could not be reached, in words; what was
    read of them before still counts. Raises PackagesNotInstalled.
    """
    return _unreached((await _apt(shell, apt("update", shelf=False), "update")).stderr)


async def lacking(shell: Shell, names: Sequence[str], state: State) -> list[str]:
    """Those of `names` that neither are there nor stand in the host's own sources."""
    packages = [name.partition("=")[0] for name in names]
    ran = await shell.run(["apt-cache", "madison", *packages], root=True, check=False)
    rows = [[cell.strip() for cell in line.split("|")] for line in ran.stdout.splitlines()]
    offered = [(row[0], row[1]) for row in rows if len(row) > 1]

    def is_offered(name: str) -> bool:
        package, _, version = name.partition("=")
        return any(
            one == package and its.startswith(version.removesuffix("*")) for one, its in offered
        )

    return [name for name in names if not there(name, state) and not is_offered(name)]


def there(name: str, state: State) -> bool:
    package, _, version = name.partition("=")
    installed = state.packages.get(package)
    return installed is not None and installed.startswith(version.removesuffix("*"))


async def _install(
    shell: Shell,
    ledger: Ledger,
    state: State,
    names: Sequence[str],
    coming: Sequence[str],
    *,
    shelf: bool,
    log: OnText,
) -> None:
    """`coming`: all that apt will unpack for `names`."""
    new = [name for name in coming if name not in state.packages]
    upgraded = {name: state.packages[name] for name in coming if name in state.packages}
    quiet = [
        unit
        for package, unit in QUIET_UNITS.items()
        if package in new and package not in state.packages
    ]
    if ledger.note(packages=new, upgraded=upgraded, masked=quiet):
        await ledgers.save(shell, ledger)
    if upgraded:
        log(f"upgraded with them: {' '.join(sorted(upgraded))}")
    for unit in quiet:
        await shell.run(["systemctl", "mask", "--quiet", unit], root=True)
    argv = apt("install", *names, shelf=shelf)
    try:
        await _apt(shell, argv, "install", log=log)
    except PackagesNotInstalled as error:
        if _CONFIGURE not in str(error.data["message"]):
            raise
        log("an installation was broken off here: bringing it to its end")
        finish = ["env", *_ENVIRONMENT, "dpkg", "--force-confold", "--force-confdef", "--configure"]
        await shell.run([*finish, "-a"], root=True, timeout_s=APT_S, check=False, on_line=log)
        await _apt(shell, argv, "install", log=log)


async def _would_install(shell: Shell, names: Sequence[str]) -> list[str]:
    """File names of the packages that apt would unpack."""
    argv = apt("install", "--print-uris", *names, shelf=True)
    ran = await _apt(shell, argv, "install")
    found = []
    for line in ran.stdout.splitlines():
        if line.startswith("'"):
            uri = shlex.split(line)[0]
            found.append(uri.rpartition("/")[2].replace("%2b", "+").replace("%3a", ":"))
    return found


async def _simulated(shell: Shell, names: Sequence[str]) -> list[str]:
    ran = await _apt(shell, apt("install", "--simulate", *names, shelf=False), "install")
    return [line.split()[1] for line in ran.stdout.splitlines() if line.startswith("Inst ")]


async def _apt(shell: Shell, argv: list[str], verb: str, *, log: OnText | None = None) -> Ran:
    host = shell.host.name
    ran = await shell.run(argv, root=True, timeout_s=APT_S, on_line=log, check=False)
    if not ran.status:
        return ran
    error = failure_of(host, named(argv), ran, APT_S)
    if not isinstance(error, CommandFailed):
        raise error
    sources = _unreached(ran.stderr)
    if sources:
        raise RepositoriesUnreachable(host=host, sources=sources) from error
    message = str(error.data["message"])
    if "nable to locate" in message or "has no installation candidate" in message:
        raise PackagesUnavailable(host=host, packages=short(message)) from error
    words = f"apt-get {verb}: {message}"
    raise PackagesNotInstalled(host=host, message=short(words)) from error


def _unreached(stderr: str) -> str:
    """The sources to which apt found no way, each with its reason; one that refuses is there."""
    found: dict[str, str] = {}
    for line in stderr.splitlines():
        told = _NOT_FETCHED.match(line)
        if told and _NO_WAY.search(told["reason"]):
            found.setdefault(told["source"], told["reason"].strip())
    return ", ".join(f"{source} ({reason[:100]})" for source, reason in found.items())


async def remove(shell: Shell, names: Sequence[str], *, log: OnText) -> list[str]:
    """Purge what haechi installed; what somebody else needs by now stays: returns those."""
    if not names:
        return []
    there = await _installed(shell, names)
    folders = [folder for name in names for folder in LEFT_BY.get(name, ())]
    if there:
        argv = ["env", *_ENVIRONMENT, "dpkg", "--purge", *there]
        ran = await shell.run(argv, root=True, timeout_s=APT_S, check=False)
        if ran.status:
            for name in reversed(there):
                one = ["env", *_ENVIRONMENT, "dpkg", "--purge", name]
                await shell.run(one, root=True, timeout_s=APT_S, check=False)
            there = await _installed(shell, there)
            if there:
                log(f"these packages stay, others need them: {' '.join(there)}")
                return there
    if folders:
        await shell.run(["rm", "-rf", *folders], root=True)
    return []


async def _installed(shell: Shell, names: Sequence[str]) -> list[str]:
    argv = ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *names]
    ran = await shell.run(argv, root=True, check=False)
    rows = [line.split() for line in ran.stdout.splitlines()]
    return [row[0] for row in rows if len(row) == 2 and row[1] != "not-installed"]
