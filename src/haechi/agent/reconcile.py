"""Makes the desired state true, again and again, from the copy on disk (CONTRACTS 5).

Containers of `deployments` run; those of `stopping` go; everything else is left alone, because a
deployment that is still being proven is in neither list. A container that somebody killed or
removed by hand comes back. Tried again with growing pauses, each deployment on its own.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from haechi.agent.containers import Containers
from haechi.agent.deployments import Deployment, Deployments, Kept
from haechi.agent.home import Home, read_json, write_json
from haechi.core.tasks import Tasks
from haechi.errors import AppError
from haechi.protocol.desired import ContainerSpec, ContainerStatus, DesiredState
from haechi.protocol.problems import ImageMissing

log = logging.getLogger(__name__)

RETRY_S: Final = (1.0, 60.0)
DEFAULT_GRACE_S: Final = 10.0

Pull = Callable[[str], Awaitable[Any]]


class Reconciler:
    def __init__(
        self,
        *,
        home: Home,
        deployments: Deployments,
        containers: Containers,
        pull: Pull,
        on_desired: Callable[[DesiredState], Awaitable[None]],
        engine: bool = True,
    ) -> None:
        """`pull` fetches an image that is gone, with the access kept on disk; `on_desired` hands
        assignments and cameras on. Without an `engine` of the device's own, that is all."""
        self._home = home
        self._deployments = deployments
        self._containers = containers
        self._pull = pull
        self._on_desired = on_desired
        self._engine = engine
        self._wake = asyncio.Event()
        self._working: dict[str, asyncio.Task[None]] = {}
        self._pauses: dict[str, float] = {}
        self._not_before: dict[str, float] = {}
        self._gone: set[str] = set()
        """Deployments of `stopping` whose container is known to be gone."""
        self._tasks = Tasks("reconcile")
        self.desired = DesiredState(revision=0)
        self.applied_revision = 0

    def wake(self) -> None:
        self._wake.set()

    async def load(self) -> None:
        """Carry on from what is on disk."""
        kept = read_json(self._home.desired_file, DesiredState)
        if kept is not None:
            self.desired = kept
            await self._on_desired(kept)

    async def take(self, state: DesiredState) -> None:
        """A new desired state from the server: keep it, then make it true."""
        before = {spec.deployment_id for spec in self.desired.deployments}
        self.desired = state
        # Camera addresses hold passwords: they go to media, never to this file.
        bare = msgspec.structs.replace(state, cameras=[], relays=[])
        await asyncio.to_thread(write_json, self._home.desired_file, bare)
        for spec in state.deployments:
            known = self._deployments.get(spec.deployment_id)
            if known is None:
                # Its `container.start` was never heard here: without the token the container
                # is still known by its address.
                self._deployments.keep(Kept(spec=spec))
            elif known.kept.spec != spec or (
                spec.deployment_id not in before and not known.kept.wanted
            ):
                known.kept.spec = spec
                known.kept.wanted = True
                self._deployments.keep(known.kept)
            self._not_before.pop(spec.deployment_id, None)
        await self._on_desired(state)
        if not self._engine:
            self.applied_revision = state.revision
        self.wake()

    async def run(self) -> None:
        """For ever: whenever something changed or a pause is over."""
        while True:
            self._wake.clear()
            if self._containers.reachable:
                self._look()
            pause_s = self._next_pause_s()
            try:
                async with asyncio.timeout(pause_s):
                    _ = await self._wake.wait()
            except TimeoutError:
                continue

    async def close(self) -> None:
        await self._tasks.close()

    def _next_pause_s(self) -> float | None:
        now = asyncio.get_running_loop().time()
        waits = [at - now for at in self._not_before.values() if at > now]
        return max(0.05, min(waits)) if waits else None

    def _look(self) -> None:
        stopping = set(self.desired.stopping)
        self._gone &= stopping
        for deployment_id in stopping - self._gone:
            self._begin(deployment_id, self._remove(deployment_id))
        for spec in self.desired.deployments:
            deployment = self._deployments.get(spec.deployment_id)
            if deployment is None or spec.deployment_id in stopping or deployment.busy:
                continue
            if deployment.kept.wanted and self._drifted(deployment):
                self._begin(deployment.id, self._start(deployment, spec))
        self.applied_revision = self.desired.revision

    def _drifted(self, deployment: Deployment) -> bool:
        state = deployment.state
        if state in {"running", "restarting"}:
            return False
        if state == "exited" and deployment.kept.spec.restart == "no":
            return False
        clean_end = state == "exited" and deployment.exit_code == 0
        return not (clean_end and deployment.kept.spec.restart == "on-failure")

    def _begin(self, deployment_id: str, work: Any) -> None:
        now = asyncio.get_running_loop().time()
        running = self._working.get(deployment_id)
        if (running is not None and not running.done()) or self._not_before.get(
            deployment_id, 0
        ) > now:
            work.close()
            return
        self._working[deployment_id] = self._tasks.spawn(
            deployment_id, self._attempt(deployment_id, work)
        )

    async def _attempt(self, deployment_id: str, work: Awaitable[None]) -> None:
        loop = asyncio.get_running_loop()
        try:
            await work
        except AppError as error:
            pause_s = self._pauses.get(deployment_id, RETRY_S[0])
            self._pauses[deployment_id] = min(pause_s * 2, RETRY_S[1])
            self._not_before[deployment_id] = loop.time() + pause_s
            log.warning("%s: %s (again in %.0f s)", deployment_id, error, pause_s)
        else:
            self._pauses.pop(deployment_id, None)
            self._not_before.pop(deployment_id, None)
        self._working.pop(deployment_id, None)
        self.wake()

    async def _start(self, deployment: Deployment, spec: ContainerSpec) -> None:
        log.warning("container of %s is %s: it is started again", deployment.id, deployment.state)
        began = deployment.started_ms
        try:
            await self._containers.start(deployment)
        except ImageMissing:
            deployment.state = "pulling"
            self._deployments.on_change()
            try:
                await self._pull(spec.image)
            finally:
                deployment.state = "absent"
            await self._containers.start(deployment)
        if began is not None:
            deployment.remade += 1
            self._deployments.on_change()

    async def _remove(self, deployment_id: str) -> None:
        known = self._deployments.get(deployment_id)
        grace_s = known.kept.spec.stop_grace_s if known else DEFAULT_GRACE_S
        await self._containers.remove(deployment_id, grace_s=grace_s)
        await asyncio.to_thread(self._deployments.forget, deployment_id)
        self._gone.add(deployment_id)
        self._deployments.on_change()

    def statuses(self) -> list[ContainerStatus]:
        """For the `state` frame: what is kept, and `absent` for what was to go and went."""
        absent = [
            ContainerStatus(deployment_id=one, state="absent")
            for one in sorted(self._gone)
            if self._deployments.get(one) is None
        ]
        return [one.status() for one in self._deployments] + absent
