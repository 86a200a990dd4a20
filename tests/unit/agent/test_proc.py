"""Golden texts of real machines: what the kernel says, and what we make of it."""

import pytest

from haechi.agent import proc
from haechi.agent.gpu import parse_jetson, parse_smi

STAT_1 = """cpu  100 0 50 800 50 0 0 0 0 0
cpu0 60 0 30 400 10 0 0 0 0 0
cpu1 40 0 20 400 40 0 0 0 0 0
intr 12345
"""
STAT_2 = """cpu  160 0 70 860 60 0 10 0 0 0
cpu0 110 0 40 400 10 0 10 0 0 0
cpu1 50 0 30 460 50 0 0 0 0 0
intr 12399
"""
MEMINFO = """MemTotal:        8048976 kB
MemFree:          512000 kB
MemAvailable:    6048976 kB
Buffers:          100000 kB
"""
NET_DEV = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop
    lo: 9999999    1000    0    0    0     0          0         0  9999999    1000    0    0
 wlan0: 1500000    1200    0    0    0     0          0         0   250000     900    0    0
veth12: 7000000    7000    0    0    0     0          0         0  7000000    7000    0    0
br-0a1b: 500      5    0    0    0     0          0         0  500    5    0    0
docker0: 500      5    0    0    0     0          0         0  500    5    0    0
"""
WIRELESS = """Inter-| sta-|   Quality        |   Discarded packets               | Missed | WE
 face | tus | link level noise |  nwid  crypt   frag  retry   misc | beacon | 22
 wlan0: 0000   54.  -56.  -256        0      0      0     17      3        0
"""

UNIX = """\
Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 16012 /run/containerd/containerd.sock.ttrpc
0000000000000000: 00000002 00000000 00010000 0001 01 16013 /run/containerd/containerd.sock
0000000000000000: 00000003 00000000 00000000 0001 03 17218 /run/containerd/containerd.sock.ttrpc
0000000000000000: 00000003 00000000 00000000 0001 03 14562
0000000000000000: 00000002 00000000 00010000 0005 01 10921 /run/udev/control
0000000000000000: 00000002 00000000 00010000 0001 01 11211 @/org/kernel/linux/storage/multipathd
"""


def test_cpu() -> None:
    before, after = proc.cpu_times(STAT_1), proc.cpu_times(STAT_2)
    ratios = [proc.busy_ratio(b, a) for b, a in zip(before, after, strict=True)]
    assert ratios == pytest.approx([90 / 160, 70 / 70, 20 / 90])
    assert proc.busy_ratio(after[0], after[0]) == 0.0


def test_memory_used_is_what_is_not_available() -> None:
    assert proc.memory(MEMINFO) == proc.Memory(2_000_000 * 1024, 8_048_976 * 1024)


def test_traffic_counts_real_interfaces_only() -> None:
    assert proc.traffic(NET_DEV) == proc.Traffic(1_500_000, 250_000, 900)


def test_radio() -> None:
    assert proc.radio(WIRELESS) == proc.Radio(dbm=-56.0, discarded=17)
    assert proc.radio("\n".join(WIRELESS.splitlines()[:2])) is None
    assert proc.radio(WIRELESS.replace("-56.", "200.")) == proc.Radio(-56.0, 17)


def test_temperature_prefers_the_processor() -> None:
    zones = [("acpitz", "27800"), ("x86_pkg_temp", "61000"), ("iwlwifi_1", "70000"), ("bad", "")]
    assert proc.temperature_c(zones) == 61.0
    assert proc.temperature_c([("thermal-fan-est", "43500")]) == 43.5
    assert proc.temperature_c([("cpu-thermal", "-256000")]) is None


def test_gpu_lines() -> None:
    found = parse_smi("37, 1523\n")
    assert found is not None
    assert (found.use_ratio, found.memory_used_bytes) == (0.37, 1523 * 1024 * 1024)
    assert parse_smi("[N/A], [N/A]") is None
    jetson = parse_jetson("512\n")
    assert jetson is not None
    assert jetson.use_ratio == 0.512


def test_a_program_that_listens() -> None:
    assert proc.listens(UNIX, "/run/containerd/containerd.sock")
    assert not proc.listens(UNIX, "/run/containerd")
    connected = UNIX.replace("00010000 0001 01 16013", "00000000 0001 03 16013")
    assert not proc.listens(connected, "/run/containerd/containerd.sock")
    assert not proc.listens("", "/run/containerd/containerd.sock")
