"""Relay by a go2rtc child: started, watched, started anew when it dies, ended with this process.

Its config file holds no source: cameras are told to it over a unix socket in a private folder, so
that no password is on its command line or in its file. Its RTSP listens on loopback under names
that nobody can guess; only the gate and the watches open them. Of its modules only the RTSP client
and server, HTTP sources (a neighbour without go2rtc) and that API are loaded: no web page, WebRTC,
HLS or commands.
"""

import asyncio
import contextlib
import ctypes
import json
import logging
import os
import shutil
import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from haechi.core.tasks import Tasks
from haechi.media.desired import write_private
from haechi.media.faults import NO_FAULT, Fault, fault_of, masked

log = logging.getLogger(__name__)

BINARY_VARIABLE: Final = "HAECHI_GO2RTC"
_MODULES: Final = ["api", "http", "rtsp"]
_PATHS: Final = ["/api", "/api/streams"]
_SOCKET: Final = "go2rtc.sock"
_START_LIMIT_S: Final = 10.0
_CALL_LIMIT_S: Final = 5.0
_TRY_LIMIT_S: Final = 12.0
_STOP_LIMIT_S: Final = 3.0
_PR_SET_PDEATHSIG: Final = 1
SOURCE_OPTIONS: Final = "#media=video#backchannel=0#timeout=6"


class RelayFailed(Exception):
    """go2rtc does not start or does not answer."""


def find_binary() -> Path | None:
    """The binary named by the environment, shipped beside the program, or on the search path."""
    named = os.environ.get(BINARY_VARIABLE) or shutil.which("go2rtc")
    return Path(named) if named and Path(named).is_file() else None


class Go2rtc:
    backend = "go2rtc"
    scheme = "rtsp"

    def __init__(self, binary: Path, folder: Path) -> None:
        self._binary = binary
        self._folder = folder
        self._tasks = Tasks("go2rtc")
        self._process: asyncio.subprocess.Process | None = None
        self._port = 0
        self._sources: dict[str, str] = {}
        self._told: dict[str, str] = {}
        self._lock = asyncio.Lock()
        self._up = asyncio.Event()

    @property
    def running(self) -> bool:
        return self._up.is_set()

    @property
    def inner_port(self) -> int:
        return self._port

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Until it answers; from then on it is kept running."""
        self._tasks.forever("child", self._live, retry_s=0.5, max_retry_s=10.0)
        try:
            await asyncio.wait_for(self._up.wait(), _START_LIMIT_S)
        except TimeoutError as e:
            await self.stop()
            raise RelayFailed("go2rtc did not answer in time") from e

    async def stop(self) -> None:
        await self._tasks.close()

    async def put_sources(self, sources: Mapping[str, str]) -> None:
        self._sources = dict(sources)
        if not self.running:
            return  # told when it is up
        try:
            await self._tell()
        except (OSError, TimeoutError, ValueError, RelayFailed) as e:
            log.warning("go2rtc does not take its sources (%s) and is started anew", e)
            if self._process is not None and self._process.returncode is None:
                self._process.kill()

    async def why(self, name: str) -> Fault:
        try:
            async with asyncio.timeout(_TRY_LIMIT_S):
                status, text = await self._call("GET", src=name, video="h264,h265")
        except (OSError, TimeoutError, ValueError):
            return Fault("unreachable", "the video relay does not answer")
        return NO_FAULT if status == 200 else fault_of(text.removeprefix("streams: "))

    async def _live(self) -> None:
        """One life of the child."""
        self._port = _free_port()
        write_private(self._folder / "go2rtc.json", self._config())
        process = await asyncio.create_subprocess_exec(
            self._binary,
            "-c",
            "go2rtc.json",
            cwd=self._folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            preexec_fn=_die_with_parent,
        )
        self._process = process
        reader = self._tasks.spawn("log", self._follow(process))
        try:
            await self._wait_until_up(process)
            self._told = {}
            await self._tell()
            self._up.set()
            await process.wait()
            log.warning("go2rtc ended with code %s", process.returncode)
        finally:
            self._up.clear()
            self._process = None
            await _end(process)
            reader.cancel()

    def _config(self) -> bytes:
        config = {
            "app": {"modules": _MODULES},
            "api": {"listen": "", "unix_listen": _SOCKET, "allow_paths": _PATHS},
            "rtsp": {"listen": f"127.0.0.1:{self._port}", "default_query": "video"},
            "log": {"format": "json", "level": "error"},
        }
        return json.dumps(config).encode()

    async def _wait_until_up(self, process: asyncio.subprocess.Process) -> None:
        async with asyncio.timeout(_START_LIMIT_S):
            while process.returncode is None:
                with contextlib.suppress(OSError, ValueError):
                    await self._call("GET")
                    _, writer = await asyncio.open_connection("127.0.0.1", self._port)
                    writer.close()
                    return
                await asyncio.sleep(0.02)
        raise RelayFailed(f"go2rtc ended with code {process.returncode} while starting")

    async def _tell(self) -> None:
        async with self._lock:
            for name in self._told.keys() - self._sources.keys():
                await self._checked("DELETE", src=name)
                del self._told[name]
            for name, url in list(self._sources.items()):
                if self._told.get(name) != url:
                    await self._checked("PATCH", name=name, src=_go2rtc_source(url))
                    self._told[name] = url

    async def _checked(self, method: str, **query: str) -> None:
        status, text = await asyncio.wait_for(self._call(method, **query), _CALL_LIMIT_S)
        if status not in {200, 404}:
            raise RelayFailed(f"go2rtc answered {status} to {method}: {masked(text)[:200]}")

    async def _call(self, method: str, **query: str) -> tuple[int, str]:
        target = "/api/streams" + (f"?{urlencode(query)}" if query else "")
        # A socket's path may have 107 characters only; by its folder's descriptor it is short.
        folder = os.open(self._folder, os.O_PATH | os.O_DIRECTORY)
        try:
            reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{folder}/{_SOCKET}")
        finally:
            os.close(folder)
        try:
            head = f"{method} {target} HTTP/1.1\r\nHost: media\r\nConnection: close\r\n\r\n"
            writer.write(head.encode())
            raw = await reader.read(1_000_000)
            while more := await reader.read(1_000_000):
                raw += more
        finally:
            writer.close()
        top, _, body = raw.partition(b"\r\n\r\n")
        return int(top.split(b" ", 2)[1]), body.decode(errors="replace").strip()

    async def _follow(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            log.info("go2rtc: %s", masked(line.decode(errors="replace").rstrip()))


def _go2rtc_source(url: str) -> str:
    return url + SOURCE_OPTIONS if url.startswith("rtsp") else url


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _die_with_parent() -> None:
    """In the child: be killed when this process dies, however it dies."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _STOP_LIMIT_S)
    except TimeoutError:
        process.kill()
        await process.wait()
