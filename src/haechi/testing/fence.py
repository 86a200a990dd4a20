"""Whom an AI reaches: one that calls, services that pick up, and what the firewall says of it."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

CALLS = """
import os, socket, time, urllib.parse

served = os.environ.get("HAECHI_AGENT_URL") or os.environ["HAECHI_MASTER_URL"]
door = urllib.parse.urlsplit(served)
goals = [(door.hostname, door.port)]
for one in os.environ["GOALS"].split():
    host, port = one.rsplit(":", 1)
    goals.append((door.hostname if host == "door" else host, int(port)))
while True:
    words = []
    for goal in goals:
        try:
            socket.create_connection(goal, timeout=5).close()
            words.append("reached")
        except OSError:
            words.append("refused")
    print("calls:", *words, flush=True)
    time.sleep(0.2)
"""
"""An AI that calls where it is served and then each `HOST:PORT` of GOALS (`door` is the host that
serves it), again and again, and says who answered."""


@asynccontextmanager
async def service(address: str) -> AsyncIterator[int]:
    """The port of one that picks up and hangs up."""

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, address, 0) as listening:
        yield listening.sockets[0].getsockname()[1]


def lines_about(chain: str) -> list[str]:
    """What this machine's firewall says of a chain."""
    save = ["iptables-save"]
    saved = subprocess.run(save, capture_output=True, text=True, check=True, timeout=30).stdout  # noqa: S603
    return [line for line in saved.splitlines() if chain in line]
