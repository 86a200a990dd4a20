"""Wires a Docker host to the site registry: how its name resolves and which CA it trusts.

dockerd reads both at each pull, so nothing is restarted: `certs.d/<name>:<port>/ca.crt` and a line
in the hosts file (an unknown name is asked for again after 5 s at most). The agent uses it too: no
third-party imports. Idempotent; files are replaced as a whole, and only our own line is touched.
"""

import contextlib
import ipaddress
import os
import re
import tempfile
from pathlib import Path
from typing import Final

from haechi.core.hosts_file import with_name

_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_ADDRESS: Final = re.compile(r"[0-9A-Fa-f:.]{2,45}")


def wire_docker_host(
    *,
    config_home: Path,
    hosts_file: Path,
    name: str,
    port: int,
    address: str,
    ca_pem: str,
) -> bool:
    """Make `name:port` resolve to the IP `address` and, off loopback, be trusted by `ca_pem`.

    `config_home` is Docker's (`/etc/docker`). Returns whether anything changed. Raises ValueError
    on what is no name or address, OSError where the files may not be written.
    """
    if not _NAME.fullmatch(name) or not _ADDRESS.fullmatch(address) or not 0 < port < 65536:
        raise ValueError(f"not a registry name and address: {name!r} {address!r} {port!r}")
    # Docker never checks certificates on loopback, so a CA there would only be litter.
    loopback = ipaddress.ip_address(address).is_loopback
    trusted = not loopback and _replace(_ca_file(config_home, name, port), ca_pem, 0o644)
    resolved = _set_host(hosts_file, name, address)
    return trusted or resolved


def unwire_docker_host(*, config_home: Path, hosts_file: Path, name: str, port: int) -> None:
    """Take back what `wire_docker_host` did."""
    path = _ca_file(config_home, name, port)
    path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        path.parent.rmdir()
    _set_host(hosts_file, name, None)


def _ca_file(config_home: Path, name: str, port: int) -> Path:
    return config_home / "certs.d" / f"{name}:{port}" / "ca.crt"


def _set_host(hosts_file: Path, name: str, address: str | None) -> bool:
    try:
        text = hosts_file.read_text("utf-8")
    except FileNotFoundError:
        text = ""
    wanted = with_name(text, name, address)
    return wanted != text and _replace(hosts_file, wanted, 0o644)


def _replace(path: Path, content: str, mode: int) -> bool:
    """Write it unless it is so already. A bind-mounted file cannot be renamed over: see below."""
    with contextlib.suppress(OSError):
        if path.read_text("utf-8") == content:
            return False
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(mode)
        try:
            Path(temporary).rename(path)
        except OSError:
            # /etc/hosts inside a container is a mount of its own: write through it.
            with path.open("r+", encoding="utf-8") as file:
                file.write(content)
                file.truncate()
    finally:
        Path(temporary).unlink(missing_ok=True)
    return True
