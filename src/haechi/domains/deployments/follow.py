"""Follows what devices report and what happens to cameras, and draws the consequences."""

from datetime import timedelta
from typing import Any, Final

from haechi.core.tasks import Tasks
from haechi.domains.deployments import store
from haechi.domains.deployments.context import Context
from haechi.domains.deployments.model import KEPT_BY_AGENT, DeploymentState
from haechi.domains.deployments.replace import Replace
from haechi.domains.deployments.sections import Sections
from haechi.errors import NotFound
from haechi.protocol.desired import ObservedState

STRAY: Final = timedelta(seconds=15)
"""A container may be reported for a moment after its removal."""
AGAIN_S: Final = 30.0


class Follow:
    def __init__(self, context: Context, replace: Replace, sections: Sections) -> None:
        self._c = context
        self._db = context.db
        self._replace = replace
        self._sections = sections
        self._comparing = 0
        self._compared: dict[str, tuple[set[str], int, float]] = {}
        self._tasks = Tasks("deployments")
        context.devices.on_state(self._on_state)
        context.bus.on("states", self._on_change)

    @property
    def is_comparing(self) -> bool:
        """Whether a report is still being looked at."""
        return self._comparing > 0

    async def close(self) -> None:
        await self._tasks.close()

    def _on_state(self, device_id: str, state: ObservedState, before: ObservedState | None) -> None:
        self._replace.heard(device_id)
        old = {one.deployment_id: one for one in (before.deployments if before else ())}
        for one in state.deployments:
            was = old.get(one.deployment_id)
            if was is None or (was.state, was.restarts, was.error) != (
                one.state,
                one.restarts,
                one.error,
            ):
                self._c.bus.publish(
                    "states",
                    {
                        "kind": "deployment",
                        "id": one.deployment_id,
                        "device_id": device_id,
                        "observed": one.state,
                        "restarts": one.restarts,
                    },
                )
        moved = (
            before is None
            or before.media.rtsp_port != state.media.rtsp_port
            or before.addresses != state.addresses
        )
        if moved:
            for consumer in self._sections.consumers_of(device_id):
                self._c.devices.changed(consumer)
        there = {one.deployment_id for one in state.deployments if one.state != "absent"}
        now_s = self._c.clock.monotonic()
        last = self._compared.get(device_id)
        if last is not None and last[:2] == (there, state.revision) and now_s < last[2] + AGAIN_S:
            return  # counters moved, no container came or went
        self._compared[device_id] = (there, state.revision, now_s)
        self._comparing += 1
        _ = self._tasks.spawn("compare", self._compare(device_id, there, state.revision))

    async def _compare(self, device_id: str, there: set[str], revision: int) -> None:
        """What should stop and is not there any more, is gone; what counted as gone and is there
        after all, must stop. An agent that has not taken up the newest desired state yet may not
        have looked either: its word does not count.
        """
        try:
            await self._compare_now(device_id, there, revision)
        finally:
            self._comparing -= 1

    async def _compare_now(self, device_id: str, there: set[str], revision: int) -> None:
        async with self._db.read() as tx:
            going = await store.on_device(tx, device_id, states=[DeploymentState.STOPPING])
            strays = [
                one
                for one in await store.deployments(tx, there)
                if one.state == DeploymentState.GONE
                and one.engine == KEPT_BY_AGENT
                and one.device_id == device_id
                and one.ended_at is not None
                and self._c.clock.now() - one.ended_at > STRAY
            ]
        if strays:
            await self._c.set_state(strays, DeploymentState.STOPPING)
        mine = [one for one in going if one.engine == KEPT_BY_AGENT]
        gone = [one for one in mine if one.id not in there]
        if gone and revision >= await self._c.devices.push(device_id):
            await self._c.set_state(gone, DeploymentState.GONE)

    def _on_change(self, _topic: str, data: Any) -> None:
        """A camera was registered, edited or deleted: its homes' desired state may change."""
        if isinstance(data, dict) and data.get("kind") == "camera" and "change" in data:
            _ = self._tasks.spawn("camera", self._camera_changed(str(data["id"])))

    async def _camera_changed(self, camera_id: str) -> None:
        known = self._sections.homes
        homes = {known.pop(camera_id, None)}
        try:
            camera = await self._c.places.camera(camera_id)
        except NotFound:
            camera = None
        if camera is not None and camera.device_id is not None:
            known[camera_id] = camera.device_id
            homes.add(camera.device_id)
        async with self._db.read() as tx:
            homes |= {one.device_id for one in await store.handed_out(tx, camera_id=camera_id)}
        for home in homes:
            if home is not None:
                self._c.devices.changed(home)
