"""Follows what devices report and what happens to cameras, and draws the consequences."""

from typing import Any

from haechi.core.tasks import Tasks
from haechi.domains.deployments import store
from haechi.domains.deployments.context import Context
from haechi.domains.deployments.model import DeploymentState
from haechi.domains.deployments.replace import Replace
from haechi.domains.deployments.sections import Sections
from haechi.errors import NotFound
from haechi.protocol.desired import ObservedState


class Follow:
    def __init__(self, context: Context, replace: Replace, sections: Sections) -> None:
        self._c = context
        self._db = context.db
        self._replace = replace
        self._sections = sections
        self._tasks = Tasks("deployments")
        context.devices.on_state(self._on_state)
        context.bus.on("states", self._on_change)

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
        absent = {one.deployment_id for one in state.deployments if one.state == "absent"}
        listed = {one.deployment_id for one in state.deployments}
        _ = self._tasks.spawn("gone", self._note_gone(device_id, absent, listed, state.revision))
        moved = (
            before is None
            or before.media.rtsp_port != state.media.rtsp_port
            or before.addresses != state.addresses
        )
        if moved:
            for consumer in self._sections.consumers_of(device_id):
                self._c.devices.changed(consumer)

    async def _note_gone(
        self, device_id: str, absent: set[str], listed: set[str], revision: int
    ) -> None:
        """What should stop and is not there any more, is gone."""
        async with self._db.read() as tx:
            going = await store.on_device(tx, device_id, states=[DeploymentState.STOPPING])
        if not going:
            return
        current = await self._c.devices.push(device_id)
        gone = [
            one
            for one in going
            if one.id in absent or (one.id not in listed and revision >= current)
        ]
        if gone:
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
