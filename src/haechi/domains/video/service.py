"""Stills: asked once for all who want the same picture in the same second.

Twenty open dashboards must not become twenty pictures over the radio: a picture is kept for as
long as the asker accepts, and whoever asks while one is under way waits for that one.
"""

import asyncio
from collections import OrderedDict
from typing import Final

from haechi.core.clock import Clock, from_ms
from haechi.core.tasks import Tasks
from haechi.domains.video.model import (
    CameraStreamNotFound,
    CameraUnreachable,
    CameraWithoutDevice,
    CameraWithoutPicture,
    CameraWrongPassword,
    Still,
)
from haechi.domains.video.ports import Cameras, Place, Stills
from haechi.errors import Upstream
from haechi.protocol.commands import TakeStill
from haechi.protocol.problems import CameraFailed

MAX_AGE_S: Final = 1.0
KEPT: Final = 64
_Key = tuple[str, str, int | None]

_WHY: Final[dict[str, type[Upstream]]] = {
    "unreachable": CameraUnreachable,
    "wrong_password": CameraWrongPassword,
    "not_found": CameraStreamNotFound,
}


class Video:
    def __init__(self, *, cameras: Cameras, stills: Stills, clock: Clock) -> None:
        self._cameras = cameras
        self._stills = stills
        self._clock = clock
        self._tasks = Tasks("video")
        self._kept: OrderedDict[_Key, tuple[float, Still]] = OrderedDict()
        self._under_way: dict[_Key, asyncio.Task[Still]] = {}

    async def close(self) -> None:
        await self._tasks.close()

    async def take_still(self, camera_ref: str, width: int | None = None) -> Still:
        """A picture at most a second or so old. Raises ObjectNotFound, `video.camera_…`, or what
        the agent's link says where the device does not answer."""
        camera = await self._cameras.get(camera_ref)
        if camera.device_id is None:
            raise CameraWithoutDevice(name=camera.name, camera_id=camera.id)
        key = (camera.id, camera.device_id, width)
        taken_at, known = self._kept.get(key, (0.0, None))
        if known is not None and self._clock.monotonic() - taken_at <= MAX_AGE_S:
            return known
        task = self._under_way.get(key)
        if task is None:
            task = self._tasks.spawn("still", self._take(key, camera, camera.device_id, width))
            self._under_way[key] = task
            task.add_done_callback(lambda _: self._under_way.pop(key, None))
        # One asker who leaves must not take the picture away from the others.
        return await asyncio.shield(task)

    async def _take(self, key: _Key, camera: Place, device_id: str, width: int | None) -> Still:
        asked = TakeStill(camera.id, width, round(MAX_AGE_S * 1000))
        try:
            answer = await self._stills.take(device_id, asked)
        except CameraFailed as e:
            why = _WHY.get(str(e.data.get("error")), CameraWithoutPicture)
            reason = str(e.data.get("detail", ""))
            raise why(name=camera.name, camera_id=camera.id, reason=reason) from e
        still = Still(camera.id, answer.jpeg, from_ms(answer.captured_ms))
        self._kept[key] = (self._clock.monotonic(), still)
        self._kept.move_to_end(key)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return still
