"""A real media process, real cameras, a real relay; no stand-ins."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import msgspec
import pytest

from haechi.protocol.media import MediaDesired, MediaState, StreamState

CHECKOUT = Path(__file__).resolve().parents[3]
LIMIT_S = 90.0


def _prepared() -> dict[str, str]:
    answer = subprocess.run(
        [sys.executable, CHECKOUT / "tools" / "setup.py", "--path"],
        capture_output=True,
        check=True,
        timeout=30,
    )
    return json.loads(answer.stdout)


@pytest.fixture(scope="session")
def go2rtc() -> Path:
    binary = Path(_prepared()["go2rtc"])
    if not binary.is_file():
        pytest.skip("run tools/setup.py first")
    return binary


@pytest.fixture(params=["go2rtc", "pyav"])
def backend(request) -> str:
    return request.param


class MediaProcess:
    """`haechi media` of one device, driven as the agent drives it."""

    def __init__(self, folder: Path, backend: str, go2rtc: Path) -> None:
        self.folder = folder
        self.log = folder.with_suffix(".log")
        self._backend = backend
        self._go2rtc = go2rtc
        self._process: asyncio.subprocess.Process | None = None
        socket = str(folder / "media.sock")
        self.http = httpx2.AsyncClient(
            transport=httpx2.AsyncHTTPTransport(uds=socket), base_url="http://media", timeout=30
        )

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        program = (
            "import logging, sys; from pathlib import Path; from haechi.media.main import run;"
            "logging.basicConfig(level=logging.INFO);"
            "sys.exit(run(Path(sys.argv[1]), backend=sys.argv[2]))"
        )
        with self.log.open("ab") as out:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", program, str(self.folder), self._backend,
                env={**os.environ, "HAECHI_GO2RTC": str(self._go2rtc)},
                stdout=out, stderr=out,
            )  # fmt: skip
        async with asyncio.timeout(LIMIT_S):
            while not await self._answers():
                assert self._process.returncode is None, self.log.read_text()
                await asyncio.sleep(0.05)

    async def _answers(self) -> bool:
        try:
            return (await self.http.get("/v1/state")).status_code == 200
        except httpx2.TransportError:
            return False

    async def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        await self._process.wait()

    async def stop(self) -> int:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.terminate()
            await asyncio.wait_for(self._process.wait(), LIMIT_S)
        return self._process.returncode or 0

    async def put(self, desired: MediaDesired) -> MediaState:
        answer = await self.http.put("/v1/desired", content=msgspec.json.encode(desired))
        assert answer.status_code == 200, answer.text
        return msgspec.json.decode(answer.content, type=MediaState)

    async def state(self) -> MediaState:
        answer = await self.http.get("/v1/state")
        return msgspec.json.decode(answer.content, type=MediaState)

    async def until(self, fits: Callable[[MediaState], bool]) -> MediaState:
        """Long-poll the state, as the agent does, until it fits."""
        version = 0
        state = None
        try:
            async with asyncio.timeout(LIMIT_S):
                while True:
                    answer = await self.http.get(f"/v1/state?wait=2&version={version}")
                    state = msgspec.json.decode(answer.content, type=MediaState)
                    if fits(state):
                        return state
                    version = state.version
        except TimeoutError:
            pytest.fail(f"never so: {state}\n{self.log.read_text()[-3000:]}")

    async def until_stream(self, camera_id: str, stream: str, **wanted: object) -> StreamState:
        def find(state: MediaState) -> StreamState:
            return next(s for s in state.streams if (s.camera_id, s.stream) == (camera_id, stream))

        state = await self.until(
            lambda s: all(getattr(find(s), name) == value for name, value in wanted.items())
        )
        return find(state)


@pytest.fixture
async def start_media(
    tmp_path: Path, backend: str, go2rtc: Path
) -> AsyncIterator[Callable[..., Awaitable[MediaProcess]]]:
    started: list[MediaProcess] = []

    async def start(name: str = "media", backend: str = backend) -> MediaProcess:
        media = MediaProcess(tmp_path / name, backend, go2rtc)
        started.append(media)
        await media.start()
        return media

    yield start
    for media in started:
        await media.http.aclose()
        await media.stop()


@pytest.fixture
async def media(start_media) -> MediaProcess:
    return await start_media()


class Viewer:
    """A client as the SDK is one: `av.open(url)` in a process of its own, counting key pictures."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def sees_pictures(self) -> bool:
        """True with the next decoded picture; False when the stream has ended."""
        assert self._process.stdout is not None
        return await asyncio.wait_for(self._process.stdout.readline(), LIMIT_S) == b"picture\n"

    async def is_cut(self) -> None:
        """Until the stream ends for this viewer."""
        while await self.sees_pictures():
            pass

    async def close(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


_VIEW = """
import sys, av
try:
    with av.open(sys.argv[1], timeout=(60, 60)) as source:
        for picture in source.decode(video=0):
            print("picture", flush=True)
except av.error.FFmpegError as e:
    print(type(e).__name__, flush=True)
"""


@asynccontextmanager
async def viewer(url: str) -> AsyncIterator[Viewer]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _VIEW, url, stdout=asyncio.subprocess.PIPE
    )
    watching = Viewer(process)
    try:
        yield watching
    finally:
        await watching.close()
