"""The server of tests/benchmarks/metrics.py: real links, real telemetry DB, one viewer of all.

Only TLS and enrolment are left out: a device says who it is in the address it calls. Prints its
port, then, asked by a line on stdin, one JSON object of what the viewer saw.

    python tests/benchmarks/metrics_server.py FOLDER
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import socket
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import uvicorn

from haechi.core import memory
from haechi.core.access import Principal
from haechi.core.bus import Bus
from haechi.core.clock import SystemClock, from_text, to_ms
from haechi.core.db import Database
from haechi.core.telemetry import Telemetry
from haechi.domains.agents.service import Agents
from haechi.domains.audit.service import Audit
from haechi.domains.metrics import Metrics
from haechi.domains.metrics.schema import SCHEMA
from haechi.settings import AgentsSettings
from haechi.web.agents import create_agents_app


class AnyDevice:
    """A directory in which every device is registered."""

    async def check_device(self, *_: Any) -> None: ...

    async def note_enrolment(self, *_: Any) -> None: ...

    async def note_hello(self, *_: Any) -> None: ...


async def identify(connection: Any) -> Principal:
    device_id = connection.query_params["device"]
    return Principal(kind="device", id=device_id, name=device_id, device_id=device_id)


class Viewer:
    """Follows every device and encodes what it gets, as the stream to a browser does."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.ages_ms: list[float] = []
        self.lost = 0

    async def watch(self) -> None:
        encode = msgspec.json.Encoder().encode
        with self._bus.subscribe({"samples:*"}, limit=20_000) as subscription:
            async for message in subscription:
                encode({"topic": message.topic, "cursor": message.cursor, "data": message.data})
                self.ages_ms.append(time.time() * 1000 - to_ms(from_text(message.data["at"])))
                self.lost += subscription.take_lost()


async def main(folder: Path) -> None:
    logging.disable(logging.INFO)
    clock = SystemClock()
    db = Database(folder / "control.db")
    await db.create_all()
    bus = Bus(lambda: to_ms(clock.now()))
    agents = Agents(
        db=db,
        bus=bus,
        clock=clock,
        audit=Audit(db=db, clock=clock),
        machines=None,
        directory=AnyDevice(),
        settings=AgentsSettings(),
        server_id="srv-bench",
        ca_pem="",
        ca_fingerprint="",
        address=lambda: "",
    )
    telemetry = Telemetry(folder / "telemetry.db", schemas=[SCHEMA])
    await telemetry.open()
    metrics = Metrics(telemetry=telemetry, bus=bus, clock=clock, stamps=agents.stamp)
    agents.on_samples(metrics.ingest)
    await agents.start()
    metrics.start()
    viewer = Viewer(bus)
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    config = uvicorn.Config(
        create_agents_app(agents, identify),
        loop="uvloop",
        ws="websockets-sansio",
        lifespan="off",
        access_log=False,
        log_level="error",
        ws_ping_interval=None,
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)
    loop = asyncio.get_running_loop()
    serving = asyncio.gather(server.serve(sockets=[listener]), viewer.watch())
    memory.settle()
    print(listener.getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)  # "all devices are here"
    viewer.ages_ms.clear()
    started_s, cpu_s = time.perf_counter(), time.process_time()
    rows_before = await metrics.count_rows()
    await loop.run_in_executor(None, sys.stdin.readline)  # "the time is over"
    took_s, cpu_s = time.perf_counter() - started_s, time.process_time() - cpu_s
    ages = sorted(viewer.ages_ms)
    stored = await metrics.count_rows() - rows_before
    print(
        json.dumps(
            {
                "shown": len(ages),
                "stored": stored,
                "lost": viewer.lost + metrics.dropped,
                "p50_ms": ages[len(ages) // 2],
                "p99_ms": ages[int(len(ages) * 0.99)],
                "worst_ms": ages[-1],
                "cores": cpu_s / took_s,
                "seconds": took_s,
                "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        ),
        flush=True,
    )
    await loop.run_in_executor(None, sys.stdin.readline)
    os._exit(0)  # the devices have gone; nothing is left to keep
    await serving


if __name__ == "__main__":
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    asyncio.run(main(Path(sys.argv[1])))
