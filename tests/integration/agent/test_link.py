"""The link over real mTLS: exactly once through flaps and kills, half-open sockets, trust."""

import asyncio
from pathlib import Path

import pytest

from haechi.agent.boot import wall_ms
from haechi.agent.outbox import Outbox
from haechi.core.clock import SystemClock
from haechi.core.pki import SiteCa
from haechi.core.secrets import Keyring
from haechi.protocol.results import AgentResult, Result

from .conftest import Edge, ScriptedServer, holds


@pytest.fixture(autouse=True)
def _no_engine(edge: Edge) -> None:
    edge.options["docker_socket"] = ""


def rows(first: int, count: int) -> list[AgentResult]:
    return [
        AgentResult(
            result=Result(instance="ins-1", seq=number, camera_id="cam-1"),
            deployment_id="dep-1",
            received_ms=wall_ms(),
            monotonic_ms=1,
            boot_id="boot",
        )
        for number in range(first, first + count)
    ]


async def store(edge: Edge, first: int, count: int) -> None:
    """What AIs said while the agent had no link."""
    outbox = Outbox(edge.home.queue_file)
    await outbox.open()
    await outbox.add(rows(first, count))
    await outbox.close()


async def test_says_hello_and_sends_samples_each_second(server: ScriptedServer, edge: Edge) -> None:
    edge.start()
    await server.until(lambda: len(server.samples) >= 3 and server.pongs >= 2)
    hello = server.hellos[0]
    assert hello.device_id == edge.device_id
    assert hello.capacity is not None
    assert hello.capacity.cpu_cores >= 1
    assert [one.seq for one in server.samples[:3]] == [1, 2, 3]
    await server.until(lambda: any(one.net and one.net.rtt_ms for one in server.samples))
    assert server.states[0].revision == 0


async def test_results_arrive_once_through_a_lost_link_and_a_killed_agent(
    server: ScriptedServer, edge: Edge
) -> None:
    await store(edge, 1, 900)
    server.acks = False
    edge.start()
    await server.until(lambda: len(server.results) >= 900)
    # Nothing was acknowledged, so all of it is sent again, under the same numbers.
    await server.stop()
    first = dict(server.results)
    server.results.clear()
    server.acks = True
    await server.start()
    await server.until(lambda: len(server.results) >= 900)
    assert dict(server.results) == first
    assert sorted(first) == list(range(1, 901))

    edge.kill()
    await store(edge, 890, 30)  # ten of them for the second time
    server.results.clear()
    edge.start()
    await server.until(lambda: server.results and server.results[-1][0] == 919)
    fresh = {number: row for number, row in server.results if number > 900}
    assert [fresh[number].result.seq for number in range(901, 920)] == list(range(901, 920))
    assert server.lost == 0


async def test_samples_of_an_outage_are_filled_in_afterwards(
    server: ScriptedServer, edge: Edge
) -> None:
    edge.start()
    await server.until(lambda: len(server.samples) >= 2)
    await server.stop()
    before = max(one.seq for one in server.samples)
    wal = Path(f"{edge.home.queue_file}-wal")
    size = wal.stat().st_size
    await holds(lambda: wal.stat().st_size > size)  # long enough for samples to be written down
    server.samples.clear()
    await server.start()
    await server.until(lambda: server.samples and server.backfilled)

    def whole() -> bool:
        seen = {one.seq for one in [*server.samples, *server.backfilled]}
        return set(range(before + 1, max(seen) + 1)) <= seen

    await server.until(whole)


async def test_a_half_open_socket_is_left_and_dialled_anew(
    server: ScriptedServer, edge: Edge
) -> None:
    edge.start()
    await server.until(lambda: server.pongs >= 1)
    server.pings = False
    await server.until(lambda: len(server.hellos) >= 2)
    server.pings = True
    await server.until(lambda: server.pongs >= 3)


async def test_another_server_gets_nothing(
    server: ScriptedServer, edge: Edge, tmp_path: Path
) -> None:
    """Same address, valid certificate of a CA, but not this site's."""
    port = server.port
    await server.stop()
    other_ca = SiteCa.open(
        tmp_path / "other-ca",
        server_id="sit-bbbbbbbbbbbbbbbb",
        keyring=Keyring.open(tmp_path / "other-keys"),
        clock=SystemClock(),
    )
    impostor = ScriptedServer(other_ca)
    impostor.port = port
    await impostor.start()
    edge.start()
    await edge.says("TLS: self-signed certificate")
    assert not impostor.hellos
    await impostor.stop()
    await server.start()
    await server.until(lambda: server.hellos)


async def test_one_agent_per_folder_and_a_clean_end(server: ScriptedServer, edge: Edge) -> None:
    edge.start()
    await server.until(lambda: server.samples)
    second = Edge(edge.home.root, server, edge.device_id)
    second.options["docker_socket"] = ""
    second.start()
    assert second.process is not None
    assert await asyncio.to_thread(second.process.wait, 10) == 4
    await asyncio.to_thread(edge.stop)
    assert edge.process is not None
    assert edge.process.returncode == 0
