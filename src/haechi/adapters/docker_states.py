"""What a Docker Engine says of a container, in the words of a deployment's status.

Pure: the Engine's `inspect` in, facts out. Shared by the agent and by the way over SSH.
"""

from datetime import datetime
from typing import Any, Final, NamedTuple

from haechi.adapters import docker_errors
from haechi.adapters.docker_logs import LogLine as EngineLine
from haechi.errors import AppError, DiskFull
from haechi.protocol.commands import LogLine
from haechi.protocol.desired import ContainerState
from haechi.protocol.problems import DeviceDiskFull, EngineAway, EngineFailed

_STATES: Final[dict[str, ContainerState]] = {
    "created": "starting",
    "running": "running",
    "paused": "running",
    "restarting": "restarting",
    "removing": "exited",
    "exited": "exited",
    "dead": "failed",
}


class Seen(NamedTuple):
    container_id: str
    state: ContainerState
    image: str
    pid: int
    started_ms: int | None
    restarts: int
    exit_code: int | None
    """None while it runs, and for one that never did."""
    oom_killed: bool
    error: str


def seen(inspected: dict[str, Any]) -> Seen:
    state = inspected["State"]
    named = _STATES.get(str(state.get("Status")), "failed")
    started_ms = epoch_ms(str(state.get("StartedAt", "")))
    ended = named != "running" and started_ms is not None
    return Seen(
        container_id=str(inspected["Id"]),
        state=named,
        image=str(inspected["Config"].get("Image", "")),
        pid=int(state.get("Pid") or 0),
        started_ms=started_ms,
        restarts=int(inspected.get("RestartCount") or 0),
        exit_code=int(state.get("ExitCode") or 0) if ended else None,
        oom_killed=bool(state.get("OOMKilled")),
        error=str(state.get("Error") or "")[:300],
    )


def addresses(inspected: dict[str, Any] | None, network: str) -> tuple[str, ...]:
    """Those of the container on that network."""
    if inspected is None:
        return ()
    networks = (inspected.get("NetworkSettings") or {}).get("Networks") or {}
    joined = networks.get(network) or {}
    found = (joined.get("IPAddress"), joined.get("GlobalIPv6Address"))
    return tuple(str(address) for address in found if address)


def platform_of(image: dict[str, Any]) -> str:
    """The OCI platform of an inspected image."""
    parts = (image.get("Os"), image.get("Architecture"), image.get("Variant"))
    return "/".join(str(part) for part in parts if part)


def epoch_ms(text: str) -> int | None:
    """Docker's RFC 3339 with nanoseconds; None for its "never" (year 1)."""
    seconds = epoch_s(text)
    return None if seconds is None else round(seconds * 1000)


def epoch_s(text: str) -> float | None:
    whole, _, fraction = text.rstrip("Z").partition(".")
    try:
        at = datetime.fromisoformat(f"{whole}.{(fraction + '000000')[:6]}+00:00")
    except ValueError:
        return None
    return at.timestamp() if at.year > 1970 else None


def log_line(line: EngineLine, *, now_ms: int) -> LogLine:
    """`now_ms` where the Engine told no time."""
    at_ms = epoch_ms(line.at) if line.at else None
    return LogLine(at_ms=now_ms if at_ms is None else at_ms, text=line.text, stream=line.stream)


class PullLayers:
    """Sums up the layers of a pull from the Engine's progress lines."""

    def __init__(self) -> None:
        self._layers: dict[str, tuple[int, int]] = {}
        self.text = ""

    def see(self, line: dict[str, Any]) -> None:
        layer, detail = str(line.get("id", "")), line.get("progressDetail") or {}
        status = str(line.get("status", ""))
        if status == "Downloading" and detail.get("total"):
            self._layers[layer] = (int(detail.get("current") or 0), int(detail["total"]))
        elif status in {"Download complete", "Pull complete"} and layer in self._layers:
            total = self._layers[layer][1]
            self._layers[layer] = (total, total)
        self.text = (f"{layer}: {status}" if layer else status)[:200]

    @property
    def done_bytes(self) -> int:
        return sum(current for current, _total in self._layers.values())

    @property
    def total_bytes(self) -> int:
        return sum(total for _current, total in self._layers.values())


def as_command_error(error: AppError) -> AppError:
    """Errors of the Engine's client as those of a device's engine."""
    detail = str(error.data.get("message") or error.data.get("reason") or error)
    if isinstance(error, DiskFull):
        return DeviceDiskFull(needed_bytes=0, free_bytes=0)
    if isinstance(error, docker_errors.EngineUnreachable | docker_errors.EngineTimedOut):
        return EngineAway(detail=detail)
    return EngineFailed(detail=detail)
