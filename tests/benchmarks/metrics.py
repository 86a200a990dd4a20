"""1 000 devices report every second: how old is what a viewer sees, and what does it cost?

    python tests/benchmarks/metrics.py [--devices 1000] [--seconds 12]

Prints JSON rows {name, value, unit, reference, reference_value, ratio}. The devices hold real
WebSockets on loopback, answer pings and send one sample a second each, spread over the second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

from haechi.protocol.frames import (
    PROTOCOL,
    Hello,
    Ping,
    Pong,
    Samples,
    Welcome,
    decode_from_server,
    encode,
)
from haechi.protocol.samples import ContainerSample, Net, Sample

HERE = Path(__file__).parent


def now_ms() -> int:
    return round(time.time() * 1000)


def monotonic_ms() -> int:
    return round(time.monotonic() * 1000)


def sample(seq: int) -> Sample:
    return Sample(
        boot_id="boot",
        seq=seq,
        at_ms=now_ms(),
        monotonic_ms=monotonic_ms(),
        cpu_ratio=random.random(),
        cpu_per_core=[random.random() for _ in range(4)],
        memory_used_bytes=1_234_567_890,
        memory_total_bytes=8_000_000_000,
        disk_free_bytes=60_000_000_000,
        temperature_c=51.5,
        net=Net(seq * 1000, seq * 900, wifi_dbm=-61.0, loss_ratio=0.0, rtt_ms=3.1),
        containers=[ContainerSample("dep-" + "a" * 16, 0.2, 200_000_000, 0, 80.0)],
    )


class Device(asyncio.Protocol):
    """One agent's link with a WebSocket written out by hand: a client library for a thousand
    links would need more of this machine than the server that is measured.
    """

    def __init__(self, number: int) -> None:
        self._id = f"dev-bench{number}"
        self._buffer = bytearray()
        self._open = False
        self._seq = 0
        self._due = 0.0
        self._loop = asyncio.get_running_loop()
        self.welcomed: asyncio.Future[None] = self._loop.create_future()
        self.lost: str | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(
            f"GET /agent/v1/connect?device={self._id} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._open:
            head, found, rest = bytes(self._buffer).partition(b"\r\n\r\n")
            if not found:
                return
            if b" 101 " not in head:
                self._transport.close()
                return
            self._open, self._buffer = True, bytearray(rest)
            hello = Hello(PROTOCOL, "bench", self._id, "boot", now_ms(), monotonic_ms(), "queue")
            self._send(encode(hello))
        while (frame := self._take()) is not None:
            self._answer(frame)

    def _take(self) -> bytes | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        length, at = buffer[1], 2
        if length == 126:
            length, at = int.from_bytes(buffer[2:4], "big"), 4
        elif length == 127:
            length, at = int.from_bytes(buffer[2:10], "big"), 10
        if len(buffer) < at + length:
            return None
        opcode, payload = buffer[0] & 15, bytes(buffer[at : at + length])
        del buffer[: at + length]
        if opcode == 8:
            self.lost = payload[2:].decode() or "closed"
            self._transport.close()
        return payload if opcode == 2 else b""

    def _answer(self, payload: bytes) -> None:
        if not payload:
            return
        frame = decode_from_server(payload)
        if isinstance(frame, Ping):
            self._send(encode(Pong(frame.id, now_ms(), monotonic_ms())))
        elif isinstance(frame, Welcome):
            self._due = self._loop.time() + random.random()
            self._loop.call_at(self._due, self._report)
            self.welcomed.set_result(None)

    def _report(self) -> None:
        if self._transport.is_closing():
            return
        self._seq += 1
        self._send(encode(Samples([sample(self._seq)])))
        self._due += 1.0
        self._loop.call_at(self._due, self._report)

    def _send(self, payload: bytes) -> None:
        """A masked frame, as clients must; with a mask of zeros there is nothing to mask."""
        length = len(payload)
        head = (
            bytes([130, 128 | length])
            if length < 126
            else (bytes([130, 254]) + length.to_bytes(2, "big"))
        )
        self._transport.write(head + bytes(4) + payload)

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = self.lost or repr(error)
        if not self.welcomed.done():
            self.welcomed.set_exception(ConnectionError(self.lost))


async def drive(port: int, devices: int, seconds: float, server: subprocess.Popen[bytes]) -> bytes:
    assert server.stdin is not None
    assert server.stdout is not None
    loop = asyncio.get_running_loop()
    gate = asyncio.Semaphore(20)

    async def join(number: int) -> Device:
        async with gate, asyncio.timeout(60):
            _, made = await loop.create_connection(lambda: Device(number), "127.0.0.1", port)
            await made.welcomed
            return made

    joined = await asyncio.gather(*(join(number) for number in range(devices)))
    await asyncio.sleep(3)
    server.stdin.write(b"begin\n")
    server.stdin.flush()
    await asyncio.sleep(seconds)
    server.stdin.write(b"end\n")
    server.stdin.flush()
    line = await asyncio.to_thread(server.stdout.readline)
    gone = [one.lost for one in joined if one.lost]
    if gone:
        raise SystemExit(f"{len(gone)} devices lost their link: {gone[0]}")
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=12.0)
    given = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory(prefix="haechi-bench-") as folder:
        server = subprocess.Popen(
            [sys.executable, HERE / "metrics_server.py", folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                line = runner.run(drive(port, given.devices, given.seconds, server))
            seen = json.loads(line)
        finally:
            server.kill()
            server.wait()
    print(seen, file=sys.stderr)
    expected = given.devices * seen["seconds"]
    if seen["lost"] or seen["shown"] < 0.95 * expected or seen["stored"] < 0.95 * expected:
        raise SystemExit(f"of about {expected:.0f} samples not all came through: {seen}")
    freshness_s = seen["p99_ms"] / 1000
    for name, value, unit, target in (
        (f"metrics_{given.devices}_devices_freshness_p99_s", freshness_s, "s", 2),
        (f"metrics_{given.devices}_devices_cores", seen["cores"], "cores", 0.5),
    ):
        row = {
            "name": name,
            "value": round(value, 3),
            "unit": unit,
            "reference": "target",
            "reference_value": target,
            "ratio": round(value / target, 3),
        }
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
