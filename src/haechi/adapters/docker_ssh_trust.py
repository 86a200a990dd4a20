"""Wires a host's Docker to the site registry, over SSH: what `docker_trust` does on the spot.

dockerd reads both files at each pull, so nothing is restarted. Only what differs is written, and
that needs root's rights; a host that somebody wired by hand needs none.
"""

import ipaddress
from typing import Final
from urllib.parse import urlsplit

from haechi.adapters.docker_ssh_errors import OnlyOnLoopback, RegistryNotWired
from haechi.core.names import address_of
from haechi.domains.clusters.host import hosts_file
from haechi.domains.clusters.host.errors import FileMissing, HostAway
from haechi.domains.clusters.host.ports import Shell
from haechi.errors import AppError
from haechi.protocol.commands import RegistryAccess

CERTS: Final = "/etc/docker/certs.d"


async def wire_host(shell: Shell, access: RegistryAccess) -> bool:
    """Make the registry's name known and trusted on the host; True where something changed. Raises
    RegistryNotWired, OnlyOnLoopback, NameUnknown, HostAway."""
    name, _, port = access.name.partition(":")
    host, _, own_port = access.address.rpartition(":")
    address = await address_of(host.strip("[]"))
    if _is_loopback(address) and not _is_loopback(shell.host.address):
        raise OnlyOnLoopback(
            what="registry",
            address=access.address,
            host=shell.host.name,
            setting="registry.address",
        )
    certificate = f"{CERTS}/{name}:{port or own_port or '443'}/ca.crt"
    # Docker never checks certificates on loopback: a CA there would only be litter.
    trusts = _is_loopback(address) or not access.ca_pem
    trusts = trusts or await _text(shell, certificate) == access.ca_pem
    left = [hosts_file.PATH] if trusts else [hosts_file.PATH, certificate]
    try:
        led = await hosts_file.lead(shell, name, address)
        left.remove(hosts_file.PATH)
        written = not trusts and await shell.write(certificate, access.ca_pem)
    except HostAway:
        raise
    except AppError as error:
        raise RegistryNotWired(
            host=shell.host.name,
            registry=access.name,
            reason=str(error)[:300],
            files=", ".join(left),
        ) from error
    return led or written


async def _text(shell: Shell, path: str) -> str:
    try:
        return (await shell.read(path)).decode("utf-8", "replace")
    except FileMissing:
        return ""


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def is_loopback_url(url: str) -> bool:
    return _is_loopback(urlsplit(url).hostname or "")
