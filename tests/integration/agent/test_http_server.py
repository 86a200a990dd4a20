"""The device's small HTTP server under callers that want too much: real sockets on loopback.

Different loopback addresses stand for different containers.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest

from haechi.agent.errors import TooManyConnections
from haechi.agent.http_server import (
    MAX_BODY_BYTES,
    MAX_CONNECTIONS_PER_PEER,
    HttpServer,
    Request,
    Response,
)
from haechi.agent.intake import problem
from haechi.core.tasks import Tasks
from haechi.testing.waiting import eventually

GREEDY, MODEST = "127.0.0.1", "127.0.0.2"
LIMIT_S = 60


class Site:
    def __init__(self) -> None:
        self.held = 0
        self.answered = 0
        self.go = asyncio.Event()
        self.server = HttpServer(
            self.handle, too_many=problem(TooManyConnections(retry_after_s=1), "en")
        )
        self.port = 0
        self.tasks = Tasks("callers")
        self._writers: list[asyncio.StreamWriter] = []

    async def handle(self, request: Request) -> Response:
        if request.refused is not None:
            return Response(int(request.refused))
        if request.path == "/fail":
            raise ValueError("a fault of the handler")
        if request.path == "/hold":
            self.held += 1
            await self.go.wait()
        self.answered += 1
        return Response(200, b"x" * (512 * 1024) if request.path == "/big" else b"ok")

    async def connect(self, peer: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        streams = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(peer, 0))
        self._writers.append(streams[1])
        return streams

    async def post(self, peer: str, path: str, size: int) -> tuple[int, asyncio.StreamReader]:
        """Send a request; answers the status once the head of the answer is there."""
        reader, writer = await self.connect(peer)
        writer.write(f"POST {path} HTTP/1.1\r\nContent-Length: {size}\r\n\r\n".encode())
        writer.write(b"b" * size)
        head = await reader.readuntil(b"\r\n\r\n")
        return int(head.split()[1]), reader

    async def close(self) -> None:
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*(w.wait_closed() for w in self._writers), return_exceptions=True)
        await self.tasks.close()
        await self.server.close()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    site.port = await site.server.listen("127.0.0.1", 0)
    async with asyncio.timeout(LIMIT_S):
        yield site
    await site.close()


async def test_one_caller_cannot_take_every_connection(site: Site) -> None:
    for _ in range(MAX_CONNECTIONS_PER_PEER):
        await site.connect(GREEDY)
    await eventually(lambda: len(site.server.connections) == MAX_CONNECTIONS_PER_PEER, LIMIT_S)
    reader, _writer = await site.connect(GREEDY)
    refusal = await reader.read()
    assert refusal.startswith(b"HTTP/1.1 503 ")
    assert b"intake.too_many_connections" in refusal
    assert b"Retry-After" in refusal
    status, _ = await site.post(MODEST, "/", 10)
    assert status == 200


async def test_a_connection_given_back_can_be_had_again(site: Site) -> None:
    streams = [await site.connect(GREEDY) for _ in range(MAX_CONNECTIONS_PER_PEER)]
    for _reader, writer in streams:
        writer.close()
    await eventually(lambda: not site.server.connections, LIMIT_S)
    status, _ = await site.post(GREEDY, "/", 10)
    assert status == 200


async def test_a_body_counts_until_it_is_answered(site: Site) -> None:
    holding = site.tasks.spawn("hold", site.post(GREEDY, "/hold", MAX_BODY_BYTES))
    await eventually(lambda: site.held == 1, LIMIT_S)
    assert site.server.held_bytes == MAX_BODY_BYTES
    refused, _ = await site.post(GREEDY, "/", MAX_BODY_BYTES)
    assert refused == 503, "one caller's bodies are limited while they wait for their answer"
    served, _ = await site.post(MODEST, "/", MAX_BODY_BYTES)
    assert served == 200, "what one caller holds is not another's loss"
    site.go.set()
    assert (await holding)[0] == 200
    await eventually(lambda: site.server.held_bytes == 0, LIMIT_S)
    again, _ = await site.post(GREEDY, "/", MAX_BODY_BYTES)
    assert again == 200


async def test_a_kept_connection_is_served_by_one_task_also_after_a_fault(site: Site) -> None:
    reader, writer = await site.connect(GREEDY)
    workers = set()
    for _ in range(3):
        writer.write(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi")
        assert (await reader.readuntil(b"\r\n\r\nok")).startswith(b"HTTP/1.1 200 ")
        workers |= {t for t in asyncio.all_tasks() if t.get_name() == "intake:requests"}
    assert len(workers) == 1
    writer.write(b"GET /fail HTTP/1.1\r\n\r\n")
    await eventually(lambda: all(task.done() for task in workers), LIMIT_S)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\nok")).startswith(b"HTTP/1.1 200 ")


async def test_bodies_of_a_lost_connection_are_given_back(site: Site) -> None:
    _reader, writer = await site.connect(GREEDY)
    writer.write(b"POST /hold HTTP/1.1\r\nContent-Length: 1000\r\n\r\n" + b"b" * 1000)
    writer.write(b"POST / HTTP/1.1\r\nContent-Length: 500\r\n\r\n" + b"b" * 500)
    await eventually(lambda: site.held == 1 and site.server.held_bytes == 1500, LIMIT_S)
    writer.transport.abort()
    await eventually(lambda: site.server.held_bytes == 0 and not site.server.connections, LIMIT_S)


async def test_who_reads_no_answers_gets_no_more(site: Site) -> None:
    """Answers nobody takes are kept for a handful of requests, not for thousands."""
    _reader, writer = await site.connect(GREEDY)
    raw = writer.transport
    for _ in range(500):
        if raw.is_closing():
            break
        writer.write(b"GET /big HTTP/1.1\r\n\r\n")
        await asyncio.sleep(0)
    await eventually(lambda: not site.server.connections, LIMIT_S)
    assert site.answered < 100


async def test_a_head_without_end_is_not_collected(site: Site) -> None:
    reader, writer = await site.connect(GREEDY)
    writer.write(b"GET / HTTP/1.1\r\nX-Endless: ")
    for _ in range(64):
        writer.write(b"x" * 4096)
    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 400 ")
    await eventually(lambda: not site.server.connections, LIMIT_S)
