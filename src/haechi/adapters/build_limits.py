"""Memory, process and CPU limits of build steps, on the machine's own control groups.

The Engine API cannot limit BuildKit's steps, but they all run below one control group of the
daemon (`docker/buildkit`), and the server, where it is root beside that daemon, can limit it. An
Engine that is elsewhere, or that uses systemd's groups, is not limited by this; callers are told.
"""

import contextlib
from pathlib import Path
from typing import Final

GROUP: Final = "docker/buildkit"
PIDS: Final = 4096
_PERIOD_US: Final = 100_000


def limit_build_steps(
    *, memory_bytes: int, cpu_cores: float, pids: int = PIDS, root: Path = Path("/sys/fs/cgroup")
) -> list[str]:
    """Set the limits for all builds together; returns which could not be set."""
    quota_us = max(1000, round(cpu_cores * _PERIOD_US))
    wanted: dict[str, list[tuple[Path, int | str]]]
    if (root / "cgroup.controllers").exists():
        group = root / GROUP
        wanted = {
            "memory": [(group / "memory.max", memory_bytes), (group / "memory.swap.max", 0)],
            "pids": [(group / "pids.max", pids)],
            "cpu": [(group / "cpu.max", f"{quota_us} {_PERIOD_US}")],
        }
        for above in (root, root / "docker"):
            with contextlib.suppress(OSError):
                above.mkdir(exist_ok=True)
                (above / "cgroup.subtree_control").write_text("+memory +pids +cpu")
    else:
        wanted = {
            "memory": [(root / "memory" / GROUP / "memory.limit_in_bytes", memory_bytes)],
            "pids": [(root / "pids" / GROUP / "pids.max", pids)],
            "cpu": [
                (root / "cpu" / GROUP / "cpu.cfs_period_us", _PERIOD_US),
                (root / "cpu" / GROUP / "cpu.cfs_quota_us", quota_us),
            ],
        }
    return [name for name, files in wanted.items() if not _write(files)]


def _write(files: list[tuple[Path, int | str]]) -> bool:
    for index, (path, value) in enumerate(files):
        try:
            # Never make a plain folder where no control group file system is.
            if not path.parent.parent.parent.is_dir():
                return False
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(str(value))
        except OSError:
            # Swap accounting, the second one, is missing on many machines.
            if index == 0:
                return False
    return True
