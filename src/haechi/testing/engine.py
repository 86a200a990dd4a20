"""An engine in memory, with the faults that real ones have, one stage at a time.

It is the outside world of a test: it outlives the server objects that a test throws away, so that
a killed and resumed operation can be judged by what was really done. `images` says how a
container of an image behaves.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from haechi.core.secrets import Secret
from haechi.errors import AppError
from haechi.protocol.assignments import Assignment
from haechi.protocol.commands import (
    EngineInfo,
    LogLine,
    LogLines,
    PulledImage,
    PullProgress,
    RegistryAccess,
    RemovedContainer,
)
from haechi.protocol.desired import ContainerSpec, ContainerState, ContainerStatus
from haechi.protocol.problems import ImageMissing

Behaviour = Literal["ready", "result", "up", "crash", "mute"]
"""`ready`/`result`: proves itself at once; `up`: runs and says nothing; `crash`: exits; `mute`:
never gets to running."""


@dataclass
class FakeContainer:
    spec: ContainerSpec
    token: str
    behaviour: Behaviour
    state: ContainerState = "running"
    starts: int = 1


@dataclass
class FakeEngine:
    name: str = "docker-agent"
    info_of: dict[str, EngineInfo] = field(default_factory=dict)
    behaviour: dict[str, Behaviour] = field(default_factory=dict)
    """Image reference → what its containers do; `ready` unless said otherwise."""
    images: dict[str, set[str]] = field(default_factory=dict)
    containers: dict[str, dict[str, FakeContainer]] = field(default_factory=dict)
    fail: dict[str, list[AppError]] = field(default_factory=dict)
    """Stage (`pull`, `start`, …) → errors of its next calls, one each."""
    away: dict[str, AppError] = field(default_factory=dict)
    """Device → what asking it for itself raises."""
    hold: dict[str, asyncio.Event] = field(default_factory=dict)
    """Stage → its calls wait here *before* they act."""
    hold_after: dict[str, asyncio.Event] = field(default_factory=dict)
    """Stage → its calls wait here after they have acted: the answer is lost."""
    calls: list[tuple[str, str]] = field(default_factory=list)
    held: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while a call waits in `hold` or `hold_after`."""
    on_change: Callable[[], None] = lambda: None

    def running(self, device_id: str) -> list[str]:
        """Deployment ids whose containers run there."""
        found = self.containers.get(device_id, {})
        return sorted(one for one, it in found.items() if it.state == "running")

    async def _stage(self, stage: str, about: str) -> None:
        self.calls.append((stage, about))
        await self._hold(self.hold.get(stage))
        errors = self.fail.get(stage)
        if errors:
            raise errors.pop(0)

    async def _done(self, stage: str) -> None:
        self.on_change()
        await self._hold(self.hold_after.get(stage))

    async def _hold(self, gate: asyncio.Event | None) -> None:
        if gate is not None and not gate.is_set():
            self.held.set()
            await gate.wait()

    async def name_of(self, device_id: str) -> str:
        del device_id
        return self.name

    async def info(self, device_id: str) -> EngineInfo:
        await self._stage("info", device_id)
        if device_id in self.away:
            raise self.away[device_id]
        default = EngineInfo(
            engine="docker",
            version="fake",
            platform="linux/amd64",
            cpu_cores=2,
            memory_bytes=4 * 1024**3,
            memory_available_bytes=2 * 1024**3,
            disk_free_bytes=10 * 1024**3,
        )
        return self.info_of.get(device_id, default)

    async def has_image(self, device_id: str, image: str) -> bool:
        await self._stage("has_image", image)
        return image in self.images.get(device_id, set())

    async def remove_image(self, device_id: str, image: str) -> bool:
        await self._stage("remove_image", image)
        used = {one.spec.image for one in self.containers.get(device_id, {}).values()}
        there = self.images.get(device_id, set())
        if image not in there or image in used:
            return False
        there.remove(image)
        return True

    async def pull(
        self,
        device_id: str,
        image: str,
        access: RegistryAccess | None,
        progress: Callable[[PullProgress], None],
    ) -> PulledImage:
        del access
        await self._stage("pull", image)
        progress(PullProgress(50, 100))
        self.images.setdefault(device_id, set()).add(image)
        await self._done("pull")
        return PulledImage(f"id-of-{image[-12:]}", 100, "linux/amd64")

    async def start(
        self,
        device_id: str,
        spec: ContainerSpec,
        token: Secret,
        assignments: Sequence[Assignment],
    ) -> ContainerStatus:
        del assignments
        await self._stage("start", spec.deployment_id)
        if spec.image not in self.images.get(device_id, set()):
            raise ImageMissing(image=spec.image)
        there = self.containers.setdefault(device_id, {})
        known = there.get(spec.deployment_id)
        behaviour = self.behaviour.get(spec.image, "ready")
        if known is None:
            known = there[spec.deployment_id] = FakeContainer(spec, token.reveal(), behaviour)
        elif known.state != "running":
            known.starts += 1
        known.spec = spec
        known.state = {"crash": "exited", "mute": "starting"}.get(behaviour, "running")  # type: ignore[assignment]
        await self._done("start")
        return self._status(device_id, spec.deployment_id)

    async def stop(self, device_id: str, deployment_id: str, grace_s: float) -> ContainerStatus:
        del grace_s
        await self._stage("stop", deployment_id)
        known = self.containers.get(device_id, {}).get(deployment_id)
        if known is not None:
            known.state = "exited"
        await self._done("stop")
        return self._status(device_id, deployment_id)

    async def remove(
        self, device_id: str, deployment_id: str, grace_s: float, keep_log_lines: int
    ) -> RemovedContainer:
        del grace_s, keep_log_lines
        await self._stage("remove", deployment_id)
        gone = self.containers.get(device_id, {}).pop(deployment_id, None)
        await self._done("remove")
        lines = [LogLine(0, "last words")] if gone else []
        return RemovedContainer(gone is not None, lines)

    async def status(self, device_id: str, deployment_ids: Sequence[str]) -> list[ContainerStatus]:
        await self._stage("status", device_id)
        return [self._status(device_id, one) for one in deployment_ids]

    async def logs(
        self,
        device_id: str,
        deployment_id: str,
        *,
        since_ms: int | None = None,
        follow: bool = False,
        tail: int | None = None,
    ) -> AsyncIterator[LogLines]:
        del since_ms, follow, tail
        await self._stage("logs", deployment_id)
        if deployment_id in self.containers.get(device_id, {}):
            yield LogLines([LogLine(1000, "hello"), LogLine(2000, "Traceback: boom")])

    def _status(self, device_id: str, deployment_id: str) -> ContainerStatus:
        known = self.containers.get(device_id, {}).get(deployment_id)
        if known is None:
            return ContainerStatus(deployment_id, "absent")
        facts: dict[str, Any] = {"image": known.spec.image, "container_id": "c"}
        if known.state == "running":
            facts["started_ms"] = 1
            if known.behaviour == "ready":
                facts["ready_ms"] = 2
            if known.behaviour == "result":
                facts["first_result_ms"] = 2
        if known.state == "exited":
            facts["exit_code"] = 1
        return ContainerStatus(deployment_id, known.state, **facts)
