"""A real agent process against a scripted server: real mTLS, real WebSocket, real Docker."""

import asyncio
import contextlib
import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from haechi.adapters.docker_api import DockerApi
from haechi.adapters.iptables import sweep
from haechi.agent.home import Device, Home, write_file, write_json
from haechi.core import ids
from haechi.core.clock import SystemClock, to_ms
from haechi.core.pki import SiteCa, make_key_and_csr
from haechi.core.secrets import Keyring
from haechi.protocol.commands import VERBS, from_wire, to_wire
from haechi.protocol.desired import DesiredState, ObservedState
from haechi.protocol.frames import (
    Ack,
    CancelCommand,
    Chunk,
    Command,
    Desired,
    Done,
    Hello,
    Log,
    Ping,
    Pong,
    Results,
    Samples,
    State,
    Welcome,
    decode_from_agent,
    encode,
)
from haechi.protocol.results import AgentResult

SERVER_ID = "sit-aaaaaaaaaaaaaaaa"
SOCKET = "/var/run/docker.sock"
BASE = "haechi/python:3.11-slim"
SRC = Path(__file__).parents[3] / "src"


class ScriptedServer:
    """What a test needs of a server: it says welcome, pings, acknowledges, and remembers."""

    def __init__(self, ca: SiteCa) -> None:
        self.ca = ca
        self.port = 0
        self.server_id = SERVER_ID
        self.hellos: list[Hello] = []
        self.results: list[tuple[int, AgentResult]] = []
        self.lost = 0
        self.samples: list[Any] = []
        self.backfilled: list[Any] = []
        self.states: list[ObservedState] = []
        self.logs: list[Log] = []
        self.pongs = 0
        self.acks = True
        self.pings = True
        self.desired: DesiredState | None = None
        self.sockets: set[ServerConnection] = set()
        self.chunks: dict[str, list[Any]] = {}
        self._waiting: dict[str, asyncio.Future[Done]] = {}
        self._changed = asyncio.Condition()
        self._server: Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        files = self.ca.server_files("agents", ["127.0.0.1"])
        context = self.ca.server_context(files, clients="optional")
        self._server = await serve(
            self._serve, "127.0.0.1", self.port, ssl=context, ping_interval=None, max_size=2**24
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            for socket in list(self.sockets):
                socket.transport.abort()
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, socket: ServerConnection) -> None:
        tls: ssl.SSLObject = socket.transport.get_extra_info("ssl_object")
        if tls.getpeercert() is None:
            return
        self.sockets.add(socket)
        pinging = asyncio.get_running_loop().create_task(self._ping(socket))
        try:
            async for data in socket:
                await self._take(socket, decode_from_agent(data))
                async with self._changed:
                    self._changed.notify_all()
        except ConnectionClosed:
            pass
        finally:
            pinging.cancel()
            await asyncio.gather(pinging, return_exceptions=True)
            self.sockets.discard(socket)

    async def _ping(self, socket: ServerConnection) -> None:
        number = 0
        with contextlib.suppress(ConnectionClosed):
            while True:
                await asyncio.sleep(1)
                number += 1
                if self.pings:
                    await socket.send(encode(Ping(number)))

    async def _take(self, socket: ServerConnection, frame: Any) -> None:
        match frame:
            case Hello():
                self.hellos.append(frame)
                revision = self.desired.revision if self.desired else 0
                now_ms = to_ms(SystemClock().now())
                await socket.send(encode(Welcome(self.server_id, now_ms, revision)))
                if self.desired is not None and frame.desired_revision != revision:
                    await socket.send(encode(Desired(self.desired)))
            case Results():
                self.lost += frame.lost
                for offset, row in enumerate(frame.rows):
                    self.results.append((frame.from_seq + offset, row))
                if self.acks:
                    through = frame.from_seq + len(frame.rows) - 1
                    await socket.send(encode(Ack(frame.queue_id, through)))
            case Samples():
                (self.backfilled if frame.backfill else self.samples).extend(frame.rows)
            case State():
                self.states.append(frame.state)
            case Log():
                self.logs.append(frame)
            case Pong():
                self.pongs += 1
            case Chunk():
                self.chunks.setdefault(frame.id, []).append(frame.data)
            case Done():
                waiting = self._waiting.pop(frame.id, None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(frame)

    async def until(self, true: Callable[[], Any], *, timeout_s: float = 90) -> Any:
        async with asyncio.timeout(timeout_s), self._changed:
            return await self._changed.wait_for(true)

    async def send(self, frame: Any) -> None:
        socket = next(iter(self.sockets))
        await socket.send(encode(frame))

    async def order(self, verb: str, args: Any, *, timeout_s: float = 60) -> Any:
        """Send a command and wait for its answer; an error is raised as a CommandError."""
        done = await (await self.begin(verb, args))[1]
        if done.error is not None:
            raise CommandError(done.error)
        return from_wire(done.result, VERBS[verb].result)

    async def begin(self, verb: str, args: Any) -> tuple[str, "asyncio.Future[Done]"]:
        command_id = ids.new_id("request")
        future: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        self._waiting[command_id] = future
        await self.send(Command(command_id, verb, to_wire(args), 60))
        return command_id, future

    async def cancel(self, command_id: str) -> None:
        await self.send(CancelCommand(command_id))

    async def want(self, state: DesiredState) -> None:
        self.desired = state
        if self.sockets:
            await self.send(Desired(state))


class CommandError(Exception):
    def __init__(self, error: dict[str, Any]) -> None:
        self.code = error["code"]
        self.data = error["data"]
        super().__init__(error)


async def holds(true: Callable[[], Any], *, timeout_s: float = 90) -> None:
    """Wait for something that nobody tells: a file, a log."""
    async with asyncio.timeout(timeout_s):
        while not true():
            await asyncio.sleep(0.1)


class Edge:
    """One device: its data folder and the agent process that a test starts and ends."""

    def __init__(self, root: Path, server: ScriptedServer, device_id: str) -> None:
        self.home = Home(root)
        self.server = server
        self.device_id = device_id
        self.process: subprocess.Popen[bytes] | None = None
        self.log = root.with_suffix(".log")
        self.options: dict[str, Any] = {"data_dir": str(root), "media": False}

    def enrol(self) -> None:
        """As if it had been: key, certificate and CA in place."""
        self.home.prepare()
        key, csr = make_key_and_csr(self.device_id)
        issued = self.server.ca.sign_device(self.device_id, csr)
        write_file(self.home.identity_file, (key + issued.pem).encode())
        write_file(self.home.ca_file, self.server.ca.pem.encode())
        write_json(
            self.home.device_file,
            Device(
                device_id=self.device_id,
                server_id=SERVER_ID,
                server=f"127.0.0.1:{self.server.port}",
                not_before_ms=to_ms(issued.not_before),
                not_after_ms=to_ms(issued.not_after),
            ),
        )

    def start(self, **options: Any) -> None:
        arguments = json.dumps({**self.options, **options})
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "haechi.agent", "run", arguments],
                env={**os.environ, "PYTHONPATH": str(SRC)},
                stderr=log,
            )

    async def says(self, text: str, *, timeout_s: float = 90) -> None:
        await holds(lambda: text in self.log.read_text(), timeout_s=timeout_s)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(5)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ScriptedServer]:
    keyring = Keyring.open(tmp_path / "keys")
    ca = SiteCa.open(tmp_path / "ca", server_id=SERVER_ID, keyring=keyring, clock=SystemClock())
    made = ScriptedServer(ca)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def edge(tmp_path: Path, server: ScriptedServer) -> AsyncIterator[Edge]:
    made = Edge(tmp_path / "device", server, ids.new_id("device"))
    made.enrol()
    yield made
    await asyncio.to_thread(made.stop)
    if made.log.exists():
        print(made.log.read_text())


@pytest.fixture
async def docker() -> DockerApi:
    engine = DockerApi(SOCKET)
    await engine.ping()
    if not await engine.has_image(BASE):
        pytest.skip(f"the base image {BASE} is not there")
    return engine


@pytest.fixture
async def docker_edge(edge: Edge, docker: DockerApi) -> AsyncIterator[Edge]:
    """A device whose containers, networks and firewall rules are swept away afterwards."""
    yield edge
    await asyncio.to_thread(edge.stop)
    label = f"haechi.device={edge.device_id}"
    for container in await docker.containers(labels=[label]):
        await docker.remove_container(container["Id"], force=True)
    for name in (f"haechi-{edge.device_id}", f"haechi-net-{edge.device_id}"):
        await docker.remove_network(name)
    await sweep()
