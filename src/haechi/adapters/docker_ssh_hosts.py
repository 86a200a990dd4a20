"""The Dockers of hosts, each through one SSH connection that is kept for a while.

A tunnel ends at the host's Docker socket; over it goes the Engine's own API, nothing else. A login
that may use the socket uses it as it is; any other reaches it with root's rights. A connection
serves whoever comes until nobody has come for some time, or until something went wrong with it.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from haechi.adapters.docker_api import DockerApi
from haechi.adapters.docker_errors import EngineTimedOut, EngineUnreachable
from haechi.adapters.docker_ssh_errors import DockerHostAway, NoDocker
from haechi.core.tasks import Tasks
from haechi.domains.clusters.host.errors import HostAway, TunnelRefused
from haechi.domains.clusters.host.ports import Hosts, Shell, UnixEnd

log = logging.getLogger(__name__)

SOCKET: Final = "/var/run/docker.sock"
IDLE_S: Final = 120.0
LOOK_S: Final = 20.0
_LOOK: Final = 'test -S "$1" || exit 3; test -r "$1" -a -w "$1" || exit 4'
_MISSING, _NOT_OURS = 3, 4


class Way(NamedTuple):
    """To one host: its shell, and its Docker."""

    shell: Shell
    docker: DockerApi


class _Kept:
    """One connection, open or being opened."""

    def __init__(self) -> None:
        self.way: asyncio.Future[Way] = asyncio.get_running_loop().create_future()
        # Whoever asked for it may be gone when it fails.
        self.way.add_done_callback(lambda way: way.cancelled() or way.exception())
        self.ending = asyncio.Event()
        self.users = 0


class DockerHosts:
    def __init__(self, hosts: Hosts, *, socket: str = SOCKET, idle_s: float = IDLE_S) -> None:
        self._hosts = hosts
        self._socket = socket
        self._idle_s = idle_s
        self._kept: dict[str, _Kept] = {}
        self._tasks = Tasks("docker-hosts")

    async def close(self) -> None:
        await self._tasks.close()

    @asynccontextmanager
    async def open(self, device_id: str) -> AsyncIterator[Way]:
        """Raises what `Hosts.open` does, NoDocker, DockerHostAway; the last also for what becomes
        of the Engine in between."""
        kept = self._kept.get(device_id)
        if kept is None or kept.ending.is_set():
            kept = self._kept[device_id] = _Kept()
            _ = self._tasks.spawn(device_id, self._hold(device_id, kept))
        kept.users += 1
        way: Way | None = None
        try:
            way = await asyncio.shield(kept.way)
            yield way
        except (EngineUnreachable, EngineTimedOut, TunnelRefused, HostAway) as error:
            kept.ending.set()
            if way is None or isinstance(error, HostAway):
                raise
            raise _away(way.shell, error) from error
        finally:
            kept.users -= 1
            if kept.users == 0:
                asyncio.get_running_loop().call_later(self._idle_s, self._perhaps_end, kept)

    def _perhaps_end(self, kept: _Kept) -> None:
        if kept.users == 0:
            kept.ending.set()

    async def _hold(self, device_id: str, kept: _Kept) -> None:
        """One task opens the connection, keeps it and ends it."""
        try:
            async with self._hosts.open(device_id) as shell:
                root = await self._needs_root(shell)
                async with shell.tunnel(UnixEnd(self._socket, root)) as path:
                    docker = DockerApi(str(path))
                    try:
                        await docker.ping(timeout_s=LOOK_S)
                    except (EngineUnreachable, EngineTimedOut, TunnelRefused) as error:
                        raise _away(shell, error) from error
                    kept.way.set_result(Way(shell, docker))
                    await kept.ending.wait()
        except Exception as error:  # noqa: BLE001 - whoever waits for the way is told
            if not kept.way.done():
                kept.way.set_exception(error)
            else:
                log.warning("the way to the Docker of %s ended: %s", device_id, error)
        finally:
            kept.ending.set()
            if not kept.way.done():
                kept.way.cancel()
            if self._kept.get(device_id) is kept:
                del self._kept[device_id]

    async def _needs_root(self, shell: Shell) -> bool:
        ran = await shell.run(
            ["sh", "-c", _LOOK, "sh", self._socket], timeout_s=LOOK_S, check=False
        )
        if ran.status == _MISSING:
            host = shell.host
            raise NoDocker(host=host.name, address=host.address, socket=self._socket)
        return ran.status == _NOT_OURS


def _away(shell: Shell, error: Exception) -> DockerHostAway:
    data = getattr(error, "data", {})
    reason = str(data.get("reason") or data.get("what") or error)
    return DockerHostAway(host=shell.host.name, address=shell.host.address, reason=reason[:300])
