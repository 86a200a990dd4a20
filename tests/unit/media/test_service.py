"""Media between an order and what the relay has done of it."""

import asyncio

import pytest

from haechi.media.service import Media, NoStill
from haechi.protocol.media import MediaCamera, MediaDesired


class SlowRelay:
    backend = "slow"
    scheme = "rtsp"
    running = False
    inner_port = 0

    def __init__(self):
        self.asked = asyncio.Event()

    async def put_sources(self, _sources):
        self.asked.set()
        await asyncio.Event().wait()


async def test_a_still_of_a_camera_that_the_relay_does_not_know_yet_is_refused(tmp_path):
    relay = SlowRelay()
    media = Media(tmp_path, relay, lambda _visitors: None)
    camera = MediaCamera("cam-a", "rtsp://127.0.0.1/x")
    async with asyncio.TaskGroup() as tasks:
        order = tasks.create_task(media.put_desired(MediaDesired([camera])))
        await relay.asked.wait()
        with pytest.raises(NoStill) as refused:
            await media.still("cam-a", None, 1000)
        order.cancel()
    assert refused.value.fault.error == "not_found"
