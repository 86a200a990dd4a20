"""The probe on a real TLS server: what it takes for an answer, and that no connection is left."""

import asyncio
import contextlib
import gc
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from haechi.adapters.probe_tcp import TcpProbe
from haechi.core.clock import SystemClock
from haechi.core.pki import SiteCa
from haechi.core.secrets import Keyring
from haechi.core.tasks import Tasks
from haechi.testing.waiting import eventually

pytestmark = pytest.mark.integration
ANSWER = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 12\r\n\r\nUnauthorized"
PATIENT_S = 60.0


@dataclass
class Kubelet:
    """Answers each question once `may_answer` is set; `asked` counts them."""

    port: int = 0
    answer: bytes = ANSWER
    asked: int = 0
    handshakes: int = 0
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    connections: set[asyncio.StreamWriter] = field(default_factory=set)

    async def enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.handshakes += 1
        self.connections.add(writer)
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.asked += 1
                await self.may_answer.wait()
                writer.write(self.answer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the probe has left
        finally:
            self.connections.discard(writer)
            writer.transport.abort()


@pytest.fixture
async def kubelet(tmp_path):
    keyring = Keyring.open(tmp_path / "keyring")
    ca = SiteCa.open(
        tmp_path / "pki", server_id="sit-aaaaaaaaaaaaaaaa", keyring=keyring, clock=SystemClock()
    )
    made = Kubelet()
    made.may_answer.set()
    context = ca.server_context(ca.server_files("kubelet", ["127.0.0.1"]))
    server = await asyncio.start_server(made.enter, "127.0.0.1", 0, ssl=context)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    made.may_answer.set()
    server.close()
    await server.wait_closed()
    await eventually(lambda: not made.connections)


@contextlib.asynccontextmanager
async def probing(timeout_s: float = PATIENT_S):
    probe = TcpProbe(timeout_s=timeout_s)
    try:
        yield probe
    finally:
        await probe.close()


@pytest.fixture
async def tasks():
    made = Tasks("test")
    yield made
    await made.close()


def sockets() -> int:
    found = 0
    for one in Path("/proc/self/fd").iterdir():
        try:
            found += str(one.readlink()).startswith("socket:")
        except FileNotFoundError:
            continue  # the folder's own
    return found


async def left_nothing(kubelet: Kubelet) -> None:
    """Asked of the other end; a writer that nobody closed would also warn when it is collected."""
    await eventually(lambda: not kubelet.connections)
    gc.collect()


async def test_one_connection_is_kept_and_closed_with_the_probe(kubelet):
    async with probing() as probe:
        assert await probe.kubelet("127.0.0.1", kubelet.port) == "answers"
        assert await probe.kubelet("127.0.0.1", kubelet.port) == "answers"
        assert (kubelet.asked, kubelet.handshakes) == (2, 1)
        assert len(kubelet.connections) == 1
    await left_nothing(kubelet)


async def test_an_asker_that_is_ended_leaves_no_connection(kubelet, tasks):
    async with probing() as probe:
        assert await probe.kubelet("127.0.0.1", kubelet.port) == "answers"
        kubelet.may_answer.clear()
        asking = tasks.spawn("ask", probe.kubelet("127.0.0.1", kubelet.port))
        await eventually(lambda: kubelet.asked == 2)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        del asking
        kubelet.may_answer.set()
        await left_nothing(kubelet)


async def test_of_two_askers_at_once_one_connection_is_kept(kubelet, tasks):
    async with probing() as probe:
        kubelet.may_answer.clear()
        both = [tasks.spawn("ask", probe.kubelet("127.0.0.1", kubelet.port)) for _ in range(2)]
        await eventually(lambda: kubelet.asked == 2)
        kubelet.may_answer.set()
        assert await asyncio.gather(*both) == ["answers", "answers"]
        await eventually(lambda: len(kubelet.connections) == 1)
        gc.collect()
    await left_nothing(kubelet)


async def test_a_forgotten_host_keeps_no_connection(kubelet):
    async with probing() as probe:
        assert await probe.kubelet("127.0.0.1", kubelet.port) == "answers"
        probe.forget("127.0.0.1")
        await left_nothing(kubelet)


async def test_closing_while_somebody_asks_leaves_no_connection(kubelet, tasks):
    probe = TcpProbe(timeout_s=PATIENT_S)
    assert await probe.kubelet("127.0.0.1", kubelet.port) == "answers"
    kubelet.may_answer.clear()
    asking = tasks.spawn("ask", probe.kubelet("127.0.0.1", kubelet.port))
    await eventually(lambda: kubelet.asked == 2)
    await probe.close()
    kubelet.may_answer.set()
    _ = await asking
    await left_nothing(kubelet)


async def test_closing_does_not_wait_for_a_host_that_says_nothing_any_more(kubelet):
    """Its power is gone: a polite end of TLS would be waited for until the loop itself is gone."""
    async with probing() as probe:
        assert await probe.kubelet("127.0.0.1", kubelet.port) == "answers"
        (deaf,) = kubelet.connections
        deaf.transport.pause_reading()
        before = sockets()
    assert sockets() == before - 1
    deaf.transport.resume_reading()
    await left_nothing(kubelet)


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"]
)
async def test_an_answer_that_is_no_http_is_no_answer(kubelet, answer):
    kubelet.answer = answer
    async with probing() as probe:
        assert await probe.kubelet("127.0.0.1", kubelet.port) == "refused"
        await left_nothing(kubelet)


async def test_who_answers_late_is_mute_and_who_is_not_there_refuses(kubelet):
    kubelet.may_answer.clear()
    async with probing(timeout_s=2) as probe:
        assert await probe.kubelet("127.0.0.1", kubelet.port) == "mute"
        kubelet.may_answer.set()
        await left_nothing(kubelet)
        assert await probe.kubelet("127.0.0.1", 1) == "refused"


async def test_a_host_that_speaks_no_tls_is_mute():
    inside = set()

    async def enter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inside.add(writer)
        writer.write(b"SSH-2.0-test\r\n")
        with contextlib.suppress(OSError):
            await reader.read()
        writer.transport.abort()
        inside.discard(writer)

    server = await asyncio.start_server(enter, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, probing() as probe:
        assert await probe.kubelet("127.0.0.1", port) == "mute"
        assert await probe.ssh("127.0.0.1", port) == "answers"
        await eventually(lambda: not inside)
