"""Reads what the kernel says under /proc and /sys: pure functions from its texts to numbers.

Knows no cgroup and no sample; every function takes text, so that the golden texts of real
machines test it.
"""

import re
from typing import Final, NamedTuple

_VIRTUAL: Final = re.compile(r"^(lo|veth|docker|br-|hae|cni|flannel|virbr|tap|tun|cali|kube|dummy)")


_ACCEPTS: Final = 0x10000
"""Flag of a socket that listens (`__SO_ACCEPTCON`)."""


def listens(unix: str, path: str) -> bool:
    """`/proc/net/unix`: does a program listen at this path?"""
    for line in unix.splitlines():
        words = line.split(maxsplit=7)
        if len(words) == 8 and words[7] == path and int(words[3], 16) & _ACCEPTS:
            return True
    return False


class CpuTimes(NamedTuple):
    """Ticks since boot."""

    busy: int
    total: int


def cpu_times(stat: str) -> list[CpuTimes]:
    """`/proc/stat`: index 0 is the whole machine, then one per core."""
    found: list[CpuTimes] = []
    for line in stat.splitlines():
        if not line.startswith("cpu"):
            break
        # user nice system idle iowait irq softirq steal; guest is inside user already
        ticks = [int(part) for part in line.split()[1:9]]
        idle = ticks[3] + (ticks[4] if len(ticks) > 4 else 0)
        total = sum(ticks)
        found.append(CpuTimes(busy=total - idle, total=total))
    return found


def busy_ratio(before: CpuTimes, after: CpuTimes) -> float:
    total = after.total - before.total
    if total <= 0:
        return 0.0
    return min(1.0, max(0.0, (after.busy - before.busy) / total))


class Memory(NamedTuple):
    used_bytes: int
    total_bytes: int


def memory(meminfo: str) -> Memory:
    """`/proc/meminfo`; used = total - available."""
    values: dict[str, int] = {}
    for line in meminfo.splitlines():
        name, _, rest = line.partition(":")
        if name in {"MemTotal", "MemAvailable", "MemFree"}:
            values[name] = int(rest.split()[0]) * 1024
            if len(values) == 3:
                break
    total = values.get("MemTotal", 0)
    return Memory(total - values.get("MemAvailable", values.get("MemFree", 0)), total)


class Traffic(NamedTuple):
    rx_bytes: int
    tx_bytes: int
    tx_packets: int


def traffic(net_dev: str) -> Traffic:
    """`/proc/net/dev`: the sum of the real interfaces (all but lo where there is none)."""
    real = [0, 0, 0]
    every = [0, 0, 0]
    found_real = False
    for line in net_dev.splitlines()[2:]:
        name, _, rest = line.partition(":")
        name = name.strip()
        fields = rest.split()
        if name == "lo" or len(fields) < 10:
            continue
        numbers = (int(fields[0]), int(fields[8]), int(fields[9]))
        every = [a + b for a, b in zip(every, numbers, strict=True)]
        if not _VIRTUAL.match(name):
            found_real = True
            real = [a + b for a, b in zip(real, numbers, strict=True)]
    return Traffic(*(real if found_real else every))


class Radio(NamedTuple):
    dbm: float
    discarded: int
    """Packets given up after too many retries, since boot."""


def radio(wireless: str) -> Radio | None:
    """`/proc/net/wireless`: the first Wi-Fi interface, None where there is no radio."""
    for line in wireless.splitlines()[2:]:
        _name, colon, rest = line.partition(":")
        fields = rest.split()
        if not colon or len(fields) < 9:
            continue
        level = float(fields[2].rstrip("."))
        # Some drivers tell 0-255 with an offset of 256 instead of dBm.
        dbm = level - 256 if level > 63 else level
        return Radio(dbm=dbm, discarded=int(fields[7]))
    return None


def temperature_c(zones: list[tuple[str, str]]) -> float | None:
    """The hottest plausible (type, text) of /sys/class/thermal, the CPU's own first."""
    best: float | None = None
    best_cpu: float | None = None
    for kind, text in zones:
        try:
            value = int(text) / 1000
        except ValueError:
            continue
        if not 1 <= value <= 150:
            continue
        best = value if best is None else max(best, value)
        lower = kind.lower()
        if "cpu" in lower or "pkg" in lower or "soc" in lower:
            best_cpu = value if best_cpu is None else max(best_cpu, value)
    return best if best_cpu is None else best_cpu
