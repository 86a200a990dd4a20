"""Starts and supervises `haechi media`, and tells it what to do over its unix socket.

Camera addresses hold passwords: they pass through here to media and are never kept by the agent.
Media remembers them in its own folder, so after a reboot without the server this module only
asks what media serves and hands out the same path tokens as before. Tokens are per deployment,
camera and stream: taking an assignment away cuts that AI off and nobody else.
"""

import asyncio
import contextlib
import logging
import secrets
import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import Final
from urllib.parse import quote

import msgspec

from haechi.adapters import docker_wire
from haechi.agent.deployments import Deployment
from haechi.agent.home import Home, read_json, write_json
from haechi.core.tasks import Tasks
from haechi.errors import AppError
from haechi.protocol.assignments import Assignment, Stream
from haechi.protocol.commands import Still, TakeStill
from haechi.protocol.desired import DesiredState, MediaStatus
from haechi.protocol.media import (
    CAPTURED_HEADER,
    SOCKET_NAME,
    MediaCamera,
    MediaDesired,
    MediaPath,
    MediaState,
    camera_statuses,
    path_url,
)
from haechi.protocol.problems import CameraFailed, MediaAway

log = logging.getLogger(__name__)

CALL_S: Final = 10.0
STILL_S: Final = 15.0
POLL_S: Final = 20.0
STOP_S: Final = 5.0
URL_WAIT_S: Final = 15.0
RESTART_S: Final = (0.5, 30.0)
# The child ends with its parent, also when that is killed: a second media on the same folder
# would pull every camera twice.
_CHILD: Final = (
    "import ctypes, logging, os, signal, sys; from pathlib import Path; "
    "logging.basicConfig(level='INFO', format='%(asctime)s %(levelname)s %(name)s: %(message)s'); "
    "ctypes.CDLL(None).prctl(1, signal.SIGTERM); "
    "os.getppid() == int(sys.argv[2]) or sys.exit(0); "
    "from haechi.media.main import run; run(Path(sys.argv[1]), '')"
)


class MediaKeeper:
    def __init__(
        self, home: Home, *, enabled: bool, on_change: Callable[[], Awaitable[None]]
    ) -> None:
        self._home = home
        self._enabled = enabled
        self._on_change = on_change
        self._socket = str(home.media / SOCKET_NAME)
        self._tokens: dict[str, str] = read_json(home.paths_file, dict[str, str]) or {}
        self._cameras: list[MediaCamera] | None = None
        """None until the server has said it in this run: media knows better than we do then."""
        self._exports: list[MediaPath] = []
        self._used: dict[str, MediaPath] = {}
        self._told: MediaDesired | None = None
        self._urls: dict[str, str] = {}
        self._wanted = asyncio.Event()
        self._tell = asyncio.Event()
        self._changed = asyncio.Condition()
        self._tasks = Tasks("media")
        self._child: asyncio.subprocess.Process | None = None
        self.gateway = ""
        self.local_port = 0
        """Where AIs watch; it stays while media is started again. 0 before it was there."""
        self.state = MediaState()
        if any(home.media.glob("desired.json")):
            self._wanted.set()

    # -- what has to be served ----------------------------------------------------------------

    def take(self, desired: DesiredState, deployments: Iterable[Deployment], *, live: bool) -> None:
        """Work out cameras and paths; `live`: from the server just now, with camera addresses."""
        if live:
            self._cameras = _cameras(desired)
            self._exports = [
                MediaPath(one.path, one.camera_id, one.stream, "export") for one in desired.exports
            ]
        self._used = {}
        known = len(self._tokens)
        for one in desired.assignments:
            self._path(one.deployment_id, one.camera_id, one.stream)
        for deployment in deployments:
            for one in deployment.kept.assignments:
                self._path(one.deployment_id, one.camera_id, one.stream)
            camera_id = deployment.kept.spec.camera_id
            if camera_id:
                self._path(deployment.id, camera_id, self._stream_of(deployment))
        if live:
            self._tokens = {key: path.token for key, path in self._used.items()}
            used = set(self._tokens.values())
            self._urls = {token: url for token, url in self._urls.items() if token in used}
        if len(self._tokens) != known or live:
            write_json(self._home.paths_file, self._tokens)
        if self._cameras or self._used or self._exports:
            self._wanted.set()
        self._tell.set()

    def _path(self, deployment_id: str, camera_id: str, stream: Stream) -> MediaPath:
        key = f"{deployment_id}/{camera_id}/{stream}"
        token = self._tokens.setdefault(key, secrets.token_hex(16))
        path = MediaPath(token, camera_id, stream, "local")
        self._used[key] = path
        return path

    @staticmethod
    def _stream_of(deployment: Deployment) -> Stream:
        """For a container that knows no assignments; one that was told says which stream."""
        for one in deployment.kept.assignments:
            if one.camera_id == deployment.kept.spec.camera_id:
                return one.stream
        return "main"

    def url_of(self, assignment: Assignment) -> str:
        """Where the AI opens the camera of an assignment; "" until media can serve it."""
        key = f"{assignment.deployment_id}/{assignment.camera_id}/{assignment.stream}"
        path = self._used.get(key)
        if path is None or not self.gateway:
            return ""
        url = path_url(self.state, path, self.gateway) if self._is_told(path) else ""
        if url:
            self._urls[path.token] = url
        # While media is being restarted an AI keeps its camera: it will be at the same address.
        return url or self._urls.get(path.token, "")

    async def camera_url(self, deployment: Deployment) -> str:
        """As HAECHI_CAMERA_URL; waits a while for media. Raises MediaAway."""
        camera_id = deployment.kept.spec.camera_id
        if not camera_id:
            return ""
        path = self._path(deployment.id, camera_id, self._stream_of(deployment))
        self._tell.set()
        self._wanted.set()
        try:
            async with asyncio.timeout(URL_WAIT_S), self._changed:
                _ = await self._changed.wait_for(lambda: self._ready(path))
        except TimeoutError as error:
            raise MediaAway(detail="no stream address yet") from error
        return path_url(self.state, path, self.gateway)

    def _ready(self, path: MediaPath) -> bool:
        told = self._is_told(path)
        return bool(told and self.gateway and path_url(self.state, path, self.gateway))

    def _is_told(self, path: MediaPath) -> bool:
        """Whether media knows the path: told in this run, or before and remembered by it."""
        if self._told is None:
            return self._cameras is None
        return path in self._told.paths

    def status(self) -> MediaStatus:
        return MediaStatus(
            running=self.state.running,
            backend=self.state.backend,
            rtsp_port=self.state.export_port,
            streams=camera_statuses(self.state),
        )

    @property
    def heard(self) -> bool:
        """Whether the server has said in this run which cameras there are."""
        return self._cameras is not None

    # -- the process --------------------------------------------------------------------------

    async def keep(self) -> None:
        """For ever: once there is something to serve, media runs and knows it."""
        _ = await self._wanted.wait()
        pause_s = RESTART_S[0]
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await self._run_once()
            finally:
                await self._stop_child()
            await self._set_state(MediaState())
            self._told = None
            pause_s = RESTART_S[0] if loop.time() - began > 60 else pause_s
            log.error("the media process ended; it is started again in %.1f s", pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, RESTART_S[1])

    async def _run_once(self) -> None:
        import os

        self._child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            _CHILD,
            str(self._home.media),
            str(os.getpid()),
            stdin=asyncio.subprocess.DEVNULL,
        )
        talk = self._tasks.spawn("talk", self._talk())
        watch = self._tasks.spawn("watch", self._watch())
        try:
            _ = await self._child.wait()
        finally:
            for task in (talk, watch):
                task.cancel()

    async def close(self) -> None:
        await self._tasks.close()
        await self._stop_child()

    async def _stop_child(self) -> None:
        child, self._child = self._child, None
        if child is None or child.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        try:
            async with asyncio.timeout(STOP_S):
                _ = await child.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            _ = await child.wait()

    async def _talk(self) -> None:
        """Tell media what it has to do whenever that changed."""
        self._tell.set()
        while True:
            _ = await self._tell.wait()
            self._tell.clear()
            if self._cameras is None:
                continue
            wanted = MediaDesired(
                cameras=self._cameras,
                paths=[*self._used.values(), *self._exports],
                local_hosts=["127.0.0.1", *([self.gateway] if self.gateway else [])],
                export_hosts=["0.0.0.0"] if self._exports else [],  # noqa: S104 - the site's net
            )
            if wanted == self._told:
                continue
            try:
                status, _headers, body = await self._call(
                    "PUT", "/v1/desired", msgspec.json.encode(wanted)
                )
            except AppError:
                await asyncio.sleep(0.3)
                self._tell.set()
                continue
            if status >= 400:
                log.error("media refused its desired state: %s", _error_of(body))
                continue
            self._told = wanted
            await self._told_or_changed()

    async def _watch(self) -> None:
        """Follow media's state by long polls."""
        while True:
            path = "/v1/state"
            if self.state.running:
                path += f"?wait={POLL_S:.0f}&version={self.state.version}"
            try:
                status, _headers, body = await self._call("GET", path, timeout_s=POLL_S + CALL_S)
            except AppError:
                await asyncio.sleep(0.3)
                continue
            if status == 200:
                await self._set_state(msgspec.json.decode(body, type=MediaState))
            if status != 200 or not self.state.running:
                await asyncio.sleep(0.3)

    async def _set_state(self, state: MediaState) -> None:
        if state != self.state:
            self.state = state
            self.local_port = state.local_port or self.local_port
            await self._told_or_changed()

    async def _told_or_changed(self) -> None:
        async with self._changed:
            self._changed.notify_all()
        await self._on_change()

    def set_gateway(self, gateway: str) -> None:
        self.gateway = gateway
        self._urls.clear()
        self._tell.set()

    # -- asking -------------------------------------------------------------------------------

    async def still(self, asked: TakeStill) -> Still:
        path = f"/v1/stills/{quote(asked.camera_id, safe='')}?max_age_ms={asked.max_age_ms}"
        if asked.width:
            path += f"&width={asked.width}"
        status, headers, body = await self._call("GET", path, timeout_s=STILL_S)
        if status != 200:
            code, detail = _error_of(body)
            raise CameraFailed(camera_id=asked.camera_id, error=code, detail=detail)
        captured = headers.get(CAPTURED_HEADER.lower(), "0")
        width, _, height = headers.get("x-size", "0x0").partition("x")
        return Still(
            jpeg=body, captured_ms=int(captured), width=int(width or 0), height=int(height or 0)
        )

    async def _call(
        self, method: str, path: str, body: bytes | None = None, *, timeout_s: float = CALL_S
    ) -> tuple[int, dict[str, str], bytes]:
        if not self._enabled:
            raise MediaAway(detail="media is switched off on this device")
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            async with (
                asyncio.timeout(timeout_s),
                docker_wire.request(
                    self._socket, method, path, headers=headers, body=body, head_timeout_s=None
                ) as response,
            ):
                data = await response.read()
                found = {name.lower(): value for name, value in response.headers.items()}
                return response.status, found, data
        except TimeoutError as error:
            raise MediaAway(detail=f"no answer within {timeout_s:.0f} s") from error
        except AppError as error:
            raise MediaAway(detail=str(error.data.get("reason") or error)) from error


def _cameras(desired: DesiredState) -> list[MediaCamera]:
    found = [
        MediaCamera(one.camera_id, one.main_url, one.sub_url, home=True) for one in desired.cameras
    ]
    at_home = {one.camera_id for one in found}
    relayed: dict[str, MediaCamera] = {}
    for relay in desired.relays:
        if relay.camera_id in at_home:
            continue
        camera = relayed.setdefault(relay.camera_id, MediaCamera(relay.camera_id, home=False))
        if relay.stream == "main":
            camera.main_url = relay.url
        else:
            camera.sub_url = relay.url
    return found + list(relayed.values())


def _error_of(body: bytes) -> tuple[str, str]:
    try:
        told = msgspec.json.decode(body, type=dict[str, str])
    except msgspec.MsgspecError:
        return "no_video", "unreadable answer"
    return told.get("error", "no_video"), told.get("detail", "")
