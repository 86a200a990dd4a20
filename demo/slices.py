"""Limited slices of this machine: each simulated device gets its own share of CPU and memory.

A slice is a control group that is the parent of the device's containers, as Docker's
`cgroup-parent`; its agent reads capacity and use from it. Works with cgroup v1 and v2 under
Docker's `cgroupfs` driver, and with systemd slices where Docker uses systemd (written for Debian
12 and Ubuntu hosts with systemd; the test machine has none).
"""

import json
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
V1_CONTROLLERS = ("cpu", "cpuacct", "memory", "pids")
PERIOD_US = 100_000
PARENT = "haechi-demo"


@dataclass(frozen=True)
class Slice:
    """`name` is what Docker and the agent are told."""

    name: str
    cpus: float
    memory_bytes: int


def _systemd_driver() -> bool:
    docker = shutil.which("docker")
    if docker is None or not Path("/run/systemd/system").exists():
        return False
    answer = subprocess.run(
        [docker, "info", "--format", "{{json .CgroupDriver}}"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return answer.returncode == 0 and json.loads(answer.stdout) == "systemd"


def create(device: str, cpus: float, memory_bytes: int) -> Slice:
    """Make the slice of a device, or set the limits of the one that is there."""
    if _systemd_driver():
        name = f"{PARENT.replace('-', '_')}_{device}.slice"
        subprocess.run(
            [
                "systemctl",
                "set-property",
                "--runtime",
                name,
                f"CPUQuota={round(cpus * 100)}%",
                f"MemoryMax={memory_bytes}",
            ],
            check=True,
            timeout=30,
        )
        subprocess.run(["systemctl", "start", name], check=True, timeout=30)
        return Slice(name, cpus, memory_bytes)
    name = f"/{PARENT}/{device}"
    if (CGROUP / "cgroup.controllers").exists():
        _create_v2(name, cpus, memory_bytes)
    else:
        _create_v1(name, cpus, memory_bytes)
    return Slice(name, cpus, memory_bytes)


def _create_v2(name: str, cpus: float, memory_bytes: int) -> None:
    folder = CGROUP / name.strip("/")
    for parent in (CGROUP, CGROUP / PARENT):
        parent.mkdir(exist_ok=True)
        (parent / "cgroup.subtree_control").write_text("+cpu +memory +pids")
    folder.mkdir(exist_ok=True)
    (folder / "cpu.max").write_text(f"{round(cpus * PERIOD_US)} {PERIOD_US}")
    (folder / "memory.max").write_text(str(memory_bytes))


def _create_v1(name: str, cpus: float, memory_bytes: int) -> None:
    for controller in V1_CONTROLLERS:
        (CGROUP / controller / name.strip("/")).mkdir(parents=True, exist_ok=True)
    cpu = CGROUP / "cpu" / name.strip("/")
    (cpu / "cpu.cfs_period_us").write_text(str(PERIOD_US))
    (cpu / "cpu.cfs_quota_us").write_text(str(round(cpus * PERIOD_US)))
    memory = CGROUP / "memory" / name.strip("/")
    (memory / "memory.limit_in_bytes").write_text(str(memory_bytes))


def remove(made: Slice) -> None:
    """Remove an empty slice; one that still has containers stays."""
    if made.name.endswith(".slice"):
        subprocess.run(["systemctl", "stop", made.name], check=False, timeout=30)
        return
    folders = [CGROUP / made.name.strip("/")]
    folders += [CGROUP / controller / made.name.strip("/") for controller in V1_CONTROLLERS]
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()
