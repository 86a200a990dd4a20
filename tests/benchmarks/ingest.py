"""How fast results are taken in, durably, and what happens when more come than can be taken.

    python tests/benchmarks/ingest.py [--seconds 4]

Prints one JSON row per figure: {name, value, unit, reference, reference_value, ratio}. Single
results: server on one core, clients on another; else as they come. Loopback only; every run bounded in time. After each run the rows in
the file are counted against those acknowledged.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import apsw

HERE = Path(__file__).parent
SINGLE_CONNECTIONS = 64
BATCH_CONNECTIONS = 8
BATCH_ROWS = 500  # what the SDK sends at most at a time


@dataclass
class Load:
    """What the clients did: acknowledged requests and rows, refused ones, and the answers' times."""

    acknowledged: int = 0
    rows: int = 0
    overloaded: int = 0
    failed: int = 0
    times_s: list[float] = field(default_factory=list)

    def p99_ms(self) -> float:
        return sorted(self.times_s)[int(len(self.times_s) * 0.99)] * 1000 if self.times_s else 0.0


class Client(asyncio.Protocol):
    """One kept-alive connection: the next request goes out when the answer is in."""

    def __init__(self, load: Load, make: Callable[[], tuple[bytes, int]], until: float) -> None:
        self._load = load
        self._make = make
        self._until = until
        self._buffer = b""
        self._rows = 0
        self._sent_at = 0.0
        self._left = False
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        if time.perf_counter() > self._until:
            self._transport.close()
            return
        request, self._rows = self._make()
        self._sent_at = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().split(b"content-length: ", 1)[1].split(b"\r\n", 1)[0])
        if len(rest) < length:
            return
        self._buffer = rest[length:]
        load, status = self._load, head[9:12]
        if status == b"200":
            load.acknowledged += 1
            load.rows += self._rows
            load.times_s.append(time.perf_counter() - self._sent_at)
        elif status == b"503":
            load.overloaded += 1
        else:
            load.failed += 1
            print(self._buffer[:300], head[:300], rest[:300], file=sys.stderr)
        if b"connection: close" in head.lower():
            self._transport.close()
            return
        self._send()

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


@dataclass
class Server:
    port: int
    token: str
    folder: Path
    pid: int

    def request(self, body: bytes) -> bytes:
        return (
            b"POST /api/v1/results HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            b"Content-Type: application/json\r\n"
            b"Authorization: Bearer %s\r\nContent-Length: %d\r\n\r\n"
            % (self.token.encode(), len(body))
        ) + body

    def count(self, table: str) -> int:
        connection = apsw.Connection(
            str(self.folder / "telemetry.db"), flags=apsw.SQLITE_OPEN_READONLY
        )
        (row,) = connection.execute(f"SELECT count(*) FROM {table}")
        connection.close()
        return int(row[0])

    def cpu_s(self) -> float:
        ticks = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")

    def memory_mb(self, what: str = "VmHWM") -> float:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(what):
                return int(line.split()[1]) / 1024
        return 0.0


@contextmanager
def server(mode: str, *, one_core: bool = False) -> Iterator[Server]:
    """`one_core`: the server on the first core, the clients on the last."""
    cores = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory(prefix="haechi-bench-") as folder:
        process = subprocess.Popen(
            [
                *(sys.executable, HERE / "ingest_server.py", mode, folder),
                *(["--one-core"] if one_core else []),
            ],
            stdout=subprocess.PIPE,
        )
        if one_core:  # the server takes the first
            os.sched_setaffinity(0, {max(cores)})
        try:
            assert process.stdout is not None
            port, token = process.stdout.readline().split()
            yield Server(int(port), token.decode(), Path(folder), process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
            process.stdout.close()
            os.sched_setaffinity(0, cores)


def drive(
    at: Server,
    connections: int,
    seconds: float,
    maker: Callable[[int], Callable[[], tuple[bytes, int]]],
) -> tuple[Load, float]:
    """(what happened, how long it took)."""
    load = Load()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        until = time.perf_counter() + seconds

        async def keep(number: int) -> None:
            make = maker(number)
            while time.perf_counter() < until:
                _, client = await loop.create_connection(
                    lambda: Client(load, make, until), "127.0.0.1", at.port
                )
                await client.done

        await asyncio.gather(*(keep(number) for number in range(connections)))

    import uvloop

    started = time.perf_counter()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
    return load, time.perf_counter() - started


def _now() -> tuple[str, int]:
    """(the second, the millisecond) of this moment: results are mostly as new as they can be."""
    now_s = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now_s)), int(now_s * 1000) % 1000


def single_maker(at: Server) -> Callable[[int], Callable[[], tuple[bytes, int]]]:
    def maker(number: int) -> Callable[[], tuple[bytes, int]]:
        seq = 0
        tag = os.urandom(4).hex()

        def make() -> tuple[bytes, int]:
            nonlocal seq
            seq += 1
            second, ms = _now()
            body = (
                b'{"instance":"ins-%s-%d","seq":%d,"camera_id":"cam-%d","captured_at":"%s.%03dZ",'
                b'"class":"rain","class_prob":0.7}'
                % (tag.encode(), number, seq, number % 16, second.encode(), ms)
            )
            return at.request(body), 1

        return make

    return maker


def batch_maker(at: Server, rows: int) -> Callable[[int], Callable[[], tuple[bytes, int]]]:
    """Detections: one object per row, instance and seq, as the SDK sends them."""

    def maker(number: int) -> Callable[[], tuple[bytes, int]]:
        seq = 0
        row = (
            f'{{"instance":"ins-{os.urandom(4).hex()}-{number}","seq":%d,'
            f'"camera_id":"cam-{number % 16}",'
            f'"captured_at":"%s.%03dZ","objects":[{{"box":[0.1234,0.2345,0.0512,0.2011],'
            f'"class":"person","class_prob":0.931}}],"took_ms":24.4}}'
        )

        def make() -> tuple[bytes, int]:
            nonlocal seq
            first, seq = seq + 1, seq + rows
            second, ms = _now()
            body = ",".join(row % (n, second, ms) for n in range(first, first + rows))
            return at.request(f"[{body}]".encode()), rows

        return make

    return maker


def check(at: Server, load: Load, table: str, warm_rows: int = 0) -> None:
    if load.failed:
        raise SystemExit(f"{load.failed} requests failed")
    stored = at.count(table)
    if stored < load.rows + warm_rows:
        raise SystemExit(f"acknowledged {load.rows + warm_rows} rows, stored only {stored}")


def measure_single(mode: str, seconds: float) -> tuple[float, float]:
    """(acknowledged requests per second, p99 ms)."""
    table = "rows" if mode == "bare" else "results"
    with server(mode, one_core=True) as at:
        warm, _ = drive(at, SINGLE_CONNECTIONS, 1.0, single_maker(at))
        load, took_s = drive(at, SINGLE_CONNECTIONS, seconds, single_maker(at))
        check(at, load, table, warm.rows)
    return load.acknowledged / took_s, load.p99_ms()


def single_durable(seconds: float) -> dict[str, object]:
    rates: dict[str, list[float]] = {"bare": [], "haechi": []}
    p99s = []
    for _ in range(3):
        for mode, got in rates.items():
            rate, p99_ms = measure_single(mode, seconds)
            got.append(rate)
            if mode == "haechi":
                p99s.append(p99_ms)
    ours, theirs = statistics.median(rates["haechi"]), statistics.median(rates["bare"])
    print(f"single: p99 {statistics.median(p99s):.1f} ms, runs {rates}", file=sys.stderr)
    return {
        "name": "ingest_single_durable_per_s",
        "value": round(ours),
        "unit": "1/s",
        "reference": "bare ASGI app with the same group commit, same run",
        "reference_value": round(theirs),
        "ratio": round(ours / theirs, 3),
    }


def batches(seconds: float) -> list[dict[str, object]]:
    """Rows a second, and by the server's own processor time: clients and neighbours take turns
    with it on a small machine."""
    with server("haechi") as at:
        warm, _ = drive(at, BATCH_CONNECTIONS, 1.0, batch_maker(at, BATCH_ROWS))
        cpu_s = at.cpu_s()
        load, took_s = drive(at, BATCH_CONNECTIONS, seconds, batch_maker(at, BATCH_ROWS))
        cpu_s = at.cpu_s() - cpu_s
        check(at, load, "results", warm.rows)
    print(
        f"batch: p99 {load.p99_ms():.1f} ms, {load.overloaded} refused, server on its core"
        f" {cpu_s / took_s:.0%} of the time",
        file=sys.stderr,
    )
    rates = {
        "ingest_batch_rows_per_s": (load.rows / took_s, "rows/s"),
        "ingest_batch_rows_per_cpu_s": (load.rows / cpu_s, "rows per CPU second"),
    }
    return [
        {
            "name": name,
            "value": round(rate),
            "unit": unit,
            "reference": "target",
            "reference_value": 100_000,
            "ratio": round(rate / 100_000, 3),
        }
        for name, (rate, unit) in rates.items()
    ]


def overload(seconds: float) -> dict[str, object]:
    with server("haechi") as at:
        load, _ = drive(at, 64, seconds, batch_maker(at, 1000))
        peak_mb = at.memory_mb()
        check(at, load, "results")
    print(
        f"overload: {load.acknowledged} acknowledged, {load.overloaded} sent away", file=sys.stderr
    )
    return {
        "name": "ingest_overload_rss_mb",
        "value": round(peak_mb, 1),
        "unit": "MB",
        "reference": "target",
        "reference_value": 150,
        "ratio": round(peak_mb / 150, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--only", choices=["single", "batch", "overload"])
    given = parser.parse_args()
    parts = {
        "single": lambda: [single_durable(given.seconds)],
        "batch": lambda: batches(given.seconds),
        "overload": lambda: [overload(given.seconds * 2)],
    }
    for name, part in parts.items():
        if given.only in {None, name}:
            for row in part():
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
