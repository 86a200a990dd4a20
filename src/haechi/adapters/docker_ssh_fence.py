"""The fence of AIs on a Docker host that has no agent: laid by the server, over SSH.

What agents lay on their own devices (`fence_rules`), with the server's addresses as the doors.
Nobody on the host looks after it: after a reboot Docker starts the AIs again without it, until the
server has the host again. It needs root's rights there; without them an AI that was not allowed the
internet is not started.
"""

import asyncio
import logging
import socket
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from haechi.adapters.docker_api import DockerApi, interface_of
from haechi.adapters.docker_bodies import LABEL_DEVICE, fenced_name
from haechi.adapters.docker_errors import EngineObjectNotFound
from haechi.adapters.docker_ssh_errors import NotFenced
from haechi.adapters.docker_ssh_hosts import Way
from haechi.adapters.fence_rules import Door, chain_name, rules
from haechi.adapters.iptables import Chain, Run
from haechi.core.names import NameUnknown, address_of
from haechi.domains.clusters.host.errors import SudoAsks, SudoRefused
from haechi.domains.clusters.host.ports import Shell

log = logging.getLogger(__name__)

LOOK_S: Final = 30.0
"""Rules are laid anew so often: a reloaded firewall loses them."""
COMMAND_S: Final = 20.0
_PORTS: Final = {"http": 80, "https": 443}


class _Look(NamedTuple):
    shell: Shell
    """A host that was off comes back by another one, and without rules."""
    at_s: float
    laid: bool
    """Whether there are rules of ours."""

    def holds(self, shell: Shell) -> bool:
        return self.shell is shell and time.monotonic() - self.at_s < LOOK_S


class Fences:
    """`urls` are where AIs call."""

    def __init__(self, urls: Callable[[], Iterable[str]]) -> None:
        self._urls = urls
        self._looks: dict[str, _Look] = {}
        """The last one of each device."""
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @asynccontextmanager
    async def laid(self, way: Way, device_id: str) -> AsyncIterator[str]:
        """The name of the device's network, which is fenced while an AI is begun on it. Raises
        NotFenced, NameUnknown, and what the way there does."""
        name = fenced_name(device_id)
        labels = {LABEL_DEVICE: device_id}
        async with self._locks[device_id]:
            network = await way.docker.ensure_bridge(name, internal=False, labels=labels)
            await self._fill(way, device_id, interface_of(network))
            self._looks[device_id] = _Look(way.shell, time.monotonic(), laid=True)
            yield name

    async def see_to(self, way: Way, device_id: str, *, now: bool = False) -> None:
        """Lay it again where it may be gone, and take it away where no AI is left. What hinders is
        logged: AIs that run go on."""
        if self._locks[device_id].locked() and not now:
            return  # somebody lays it this moment, and perhaps begins an AI
        async with self._locks[device_id]:
            last = self._looks.get(device_id)
            if last is not None and last.holds(way.shell) and not now:
                return
            laid = last is not None and last.laid
            try:
                interface = await _used(way.docker, device_id)
                if interface or laid:
                    await self._fill(way, device_id, interface)
                    laid = bool(interface)
            except (NotFenced, NameUnknown) as error:
                log.error("%s", error)  # noqa: TRY400
            self._looks[device_id] = _Look(way.shell, time.monotonic(), laid)

    async def names(self) -> dict[str, str]:
        """Names in the URLs with their addresses: a fenced AI reaches no name service."""
        hosts = {urlsplit(one).hostname or "" for one in self._urls()}
        found = {host: await _address(host) for host in sorted(hosts)}
        return {host: address for host, address in found.items() if host != address}

    async def _fill(self, way: Way, device_id: str, interface: str) -> None:
        """No interface: no fence."""
        chain = Chain("filter", chain_name(device_id, over_ssh=True), _over(way.shell))
        fenced = [["-i", interface]] if interface else []
        doors = [await _door(one) for one in self._urls()] if interface else []
        try:
            await chain.fill(rules(chain.name, doors, fenced))
        except (OSError, SudoAsks, SudoRefused) as error:
            raise NotFenced(host=way.shell.host.name, reason=str(error)[:300]) from error


async def _used(docker: DockerApi, device_id: str) -> str:
    """The host's end of the device's fenced network, if there are AIs for it, also such as will
    start again; "" if not."""
    name = fenced_name(device_id)
    listed = await docker.containers(labels=[f"{LABEL_DEVICE}={device_id}"])
    if not any((one.get("HostConfig") or {}).get("NetworkMode") == name for one in listed):
        return ""
    try:
        return interface_of(await docker.network(name))
    except EngineObjectNotFound:
        return ""  # taken away while none of them runs


async def _door(url: str) -> Door:
    parts = urlsplit(url)
    return Door(await _address(parts.hostname or ""), parts.port or _PORTS[parts.scheme])


async def _address(name: str) -> str:
    """Of IPv4 where the name has both, as the AIs' network is."""
    return await address_of(name, family=socket.AF_INET)


def _over(shell: Shell) -> Run:
    async def run(argv: Sequence[str], stdin: str) -> int:
        ran = await shell.run(argv, root=True, stdin=stdin, timeout_s=COMMAND_S, check=False)
        return ran.status

    return run
