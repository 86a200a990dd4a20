"""Callers that never come to a point, on a clock that a test moves."""

import asyncio
from types import SimpleNamespace

import pytest
import uvicorn
from uvicorn.server import ServerState

from haechi.web.connections import (
    LEAST_BYTES,
    MAX_HEAD_BYTES,
    UNUSED_S,
    BoundedProtocol,
    Connections,
    Limits,
    source_of,
)

LIMITS = Limits(head_s=30, body_idle_s=120, anonymous=3, language="en")
HEAD = b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 100000000\r\n"


class Loop:
    """The running loop with a clock of its own."""

    def __init__(self):
        self.now_s = 0.0
        self.due = []

    def time(self):
        return self.now_s

    def call_later(self, after_s, action):
        handle = SimpleNamespace(at_s=self.now_s + after_s, action=action, cancelled=False)
        handle.cancel = lambda: setattr(handle, "cancelled", True)
        self.due.append(handle)
        return handle

    def create_task(self, work):
        return asyncio.get_running_loop().create_task(work)

    def advance(self, seconds):
        end_s = self.now_s + seconds
        while True:
            self.due = [one for one in self.due if not one.cancelled]
            following = min(self.due, key=lambda one: one.at_s, default=None)
            if following is None or following.at_s > end_s:
                self.now_s = end_s
                return
            self.due.remove(following)
            self.now_s = following.at_s
            following.action()


class Transport(asyncio.Transport):
    def __init__(self, address):
        super().__init__({"peername": (address, 5000), "sockname": ("127.0.0.1", 80)})
        self.sent = b""
        self.closing = False

    def write(self, data):
        self.sent += data

    def close(self):
        self.closing = True

    def can_write_eof(self):
        return False

    def is_closing(self):
        return self.closing

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass


class Site:
    def __init__(self):
        self.loop = Loop()
        self.bounds = Connections(LIMITS)
        self.bodies = []
        self.hold = asyncio.Event()
        self.config = uvicorn.Config(
            self.app, interface="asgi3", lifespan="off", access_log=False, log_config=None
        )
        self.config.load()
        self.state = ServerState()

    async def app(self, scope, receive, send):
        if scope["path"] == "/hold":
            await self.hold.wait()
        while True:
            message = await receive()
            self.bodies.append(message.get("body", b""))
            if not message.get("more_body"):
                break
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    def call(self, address="10.0.0.9"):
        protocol = BoundedProtocol(
            bounds=self.bounds,
            config=self.config,
            server_state=self.state,
            app_state={},
            _loop=self.loop,
        )
        protocol.connection_made(Transport(address))
        return protocol


@pytest.fixture
async def site():
    made = Site()
    yield made
    made.hold.set()
    for connection in list(made.state.connections):
        connection.connection_lost(None)
    await asyncio.gather(*made.state.tasks, return_exceptions=True)


async def test_a_head_that_trickles_is_given_up(site):
    caller = site.call()
    for byte in HEAD[:29]:
        caller.data_received(bytes([byte]))
        site.loop.advance(1)
    assert not caller.transport.closing
    caller.data_received(HEAD[29:30])
    site.loop.advance(3)
    assert caller.transport.closing
    assert caller.transport.sent.startswith(b"HTTP/1.1 408 ")
    assert b'"web.too_slow"' in caller.transport.sent


async def test_a_connection_nobody_uses_is_closed_without_a_word(site):
    caller = site.call()
    site.loop.advance(UNUSED_S - 2)
    assert not caller.transport.closing
    site.loop.advance(4)
    assert caller.transport.closing
    assert caller.transport.sent == b""


async def test_a_body_that_stands_still_is_given_up(site):
    caller = site.call()
    caller.data_received(HEAD + b"\r\n" + b"x" * 1000)
    await asyncio.sleep(0)
    site.loop.advance(118)
    assert not caller.transport.closing
    site.loop.advance(125)
    assert caller.transport.closing
    assert b"408" in caller.transport.sent


async def test_a_body_that_moves_a_byte_at_a_time_is_given_up(site):
    caller = site.call()
    caller.data_received(HEAD + b"\r\n")
    for _ in range(13):
        site.loop.advance(20)
        if not caller.transport.closing:
            caller.data_received(b"x")
    assert caller.transport.closing


async def test_a_slow_link_with_a_hole_of_a_minute_lives(site):
    caller = site.call()
    caller.data_received(HEAD + b"\r\n")
    for hole_s in (5, 60, 5, 90, 30, 100, 60):
        site.loop.advance(hole_s)
        assert not caller.transport.closing
        caller.data_received(b"x" * LEAST_BYTES)


async def test_waiting_for_the_server_is_no_ones_fault(site):
    caller = site.call()
    caller.data_received(HEAD.replace(b"/x", b"/hold") + b"\r\n" + b"x" * 200_000)
    await asyncio.sleep(0)
    assert caller.flow.read_paused
    site.loop.advance(3600)
    assert not caller.transport.closing


async def test_an_answer_may_take_long(site):
    caller = site.call()
    caller.data_received(b"GET /hold HTTP/1.1\r\nHost: h\r\n\r\n")
    site.loop.advance(3600)
    assert not caller.transport.closing


@pytest.mark.parametrize("piece", [b"X-Endless: " + b"x" * 4096, b"x" * 4096])
async def test_a_head_without_end_is_not_collected(site, piece):
    caller = site.call()
    caller.data_received(b"GET / HTTP/1.1\r\n")
    sent = 0
    while not caller.transport.closing and sent < 10 * MAX_HEAD_BYTES:
        caller.data_received(piece)
        sent += len(piece)
    assert caller.transport.closing
    assert sent <= MAX_HEAD_BYTES + 2 * len(piece)
    assert b'"web.head_too_large"' in caller.transport.sent


async def test_anonymous_connections_of_an_address_are_limited(site):
    callers = [site.call() for _ in range(LIMITS.anonymous)]
    refused = site.call()
    assert refused.transport.closing
    assert b'"web.too_many_connections"' in refused.transport.sent
    assert b"Retry-After" in refused.transport.sent
    assert not site.call("10.0.0.10").transport.closing, "another address is another's"
    callers[0].known()
    callers[0].known()
    assert not site.call().transport.closing, "one is known now"
    callers[1].connection_lost(None)
    assert not site.call().transport.closing
    assert site.call().transport.closing
    for connection in list(site.state.connections):
        connection.connection_lost(None)
    assert site.bounds.anonymous("10.0.0.9") == 0


def test_sources():
    assert source_of("10.0.0.1") == "10.0.0.1"
    assert source_of("2001:db8::1") == source_of("2001:db8::ffff:2")
    assert source_of("2001:db8::1") != source_of("2001:db8:0:1::1")
    assert source_of("::ffff:10.0.0.1") == "::ffff:10.0.0.1"
    assert source_of("") == ""
