"""Calls to a Docker Engine: version negotiation, time limits, refusals, JSON streams.

The part of the client that is the same for every verb; `docker_api` has the verbs.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final
from urllib.parse import urlencode

from haechi.adapters import docker_wire
from haechi.adapters.docker_errors import EngineTimedOut, from_status, short
from haechi.adapters.docker_wire import Body, Response

NEWEST_API: Final = (1, 47)
CALL_TIMEOUT_S: Final = 30.0

Json = dict[str, Any]


class DockerCalls:
    def __init__(self, socket: str, *, timeout_s: float = CALL_TIMEOUT_S) -> None:
        self.socket = socket
        self._timeout_s = timeout_s
        self._prefix: str | None = None

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
        head_timeout_s: float | None = 60.0,
    ) -> AsyncIterator[Response]:
        """A request whose answer is read as it comes; HTTP errors are raised."""
        prefix = self._prefix or await self.negotiate(self._timeout_s)
        target = prefix + path + (f"?{urlencode(query)}" if query else "")
        async with docker_wire.request(
            self.socket,
            method,
            target,
            headers=headers or {},
            body=body,
            head_timeout_s=head_timeout_s,
        ) as response:
            if response.status >= 400:
                raise await _refusal(response, f"{method} {path}")
            yield response

    async def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        payload: Json | None = None,
        timeout_s: float | None = 0,
    ) -> bytes:
        limit_s = self._timeout_s if timeout_s == 0 else timeout_s
        body = None if payload is None else json.dumps(payload).encode()
        headers = {} if payload is None else {"Content-Type": "application/json"}
        try:
            async with (
                asyncio.timeout(limit_s),
                self.stream(
                    method, path, query, body=body, headers=headers, head_timeout_s=None
                ) as response,
            ):
                return await response.read()
        except TimeoutError as error:
            raise EngineTimedOut(what=f"{method} {path}", timeout_s=limit_s) from error

    async def _json(self, *args: Any, **kwargs: Any) -> Any:
        return json.loads(await self._call(*args, **kwargs))

    async def _object(self, *args: Any, **kwargs: Any) -> Json:
        answer: Json = await self._json(*args, **kwargs)
        return answer

    async def _done(self, *args: Any, **kwargs: Any) -> None:
        await self._call(*args, **kwargs)

    async def negotiate(self, timeout_s: float) -> str:
        """Speak the newest version that both sides know."""
        async with docker_wire.request(
            self.socket, "GET", "/_ping", headers={}, head_timeout_s=timeout_s
        ) as response:
            if response.status >= 400:
                raise await _refusal(response, "GET /_ping")
            theirs = response.headers.get("api-version", "1.41")
        major, _, minor = theirs.partition(".")
        version = min((int(major), int(minor)), NEWEST_API)
        self._prefix = f"/v{version[0]}.{version[1]}"
        return self._prefix


async def json_lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[Json]:
    """The JSON objects of a stream: one a line, though an Engine may also join them."""
    decoder = json.JSONDecoder()
    rest = ""
    pending = b""
    async for chunk in chunks:
        pending += chunk
        complete, newline, pending = pending.rpartition(b"\n")
        if not newline:
            continue
        rest += complete.decode("utf-8", "replace")
        while rest := rest.lstrip():
            try:
                value, end = decoder.raw_decode(rest)
            except ValueError:
                break
            rest = rest[end:]
            if isinstance(value, dict):
                yield value
    if tail := (rest + pending.decode("utf-8", "replace")).strip():
        with contextlib.suppress(ValueError):
            value = json.loads(tail)
            if isinstance(value, dict):
                yield value


async def _refusal(response: Response, what: str) -> Exception:
    body = await response.read(limit_bytes=16 * 1024)
    try:
        message = str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        message = short(body.decode("utf-8", "replace"))
    return from_status(response.status, message, what)
