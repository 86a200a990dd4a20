"""One sample of the device each second (CONTRACTS 4), of the device's own limits.

Where the device is a limited slice of a bigger machine (`--cgroup NAME`), CPU and memory are
the slice's, measured against the slice's limits. Costs a few hundred microseconds a second: the
kernel's files are kept open, and containers are read by their cgroups, never by the engine.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from haechi.agent import boot, cgroups, proc
from haechi.agent.cgroups import Cgroup, KernelFile, Meter
from haechi.protocol.samples import ContainerSample, Gpu, Net, Sample

_TEMPERATURE_EVERY = 5
"""Seconds; thermal sensors of some boards are slow to read."""


class Watched(NamedTuple):
    """A running container to measure."""

    deployment_id: str
    pid: int
    restarts: int
    frame_lag_ms: float | None


class Sampler:
    def __init__(
        self,
        *,
        boot_id: str,
        disk: Path,
        cgroup: Cgroup | None = None,
        containers: Callable[[], Iterable[Watched]] = tuple,
        gpu: Callable[[], Gpu | None] = lambda: None,
        rtt_ms: Callable[[], float | None] = lambda: None,
        runtime_socket: str = "",
        proc_root: Path = Path("/proc"),
        sys_root: Path = Path("/sys"),
    ) -> None:
        """`runtime_socket`: where a node's container runtime listens."""
        self._boot_id = boot_id
        self._disk = disk
        self._cgroup = cgroup
        self._meter = Meter(cgroup) if cgroup else None
        self._containers = containers
        self._gpu = gpu
        self._rtt_ms = rtt_ms
        self._runtime_socket = runtime_socket
        self._unix = proc_root / "net/unix"
        self._seq = 0
        self._stat = KernelFile(proc_root / "stat")
        self._meminfo = KernelFile(proc_root / "meminfo")
        self._net_dev = KernelFile(proc_root / "net/dev")
        self._wireless = KernelFile(proc_root / "net/wireless")
        self._zones = _thermal_zones(sys_root)
        self._throttle = _throttle_files(sys_root)
        self._throttle_count: int | None = None
        self._temperature_c: float | None = None
        self._cpu: list[proc.CpuTimes] = []
        self._radio: tuple[proc.Radio, int] | None = None
        self._meters: dict[str, tuple[int, Cgroup, Meter]] = {}
        machine_cores = max(1, len(proc.cpu_times(self._stat.read())) - 1)
        self.cores = (cgroup.cpu_limit_cores() if cgroup else None) or float(machine_cores)
        machine = proc.memory(self._meminfo.read())
        limit = cgroup.memory_limit_bytes() if cgroup else None
        self.memory_bytes = min(limit or machine.total_bytes, machine.total_bytes)

    def sample(self) -> Sample:
        """Look now. The first one has no CPU figures to compare with and says 0."""
        cpu_ratio, per_core = self._cpu_now()
        memory = self._memory_now()
        if self._seq % _TEMPERATURE_EVERY == 0:
            zones = [(kind, file.read().strip()) for kind, file in self._zones]
            self._temperature_c = proc.temperature_c(zones)
        self._seq += 1
        return Sample(
            boot_id=self._boot_id,
            seq=self._seq,
            at_ms=boot.wall_ms(),
            monotonic_ms=boot.monotonic_ms(),
            cpu_ratio=round(cpu_ratio, 4),
            cpu_per_core=[round(ratio, 3) for ratio in per_core],
            memory_used_bytes=memory.used_bytes,
            memory_total_bytes=memory.total_bytes,
            disk_free_bytes=_disk_free(self._disk),
            temperature_c=self._temperature_c,
            throttled=self._throttled_now(),
            gpu=self._gpu(),
            net=self._net_now(),
            runtime=self._runtime_now(),
            containers=self._containers_now(),
        )

    def _cpu_now(self) -> tuple[float, list[float]]:
        if self._meter is not None:
            used = self._meter.cores()
            if used is not None:
                cores, per_core = used
                return min(1.0, cores / self.cores), per_core
        before, self._cpu = self._cpu, proc.cpu_times(self._stat.read())
        if len(before) != len(self._cpu):
            return 0.0, [0.0] * max(0, len(self._cpu) - 1)
        ratios = [proc.busy_ratio(b, a) for b, a in zip(before, self._cpu, strict=True)]
        return (ratios[0], ratios[1:]) if ratios else (0.0, [])

    def _memory_now(self) -> proc.Memory:
        if self._cgroup is not None:
            used = self._cgroup.memory_bytes()
            if used is not None:
                return proc.Memory(used, self.memory_bytes)
        return proc.memory(self._meminfo.read())

    def _net_now(self) -> Net:
        traffic = proc.traffic(self._net_dev.read())
        radio = proc.radio(self._wireless.read())
        loss: float | None = None
        if radio is not None:
            if self._radio is not None:
                given_up = radio.discarded - self._radio[0].discarded
                sent = traffic.tx_packets - self._radio[1]
                loss = round(given_up / (sent + given_up), 4) if sent + given_up > 0 else 0.0
                loss = max(0.0, loss)
            self._radio = (radio, traffic.tx_packets)
        return Net(
            rx_bytes=traffic.rx_bytes,
            tx_bytes=traffic.tx_bytes,
            wifi_dbm=radio.dbm if radio else None,
            loss_ratio=loss,
            rtt_ms=self._rtt_ms(),
        )

    def _throttled_now(self) -> bool | None:
        if not self._throttle:
            return None
        count = 0
        for file in self._throttle:
            text = file.read().strip()
            count += int(text) if text.isdigit() else 0
        before, self._throttle_count = self._throttle_count, count
        return before is not None and count > before

    def _runtime_now(self) -> bool | None:
        """Seen from beside it: what asks the runtime itself would wait where that hangs."""
        if not self._runtime_socket:
            return None
        try:
            return proc.listens(self._unix.read_text(errors="replace"), self._runtime_socket)
        except OSError:
            return None

    def _containers_now(self) -> list[ContainerSample]:
        found: list[ContainerSample] = []
        alive: set[str] = set()
        for one in self._containers():
            known = self._meters.get(one.deployment_id)
            if known is None or known[0] != one.pid:
                cgroup = cgroups.of_process(one.pid)
                if cgroup is None:
                    continue
                if known is not None:
                    known[1].close()
                known = (one.pid, cgroup, Meter(cgroup))
                self._meters[one.deployment_id] = known
            used, memory_bytes = known[2].cores(), known[1].memory_bytes()
            if used is None or memory_bytes is None:
                continue
            alive.add(one.deployment_id)
            found.append(
                ContainerSample(
                    deployment_id=one.deployment_id,
                    cpu_ratio=round(used[0] / self.cores, 4),
                    memory_bytes=memory_bytes,
                    restarts=one.restarts,
                    frame_lag_ms=one.frame_lag_ms,
                )
            )
        for gone in self._meters.keys() - alive:
            self._meters.pop(gone)[1].close()
        return found


def _disk_free(path: Path) -> int:
    try:
        found = os.statvfs(path)
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize


def _thermal_zones(sys_root: Path) -> list[tuple[str, KernelFile]]:
    zones: list[tuple[str, KernelFile]] = []
    for folder in sorted((sys_root / "class/thermal").glob("thermal_zone*")):
        kind = KernelFile(folder / "type")
        zones.append((kind.read().strip(), KernelFile(folder / "temp")))
        kind.close()
    return zones


def _throttle_files(sys_root: Path) -> list[KernelFile]:
    pattern = "devices/system/cpu/cpu0/thermal_throttle/*_throttle_count"
    return [KernelFile(path) for path in sorted(sys_root.glob(pattern))]
