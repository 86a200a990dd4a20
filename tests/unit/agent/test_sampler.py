"""Samples of a whole machine and of a limited slice, from copies of the kernel's files."""

from pathlib import Path

import pytest

from haechi.agent import cgroups
from haechi.agent.sampler import Sampler

from .test_proc import MEMINFO, NET_DEV, STAT_1, STAT_2, UNIX, WIRELESS


def put(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    for path, text in {
        "proc/stat": STAT_1,
        "proc/meminfo": MEMINFO,
        "proc/net/dev": NET_DEV,
        "proc/net/wireless": WIRELESS,
        "sys/class/thermal/thermal_zone0/type": "x86_pkg_temp\n",
        "sys/class/thermal/thermal_zone0/temp": "55000\n",
        "sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count": "4\n",
    }.items():
        put(tmp_path, path, text)
    return tmp_path


def slice_v1(root: Path) -> Path:
    base = root / "cg"
    for path, text in {
        "cpuacct/edge1/cpuacct.usage": "1000000000\n",
        "cpuacct/edge1/cpuacct.usage_percpu": "600000000 400000000 \n",
        "cpu/edge1/cpu.cfs_quota_us": "50000\n",
        "cpu/edge1/cpu.cfs_period_us": "100000\n",
        "memory/edge1/memory.usage_in_bytes": "300000000\n",
        "memory/edge1/memory.limit_in_bytes": "1000000000\n",
        "memory/edge1/memory.stat": "cache 5\ntotal_inactive_file 100000000\n",
    }.items():
        put(base, path, text)
    return base


def slice_v2(root: Path) -> Path:
    base = root / "cg2"
    for path, text in {
        "cgroup.controllers": "cpu memory\n",
        "edge1/cpu.stat": "usage_usec 1000000\nuser_usec 1\n",
        "edge1/cpu.max": "50000 100000\n",
        "edge1/memory.current": "300000000\n",
        "edge1/memory.max": "1000000000\n",
        "edge1/memory.stat": "anon 1\ninactive_file 100000000\n",
    }.items():
        put(base, path, text)
    return base


def test_a_whole_machine(machine: Path) -> None:
    sampler = Sampler(
        boot_id="boot",
        disk=machine,
        proc_root=machine / "proc",
        sys_root=machine / "sys",
    )
    first = sampler.sample()
    assert (first.cpu_ratio, first.throttled, first.temperature_c) == (0.0, False, 55.0)
    put(machine, "proc/stat", STAT_2)
    put(machine, "proc/net/wireless", WIRELESS.replace(" 17 ", " 27 "))
    put(machine, "proc/net/dev", NET_DEV.replace(" 900 ", " 990 "))
    put(machine, "sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count", "5\n")
    second = sampler.sample()
    assert second.seq == 2
    assert second.cpu_ratio == pytest.approx(90 / 160, abs=1e-3)
    assert len(second.cpu_per_core) == 2
    assert second.memory_total_bytes == 8_048_976 * 1024
    assert second.throttled is True
    assert second.net is not None
    assert (second.net.wifi_dbm, second.net.loss_ratio) == (-56.0, 0.1)
    assert sampler.cores == 2.0


def test_a_node_says_whether_its_runtime_runs(machine: Path) -> None:
    def runs() -> bool | None:
        return sampler.sample().runtime

    sampler = Sampler(
        boot_id="boot",
        disk=machine,
        proc_root=machine / "proc",
        sys_root=machine / "sys",
        runtime_socket="/run/containerd/containerd.sock",
    )
    assert runs() is None
    put(machine, "proc/net/unix", UNIX)
    assert runs() is True
    put(machine, "proc/net/unix", UNIX.replace("00010000 0001 01 16013", "00000000 0001 03 16013"))
    assert runs() is False


@pytest.mark.parametrize("make", [slice_v1, slice_v2])
def test_a_slice_is_measured_against_its_own_limits(machine: Path, make) -> None:
    root = make(machine)
    found = cgroups.named("edge1", root=root)
    assert found is not None
    sampler = Sampler(
        boot_id="boot",
        disk=machine,
        cgroup=found,
        proc_root=machine / "proc",
        sys_root=machine / "sys",
    )
    assert sampler.cores == 0.5
    sample = sampler.sample()
    assert sample.memory_used_bytes == 200_000_000
    assert sample.memory_total_bytes == 1_000_000_000
    assert cgroups.named("edge9", root=root) is None


def test_a_meter_says_cores_used(machine: Path) -> None:
    root = slice_v1(machine)
    found = cgroups.named("edge1", root=root)
    assert found is not None
    now = iter([0, 2_000_000_000])
    meter = cgroups.Meter(found, clock=lambda: next(now))
    assert meter.cores() == (0.0, [0.0, 0.0])
    put(root, "cpuacct/edge1/cpuacct.usage", "2000000000\n")
    put(root, "cpuacct/edge1/cpuacct.usage_percpu", "1600000000 400000000 \n")
    assert meter.cores() == (0.5, [0.5, 0.0])


def test_the_cgroup_of_a_process(machine: Path) -> None:
    put(
        machine,
        "proc/77/cgroup",
        "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/\n",
    )
    base = machine / "cg"
    put(base, "cpuacct/docker/abc/cpuacct.usage", "5\n")
    put(base, "memory/docker/abc/memory.usage_in_bytes", "9\n")
    found = cgroups.of_process(77, root=base, proc=machine / "proc")
    assert found is not None
    assert found.cpu_ns() == 5
    assert found.memory_bytes() == 9
    assert cgroups.of_process(78, root=base, proc=machine / "proc") is None
