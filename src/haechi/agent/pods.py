"""AIs of this node that Kubernetes runs: found among the node's processes, not asked for anywhere.

The first process of each container in a `kubepods` cgroup (the one whose parent is outside) carries
the deployment's token in its environment; whose digest is known from the desired state, that AI it
is. So an AI is known, measured and answered also while Kubernetes' API and the server are away, and
none can pass for another.
Needs the host's process numbers and CAP_SYS_PTRACE. Costs one look at `/proc` a second.
"""

import asyncio
import contextlib
import hashlib
import ipaddress
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from haechi.agent import boot
from haechi.agent.deployments import Deployment, Deployments

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
YOUNG_S: Final = 60.0
"""A container's first process is its runtime's until it becomes the AI's: so long it is looked at
again."""
AFRESH: Final = 30
"""Looks, after which process numbers that meant nothing are looked at again."""
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Found:
    """The first process of an AI's container."""

    pid: int
    began: int
    """In ticks since boot: tells a new process from an old number."""
    container_id: str
    digest: str
    """SHA-256 of its token."""
    addresses: tuple[str, ...]
    started_ms: int


class Pods:
    """`on_change` is called when one came or went."""

    def __init__(
        self,
        deployments: Deployments,
        *,
        on_change: Callable[[], None] = lambda: None,
        proc: Path = Path("/proc"),
    ) -> None:
        self._deployments = deployments
        self._on_change = on_change
        self._proc = proc
        self._found: dict[int, Found] = {}
        self._passed: dict[int, bool] = {}
        """Processes that are no AI's → whether they may become one."""
        self._looks = 0
        self._blind = False
        self._looking = asyncio.Lock()

    async def keep(self) -> None:
        """For ever."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def locate(self, _address: str) -> None:
        """Somebody unknown wants in: it may have begun since the last look."""
        await self.look()

    @property
    def addresses(self) -> list[str]:
        """Of the AIs that run here now."""
        found = {address for one in self._deployments if one.served for address in one.addresses}
        return sorted(found)

    @property
    def fenced(self) -> list[str] | None:
        """Addresses of those that were not allowed the internet; None before the first look."""
        if not self._looks:
            return None
        found = {
            address
            for one in self._deployments
            if one.served and not one.kept.spec.internet
            for address in one.addresses
        }
        return sorted(found)

    async def look(self) -> None:
        async with self._looking:
            if await asyncio.to_thread(self._scan):
                self._apply()
                self._on_change()
            elif any(one.served and not one.pid for one in self._deployments):
                self._apply()

    # -- finding (in a thread) ----------------------------------------------------------------

    def _scan(self) -> bool:
        """Whether something came or went."""
        self._looks += 1
        if self._looks % AFRESH == 0:
            self._passed = {}
        names = os.listdir(self._proc)  # noqa: PTH208 - each second: paths are not needed
        pids = {int(name) for name in names if name.isdigit()}
        gone = [pid for pid, one in self._found.items() if self._began(pid) != one.began]
        for pid in gone:
            del self._found[pid]
        self._passed = {pid: may for pid, may in self._passed.items() if pid in pids}
        came = False
        for pid in pids - self._found.keys():
            if self._passed.get(pid, True):
                found = self._examine(pid)
                if found is not None:
                    self._found[pid] = found
                    came = True
        return came or bool(gone)

    def _examine(self, pid: int) -> Found | None:
        folder = self._proc / str(pid)
        try:
            container_id = _container_of((folder / "cgroup").read_text())
            if not container_id or self._within(folder, container_id):
                self._passed[pid] = False
                return None
            began = self._began(pid)
            if began is None:
                return None
            age_s = boot.monotonic_ms() / 1000 - began / _TICKS
            token = _token_in((folder / "environ").read_bytes())
            if not token:
                self._passed[pid] = age_s < YOUNG_S
                return None
            return Found(
                pid=pid,
                began=began,
                container_id=container_id,
                digest=hashlib.sha256(token).hexdigest(),
                addresses=self._addresses(folder),
                started_ms=boot.wall_ms() - round(age_s * 1000),
            )
        except PermissionError as error:
            if not self._blind:
                self._blind = True
                log.error("pods cannot be recognised: %s", error)  # noqa: TRY400
            self._passed[pid] = False
        except OSError:
            self._passed.pop(pid, None)  # it ended while it was looked at
        return None

    def _within(self, folder: Path, container_id: str) -> bool:
        """Whether its parent is of the same container: it is a child then, not the AI. The number
        says nothing: in a process namespace that the pod shares, `pause` is number 1.
        """
        parent = _parent_of((folder / "status").read_text())
        try:
            return _container_of((self._proc / parent / "cgroup").read_text()) == container_id
        except OSError:
            return False

    def _began(self, pid: int) -> int | None:
        try:
            text = (self._proc / str(pid) / "stat").read_bytes()
            return int(text.rpartition(b")")[2].split()[19])
        except (OSError, ValueError, IndexError):
            return None

    def _addresses(self, folder: Path) -> tuple[str, ...]:
        """In the pod's own network; none where it shares the host's."""
        mine, its = (self._proc / "self/ns/net").stat(), (folder / "ns/net").stat()
        if (mine.st_dev, mine.st_ino) == (its.st_dev, its.st_ino):
            return ()
        found = local_addresses((folder / "net/fib_trie").read_text())
        with contextlib.suppress(OSError):
            found += global_addresses((folder / "net/if_inet6").read_text())
        return tuple(found)

    # -- taking over --------------------------------------------------------------------------

    def _apply(self) -> None:
        newest: dict[str, Found] = {}
        for one in sorted(self._found.values(), key=lambda found: found.began):
            known = newest.get(one.digest)
            # Of one container the oldest: an orphan's parent is outside as well.
            if known is None or known.container_id != one.container_id:
                newest[one.digest] = one
        addresses: dict[str, list[str]] = {}
        for one in self._found.values():
            addresses.setdefault(one.digest, []).extend(one.addresses)
        for deployment in self._deployments:
            if deployment.served:
                digest = deployment.kept.spec.token_digest
                self._observe(deployment, newest.get(digest))
                self._deployments.placed(deployment, tuple(addresses.get(digest, ())))

    def _observe(self, deployment: Deployment, found: Found | None) -> None:
        before = deployment.status()
        if found is None:
            deployment.pid = 0
            deployment.state = "absent"
        else:
            deployment.begin_life(found.container_id, found.started_ms)
            deployment.pid = found.pid
            deployment.state = "running"
        if deployment.status() != before:
            self._deployments.on_change()


def _container_of(cgroup: str) -> str:
    """The container's id where the process is a pod's, else ""."""
    for line in cgroup.splitlines():
        path = line.split(":", 2)[-1]
        last = path.rpartition("/")[2]
        if "kubepods" in path or ("/.." in path and last.startswith("cri-containerd-")):
            return last.removesuffix(".scope").rpartition("-")[2]
    return ""


def _parent_of(status: str) -> str:
    for line in status.splitlines():
        name, _, number = line.partition(":")
        if name == "PPid":
            return number.strip()
    return "0"


def _token_in(environment: bytes) -> bytes:
    for entry in environment.split(b"\0"):
        if entry.startswith(b"HAECHI_TOKEN="):
            return entry.removeprefix(b"HAECHI_TOKEN=")
    return b""


def local_addresses(fib_trie: str) -> list[str]:
    """IPv4 addresses of a network, from its `fib_trie`; loopback left out."""
    found: list[str] = []
    last = ""
    for line in fib_trie.splitlines():
        text = line.strip()
        if text.startswith("|-- "):
            last = text.removeprefix("|-- ")
        elif text == "/32 host LOCAL" and not last.startswith("127.") and last not in found:
            found.append(last)
    return found


def global_addresses(if_inet6: str) -> list[str]:
    """IPv6 addresses with global scope, from `if_inet6`."""
    found: list[str] = []
    for line in if_inet6.splitlines():
        parts = line.split()
        if len(parts) == 6 and parts[3] == "00":
            found.append(str(ipaddress.IPv6Address(bytes.fromhex(parts[0]))))
    return found
