"""Which engine a device's containers belong to: one face of `Engine` before all of them.

A new deployment goes to the engine that the device has now. What is deployed already stays with
the engine that runs it, also where the device has joined a cluster or left one since.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final

from haechi.core.secrets import Secret
from haechi.domains.deployments.model import KEPT_BY_AGENT
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

Choose = Callable[[str], Awaitable[str | None]]
"""The name of a device's engine; None: it is none of this chooser's."""
EngineOfDeployment = Callable[[str], Awaitable[str | None]]
"""The engine that a deployment was given to; None: there is no such deployment."""

DEFAULT: Final = KEPT_BY_AGENT


class Engines:
    """`choosers` are asked in turn; a device that none of them claims has its agent's Docker."""

    name = DEFAULT

    def __init__(
        self,
        engines: Sequence[Engine],
        *,
        choosers: Sequence[Choose],
        engine_of: EngineOfDeployment,
    ) -> None:
        self._engines: Mapping[str, Engine] = {one.name: one for one in engines}
        self._choosers = choosers
        self._engine_of = engine_of

    async def name_of(self, device_id: str) -> str:
        for choose in self._choosers:
            name = await choose(device_id)
            if name is not None:
                return name
        return DEFAULT

    async def _now(self, device_id: str) -> Engine:
        return self._engines[await self.name_of(device_id)]

    async def _of(self, deployment_id: str, device_id: str) -> Engine:
        name = await self._engine_of(deployment_id)
        known = self._engines.get(name or "")
        return known if known is not None else await self._now(device_id)

    async def info(self, device_id: str) -> EngineInfo:
        return await (await self._now(device_id)).info(device_id)

    async def has_image(self, device_id: str, image: str) -> bool:
        return await (await self._now(device_id)).has_image(device_id, image)

    async def pull(
        self,
        device_id: str,
        image: str,
        access: RegistryAccess | None,
        progress: Callable[[PullProgress], None],
    ) -> PulledImage:
        return await (await self._now(device_id)).pull(device_id, image, access, progress)

    async def remove_image(self, device_id: str, image: str) -> bool:
        return await (await self._now(device_id)).remove_image(device_id, image)

    async def start(
        self,
        device_id: str,
        spec: ContainerSpec,
        token: Secret,
        assignments: Sequence[Assignment],
    ) -> ContainerStatus:
        engine = await self._of(spec.deployment_id, device_id)
        return await engine.start(device_id, spec, token, assignments)

    async def stop(self, device_id: str, deployment_id: str, grace_s: float) -> ContainerStatus:
        engine = await self._of(deployment_id, device_id)
        return await engine.stop(device_id, deployment_id, grace_s)

    async def remove(
        self, device_id: str, deployment_id: str, grace_s: float, keep_log_lines: int
    ) -> RemovedContainer:
        engine = await self._of(deployment_id, device_id)
        return await engine.remove(device_id, deployment_id, grace_s, keep_log_lines)

    async def status(self, device_id: str, deployment_ids: Sequence[str]) -> list[ContainerStatus]:
        """In the order asked for, each by its own engine."""
        asked: dict[str, list[str]] = {}
        engines: dict[str, Engine] = {}
        for one in deployment_ids:
            engine = await self._of(one, device_id)
            engines[engine.name] = engine
            asked.setdefault(engine.name, []).append(one)
        found: dict[str, ContainerStatus] = {}
        for name, ids in asked.items():
            statuses = await engines[name].status(device_id, ids)
            found |= {one.deployment_id: one for one in statuses}
        return [found[one] for one in deployment_ids if one in found]

    async def logs(
        self,
        device_id: str,
        deployment_id: str,
        *,
        since_ms: int | None = None,
        follow: bool = False,
        tail: int | None = None,
    ) -> AsyncIterator[LogLines]:
        engine = await self._of(deployment_id, device_id)
        pieces: Any = engine.logs(
            device_id, deployment_id, since_ms=since_ms, follow=follow, tail=tail
        )
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece
