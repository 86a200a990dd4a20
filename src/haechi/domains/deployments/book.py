"""What is deployed where: lists, history, logs, and what others must not delete."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from haechi.core.pages import DEFAULT_LIMIT, Page
from haechi.domains.deployments import store
from haechi.domains.deployments.context import TAIL_LINES, Context, render_line
from haechi.domains.deployments.model import (
    KEPT_BY_AGENT,
    Deployment,
    DeploymentNotFound,
    DeploymentState,
    LogsAway,
)
from haechi.errors import NotFound, Unavailable
from haechi.protocol.desired import ContainerStatus

KEEP_GENERATIONS: Final = 3
"""So many earlier versions per device and package can be rolled back to."""
_KNOWN: Final = 10_000
_NOT_GONE: Final = [state for state in DeploymentState if state != DeploymentState.GONE]


class Book:
    def __init__(self, context: Context) -> None:
        self._c = context
        self._db = context.db
        self._known: OrderedDict[str, Deployment] = OrderedDict()

    async def known(self, deployment_id: str, device_id: str) -> Deployment | None:
        """Who it was that gave a result: also of a deployment that is gone, for rows that come
        late. None: unknown, or of another device. Only its identity is current, not its state.
        """
        found = self._known.get(deployment_id)
        if found is None:
            try:
                async with self._db.read() as tx:
                    found = await store.deployment(tx, deployment_id)
            except DeploymentNotFound:
                return None
            self._known[deployment_id] = found
            while len(self._known) > _KNOWN:
                self._known.popitem(last=False)
        return found if found.device_id == device_id else None

    async def get(self, deployment_id: str) -> Deployment:
        async with self._db.read() as tx:
            return self._with_observed(await store.deployment(tx, deployment_id))

    async def engine_of(self, deployment_id: str) -> str | None:
        """The engine that it was given to; None where there is no such deployment."""
        try:
            async with self._db.read() as tx:
                return (await store.deployment(tx, deployment_id)).engine
        except DeploymentNotFound:
            return None

    async def find(
        self,
        *,
        device_id: str | None = None,
        package_id: str | None = None,
        version_id: str | None = None,
        include_removed: bool = False,
        limit: int = DEFAULT_LIMIT,
        cursor: str | None = None,
    ) -> Page[Deployment]:
        async with self._db.read() as tx:
            page = await store.find(
                tx,
                device_id=device_id,
                package_id=package_id,
                version_id=version_id,
                include_removed=include_removed,
                limit=limit,
                cursor=cursor,
            )
        return Page([self._with_observed(one) for one in page.items], page.next_cursor)

    async def previous_version(self, one: Deployment) -> str | None:
        """Where a rollback would lead."""
        async with self._db.read() as tx:
            past = await store.history(tx, one.device_id, one.package_id)
        for earlier in past:
            if earlier.generation < one.generation and earlier.image_digest != one.image_digest:
                return earlier.version
        return None

    async def where_version(self, tx: AsyncSession, version_id: str) -> list[Deployment]:
        """Where a package version is still deployed."""
        return await store.in_states(tx, _NOT_GONE, version_id=version_id)

    async def on_device(self, tx: AsyncSession, device_id: str) -> list[Deployment]:
        return await store.on_device(
            tx,
            device_id,
            states=[DeploymentState.PLANNED, DeploymentState.STARTING, DeploymentState.RUNNING],
        )

    async def digests_in_use(self, tx: AsyncSession) -> set[str]:
        """Images that must stay in the registry: running ones and those a rollback may need."""
        alive = await store.in_states(tx, list(DeploymentState))
        kept: dict[tuple[str, str], set[int]] = {}
        digests = set()
        for one in sorted(alive, key=lambda d: -d.generation):
            seen = kept.setdefault((one.device_id, one.package_id), set())
            if one.state != DeploymentState.GONE or one.generation in seen:
                digests.add(one.image_digest)
            elif one.started_at is not None and len(seen) < KEEP_GENERATIONS:
                seen.add(one.generation)
                digests.add(one.image_digest)
        return digests

    async def logs(
        self, deployment_id: str, *, follow: bool = False, tail: int | None = None
    ) -> AsyncIterator[str]:
        """Lines of the container; of one that is gone, the last ones that were kept."""
        async with self._db.read() as tx:
            one = await store.deployment(tx, deployment_id)
        path = self._c.log_path(one.id)
        if one.state in {DeploymentState.STARTING, DeploymentState.RUNNING}:
            try:
                async for piece in self._c.engine.logs(
                    one.device_id, one.id, follow=follow, tail=tail
                ):
                    for line in piece.lines:
                        yield render_line(line)
                return
            except (Unavailable, NotFound) as error:
                if not path.exists():
                    raise LogsAway(id=one.id, reason=str(error)[:200]) from error
        if path.exists():
            text = await asyncio.to_thread(path.read_text, encoding="utf-8")
            for kept in text.splitlines()[-(tail or TAIL_LINES) :]:
                yield kept

    async def forget_old(self, *, older_than: timedelta) -> int:
        """Retention: deployments long gone, but for what a rollback may need."""
        async with self._db.write() as tx:
            gone = await store.forget(tx, self._c.clock.now() - older_than, KEEP_GENERATIONS)
            for deployment_id in gone:
                await self._c.tokens.revoke_deployment_token(tx, deployment_id)
        for deployment_id in gone:
            await asyncio.to_thread(self._c.log_path(deployment_id).unlink, missing_ok=True)
        return len(gone)

    def _with_observed(self, one: Deployment) -> Deployment:
        return replace(one, observed=self._observed(one))

    def _observed(self, one: Deployment) -> ContainerStatus | None:
        if one.engine != KEPT_BY_AGENT:
            return self._c.heard.observed(one.id)
        state = self._c.devices.observed(one.device_id)
        for status in state.deployments if state else ():
            if status.deployment_id == one.id:
                return status
        return None
