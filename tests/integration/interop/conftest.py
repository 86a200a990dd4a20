"""The historic interface on real domains, over a fake engine; time can be moved on."""

from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta

import pytest

from haechi.core.clock import SystemClock
from haechi.testing import packages as zips
from haechi.testing.interop import InteropWorld


class JumpingClock(SystemClock):
    """Real time, plus what a test has skipped."""

    def __init__(self):
        self.skipped_s = 0.0
        self._held_since = None

    def now(self):
        return super().now() + timedelta(seconds=self._ahead_s())

    def monotonic(self):
        return super().monotonic() + self._ahead_s()

    def skip(self, seconds):
        self.skipped_s += seconds

    @contextmanager
    def held(self):
        """In here only skipping moves it, however long the machine takes."""
        self._held_since = super().monotonic()
        try:
            yield
        finally:
            self.skipped_s, self._held_since = self._ahead_s(), None

    def _ahead_s(self):
        if self._held_since is None:
            return self.skipped_s
        return self.skipped_s - (super().monotonic() - self._held_since)


@asynccontextmanager
async def interop_world(path, **given):
    path.mkdir(parents=True, exist_ok=True)
    world = InteropWorld(path, clock=JumpingClock(), **given)
    await world.begin()
    try:
        yield world
    finally:
        for gate in [*world.engine.hold.values(), *world.engine.hold_after.values()]:
            gate.set()
        await world.end()


@pytest.fixture
async def world(tmp_path):
    async with interop_world(tmp_path) as made:
        yield made


@pytest.fixture
async def site(world):
    """A device `ni01` with a camera, and the package `sleeper` 1 (`e1`)."""
    await world.add_device("edge-1", "192.0.2.21", id="ni01", url="rtsp://192.0.2.61/a")
    world.e1 = (await world.upload("sleeper.zip", "1", zips.sleeping()))["id"]
    return world


@pytest.fixture
def free_port():
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]
