"""podman with a configuration and a storage of the lab's own; nothing of the user's is touched.

Why runc, no resource limits and file locks: docs/decisions (lab). All calls have a time limit.
"""

import asyncio
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache as once
from pathlib import Path

from tools.provision import cache

from lab import names

RUN = Path("/run/haechi-lab")
MEMORY = Path("/dev/shm/haechi-lab")
WEIGHT = {
    Path("/sys/fs/cgroup/cpu/libpod_parent/cpu.shares"): 8192,
    Path("/sys/fs/cgroup/libpod_parent/cpu.weight"): 800,
}
"""Of all hosts together, where a program of this machine weighs 1024 (cgroup v1) or 100."""
INOTIFY = {"max_user_instances": 8192, "max_user_watches": 1048576}
KUBELETS_SYSCTLS = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1000000,
    "kernel/keys/root_maxbytes": 25000000,
}
"""Each kubelet sets them, and whoever cleans its host sets them back. One kernel serves all hosts:
one's proof of deletion would show what another did. So they are set before the first.
"""
CONTAINERS_CONF = """\
[containers]
default_ulimits = []
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
num_locks = 2048
tmp_dir = "{run}/libpod"
[network]
network_backend = "netavark"
network_config_dir = "{root}/networks"
"""
STORAGE_CONF = """\
[storage]
driver = "overlay"
graphroot = "{root}/storage"
runroot = "{run}/storage"
"""


class LabError(Exception):
    """The lab could not do something: what, and what helps."""


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    status: int
    out: str
    err: str


def root() -> Path:
    return cache.root() / "lab"


def missing() -> str | None:
    """Why this machine cannot run the lab, in one line; None if it can."""
    if os.geteuid() != 0:
        return "the lab needs root: real hosts have network namespaces and cgroups of their own"
    absent = [name for name in ("podman", "runc", "nft", "nsenter") if shutil.which(name) is None]
    if absent:
        return f"the lab needs {', '.join(absent)}: python3 tools/setup.py --with lab"
    return None


@once
def environment() -> dict[str, str]:
    """What podman is called with; writes its configuration and raises what the hosts need."""
    if reason := missing():
        raise LabError(reason)
    base = root()
    base.mkdir(parents=True, exist_ok=True)
    (base / "networks").mkdir(exist_ok=True)
    files = {"containers.conf": CONTAINERS_CONF, "storage.conf": STORAGE_CONF}
    for name, text in files.items():
        wanted = text.format(root=base, run=RUN)
        file = base / name
        if not file.exists() or file.read_text() != wanted:
            scratch = base / f".{name}.{os.getpid()}"
            scratch.write_text(wanted)
            scratch.rename(file)
    _raise_inotify()
    _settle_kernel()
    return {
        **os.environ,
        "CONTAINERS_CONF": str(base / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(base / "storage.conf"),
    }


def inotify_enough() -> bool:
    return all(
        int(Path(f"/proc/sys/fs/inotify/{name}").read_text()) >= least
        for name, least in INOTIFY.items()
    )


def _raise_inotify() -> None:
    """With the usual 128 instances the kubelets after the first few hosts die."""
    for name, least in INOTIFY.items():
        file = Path(f"/proc/sys/fs/inotify/{name}")
        if int(file.read_text()) < least:
            file.write_text(f"{least}\n")


def _settle_kernel() -> None:
    for name, value in KUBELETS_SYSCTLS.items():
        file = Path(f"/proc/sys/{name}")
        if int(file.read_text()) != value:
            file.write_text(f"{value}\n")


def memory_of(container: str) -> Path:
    """A folder in memory that goes with the host."""
    return MEMORY / container


def give_weight() -> None:
    """On a busy machine hosts get their share: as one group they would get that of one program,
    and all their clusters would falter beside a few tests.
    """
    for file, weight in WEIGHT.items():
        if file.exists() and int(file.read_text()) < weight:
            file.write_text(f"{weight}\n")


async def run(
    argv: Sequence[str | Path],
    *,
    stdin: bytes = b"",
    timeout_s: float = 60,
    check: bool = True,
) -> Said:
    """Run a program on this machine to its end; `LabError` if it fails or takes too long."""
    words = [str(word) for word in argv]
    shown = " ".join(words[:6]) + (" …" if len(words) > 6 else "")
    process = await asyncio.create_subprocess_exec(
        *words,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
    )
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await process.communicate(stdin)
    except TimeoutError as e:
        raise LabError(f"`{shown}` took longer than {timeout_s:.0f} s") from e
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    status = process.returncode
    assert status is not None
    said = Said(status, out.decode(errors="replace"), err.decode(errors="replace"))
    if check and said.status:
        words_of_it = (said.err.strip() or said.out.strip())[-2000:]
        raise LabError(f"`{shown}` ended with code {said.status}: {words_of_it}")
    return said


async def podman(
    *argv: str | Path, stdin: bytes = b"", timeout_s: float = 120, check: bool = True
) -> Said:
    return await run(["podman", *argv], stdin=stdin, timeout_s=timeout_s, check=check)


@dataclass(frozen=True)
class Thing:
    """A container or network of the lab, as podman lists it."""

    kind: str
    name: str
    owner: str
    site: str
    host: str
    state: str


async def things() -> list[Thing]:
    """Everything that the lab has on this machine, hosts first."""
    listed: list[Thing] = []
    mine = f"label={names.LABEL}"
    hosts = await podman("ps", "--all", "--filter", mine, "--format", "json")
    for row in json.loads(hosts.out or "[]"):
        labels = row["Labels"]
        listed.append(
            Thing(
                "host",
                row["Names"][0],
                labels.get(names.OWNER, ""),
                labels.get(names.SITE, ""),
                labels.get(names.HOST, ""),
                row["State"],
            )
        )
    networks = await podman("network", "ls", "--filter", mine, "--format", "json")
    for row in json.loads(networks.out or "[]"):
        labels = row.get("labels", {})
        subnet = row["subnets"][0]["subnet"]
        owner, site = labels.get(names.OWNER, ""), labels.get(names.SITE, "")
        listed.append(Thing("network", row["name"], owner, site, "", subnet))
    fences = await run(["nft", "list", "tables", "inet"])
    owners = {thing.name: thing for thing in listed if thing.kind == "network"}
    for line in fences.out.splitlines():
        name = line.split()[-1]
        if name.startswith(f"{names.PREFIX}-"):
            network = owners.get(name)
            # A fence stands only while its network does.
            owner, site = (network.owner, network.site) if network else ("", "")
            listed.append(Thing("fence", name, owner, site, "", ""))
    return listed


async def fence(network: str, subnet: str) -> None:
    """Nothing from this network leads past the machine: its hosts are told so at once.

    A table of its own, as podman's and Docker's rules are in others: what one refuses is refused.
    """
    leaves = f"ip saddr {subnet} ip daddr != {subnet}"
    await run(
        ["nft", "-f", "-"],
        stdin=(
            f"table inet {network} {{ chain forward {{ type filter hook forward priority -10;"
            f" {leaves} reject with icmp type admin-prohibited; }}\n}}\n"
        ).encode(),
    )


async def remove(chosen: Sequence[Thing]) -> None:
    """Hosts with all their disks, then networks. What is gone already is no error."""
    hosts = [thing.name for thing in chosen if thing.kind == "host"]
    if hosts:
        end = ("rm", "--force", "--volumes", "--time", "0", "--ignore", *hosts)
        if (await podman(*end, timeout_s=300, check=False)).status:
            # A paused host cannot be ended; one that is not paused says so, and that is well.
            for name in hosts:
                await podman("unpause", name, check=False)
            await podman(*end, timeout_s=300)
        for name in hosts:
            shutil.rmtree(memory_of(name), ignore_errors=True)
    # By its network a site is known to have been left: that goes last.
    for thing in sorted(chosen, key=lambda thing: thing.kind == "network"):
        if thing.kind == "fence":
            await run(["nft", "delete", "table", "inet", thing.name], check=False)
        if thing.kind == "network":
            gone = await podman("network", "rm", "--force", thing.name, check=False)
            if gone.status and "not found" not in gone.err:
                raise LabError(f"network {thing.name} stays: {gone.err.strip()}")


async def sweep() -> list[str]:
    """Remove what runs left behind that are no longer there; the names of what went."""
    if not _orphaned_networks():
        return []
    orphans = [thing for thing in await things() if not names.alive(thing.owner)]
    await remove(orphans)
    return [thing.name for thing in orphans]


def _orphaned_networks() -> bool:
    """Each site has one, which goes last. As podman keeps them in files, this costs nothing."""
    for file in (root() / "networks").glob(f"{names.PREFIX}-*.json"):
        try:
            labels = json.loads(file.read_text()).get("labels", {})
        except (OSError, ValueError):  # it is just being made or removed
            continue
        if not names.alive(labels.get(names.OWNER, "")):
            return True
    return False
