"""The inventory as the agents domain uses it: devices exist, are enrolled, report themselves."""

import contextlib

from sqlalchemy.ext.asyncio import AsyncSession

from haechi.core.clock import Clock
from haechi.domains.agents.ports import EnrolmentState
from haechi.domains.inventory.devices import ReportedFacts
from haechi.domains.inventory.service import Inventory
from haechi.errors import ObjectNotFound
from haechi.protocol.desired import StreamStatus
from haechi.protocol.frames import Hello


class InventoryDirectory:
    def __init__(self, inventory: Inventory, clock: Clock) -> None:
        self._devices = inventory.devices
        self._cameras = inventory.cameras
        self._clock = clock

    async def check_device(self, tx: AsyncSession, device_id: str) -> None:
        await self._devices.read(tx, device_id)

    async def note_enrolment(self, tx: AsyncSession, device_id: str, state: EnrolmentState) -> None:
        enrolled_at = self._clock.now() if state == "enrolled" else None
        await self._devices.set_enrolment(tx, device_id, state, enrolled_at=enrolled_at)

    async def note_hello(self, device_id: str, hello: Hello, remote: str) -> None:
        facts: ReportedFacts = {"agent_version": hello.agent_version[:64]}
        if hello.machine_id:
            facts["machine_id"] = hello.machine_id[:64]
        if remote:
            facts["seen_address"] = remote
        if hello.capacity is not None:
            facts["platform"] = hello.capacity.platform
            facts["capacity"] = {
                name: getattr(hello.capacity, name) for name in hello.capacity.__struct_fields__
            }
        await self._devices.report(device_id, facts)

    async def cameras_of(self, device_id: str) -> set[str]:
        return {camera.id for camera in await self._cameras.of_device(device_id)}

    async def note_stream(self, status: StreamStatus) -> None:
        found = {
            "codec": status.codec,
            "width": status.width,
            "height": status.height,
            "fps": None if status.fps is None else round(status.fps),
        }
        with contextlib.suppress(ObjectNotFound):
            await self._cameras.report_streams(status.camera_id, {"main": found})
