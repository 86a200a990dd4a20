"""The device's GPU, where there is one: NVIDIA cards by nvidia-smi, Jetson boards by sysfs.

nvidia-smi takes up to half a second to start, so one child prints a line a second for ever.
Written for hardware that the project's test machines do not have; the parsing is tested.
"""

import asyncio
import contextlib
import shutil
from pathlib import Path
from typing import Final

from haechi.protocol.samples import Gpu

_JETSON_LOADS: Final = (
    "/sys/devices/gpu.0/load",
    "/sys/devices/platform/gpu.0/load",
    "/sys/devices/platform/bus@0/17000000.gpu/load",
    "/sys/devices/17000000.ga10b/load",
    "/sys/devices/17000000.gv11b/load",
    "/sys/devices/57000000.gpu/load",
)
_QUERY: Final = (
    "--query-gpu=utilization.gpu,memory.used",
    "--format=csv,noheader,nounits",
    "-l",
    "1",
)
_RESTART_S: Final = 30.0


def parse_smi(line: str) -> Gpu | None:
    """`37, 1523` = percent, MiB."""
    use, _, used = line.partition(",")
    try:
        return Gpu(use_ratio=min(1.0, float(use) / 100), memory_used_bytes=int(used) * 1024 * 1024)
    except ValueError:
        return None


def parse_jetson(load: str) -> Gpu | None:
    """Load in tenths of a percent. Memory is shared with the CPU and counted there."""
    try:
        return Gpu(use_ratio=min(1.0, int(load) / 1000), memory_used_bytes=0)
    except ValueError:
        return None


class GpuWatch:
    """`now()` is the newest reading, or None."""

    def __init__(self) -> None:
        self._latest: Gpu | None = None
        self._jetson = next((Path(p) for p in _JETSON_LOADS if Path(p).exists()), None)
        self._smi = None if self._jetson else shutil.which("nvidia-smi")

    @property
    def name(self) -> str:
        if self._jetson:
            return "jetson"
        return "nvidia" if self._smi else ""

    def now(self) -> Gpu | None:
        if self._jetson:
            with contextlib.suppress(OSError):
                return parse_jetson(self._jetson.read_text())
        return self._latest

    async def watch(self) -> None:
        """Follow nvidia-smi; returns at once where there is nothing to follow."""
        while self._smi:
            child = await asyncio.create_subprocess_exec(
                self._smi,
                *_QUERY,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
            assert child.stdout is not None
            try:
                async for line in child.stdout:
                    self._latest = parse_smi(line.decode("ascii", "replace"))
            finally:
                if child.returncode is None:
                    child.kill()
                _ = await child.wait()
            self._latest = None
            await asyncio.sleep(_RESTART_S)
