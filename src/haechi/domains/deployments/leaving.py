"""A device leaves its cluster: the AIs that the cluster ran there end with it, and so does its
right to pull images.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from haechi.domains.deployments import store
from haechi.domains.deployments.context import TAIL_LINES, Context
from haechi.domains.deployments.model import Deployment, DeploymentState
from haechi.domains.deployments.specs import GRACE_S
from haechi.errors import AppError

_THERE: Final = [state for state in DeploymentState if state != DeploymentState.GONE]


class LeavingWork:
    """`Hook` of clusters. `engine` is the clusters' own: what other engines run there stays.
    `end_pulls` takes a device's credential of the site registry back.
    """

    name = "deployments"

    def __init__(
        self, context: Context, *, engine: str, end_pulls: Callable[[str], Awaitable[None]]
    ) -> None:
        self._c = context
        self._engine = engine
        self._end_pulls = end_pulls

    async def joined(self, cluster_id: str, device_id: str, *, log: Callable[[str], None]) -> None:
        """Nothing: what is to run there is deployed."""
        del cluster_id, device_id, log

    async def leaving(self, cluster_id: str, device_id: str, *, log: Callable[[str], None]) -> None:
        """Removed from the cluster where that can be reached; without one they are gone anyway."""
        del cluster_id
        c = self._c
        async with c.db.read() as tx:
            found = await store.on_device(tx, device_id, states=_THERE)
        mine = [one for one in found if one.engine == self._engine]
        if len(mine) == len(found):
            await self._end_pulls(device_id)
        if not mine:
            return
        ids = [one.id for one in mine]
        async with c.db.write() as tx:
            # Or what is removed here would be missed elsewhere, and started again.
            await store.change_deployments(tx, ids, desired="stopped")
        await asyncio.gather(*(self._remove(one, log) for one in mine))
        async with c.db.write() as tx:
            ended = await c.assignments.ledger.end_of(tx, ids)
            await c.end(tx, ids, outcome="removed", ended_at=c.clock.now())
        await c.assignments.announce(ended)
        c.announce(mine, DeploymentState.GONE)
        c.heard.forget(ids)
        log(f"{len(mine)} deployments ended")

    async def _remove(self, one: Deployment, log: Callable[[str], None]) -> None:
        try:
            removed = await self._c.engine.remove(one.device_id, one.id, GRACE_S, TAIL_LINES)
        except AppError as error:
            log(f"-- {one.name}: {error}")
            return
        await self._c.keep_log(one.id, removed.log_tail)
