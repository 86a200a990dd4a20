"""A cgroup's CPU and memory, version 1 (one mount per controller) or 2 (one tree).

Files are kept open and re-read from the start: a read costs microseconds where an open costs ten
times that, and there is one sample a second for every container. Knows no container.
"""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

ROOT: Final = Path("/sys/fs/cgroup")
_NO_LIMIT_BYTES: Final = 1 << 60


class KernelFile:
    """A small file of the kernel, kept open. Reads as "" once it is gone."""

    __slots__ = ("_descriptor", "_path")

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def read(self, size_bytes: int = 16_384) -> str:
        try:
            if self._descriptor < 0:
                self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            return os.pread(self._descriptor, size_bytes, 0).decode("ascii", "replace")
        except OSError:
            self.close()
            return ""

    def close(self) -> None:
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1


class Cgroup:
    """Base of both versions."""

    def __init__(self, files: dict[str, Path]) -> None:
        self._files = {name: KernelFile(path) for name, path in files.items()}

    def close(self) -> None:
        for file in self._files.values():
            file.close()

    def _number(self, name: str) -> int | None:
        text = self._files[name].read().strip()
        return int(text) if text.lstrip("-").isdigit() else None

    def _field(self, name: str, key: str) -> int | None:
        return field_of(self._files[name].read(), key)

    def cpu_ns(self) -> int | None:
        """CPU time used since it was made; None once it is gone."""
        raise NotImplementedError

    def per_core_ns(self) -> list[int]:
        """Empty where the kernel does not tell (version 2)."""
        return []

    def memory_bytes(self) -> int | None:
        """Without the page cache that can go at once."""
        raise NotImplementedError

    def cpu_limit_cores(self) -> float | None:
        raise NotImplementedError

    def memory_limit_bytes(self) -> int | None:
        raise NotImplementedError


class CgroupV1(Cgroup):
    def __init__(
        self, name: str, *, root: Path = ROOT, names: dict[str, str] | None = None
    ) -> None:
        """`names`: where the controllers' paths differ (`/proc/PID/cgroup`)."""
        of = {key: (names or {}).get(key, name).lstrip("/") for key in ("cpuacct", "cpu", "memory")}
        acct, cpu, mem = (root / key / of[key] for key in ("cpuacct", "cpu", "memory"))
        super().__init__(
            {
                "usage": acct / "cpuacct.usage",
                "per_core": acct / "cpuacct.usage_percpu",
                "quota": cpu / "cpu.cfs_quota_us",
                "period": cpu / "cpu.cfs_period_us",
                "memory": mem / "memory.usage_in_bytes",
                "stat": mem / "memory.stat",
                "limit": mem / "memory.limit_in_bytes",
            }
        )
        self.exists = acct.is_dir()

    def cpu_ns(self) -> int | None:
        return self._number("usage")

    def per_core_ns(self) -> list[int]:
        return [int(part) for part in self._files["per_core"].read().split()]

    def memory_bytes(self) -> int | None:
        used = self._number("memory")
        if used is None:
            return None
        return max(0, used - (self._field("stat", "total_inactive_file") or 0))

    def cpu_limit_cores(self) -> float | None:
        quota, period = self._number("quota"), self._number("period")
        if quota is None or period is None or quota <= 0 or period <= 0:
            return None
        return quota / period

    def memory_limit_bytes(self) -> int | None:
        limit = self._number("limit")
        return None if limit is None or limit >= _NO_LIMIT_BYTES else limit


class CgroupV2(Cgroup):
    def __init__(self, name: str, *, root: Path = ROOT) -> None:
        base = root / name.lstrip("/")
        super().__init__(
            {
                "cpu": base / "cpu.stat",
                "quota": base / "cpu.max",
                "memory": base / "memory.current",
                "stat": base / "memory.stat",
                "limit": base / "memory.max",
            }
        )
        self.exists = base.is_dir()

    def cpu_ns(self) -> int | None:
        used = self._field("cpu", "usage_usec")
        return None if used is None else used * 1000

    def memory_bytes(self) -> int | None:
        used = self._number("memory")
        if used is None:
            return None
        return max(0, used - (self._field("stat", "inactive_file") or 0))

    def cpu_limit_cores(self) -> float | None:
        parts = self._files["quota"].read().split()
        if len(parts) != 2 or parts[0] == "max":
            return None
        return int(parts[0]) / int(parts[1])

    def memory_limit_bytes(self) -> int | None:
        return self._number("limit")


def field_of(text: str, key: str) -> int | None:
    """The value of a `key number` line."""
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == key:
            return int(value)
    return None


def is_v2(root: Path = ROOT) -> bool:
    return (root / "cgroup.controllers").exists()


def named(name: str, *, root: Path = ROOT) -> Cgroup | None:
    """The cgroup of that name, None where there is none."""
    found = CgroupV2(name, root=root) if is_v2(root) else CgroupV1(name, root=root)
    return found if found.exists else None


def of_process(pid: int, *, root: Path = ROOT, proc: Path = Path("/proc")) -> Cgroup | None:
    """The cgroup that a (container's first) process lives in."""
    try:
        text = (proc / str(pid) / "cgroup").read_text()
    except OSError:
        return None
    names: dict[str, str] = {}
    for line in text.splitlines():
        _number, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            names[controller] = path
    if is_v2(root):
        name = names.get("", "")
        if "/.." in name:
            name = _elsewhere(name, root)
        found: Cgroup = CgroupV2(name or "/", root=root)
        return found if name else None
    if "cpuacct" not in names:
        return None
    return CgroupV1(names["cpuacct"], root=root, names=names)


def _elsewhere(name: str, root: Path) -> str:
    """The whole path of a cgroup that is shown as a neighbour of the reader's own, which lives in a
    cgroup namespace (a pod). The last part of a container's is its id; "" where it is not found."""
    last = name.rpartition("/")[2]
    if last in {"", ".."}:
        return ""
    for top in sorted(root.glob("kubepods*")):
        for folder in top.rglob(last):
            return f"/{folder.relative_to(root)}"
    return ""


class Meter:
    """Turns a cgroup's running CPU time into cores used since the last look."""

    def __init__(self, cgroup: Cgroup, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._cgroup = cgroup
        self._clock = clock
        self._last: tuple[int, int] | None = None
        self._last_cores: list[int] = []

    def cores(self) -> tuple[float, list[float]] | None:
        """(cores used, per core 0-1); None once the cgroup is gone; 0 at the first look."""
        now, used = self._clock(), self._cgroup.cpu_ns()
        if used is None:
            return None
        per_core = self._cgroup.per_core_ns()
        last, self._last = self._last, (now, used)
        last_cores, self._last_cores = self._last_cores, per_core
        if last is None or now <= last[0]:
            return 0.0, [0.0] * len(per_core)
        took = now - last[0]
        ratios = [
            min(1.0, max(0.0, (after - before) / took))
            for before, after in zip(last_cores, per_core, strict=False)
        ]
        return max(0.0, (used - last[1]) / took), ratios
