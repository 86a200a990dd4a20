"""A slow, stalling or breaking way to a host: a TCP relay on loopback, at a test's command.

For what the network faults cannot do: latency (there is no `tc netem` on many machines), a stall in
the middle of a step, a connection that dies while the host is well.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

CHUNK = 65536


class Relay:
    """`address` and `port` are where it listens; what comes goes on to the other end."""

    def __init__(self, host: str, port: int) -> None:
        self.address, self.port = "127.0.0.1", 0
        self.delay_s = 0.0
        self.carried = 0
        """Bytes so far, both ways: to break off at a certain place."""
        self._end = (host, port)
        self._flows = asyncio.Event()
        self._flows.set()
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def connections(self) -> int:
        return len(self._open) // 2

    def stall(self) -> None:
        """Everything stays open and nothing moves, until `go`."""
        self._flows.clear()

    def go(self) -> None:
        self._flows.set()

    def cut(self) -> None:
        """All connections die at once, with a reset. New ones are taken."""
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._end)
        except OSError:
            writer.transport.abort()  # as the host itself would have said
            return
        ends = {writer, far_writer}
        self._open |= ends
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, far_writer))
                group.create_task(self._pump(far_reader, writer))
        finally:
            self._open -= ends
            for end in ends:
                end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(CHUNK):
                await self._flows.wait()
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                writer.write(data)
                await writer.drain()
                self.carried += len(data)
            writer.write_eof()
        except OSError:  # one end went away: so does the other
            writer.transport.abort()


@asynccontextmanager
async def relay(host: str, port: int = 22) -> AsyncIterator[Relay]:
    """`async with relay(host.address) as way:` and then SSH to `way.address`, `way.port`."""
    way = Relay(host, port)
    server = await asyncio.start_server(way._serve, way.address, 0)  # noqa: SLF001 - its own
    way.port = server.sockets[0].getsockname()[1]
    try:
        yield way
    finally:
        server.close()
        way.go()
        way.cut()
        await server.wait_closed()
