"""Stills on stand-ins: asked once, kept a second, failures told in the camera's words."""

import asyncio
from dataclasses import dataclass

import pytest

from haechi.domains.video import Video
from haechi.domains.video.model import (
    CameraStreamNotFound,
    CameraUnreachable,
    CameraWithoutDevice,
    CameraWithoutPicture,
    CameraWrongPassword,
)
from haechi.errors import ObjectNotFound
from haechi.protocol import commands
from haechi.protocol.problems import CameraFailed, MediaAway
from haechi.testing.clock import FakeClock


@dataclass(frozen=True)
class Camera:
    id: str
    name: str
    device_id: str | None


class Cameras:
    def __init__(self) -> None:
        self.device_id: str | None = "dev-1"

    async def get(self, ref: str) -> Camera:
        if ref != "cam-1":
            raise ObjectNotFound(kind="camera", id=ref)
        return Camera("cam-1", "정문", self.device_id)


class Stills:
    def __init__(self) -> None:
        self.asked: list[tuple[str, commands.TakeStill]] = []
        self.answers = asyncio.Event()
        self.answers.set()
        self.error: Exception | None = None

    async def take(self, device_id: str, asked: commands.TakeStill) -> commands.Still:
        self.asked.append((device_id, asked))
        await self.answers.wait()
        if self.error:
            raise self.error
        return commands.Still(b"jpeg%d" % len(self.asked), 1_700_000_000_123)


@pytest.fixture
def cameras() -> Cameras:
    return Cameras()


@pytest.fixture
async def stills() -> Stills:
    return Stills()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def video(cameras, stills, clock):
    service = Video(cameras=cameras, stills=stills, clock=clock)
    yield service
    await service.close()


async def test_many_who_ask_at_once_get_one_picture(video, stills):
    stills.answers.clear()
    asking = asyncio.gather(*(video.take_still("cam-1", 320) for _ in range(20)))
    while not stills.asked:
        await asyncio.sleep(0)
    stills.answers.set()

    assert {still.jpeg for still in await asking} == {b"jpeg1"}
    assert stills.asked == [("dev-1", commands.TakeStill("cam-1", 320, 1000))]


async def test_one_who_leaves_does_not_take_the_picture_away(video, stills):
    stills.answers.clear()
    first = asyncio.gather(video.take_still("cam-1"))
    second = asyncio.gather(video.take_still("cam-1"))
    while not stills.asked:
        await asyncio.sleep(0)
    first.cancel()
    stills.answers.set()

    [still] = await second
    assert still.jpeg == b"jpeg1"


async def test_a_picture_is_kept_a_second_for_each_width_and_device(video, stills, clock, cameras):
    first = await video.take_still("cam-1")
    assert first.captured_at.microsecond == 123_000
    assert await video.take_still("cam-1") is first
    await video.take_still("cam-1", 160)
    await clock.advance(1.1)
    assert await video.take_still("cam-1") is not first
    cameras.device_id = "dev-2"
    await video.take_still("cam-1")
    assert [device for device, _ in stills.asked] == ["dev-1", "dev-1", "dev-1", "dev-2"]


@pytest.mark.parametrize(
    ("word", "error"),
    [
        ("unreachable", CameraUnreachable),
        ("wrong_password", CameraWrongPassword),
        ("not_found", CameraStreamNotFound),
        ("no_video", CameraWithoutPicture),
        ("something new", CameraWithoutPicture),
    ],
)
async def test_why_there_is_no_picture_is_said(video, stills, word, error):
    stills.error = CameraFailed(camera_id="cam-1", error=word, detail="connection refused")
    with pytest.raises(error) as raised:
        await video.take_still("cam-1")
    assert "정문" in raised.value.problem("ko")["detail"]

    stills.error = None
    assert (await video.take_still("cam-1")).jpeg


async def test_other_failures_pass_as_they_are(video, stills, cameras):
    stills.error = MediaAway(detail="no answer")
    with pytest.raises(MediaAway):
        await video.take_still("cam-1")
    with pytest.raises(ObjectNotFound):
        await video.take_still("cam-2")
    cameras.device_id = None
    with pytest.raises(CameraWithoutDevice):
        await video.take_still("cam-1")
