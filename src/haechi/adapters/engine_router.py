"""One face for several engines: each call goes to the engine of its device.

Which one that is, `choose` says: a name. What stands on a device already is asked for there too, so
a device changes its engine only when nothing runs on it any more (the label says what comes next).
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

from haechi.core.secrets import Secret
from haechi.domains.deployments.ports import Engine
from haechi.protocol.assignments import Assignment
from haechi.protocol.commands import (
    EngineInfo,
    LogLines,
    PulledImage,
    PullProgress,
    RegistryAccess,
    RemovedContainer,
)
from haechi.protocol.desired import ContainerSpec, ContainerStatus

Choose = Callable[[str], Awaitable[str]]
"""The name of a device's engine."""


class EngineRouter:
    name = "router"

    def __init__(self, choose: Choose, engines: Mapping[str, Engine]) -> None:
        self._choose = choose
        self._engines = engines

    async def name_of(self, device_id: str) -> str:
        return (await self._of(device_id)).name

    async def _of(self, device_id: str) -> Engine:
        return self._engines[await self._choose(device_id)]

    async def info(self, device_id: str) -> EngineInfo:
        return await (await self._of(device_id)).info(device_id)

    async def has_image(self, device_id: str, image: str) -> bool:
        return await (await self._of(device_id)).has_image(device_id, image)

    async def pull(
        self,
        device_id: str,
        image: str,
        access: RegistryAccess | None,
        progress: Callable[[PullProgress], None],
    ) -> PulledImage:
        return await (await self._of(device_id)).pull(device_id, image, access, progress)

    async def remove_image(self, device_id: str, image: str) -> bool:
        return await (await self._of(device_id)).remove_image(device_id, image)

    async def start(
        self,
        device_id: str,
        spec: ContainerSpec,
        token: Secret,
        assignments: Sequence[Assignment],
    ) -> ContainerStatus:
        return await (await self._of(device_id)).start(device_id, spec, token, assignments)

    async def stop(self, device_id: str, deployment_id: str, grace_s: float) -> ContainerStatus:
        return await (await self._of(device_id)).stop(device_id, deployment_id, grace_s)

    async def remove(
        self, device_id: str, deployment_id: str, grace_s: float, keep_log_lines: int
    ) -> RemovedContainer:
        engine = await self._of(device_id)
        return await engine.remove(device_id, deployment_id, grace_s, keep_log_lines)

    async def status(self, device_id: str, deployment_ids: Sequence[str]) -> list[ContainerStatus]:
        return await (await self._of(device_id)).status(device_id, deployment_ids)

    async def logs(
        self,
        device_id: str,
        deployment_id: str,
        *,
        since_ms: int | None = None,
        follow: bool = False,
        tail: int | None = None,
    ) -> AsyncIterator[LogLines]:
        engine = await self._of(device_id)
        pieces = engine.logs(device_id, deployment_id, since_ms=since_ms, follow=follow, tail=tail)
        async for piece in pieces:
            yield piece
