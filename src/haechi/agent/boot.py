"""Where and when this process runs: boot id, clocks, machine id, addresses.

Everything is stamped with (boot_id, monotonic) beside wall time, so that the server can map it
when the device's clock was wrong (CONTRACTS 3).
"""

import os
import platform
import socket
import time
from pathlib import Path
from typing import Final

_ARCHES: Final = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}


def boot_id() -> str:
    return _text(Path("/proc/sys/kernel/random/boot_id")) or "unknown"


def machine_id() -> str:
    """Of the host: the agent's container has it mounted at /host/machine-id."""
    for path in ("/host/machine-id", "/etc/machine-id", "/var/lib/dbus/machine-id"):
        text = _text(Path(path))
        if text:
            return text[:64]
    return ""


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


def monotonic_ms() -> int:
    """Since boot, suspend included: survives a restart of the agent."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def oci_platform() -> str:
    machine = platform.machine()
    return f"linux/{_ARCHES.get(machine, machine)}"


def os_name() -> str:
    for line in (_text(Path("/etc/os-release")) or "").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')[:255]
    return platform.system()


def host_name() -> str:
    return socket.gethostname()[:255]


def address_towards(host: str, port: int) -> list[str]:
    """The address this machine uses to reach the server; no packet is sent."""
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        family, kind, proto, _name, target = infos[0]
        with socket.socket(family, kind, proto) as probe:
            probe.connect(target)
            return [str(probe.getsockname()[0])]
    except OSError:
        return []


def disk_free_bytes(path: Path) -> int:
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def disk_total_bytes(path: Path) -> int:
    found = os.statvfs(path)
    return found.f_blocks * found.f_frsize


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
