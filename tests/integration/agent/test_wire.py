"""The agent's end of a WebSocket against a real one over TLS: odd frames, goodbyes, full sockets."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from haechi.agent.wire import WAITING_FRAMES, LinkBroken, SocketWire, dial
from haechi.core.pki import SiteCa
from haechi.core.trust import client_context, server_name
from haechi.protocol.frames import Chunk, Ping, Pong, Refused, decode_from_agent, encode
from haechi.testing.waiting import eventually

from .conftest import SERVER_ID, ScriptedServer

LIMIT_S = 60


class Peer:
    """The server's end; `heard` only grows while `listens`."""

    def __init__(self) -> None:
        self.socket: asyncio.Future[ServerConnection] = asyncio.get_running_loop().create_future()
        self.listens = asyncio.Event()
        self.listens.set()
        self.heard: list[object] = []
        self.port = 0
        self._server: Server | None = None

    async def start(self, ca: SiteCa) -> None:
        context = ca.server_context(ca.server_files("agents", ["127.0.0.1"]), clients="optional")
        self._server = await serve(
            self._serve, "127.0.0.1", 0, ssl=context, ping_interval=None, max_queue=2
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, socket: ServerConnection) -> None:
        self.socket.set_result(socket)
        try:
            while True:
                await self.listens.wait()
                self.heard.append(decode_from_agent(await socket.recv()))
        except ConnectionClosed:
            pass

    async def stop(self) -> None:
        self.listens.set()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()


@pytest.fixture
async def peer(server: ScriptedServer) -> AsyncIterator[Peer]:
    made = Peer()
    await made.start(server.ca)
    async with asyncio.timeout(LIMIT_S):
        yield made
    await made.stop()


@pytest.fixture
async def wire(peer: Peer, server: ScriptedServer) -> AsyncIterator[SocketWire]:
    context = client_context(server.ca.pem, check_dates=True)
    made = await dial("127.0.0.1", peer.port, "/", context, server_name(SERVER_ID))
    yield made
    made.abort()


async def test_frames_come_whole_and_in_order_and_odd_ones_are_nothing(
    peer: Peer, wire: SocketWire
) -> None:
    socket = await peer.socket
    parts = encode(Ping(2))
    await socket.send(encode(Ping(1)))
    await socket.send("a text")
    await socket.send([parts[:2], parts[2:5], parts[5:]])
    await socket.send(b"\xc1 no frame")
    await socket.send(["a text ", "in parts"])
    await socket.send(encode(Ping(3)))
    assert [await wire.receive(LIMIT_S) for _ in range(6)] == [
        Ping(1),
        None,
        Ping(2),
        None,
        None,
        Ping(3),
    ]
    await wire.send(Pong(3, 1, 2))
    await eventually(lambda: peer.heard == [Pong(3, 1, 2)], LIMIT_S)


async def test_what_was_said_before_goodbye_is_still_heard(peer: Peer, wire: SocketWire) -> None:
    socket = await peer.socket
    await socket.send(encode(Refused({"code": "agents.revoked", "data": {}})))
    await socket.close(1008, "go away")
    refused = await wire.receive(LIMIT_S)
    assert isinstance(refused, Refused)
    with pytest.raises(LinkBroken, match="go away"):
        await wire.receive(LIMIT_S)
    with pytest.raises(LinkBroken):
        await wire.send(Pong(1, 1, 1))
    with pytest.raises(LinkBroken):
        await wire.round_trip()


async def test_silence_breaks_the_link(wire: SocketWire) -> None:
    with pytest.raises(LinkBroken) as broken:
        await wire.receive(0.05)
    assert broken.value.away


async def test_a_round_trip_is_measured_and_ends_with_the_wire(
    peer: Peer, wire: SocketWire
) -> None:
    assert await wire.round_trip() > 0
    (await peer.socket).transport.pause_reading()
    asked = asyncio.gather(wire.round_trip(), wire.receive(LIMIT_S), return_exceptions=True)
    await asyncio.sleep(0)
    wire.abort()
    assert [type(one) for one in await asked] == [LinkBroken, LinkBroken]


async def test_what_nobody_takes_is_not_read(peer: Peer, wire: SocketWire) -> None:
    socket = await peer.socket
    count = 1000

    async def send_all() -> None:
        for number in range(count):
            await socket.send(encode(Refused({"code": str(number), "data": {"x": "y" * 32_768}})))

    sending = asyncio.get_running_loop().create_task(send_all())
    await eventually(lambda: socket.transport.get_write_buffer_size() > 0, LIMIT_S)
    heard = [await wire.receive(LIMIT_S) for _ in range(count)]
    assert [one.error["code"] for one in heard if isinstance(one, Refused)] == [
        str(number) for number in range(count)
    ]
    assert count > 10 * WAITING_FRAMES
    await sending


async def test_senders_wait_for_a_full_socket(peer: Peer, wire: SocketWire) -> None:
    peer.listens.clear()
    sent = 0

    async def send_all() -> None:
        nonlocal sent
        for number in range(1000):
            await wire.send(Chunk(str(number), b"x" * 32_768))
            sent += 1

    sending = asyncio.get_running_loop().create_task(send_all())
    await eventually(lambda: wire.full, LIMIT_S)
    assert sent < 1000
    peer.listens.set()
    await sending
    await eventually(lambda: len(peer.heard) >= 1000, LIMIT_S)


async def test_who_waits_for_a_full_socket_hears_of_its_end(peer: Peer, wire: SocketWire) -> None:
    peer.listens.clear()

    async def send_on() -> None:
        while True:
            await wire.send(Chunk("c", b"x" * 32_768))

    sending = asyncio.get_running_loop().create_task(send_on())
    await eventually(lambda: wire.full, LIMIT_S)
    wire.abort()
    with pytest.raises(LinkBroken):
        await sending


async def test_no_websocket_is_no_link(server: ScriptedServer) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    files = server.ca.server_files("agents", ["127.0.0.1"])
    context = server.ca.server_context(files, clients="optional")
    plain = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    port = plain.sockets[0].getsockname()[1]
    with pytest.raises(LinkBroken, match="404") as broken:
        await dial(
            "127.0.0.1",
            port,
            "/",
            client_context(server.ca.pem, check_dates=True),
            server_name(SERVER_ID),
        )
    assert not broken.value.away
    plain.close()
    await plain.wait_closed()
