"""Sections of the desired state that deployments and assignments contribute, per device."""

from collections.abc import Sequence

from haechi.core.clock import to_text
from haechi.core.db import Database
from haechi.domains.deployments import store
from haechi.domains.deployments.context import Context
from haechi.domains.deployments.model import (
    KEPT_BY_AGENT,
    Assignment,
    Deployment,
    DeploymentState,
)
from haechi.domains.deployments.specs import container_spec
from haechi.errors import NotFound
from haechi.protocol import assignments as wire
from haechi.protocol.desired import CameraSource, ContainerSpec, Export, Relay


def to_wire_assignment(assignment: Assignment) -> wire.Assignment:
    """`url` is the agent's to fill in."""
    return wire.Assignment(
        id=assignment.id,
        camera_id=assignment.camera_id,
        deployment_id=assignment.deployment_id,
        mode=assignment.mode,
        fps=assignment.fps,
        stream=assignment.stream,
        epoch=assignment.epoch,
        until=None if assignment.until is None else to_text(assignment.until),
        reason=assignment.reason,
    )


class Sections:
    def __init__(self, context: Context) -> None:
        self._c = context
        self._db: Database = context.db
        self._consumers: dict[str, set[str]] = {}
        """Home device → devices that relay its cameras."""
        self.homes: dict[str, str] = {}
        """Camera → the home it was last given to: who must forget it when it moves."""

    def register(self) -> None:
        devices = self._c.devices
        devices.register_section("deployments", self.deployments)
        devices.register_section("stopping", self.stopping)
        devices.register_section("workloads", self.workloads)
        devices.register_section("assignments", self.assignments)
        devices.register_section("cameras", self.cameras)
        devices.register_section("exports", self.exports)
        devices.register_section("relays", self.relays)

    def consumers_of(self, home_id: str) -> set[str]:
        """Whose relays depend on where this device's media is."""
        return self._consumers.get(home_id, set())

    async def deployments(self, device_id: str) -> list[ContainerSpec]:
        async with self._db.read() as tx:
            running = await store.on_device(tx, device_id, states=[DeploymentState.RUNNING])
        return await self._specs(
            device_id,
            [one for one in running if one.desired == "running" and one.engine == KEPT_BY_AGENT],
        )

    async def workloads(self, device_id: str) -> list[ContainerSpec]:
        """AIs that another engine runs on this device, from before they are proven."""
        async with self._db.read() as tx:
            live = await store.on_device(
                tx, device_id, states=[DeploymentState.STARTING, DeploymentState.RUNNING]
            )
        return await self._specs(device_id, [one for one in live if one.engine != KEPT_BY_AGENT])

    async def _specs(self, device_id: str, found: list[Deployment]) -> list[ContainerSpec]:
        if not found:
            return []
        place = await self._c.places.device(device_id)
        return [container_spec(one, place, self._c.server_url()) for one in found]

    async def stopping(self, device_id: str) -> list[str]:
        async with self._db.read() as tx:
            going = await store.on_device(tx, device_id, states=[DeploymentState.STOPPING])
        return [one.id for one in going if one.engine == KEPT_BY_AGENT]

    async def assignments(self, device_id: str) -> list[wire.Assignment]:
        async with self._db.read() as tx:
            found = await store.handed_out(tx, device_id=device_id)
        return [to_wire_assignment(one) for one in found]

    async def cameras(self, device_id: str) -> list[CameraSource]:
        """Every camera whose home this is, watched or not: stills and live view need it too."""
        sources = []
        for camera_id in sorted(await self._c.places.cameras_of(device_id)):
            self.homes[camera_id] = device_id
            main, sub = await self._c.places.camera_source(camera_id)
            sources.append(CameraSource(camera_id, main.reveal(), sub.reveal() if sub else None))
        return sources

    async def exports(self, device_id: str) -> list[Export]:
        """One path per camera, stream and device that pulls it."""
        mine = set(await self._c.places.cameras_of(device_id))
        found: list[Assignment] = []
        async with self._db.read() as tx:
            for camera_id in sorted(mine):
                found += await store.handed_out(tx, camera_id=camera_id)
        away = [one for one in found if one.device_id != device_id]
        self._consumers[device_id] = {one.device_id for one in away}
        return [Export(one.camera_id, one.stream, one.export_path) for one in one_per_stream(away)]

    async def relays(self, device_id: str) -> list[Relay]:
        """Cameras of other devices; left out while nobody knows where their media is."""
        async with self._db.read() as tx:
            found = await store.handed_out(tx, device_id=device_id)
        made = []
        for one in one_per_stream(found):
            try:
                home = (await self._c.places.camera(one.camera_id)).device_id
            except NotFound:
                continue
            if home is None or home == device_id:
                continue
            self._consumers.setdefault(home, set()).add(device_id)
            url = self._media_url(home, one.export_path)
            if url is not None:
                made.append(Relay(one.camera_id, one.stream, url))
        return made

    def _media_url(self, home_id: str, path: str) -> str | None:
        observed = self._c.devices.observed(home_id)
        addresses = self._c.devices.addresses(home_id)
        if observed is None or observed.media.rtsp_port is None or not addresses:
            return None
        host = addresses[0]
        shown = f"[{host}]" if ":" in host else host
        return f"rtsp://{shown}:{observed.media.rtsp_port}/{path}"


def one_per_stream(assignments: Sequence[Assignment]) -> list[Assignment]:
    """The oldest of each (camera, stream, device): its path stays while a younger one joins."""
    first: dict[tuple[str, str, str], Assignment] = {}
    for one in sorted(assignments, key=lambda a: (a.created_at, a.id)):
        first.setdefault((one.camera_id, one.stream, one.device_id), one)
    return sorted(first.values(), key=lambda a: a.id)
