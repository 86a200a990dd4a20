"""Wires a host's Docker to the site registry, over SSH: what `docker_trust` does on the spot.

dockerd reads both files at each pull, so nothing is restarted. Only what differs is written, and
that needs root's rights; a host that somebody wired by hand needs none.
"""

import asyncio
import contextlib
import ipaddress
import socket
from typing import Final
from urllib.parse import urlsplit

from haechi.adapters.docker_ssh_errors import OnlyOnLoopback, RegistryNotWired
from haechi.adapters.docker_trust import hosts_text
from haechi.domains.clusters.host.errors import FileMissing, HostAway
from haechi.domains.clusters.host.ports import Shell
from haechi.errors import AppError
from haechi.protocol.commands import RegistryAccess

HOSTS_FILE: Final = "/etc/hosts"
CERTS: Final = "/etc/docker/certs.d"


async def wire_host(shell: Shell, access: RegistryAccess) -> bool:
    """Make the registry's name known and trusted on the host; True where something changed. Raises
    RegistryNotWired, OnlyOnLoopback, HostAway."""
    name, _, port = access.name.partition(":")
    host, _, own_port = access.address.rpartition(":")
    address = await _resolve(host.strip("[]"))
    if _is_loopback(address) and not _is_loopback(shell.host.address):
        raise OnlyOnLoopback(
            what="registry",
            address=access.address,
            host=shell.host.name,
            setting="registry.address",
        )
    certificate = f"{CERTS}/{name}:{port or own_port or '443'}/ca.crt"
    wanted: dict[str, str] = {}
    known = await _text(shell, HOSTS_FILE)
    hosts = hosts_text(known, name, address)
    if hosts != known:
        wanted[HOSTS_FILE] = hosts
    # Docker never checks certificates on loopback: a CA there would only be litter.
    trusted = _is_loopback(address) or not access.ca_pem
    if not trusted and await _text(shell, certificate) != access.ca_pem:
        wanted[certificate] = access.ca_pem
    for path, content in wanted.items():
        try:
            await shell.write(path, content, mode=0o644, root=True)
        except HostAway:
            raise
        except AppError as error:
            raise RegistryNotWired(
                host=shell.host.name,
                registry=access.name,
                reason=str(error)[:300],
                files=", ".join(wanted),
            ) from error
    return bool(wanted)


async def _text(shell: Shell, path: str) -> str:
    try:
        return (await shell.read(path)).decode("utf-8", "replace")
    except FileMissing:
        return ""


async def _resolve(host: str) -> str:
    """As this server sees it: the host may know no name service."""
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(host))
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return str(found[0][4][0])


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def is_loopback_url(url: str) -> bool:
    return _is_loopback(urlsplit(url).hostname or "")
