"""The Docker of a device, reached through its agent's commands: the `Engine` of a lone device.

The agent holds the engine's socket; nothing here knows Docker. Every failure comes as an AppError
that the agent or the link raised; `errors.Unavailable` among them means "later, perhaps".
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, Protocol

from msgspec import Struct

from haechi.core.secrets import Secret
from haechi.core.tasks import Tasks
from haechi.protocol import commands
from haechi.protocol.assignments import Assignment
from haechi.protocol.commands import (
    EngineInfo,
    LogLines,
    PulledImage,
    PullProgress,
    RegistryAccess,
    RemovedContainer,
    Verb,
)
from haechi.protocol.desired import ContainerSpec, ContainerStatus

_MARGIN_S: Final = 30.0
_MAX_WAITING: Final = 1000


class Commander(Protocol):
    """The agents domain's way to a device."""

    async def command(
        self,
        device_id: str,
        verb: Verb,
        args: Struct,
        *,
        deadline_s: float | None = None,
        on_chunk: Callable[[Any], None] | None = None,
    ) -> Any: ...


class AgentEngine:
    name = "docker-agent"

    def __init__(self, agents: Commander) -> None:
        self._agents = agents

    async def name_of(self, device_id: str) -> str:
        del device_id
        return self.name

    async def info(self, device_id: str) -> EngineInfo:
        found: EngineInfo = await self._agents.command(
            device_id, commands.ENGINE_INFO, commands.AskEngine()
        )
        return found

    async def has_image(self, device_id: str, image: str) -> bool:
        checked: commands.CheckedImage = await self._agents.command(
            device_id, commands.IMAGE_CHECK, commands.CheckImage(image)
        )
        return checked.present

    async def pull(
        self,
        device_id: str,
        image: str,
        access: RegistryAccess | None,
        progress: Callable[[PullProgress], None],
    ) -> PulledImage:
        pulled: PulledImage = await self._agents.command(
            device_id,
            commands.IMAGE_PULL,
            commands.PullImage(image, access),
            on_chunk=progress,
        )
        return pulled

    async def remove_image(self, device_id: str, image: str) -> bool:
        removed: commands.RemovedImage = await self._agents.command(
            device_id, commands.IMAGE_REMOVE, commands.RemoveImage(image)
        )
        return removed.removed

    async def start(
        self,
        device_id: str,
        spec: ContainerSpec,
        token: Secret,
        assignments: Sequence[Assignment],
    ) -> ContainerStatus:
        args = commands.StartContainer(spec, token.reveal(), list(assignments))
        status: ContainerStatus = await self._agents.command(
            device_id, commands.CONTAINER_START, args
        )
        return status

    async def stop(self, device_id: str, deployment_id: str, grace_s: float) -> ContainerStatus:
        status: ContainerStatus = await self._agents.command(
            device_id,
            commands.CONTAINER_STOP,
            commands.StopContainer(deployment_id, grace_s),
            deadline_s=grace_s + _MARGIN_S,
        )
        return status

    async def remove(
        self, device_id: str, deployment_id: str, grace_s: float, keep_log_lines: int
    ) -> RemovedContainer:
        removed: RemovedContainer = await self._agents.command(
            device_id,
            commands.CONTAINER_REMOVE,
            commands.RemoveContainer(deployment_id, grace_s, keep_log_lines),
            deadline_s=grace_s + _MARGIN_S,
        )
        return removed

    async def status(self, device_id: str, deployment_ids: Sequence[str]) -> list[ContainerStatus]:
        statuses: commands.Statuses = await self._agents.command(
            device_id, commands.CONTAINER_STATUS, commands.AskStatus(list(deployment_ids))
        )
        return statuses.containers

    async def logs(
        self,
        device_id: str,
        deployment_id: str,
        *,
        since_ms: int | None = None,
        follow: bool = False,
        tail: int | None = None,
    ) -> AsyncIterator[LogLines]:
        """A reader that is slower than the container loses the oldest pieces."""
        waiting: deque[LogLines] = deque(maxlen=_MAX_WAITING)
        ready = asyncio.Event()

        def take(piece: LogLines) -> None:
            waiting.append(piece)
            ready.set()

        args = commands.ReadLogs(deployment_id, since_ms, follow, tail)
        tasks = Tasks(f"logs:{deployment_id}")
        read = tasks.spawn(
            "read",
            self._agents.command(
                device_id,
                commands.CONTAINER_LOGS,
                args,
                deadline_s=None if follow else _MARGIN_S,
                on_chunk=take,
            ),
        )
        read.add_done_callback(lambda _: ready.set())
        try:
            while True:
                while waiting:
                    yield waiting.popleft()
                if read.done():
                    read.result()
                    return
                ready.clear()
                await ready.wait()
        finally:
            await tasks.close()
