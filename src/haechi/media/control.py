"""What the agent asks of media: HTTP over a unix socket that only this user can open.

Three calls and a small parser of its own: a web framework would double the process. Shapes are in
`haechi.protocol.media`.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec
from msgspec import Struct

from haechi.core.tasks import Tasks
from haechi.media.desired import Refused
from haechi.media.service import Media, NoStill
from haechi.media.stills import WIDTH_MAX, WIDTH_MIN
from haechi.protocol.media import CAPTURED_HEADER, SOCKET_NAME, MediaDesired

log = logging.getLogger(__name__)

BODY_LIMIT_BYTES: Final = 1_000_000
WAIT_LIMIT_S: Final = 60.0
_READ_LIMIT_S: Final = 10.0
_IDLE_LIMIT_S: Final = 120.0
_STILLS: Final = "/v1/stills/"


class Problem(Struct):
    error: str
    detail: str


class Answer(NamedTuple):
    status: int
    body: bytes
    kind: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


class Call(NamedTuple):
    method: str
    path: str
    query: dict[str, str]
    body: bytes


class BadCall(Exception):
    pass


class Control:
    def __init__(self, media: Media, folder: Path) -> None:
        self._media = media
        self._folder = folder
        self._tasks = Tasks("control")
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        # A socket's path may have 107 characters only; by its folder's descriptor it is short.
        with contextlib.suppress(FileNotFoundError):
            (self._folder / SOCKET_NAME).unlink()
        folder = os.open(self._folder, os.O_PATH | os.O_DIRECTORY)
        before = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(
                self._enter, f"/proc/self/fd/{folder}/{SOCKET_NAME}"
            )
        finally:
            os.umask(before)
            os.close(folder)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        await self._tasks.close()

    def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _ = self._tasks.spawn("call", self._serve(reader, writer))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                try:
                    answer = await self._answer(await _read(reader))
                except BadCall as e:
                    writer.write(_encode(_problem(400, "media.bad_request", str(e))))
                    break
                writer.write(_encode(answer))
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    async def _answer(self, call: Call) -> Answer:
        routes: dict[tuple[str, str], Callable[[Call], Awaitable[Answer]]] = {
            ("GET", "/v1/state"): self._state,
            ("PUT", "/v1/desired"): self._desired,
        }
        route = routes.get((call.method, call.path))
        if route is None and call.method == "GET" and call.path.startswith(_STILLS):
            route = self._still
        if route is None:
            return _problem(404, "media.no_such_call", f"{call.method} {call.path}")
        try:
            return await route(call)
        except Exception:
            log.exception("%s %s failed", call.method, call.path)
            return _problem(500, "media.bug", "see media's log")

    async def _state(self, call: Call) -> Answer:
        wait_s = min(_number(call, "wait", 0), WAIT_LIMIT_S)
        version = _number(call, "version", 0) or None
        state = await self._media.state(unlike=version, wait_s=wait_s)
        return Answer(200, msgspec.json.encode(state))

    async def _desired(self, call: Call) -> Answer:
        try:
            desired = msgspec.json.decode(call.body, type=MediaDesired)
            await self._media.put_desired(desired)
        except (msgspec.ValidationError, msgspec.DecodeError, Refused) as e:
            return _problem(422, "media.bad_desired", str(e))
        return Answer(200, msgspec.json.encode(await self._media.state()))

    async def _still(self, call: Call) -> Answer:
        camera_id = unquote(call.path.removeprefix(_STILLS))
        width = _number(call, "width", 0) or None
        if width is not None and not WIDTH_MIN <= width <= WIDTH_MAX:
            return _problem(422, "media.bad_width", f"a width is {WIDTH_MIN} to {WIDTH_MAX}")
        try:
            picture = await self._media.still(camera_id, width, _number(call, "max_age_ms", 1000))
        except NoStill as e:
            return _problem(503, e.fault.error, e.fault.detail)
        headers = (
            (CAPTURED_HEADER, str(picture.captured_ms)),
            ("X-Size", f"{picture.width}x{picture.height}"),
        )
        return Answer(200, picture.jpeg, "image/jpeg", headers)


async def _read(reader: asyncio.StreamReader) -> Call:
    async with asyncio.timeout(_IDLE_LIMIT_S):
        raw = await reader.readuntil(b"\r\n\r\n")
    top, *lines = raw.decode("latin-1").split("\r\n")
    words = top.split(" ")
    if len(words) != 3:
        raise BadCall("this is not HTTP")
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines)
    }
    length = headers.get("content-length", "0")
    if not length.isdigit() or int(length) > BODY_LIMIT_BYTES:
        raise BadCall("the body's length is missing or too large")
    async with asyncio.timeout(_READ_LIMIT_S):
        body = await reader.readexactly(int(length))
    target = urlsplit(words[1])
    query = {name: values[-1] for name, values in parse_qs(target.query).items()}
    return Call(words[0], target.path, query, body)


def _number(call: Call, name: str, default: int) -> int:
    value = call.query.get(name, "")
    return int(value) if value.isascii() and value.isdigit() else default


def _problem(status: int, error: str, detail: str) -> Answer:
    return Answer(status, msgspec.json.encode(Problem(error, detail)))


def _encode(answer: Answer) -> bytes:
    lines = [
        f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}",
        f"Content-Type: {answer.kind}",
        f"Content-Length: {len(answer.body)}",
        *(f"{name}: {value}" for name, value in answer.headers),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + answer.body
