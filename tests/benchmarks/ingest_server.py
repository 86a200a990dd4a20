"""The two servers that tests/benchmarks/ingest.py compares: `bare` and `haechi`.

`bare` is the ceiling: an ASGI function that decodes the same body and hands it to the same group
commit, one table, one index, no caller to find out, nothing to check. `haechi` is the product's
own path: Shield, Gate with a deployment token, Front, IngestEndpoint, Results.

    python tests/benchmarks/ingest_server.py bare|haechi FOLDER [--one-core]     # prints "PORT TOKEN"
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import apsw
import msgspec
import uvicorn

from haechi.core import memory
from haechi.core.bus import Bus
from haechi.core.clock import SystemClock, to_ms
from haechi.core.telemetry import Schema, Telemetry
from haechi.errors import Overloaded

BARE = Schema(
    "bare",
    (
        """
        CREATE TABLE rows (eid TEXT, seq INTEGER, received INTEGER, captured TEXT, class TEXT,
            class_prob REAL) STRICT;
        CREATE INDEX rows_eid ON rows (eid, received);
        """,
    ),
)


class BareRow(msgspec.Struct):
    instance: str
    seq: int
    captured_at: str
    class_prob: float
    kind: str = msgspec.field(name="class")


def bare_insert(connection: apsw.Connection, rows: list[tuple[Any, ...]]) -> list[None]:
    connection.executemany("INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?)", rows)
    return [None] * len(rows)


def bare_app(telemetry: Telemetry) -> Any:
    decode = msgspec.json.Decoder(BareRow).decode
    clock = SystemClock()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        message = await receive()
        row = decode(message["body"])
        if not 0 <= row.class_prob <= 1:
            raise ValueError(row.class_prob)
        values = (
            row.instance,
            row.seq,
            to_ms(clock.now()),
            row.captured_at,
            row.kind,
            row.class_prob,
        )
        status = 200
        try:
            await telemetry.submit(bare_insert, values)
        except Overloaded:
            status = 503
        headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"{}"})

    return app


class NoSources:
    async def source_of(self, deployment_id: str, device_id: str) -> None:
        del deployment_id, device_id


async def haechi_app(folder: Path, telemetry: Telemetry) -> tuple[Any, str]:
    """(app, token of a deployment that may speak for itself)."""
    from starlette.responses import PlainTextResponse

    from haechi.core.db import Database
    from haechi.core.pki import SiteCa
    from haechi.core.secrets import Keyring
    from haechi.domains.audit.service import Audit
    from haechi.domains.auth.service import Auth
    from haechi.domains.results import Results
    from haechi.web.app import Front
    from haechi.web.errors import problem_response
    from haechi.web.ingest import PATH, IngestEndpoint
    from haechi.web.security import Gate, Shield

    clock = SystemClock()
    db = Database(folder / "control.db")
    await db.create_all()
    audit = Audit(db=db, clock=clock)
    keyring = Keyring.open(folder / "keyring")
    ca = SiteCa.open(folder / "pki", server_id="srv-bench", keyring=keyring, clock=clock)
    auth = Auth(
        db=db,
        clock=clock,
        audit=audit,
        ca=ca,
        data_dir=folder,
        session_hours=1,
        max_failures=10,
    )
    async with db.write() as tx:
        token, _ = await auth.machines.issue_deployment_token(
            tx,
            deployment_id="dep-bench",
            device_id="dev-bench",
            facts={"package_id": "pkg-bench", "image_digest": "sha256:bench"},
            direct=True,
        )
    results = Results(
        telemetry=telemetry,
        bus=Bus(lambda: to_ms(clock.now())),
        clock=clock,
        sources=NoSources(),
        stamps=lambda *_: None,
    )
    gate = Gate(authenticator=auth.authenticator)
    app = SimpleNamespace(state=SimpleNamespace(language="ko"))
    endpoint = IngestEndpoint(
        intake=results, identify=gate.identify, render=problem_response, app=app
    )
    front = Front(PlainTextResponse("nothing else here", 404), {("POST", PATH): endpoint})
    return Shield(front, gate=gate, render=problem_response, api=app), token.reveal()


async def main(mode: str, folder: Path) -> None:
    from haechi.domains.results.schema import SCHEMA

    telemetry = Telemetry(folder / "telemetry.db", schemas=[BARE if mode == "bare" else SCHEMA])
    await telemetry.open()
    if mode == "bare":
        app, token = bare_app(telemetry), "-"
    else:
        app, token = await haechi_app(folder, telemetry)
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted ones inherit it
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="error",
        timeout_graceful_shutdown=2,
    )
    memory.settle()  # as `haechi serve` does
    print(listener.getsockname()[1], token, flush=True)
    await uvicorn.Server(config).serve(sockets=[listener])
    await telemetry.close()


if __name__ == "__main__":
    if "--one-core" in sys.argv:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
