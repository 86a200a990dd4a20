"""What a Docker host is and has room for, as its Docker and its kernel say it."""

from typing import Final

from haechi.adapters.docker_ssh_hosts import Way
from haechi.protocol.commands import EngineInfo

_ARCHES: Final = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}
_BINFMT: Final = {"qemu-aarch64": "arm64", "qemu-x86_64": "amd64", "qemu-arm": "arm"}
LOOK_S: Final = 20.0
_LOOK: Final = (
    "grep MemAvailable: /proc/meminfo; "
    "stat -f -c 'disk %a %S' \"$1\" || stat -f -c 'disk %a %S' /; "
    "ls /proc/sys/fs/binfmt_misc"
)


async def engine_info(way: Way) -> EngineInfo:
    facts = await way.docker.info()
    root = str(facts.get("DockerRootDir") or "/")
    ran = await way.shell.run(["sh", "-c", _LOOK, "sh", root], timeout_s=LOOK_S, check=False)
    available, free, emulated = _read(ran.stdout)
    system = str(facts.get("OSType") or "linux")
    machine = str(facts.get("Architecture") or "")
    platform = f"{system}/{_ARCHES.get(machine, machine)}"
    return EngineInfo(
        engine="docker",
        version=str(facts.get("ServerVersion", "")),
        platform=platform,
        platforms=[platform, *(f"{system}/{arch}" for arch in emulated)],
        cpu_cores=float(facts.get("NCPU") or 0),
        memory_bytes=int(facts.get("MemTotal") or 0),
        memory_available_bytes=available,
        disk_free_bytes=free,
        gpu="nvidia" if "nvidia" in (facts.get("Runtimes") or {}) else "",
    )


def _read(text: str) -> tuple[int, int, list[str]]:
    """(memory available, disk free, architectures that are emulated); 0 where nobody said."""
    available = free = 0
    emulated: set[str] = set()
    for line in text.splitlines():
        match line.split():
            case ["MemAvailable:", kilobytes, *_] if kilobytes.isdigit():
                available = int(kilobytes) * 1024
            case ["disk", blocks, size] if blocks.isdigit() and size.isdigit():
                free = int(blocks) * int(size)
            case [name] if name in _BINFMT:
                emulated.add(_BINFMT[name])
    return available, free, sorted(emulated)
