"""Bounds of connections on a real server: slow heads, many of them, and callers who are known."""

import asyncio
import socket

import pytest

from haechi.testing.server import running_server
from haechi.testing.waiting import eventually
from haechi.web.server import Listener, Servers

LIMIT = 8
HOST = "127.0.0.1"


@pytest.fixture
async def server(tmp_path, request):
    flags = {
        "server.head_s": getattr(request, "param", 600),
        "server.anonymous_connections": LIMIT,
        "server.language": "en",
    }
    async with running_server(tmp_path, flags) as running:
        yield running


@pytest.fixture
async def connect(server):
    writers = []
    port = int(server.url.rpartition(":")[2])

    async def connect(source="127.0.0.7"):
        reader, writer = await asyncio.open_connection(HOST, port, local_addr=(source, 0))
        writers.append(writer)
        return reader, writer

    yield connect
    for writer in writers:
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)


async def answer(reader):
    async with asyncio.timeout(60):
        return await reader.read()


@pytest.mark.parametrize("server", [1.5], indirect=True)
async def test_a_slow_head_is_answered_and_hung_up_on(connect):
    reader, writer = await connect()
    writer.write(b"GET /health HTTP/1.1\r\nHost: h\r\nX-Slow: ")
    said = await answer(reader)
    assert said.startswith(b"HTTP/1.1 408 ")
    assert b"web.too_slow" in said


async def test_nobody_keeps_the_others_out(server, connect):
    for _ in range(LIMIT):
        _, writer = await connect()
        writer.write(b"GET /health HTTP/1.1\r\n")

    async def refused():
        reader, _writer = await connect()
        said = await answer(reader)
        return b"web.too_many_connections" in said

    assert await eventually(refused)
    reader, writer = await connect("127.0.0.8")
    writer.write(b"GET /health HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    assert b" 200 " in (await answer(reader)).split(b"\r\n")[0]
    assert (await server.client.get("/me")).status_code == 200


async def test_who_has_signed_in_is_not_counted(server, connect):
    """Streams and downloads of one reverse proxy may be many."""
    secret = server.client.cookies["haechi_session"]
    for _ in range(3 * LIMIT):
        reader, writer = await connect()
        writer.write(b"GET /api/v1/me HTTP/1.1\r\nHost: h\r\n")
        writer.write(f"Authorization: Bearer {secret}\r\n\r\n".encode())
        async with asyncio.timeout(60):
            assert b" 200 " in await reader.readline()


async def test_who_takes_nothing_any_more_does_not_outlive_the_server():
    """As where his radio link is gone: closing would wait for him to take what was sent before."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})

    servers = Servers([Listener(app, f"{HOST}:0")], stopping=lambda: None)
    running = asyncio.get_running_loop().create_task(servers.run())
    await eventually(lambda: servers.started)
    (server,) = servers._servers
    with socket.create_connection(servers.addresses[0]) as caller:
        caller.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        await eventually(lambda: server.server_state.tasks)
        servers.stop()
        await running
        await eventually(lambda: not server.server_state.connections)
    servers.close()
