"""Keeps what runs on engines that no agent keeps: a cluster's, or a Docker over SSH.

An agent makes its device's desired state true by itself; for the others the server does, from its
own tables: a container that vanished comes back, one that must go goes, and what the engine says
is taken down for whoever looks. Each device for itself, with growing pauses while it is away.
"""

import asyncio
import logging
from collections import defaultdict
from datetime import timedelta
from typing import Any, Final

from haechi.core.tasks import Tasks
from haechi.domains.deployments import store
from haechi.domains.deployments.context import TAIL_LINES, Context
from haechi.domains.deployments.model import KEPT_BY_AGENT, Deployment, DeploymentState
from haechi.domains.deployments.replace import Replace
from haechi.domains.deployments.specs import GRACE_S
from haechi.errors import AppError
from haechi.protocol.desired import ContainerStatus
from haechi.protocol.problems import ImageMissing

log = logging.getLogger(__name__)

AWAY_S: Final = 60.0
"""Longest pause before an engine that cannot be reached is asked again."""
LEAVE_ALONE: Final = timedelta(seconds=15)
"""The operation that takes a deployment away removes it itself; later the keeper does."""
PARALLEL: Final = 16
_WATCHED: Final = [DeploymentState.STARTING, DeploymentState.RUNNING, DeploymentState.STOPPING]


class Keeper:
    def __init__(self, context: Context, replace: Replace) -> None:
        self._c = context
        self._db = context.db
        self._replace = replace
        self._pauses: dict[str, tuple[float, float]] = {}
        """Device → (pause, not before), while it is away."""
        self._wake = asyncio.Event()
        self._places = asyncio.Semaphore(PARALLEL)
        self._tasks = Tasks("keeper")
        context.devices.on_state(self._agent_spoke)

    def start(self) -> None:
        self._tasks.forever("keep", self._keep)

    async def close(self) -> None:
        await self._tasks.close()

    async def look(self) -> None:
        """Once at every device that has something; what cannot be reached is left for later."""
        async with self._db.read() as tx:
            found = await store.in_states(tx, _WATCHED)
        by_device: dict[str, list[Deployment]] = defaultdict(list)
        for one in found:
            if one.engine != KEPT_BY_AGENT:
                by_device[one.device_id].append(one)
        for gone in self._pauses.keys() - by_device.keys():
            del self._pauses[gone]
        now_s = self._c.clock.monotonic()
        due = [one for one in by_device if self._pauses.get(one, (0.0, 0.0))[1] <= now_s]
        await asyncio.gather(*(self._look_at(one, by_device[one]) for one in due))

    async def _keep(self) -> None:
        while True:
            await self.look()
            self._wake.clear()
            try:
                async with asyncio.timeout(self._c.pace.keep_s):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _look_at(self, device_id: str, found: list[Deployment]) -> None:
        async with self._places:
            try:
                await self._make_true(device_id, found)
            except AppError as error:
                self._pause(device_id, error)
            except Exception:
                log.exception("keeping the deployments of %s failed", device_id)
                self._pause(device_id, None)
            else:
                self._pauses.pop(device_id, None)

    def _pause(self, device_id: str, error: AppError | None) -> None:
        pause_s = min(self._pauses.get(device_id, (self._c.pace.keep_s, 0.0))[0] * 2, AWAY_S)
        if device_id not in self._pauses and error is not None:
            log.warning("the deployments of %s cannot be looked after: %s", device_id, error)
        self._pauses[device_id] = (pause_s, self._c.clock.monotonic() + pause_s)

    async def _make_true(self, device_id: str, found: list[Deployment]) -> None:
        c = self._c
        ids = [one.id for one in found]
        statuses = await c.status(device_id, ids, engine=found[0].engine)
        by_id = {status.deployment_id: status for status in statuses}
        for one in found:
            status = by_id.get(one.id) or ContainerStatus(one.id, "absent")
            if c.heard.observe(status):
                self._tell(one, status)
            if one.state == DeploymentState.STOPPING:
                await self._take_away(one)
            elif one.state == DeploymentState.RUNNING and one.desired == "running":
                await self._bring_back(one, status)

    def _tell(self, one: Deployment, status: ContainerStatus) -> None:
        data: dict[str, Any] = {
            "kind": "deployment",
            "id": one.id,
            "device_id": one.device_id,
            "observed": status.state,
            "restarts": status.restarts,
        }
        self._c.bus.publish("states", data)

    async def _take_away(self, one: Deployment) -> None:
        c = self._c
        if one.ended_at is not None and c.clock.now() - one.ended_at < LEAVE_ALONE:
            return
        removed = await c.engine.remove(one.device_id, one.id, GRACE_S, TAIL_LINES)
        await c.keep_log(one.id, removed.log_tail)
        await c.set_state([one], DeploymentState.GONE)
        c.heard.forget([one.id])

    async def _bring_back(self, one: Deployment, status: ContainerStatus) -> None:
        if status.state not in {"absent", "exited", "failed"}:
            return
        c = self._c
        if not await self._still_wanted(one):
            return
        log.warning("%s on %s is %s: it is started again", one.name, one.device_id, status.state)
        try:
            again = await self._replace.start_again(one)
        except ImageMissing:
            access = await c.images.pull_access(one.device_id)
            await c.engine.pull(one.device_id, one.image, access, lambda _progress: None)
            again = await self._replace.start_again(one)
        if not await self._still_wanted(one):
            # It was taken away in that very moment: what must go has to go.
            await c.engine.remove(one.device_id, one.id, GRACE_S, TAIL_LINES)
            return
        if c.heard.observe(again):
            self._tell(one, again)

    async def _still_wanted(self, one: Deployment) -> bool:
        async with self._db.read() as tx:
            now = await store.deployment(tx, one.id)
        return now.state == DeploymentState.RUNNING and now.desired == "running"

    def _agent_spoke(self, device_id: str, *_states: object) -> None:
        """The agent of a host that was away is back: the host is too."""
        if self._pauses.pop(device_id, None) is not None:
            self._wake.set()
