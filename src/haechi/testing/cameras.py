"""Simulated cameras for tests and the demo: real RTSP, digest authentication, real footage.

Starts `demo/cameras/simulator.py` of the checkout with Debian's own Python, which alone has the
GStreamer bindings; `python3 tools/setup.py` prepares all it needs. One process per camera here, so
that a test can take one away; `CameraProcess` serves several from one process.
"""

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from haechi.core.tasks import Tasks

CHECKOUT: Final = Path(__file__).resolve().parents[3]
SIMULATOR: Final = CHECKOUT / "demo" / "cameras" / "simulator.py"
SYSTEM_PYTHON: Final = "/usr/bin/python3"
NAMES: Final = ("gate", "path", "square", "corner")
MOUNTS: Final = {"main": "/axis-media/media.amp", "sub": "/axis-media/sub.amp"}
START_LIMIT_S: Final = 120.0
PREPARE_LIMIT_S: Final = 300.0
STOP_LIMIT_S: Final = 30.0


class SimulatorFailed(Exception):
    """The simulator did not start; run `python3 tools/setup.py`."""


@dataclass(frozen=True)
class Login:
    user: str = "root"
    password: str = "root"  # noqa: S105 - a simulator on loopback


@dataclass(frozen=True)
class SimulatedCamera:
    """Where a camera answers. `url` carries the credentials, as an operator would enter them."""

    name: str
    host: str
    port: int
    login: Login

    def url(self, stream: str = "main", login: Login | None = None) -> str:
        who = login or self.login
        secret = f"{quote(who.user, safe='')}:{quote(who.password, safe='')}"
        return f"rtsp://{secret}@{self.host}:{self.port}{MOUNTS[stream]}"

    @property
    def main_url(self) -> str:
        return self.url("main")

    @property
    def sub_url(self) -> str:
        return self.url("sub")


async def prepare_footage(fps: int = 10) -> Path:
    """Folder of the cameras' recordings, cut now if they are not in the cache yet."""
    script = CHECKOUT / "demo" / "cameras" / "prepare.py"
    if not script.is_file():
        raise SimulatorFailed("simulated cameras need a checkout: demo/cameras is not here")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(script),
        "--fps",
        str(fps),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), PREPARE_LIMIT_S)
    except BaseException:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        raise SimulatorFailed(err.decode(errors="replace")[-500:])
    return Path(out.decode().strip())


class CameraProcess:
    """One simulator process with one or more cameras. Ports stay the same over a restart."""

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        *,
        host: str = "127.0.0.1",
        login: Login | None = None,
        ports: dict[str, int] | None = None,
    ) -> None:
        self._folder = folder
        self._host = host
        self._login = login or Login()
        self._ports = {name: (ports or {}).get(name, 0) for name in names}
        self._tasks = Tasks("cameras")
        self._process: asyncio.subprocess.Process | None = None
        self._changed = asyncio.Condition()
        self.cameras: dict[str, SimulatedCamera] = {}
        self.pulls: Counter[tuple[str, str]] = Counter()
        """Sessions that play now, by camera and stream."""
        self.pulls_ever: Counter[tuple[str, str]] = Counter()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        cameras = [f"--camera={name}={port}" for name, port in self._ports.items()]
        self._process = await asyncio.create_subprocess_exec(
            SYSTEM_PYTHON,
            str(SIMULATOR),
            f"--folder={self._folder}",
            f"--host={self._host}",
            "--while-stdin",
            *cameras,
            env={
                **os.environ,
                "HAECHI_CAMERA_USER": self._login.user,
                "HAECHI_CAMERA_PASSWORD": self._login.password,
            },
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        output = self._process.stdout
        assert output is not None
        try:
            first = await asyncio.wait_for(output.readline(), START_LIMIT_S)
            ready = json.loads(first)
        except (TimeoutError, ValueError) as e:
            await self.stop()
            raise SimulatorFailed("the camera simulator did not get ready") from e
        for camera in ready["cameras"]:
            name, port = camera["name"], camera["port"]
            self._ports[name] = port
            self.cameras[name] = SimulatedCamera(name, self._host, port, self._login)
        _ = self._tasks.spawn("events", self._follow(output))

    async def stop(self) -> None:
        """Take the cameras off the network."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP_LIMIT_S)
            except TimeoutError:
                process.kill()
                await process.wait()
        await self._tasks.close()
        self.pulls.clear()

    async def wait_for_pulls(
        self, name: str, stream: str, count: int, *, within_s: float = 90.0
    ) -> None:
        """Until that many sessions play; the condition for "the camera sees one pull"."""
        async with asyncio.timeout(within_s), self._changed:
            await self._changed.wait_for(lambda: self.pulls[name, stream] == count)

    async def _follow(self, output: asyncio.StreamReader) -> None:
        streams = {path: stream for stream, path in MOUNTS.items()}
        while line := await output.readline():
            event: dict[str, Any] = json.loads(line)
            key = (event["camera"], streams.get(event["path"], event["path"]))
            async with self._changed:
                if event["event"] == "play":
                    self.pulls[key] += 1
                    self.pulls_ever[key] += 1
                else:
                    self.pulls[key] -= 1
                self._changed.notify_all()


class CameraSite:
    """Cameras of one process each, by name."""

    def __init__(self, processes: dict[str, CameraProcess]) -> None:
        self._processes = processes

    def __getitem__(self, name: str) -> SimulatedCamera:
        return self._processes[name].cameras[name]

    def process(self, name: str) -> CameraProcess:
        return self._processes[name]

    async def stop(self, name: str) -> None:
        await self._processes[name].stop()

    async def restart(self, name: str) -> None:
        """Bring a stopped camera back under its old address."""
        await self._processes[name].stop()
        await self._processes[name].start()


@asynccontextmanager
async def simulated_cameras(
    *names: str, login: Login | None = None, host: str = "127.0.0.1", fps: int = 10
) -> AsyncIterator[CameraSite]:
    """Cameras by name (all four without one); `cameras["gate"].main_url` holds the credentials."""
    folder = await prepare_footage(fps)
    async with AsyncExitStack() as stack:
        processes: dict[str, CameraProcess] = {}
        for name in names or NAMES:
            process = CameraProcess(folder, [name], login=login, host=host)
            stack.push_async_callback(process.stop)
            await process.start()
            processes[name] = process
        yield CameraSite(processes)
