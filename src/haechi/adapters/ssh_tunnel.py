"""Tunnels: a local unix socket whose connections end on a host, each in a channel of its own.

The socket lies in a folder that only this process's user may enter. It outlives a lost connection:
the next one through it logs in anew.
"""

import asyncio
import contextlib
import logging
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import asyncssh

from haechi.adapters import ssh_errors
from haechi.adapters.ssh_link import Link
from haechi.adapters.ssh_scripts import BRIDGE, script
from haechi.core.tasks import TaskGroup, Tasks
from haechi.domains.clusters.host.errors import HostTimedOut, TunnelRefused, short
from haechi.domains.clusters.host.ports import TunnelEnd, UnixEnd
from haechi.errors import AppError

log = logging.getLogger(__name__)

_CHUNK: Final = 64 * 1024


@contextlib.asynccontextmanager
async def tunnel(link: Link, end: TunnelEnd) -> AsyncIterator[Path]:
    """Raises TunnelRefused where a unix socket cannot be reached right at the beginning."""
    if isinstance(end, UnixEnd) and not end.root:
        _, writer = await _channel(link, end)
        writer.close()
    tasks = Tasks(f"tunnel {link.host.name}")

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _carry(link, end, reader, writer)
        except AppError as error:
            log.info("tunnel to %s: %s", _named(end), error)
        finally:
            writer.close()

    with tempfile.TemporaryDirectory(prefix="haechi-tunnel-") as folder:
        path = Path(folder) / "socket"
        server = await asyncio.start_unix_server(
            lambda reader, writer: _enter(tasks, carry(reader, writer)), path
        )
        try:
            yield path
        finally:
            server.close()
            await tasks.close()
            await server.wait_closed()


def _enter(tasks: Tasks, work: Any) -> None:
    _ = tasks.spawn("connection", work)


async def _carry(
    link: Link, end: TunnelEnd, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    if isinstance(end, UnixEnd) and end.root and link.target.user != "root":
        await link.execute(
            script(BRIDGE, end.path),
            what=f"tunnel to {end.path}",
            root=True,
            stdin=_read(reader),
            on_stdout=writer.write,
            on_stderr=lambda data: log.info("tunnel to %s: %s", end.path, short(repr(data))),
            timeout_s=None,
        )
        with contextlib.suppress(OSError):
            await writer.drain()
        return
    far_reader, far_writer = await _channel(link, end)
    try:
        async with TaskGroup() as group:
            group.create_task(_pump(reader, far_writer))
            group.create_task(_pump(far_reader, writer))
    except* (asyncssh.Error, OSError):
        log.debug("tunnel to %s: cut off", _named(end))
    finally:
        far_writer.close()


async def _channel(link: Link, end: TunnelEnd) -> tuple[Any, Any]:
    connection = await link.connection()
    what = f"tunnel to {_named(end)}"
    try:
        async with asyncio.timeout(link.pace.open_s):
            if isinstance(end, UnixEnd):
                return await connection.open_unix_connection(end.path, encoding=None)
            return await connection.open_connection(end.host, end.port, encoding=None)
    except TimeoutError as error:
        raise HostTimedOut(
            host=link.host.name, address=link.address, timeout_s=link.pace.open_s, what=what
        ) from error
    except asyncssh.ChannelOpenError as error:
        raise TunnelRefused(
            host=link.host.name, end=_named(end), reason=ssh_errors.reason_of(error)
        ) from error
    except (asyncssh.Error, OSError) as error:
        raise ssh_errors.in_command(error, link.host, what) from error


async def _pump(source: Any, sink: Any) -> None:
    while data := await source.read(_CHUNK):
        sink.write(data)
        await sink.drain()
    if sink.can_write_eof():
        sink.write_eof()


async def _read(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while data := await reader.read(_CHUNK):
        yield data


def _named(end: TunnelEnd) -> str:
    return end.path if isinstance(end, UnixEnd) else f"{end.host}:{end.port}"
