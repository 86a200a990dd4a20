"""What browsers and scripts follow live: one WebSocket per tab, and the same topics as SSE.

CONTRACTS 1. A message is encoded once, however many follow it. Topics are names of what every
viewer may see; a subscription to anything else is refused.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Header, Query, Request, WebSocket
from fastapi.responses import StreamingResponse
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocketDisconnect

from haechi.core.access import Role, requires
from haechi.core.bus import Bus, Message, Subscription
from haechi.core.clock import from_ms, to_text
from haechi.core.tasks import Tasks
from haechi.errors import BadRequest

TOPICS: Final = ("results:", "samples:", "operations", "events", "states", "log:", "audit")
MAX_TOPICS: Final = 200
_PING_S: Final = 15.0
RECHECK_S = 10.0
"""How long a stream may outlive the right to it."""

MayFollow = Callable[[HTTPConnection], Awaitable[bool]]
"""Whether who opened this connection might still open it now."""


class _Ask(msgspec.Struct):
    subscribe: list[str] = []
    unsubscribe: list[str] = []
    cursor: int | None = None


def encode(message: Message) -> bytes:
    if message.encoded is None:
        message.encoded = msgspec.json.encode(
            {
                "topic": message.topic,
                "cursor": message.cursor,
                "at": to_text(from_ms(message.at_ms)),
                "data": message.data,
            }
        )
    return message.encoded


def _check(topics: list[str]) -> set[str]:
    for topic in topics:
        if len(topic) > 128 or not topic.startswith(TOPICS):
            raise BadRequest(reason=f"topic {topic[:64]!r}")
    return _bounded(set(topics))


def _bounded(topics: set[str]) -> set[str]:
    if len(topics) > MAX_TOPICS:
        raise BadRequest(reason=f"more than {MAX_TOPICS} topics")
    return topics


def router(
    bus: Bus, problem: Callable[[Any, BadRequest], dict[str, Any]], may_follow: MayFollow
) -> APIRouter:
    """`problem(connection, error)` renders an error in the language of the connection."""
    api = APIRouter(tags=["stream"])

    @api.websocket("/stream")
    @requires(Role.VIEWER)
    async def follow(socket: WebSocket) -> None:
        await socket.accept()
        tasks = Tasks("stream")
        try:
            with bus.subscribe(set(), limit=2000) as subscription:
                _ = tasks.spawn("send", _send(socket, subscription))
                _ = tasks.spawn("watch", _watch(socket, subscription, may_follow))
                await _listen(bus, socket, subscription, problem)
        finally:
            await tasks.close()

    @api.get("/stream", response_class=StreamingResponse)
    @requires(Role.VIEWER)
    async def follow_events(
        request: Request,
        topics: Annotated[str, Query(max_length=4000)],
        last_event_id: Annotated[str | None, Header(max_length=32)] = None,
    ) -> StreamingResponse:
        """Server-sent events; `id` is the cursor, `Last-Event-ID` resumes."""
        wanted = _check([topic for topic in topics.split(",") if topic])
        cursor = int(last_event_id) if last_event_id and last_event_id.isdecimal() else None
        return StreamingResponse(
            _events(bus, wanted, cursor, request, may_follow),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    return api


async def _listen(
    bus: Bus,
    socket: WebSocket,
    subscription: Subscription,
    problem: Callable[[Any, BadRequest], dict[str, Any]],
) -> None:
    while True:
        try:
            text = await socket.receive_text()
        except (WebSocketDisconnect, RuntimeError, KeyError):
            return
        try:
            ask = msgspec.json.decode(text, type=_Ask)
            wanted = _check(ask.subscribe)
            subscription.remove(set(ask.unsubscribe))
            _bounded(subscription.topics | wanted)
        except (msgspec.DecodeError, UnicodeError, RecursionError, BadRequest) as error:
            bad = error if isinstance(error, BadRequest) else BadRequest(reason="message")
            await socket.send_text(msgspec.json.encode({"error": problem(socket, bad)}).decode())
            continue
        if wanted:
            at = bus.cursor
            if ask.cursor is not None:
                bus.replay(subscription, wanted, ask.cursor)
            subscription.add(wanted)
            reply = {"subscribed": sorted(wanted), "cursor": at}
            await socket.send_text(msgspec.json.encode(reply).decode())


async def _send(socket: WebSocket, subscription: Subscription) -> None:
    try:
        async for message in subscription:
            lost = subscription.take_lost()
            if lost:
                await socket.send_text(f'{{"lagged":{lost}}}')
            await socket.send_text(encode(message).decode())
        await socket.close(1008 if subscription.refused else 1012)
    except (WebSocketDisconnect, RuntimeError):
        return  # the reader has gone; `_listen` ends the connection


async def _watch(
    connection: HTTPConnection, subscription: Subscription, may_follow: MayFollow
) -> None:
    """A stream ends with the right to it: signed out, disabled, demoted, token revoked."""
    while True:
        await asyncio.sleep(RECHECK_S)
        if not await may_follow(connection):
            break
    subscription.refused = True
    subscription.close()


async def _events(
    bus: Bus,
    topics: set[str],
    cursor: int | None,
    request: Request,
    may_follow: MayFollow,
) -> AsyncIterator[bytes]:
    tasks = Tasks("stream")
    try:
        with bus.subscribe(topics, after_cursor=cursor, limit=2000) as subscription:
            _ = tasks.spawn("watch", _watch(request, subscription, may_follow))
            yield b": welcome\n\n"
            while True:
                try:
                    async with asyncio.timeout(_PING_S):
                        message = await subscription.get()
                except TimeoutError:
                    yield b": still here\n\n"
                    continue
                if message is None:
                    return
                lost = subscription.take_lost()
                if lost:
                    yield b'event: lagged\ndata: {"lagged":%d}\n\n' % lost
                yield b"id: %d\ndata: %s\n\n" % (message.cursor, encode(message))
    finally:
        await tasks.close()
