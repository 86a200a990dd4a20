"""The site registry made from settings: its processes, its client, its names, and this machine.

Image references carry names, never addresses. There are two names because there are two doors
(`registry_process` says why); each resolves to the address it listens on.
"""

import asyncio
import logging
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from haechi.adapters.docker_trust import wire_docker_host
from haechi.adapters.registry_http import HttpRegistry
from haechi.adapters.registry_process import RegistryChildren, TlsFiles
from haechi.core.clock import Clock
from haechi.core.pki import SiteCa
from haechi.domains.builds.ports import RegistryNames
from haechi.settings import RegistrySettings

log = logging.getLogger(__name__)

PULL_NAME: Final = "registry.haechi.internal"
PUSH_NAME: Final = "push.registry.haechi.internal"
HOSTS_FILE: Final = Path("/etc/hosts")
_EVERYWHERE: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - told apart, not bound to


@dataclass(frozen=True, slots=True)
class RegistryParts:
    process: RegistryChildren
    client: HttpRegistry
    names: RegistryNames
    address: str
    """HOST:PORT by which devices reach the pulling door."""
    ca_pem: str
    pull: tuple[str, int]
    """Where each door listens."""
    push: tuple[str, int]
    config_home: Path

    async def wire_this_machine(self, hosts_file: Path = HOSTS_FILE) -> None:
        """Let this machine's Docker find and trust both doors. Not allowed to: said in the log,
        because builds still work where an administrator has done it by hand.
        """
        for name, (host, port) in ((PULL_NAME, self.pull), (PUSH_NAME, self.push)):
            try:
                await asyncio.to_thread(
                    wire_docker_host,
                    config_home=self.config_home,
                    hosts_file=hosts_file,
                    name=name,
                    port=port,
                    address=host,
                    ca_pem=self.ca_pem,
                )
            except (OSError, ValueError) as error:
                log.warning("Docker on this machine is not wired to %s:%d: %s", name, port, error)


def make_registry(
    settings: RegistrySettings, *, data_dir: Path, ca: SiteCa, clock: Clock
) -> RegistryParts:
    """`data_dir` is DATA; the registry keeps to DATA/registry."""
    pull_host, pull_port = split_listen(settings.listen)
    push_host, push_port = split_listen(settings.push_listen or "127.0.0.1:0")
    if pull_port and not settings.push_listen:
        push_port = pull_port + 1
    pull_port, push_port = pull_port or _free_port(pull_host), push_port or _free_port(push_host)

    def tls() -> TlsFiles:
        hosts = {PULL_NAME, PUSH_NAME, pull_host, push_host}
        if settings.address:
            hosts.add(split_listen(settings.address)[0])
        files = ca.server_files("registry", sorted(hosts))
        return TlsFiles(files.certificate, files.key)

    process = RegistryChildren(
        binary=settings.binary,
        directory=data_dir / "registry",
        pull_listen=f"{settings.listen.rpartition(':')[0]}:{pull_port}",
        push_listen=_joined(push_host, push_port),
        tls=tls,
        clock=clock,
    )
    client = HttpRegistry(
        address=_joined(push_host, push_port),
        server_name=PUSH_NAME,
        ca_pem=ca.pem,
        login=lambda: process.push_login,
    )
    return RegistryParts(
        process=process,
        client=client,
        names=RegistryNames(f"{PULL_NAME}:{pull_port}", f"{PUSH_NAME}:{push_port}"),
        address=settings.address or _joined(pull_host, pull_port),
        ca_pem=ca.pem,
        pull=(pull_host, pull_port),
        push=(push_host, push_port),
        config_home=settings.config_home,
    )


def split_listen(listen: str) -> tuple[str, int]:
    """Host and port; an address that means "everywhere" becomes loopback. Raises ValueError."""
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    return ("127.0.0.1" if host in _EVERYWHERE else host), int(port)


def _free_port(host: str) -> int:
    """For port 0: names carry the port, so it must be known before the child listens."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
    return port


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
