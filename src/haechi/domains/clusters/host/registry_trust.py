"""A node pulls from the site registry: its stable name, the site CA, this node's credentials.

containerd reads `certs.d/<name>/hosts.toml` at each pull, so nothing is restarted. Source:
containerd's `docs/hosts.md`. The credentials stand there as a header, in a file that only root can
read.

`check` looks at what containerd really goes by (`containerd config dump`), because tools that set
up GPUs rewrite its main file; `repair` lets it read haechi's drop-in again.
"""

import base64
import json
import re
import tomllib
from collections.abc import Callable
from typing import Any, Final

from haechi.core.secrets import Secret
from haechi.domains.clusters.host import ledger as ledgers
from haechi.domains.clusters.host import runtime
from haechi.domains.clusters.host.errors import (
    FileMissing,
    RuntimeNotStarting,
    RuntimeUnreadable,
    short,
)
from haechi.domains.clusters.host.hosts_file import lead
from haechi.domains.clusters.host.ports import Shell
from haechi.protocol.commands import RegistryAccess

OnText = Callable[[str], None]
_QUICK_S: Final = 60.0
_DIAL: Final = "3s"
"""containerd dials eight times before it gives a request up. With its own 30 s the kubelet ends the
pull first, after two minutes, and what is told is a deadline instead of a registry out of reach.
"""
_IMPORTS: Final = re.compile(r"^imports\s*=\s*\[[^\]]*\]", re.MULTILINE)


def hosts_toml(access: RegistryAccess) -> str:
    """How containerd reaches the registry: by its name, wherever it answers now."""
    host = access.name.partition(":")[0]
    port = access.address.rpartition(":")[2]
    url = f"https://{host}:{port}"
    table: dict[str, Any] = {"capabilities": ["pull", "resolve"], "dial_timeout": _DIAL}
    if access.ca_pem:
        table["ca"] = f"{folder_of(access.name)}/ca.crt"
    if access.user:
        pair = base64.b64encode(f"{access.user}:{access.password}".encode()).decode()
        table["header"] = {"Authorization": f"Basic {pair}"}
    return runtime.to_toml({"server": url, "host": {url: table}})


def folder_of(name: str) -> str:
    return f"{runtime.CERTS_FOLDER}/{name}"


async def trust(shell: Shell, access: RegistryAccess, *, log: OnText) -> bool:
    """Idempotent; False where all was so already. Whether it works, a real pull says."""
    folder = folder_of(access.name)
    note = await ledgers.read(shell)
    if note is not None and note.note(
        files={f"{folder}/hosts.toml": False, f"{folder}/ca.crt": False},
        folders=[runtime.CERTS_FOLDER, folder],
        names=[access.name.partition(":")[0]],
    ):
        await ledgers.save(shell, note)
    changed = False
    if access.ca_pem:
        changed = await shell.write(f"{folder}/ca.crt", access.ca_pem)
    written = await shell.write(f"{folder}/hosts.toml", Secret(hosts_toml(access)), mode=0o600)
    address = access.address.rpartition(":")[0].strip("[]")
    led = await lead(shell, access.name.partition(":")[0], address)
    if changed or written or led:
        log(f"pulls from {access.name} at {access.address}")
    return changed or written or led


async def distrust(shell: Shell, name: str) -> None:
    """Take back what `trust` did."""
    await shell.run(["rm", "-rf", folder_of(name)], root=True)
    await lead(shell, name.partition(":")[0], None)


async def check(shell: Shell) -> list[str]:
    """What of haechi's settings containerd does not go by; empty where all is well. Raises
    RuntimeUnreadable.
    """
    note = await ledgers.read(shell)
    wanted = tomllib.loads(note.drop_in).get("plugins", {}) if note and note.drop_in else {}
    ran = await shell.run(["containerd", "config", "dump"], root=True, timeout_s=_QUICK_S)
    effective = _parsed(shell, ran.stdout.encode(), "containerd config dump").get("plugins", {})
    return sorted(_lacking(wanted, effective, ()))


async def repair(shell: Shell, *, log: OnText) -> bool:
    """Have containerd go by haechi's settings again, beside those of others. False where it did.
    Restarts containerd; containers go on. Raises RuntimeNotStarting, RuntimeUnreadable.
    """
    lost = await check(shell)
    if not lost:
        return False
    log(f"containerd does not go by: {', '.join(lost)}")
    note = await ledgers.read(shell)
    if note is not None and note.drop_in:
        await shell.write(runtime.CONTAINERD_DROP_IN, note.drop_in)
    try:
        main = await shell.read(runtime.CONTAINERD_CONFIG, root=True)
    except FileMissing:
        main = b""
    _ = _parsed(shell, main, runtime.CONTAINERD_CONFIG)
    await shell.write(runtime.CONTAINERD_CONFIG, with_imports(main.decode()))
    if still := await check(shell):
        raise RuntimeNotStarting(
            host=shell.host.name, message=f"overridden by another drop-in: {', '.join(still)}"
        )
    ran = await shell.run(
        ["systemctl", "restart", "containerd.service"], root=True, timeout_s=90, check=False
    )
    if ran.status:
        raise RuntimeNotStarting(host=shell.host.name, message=short(ran.last_line))
    log("containerd reads haechi's settings again")
    return True


def _parsed(shell: Shell, text: bytes, what: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text.decode())
    except ValueError as error:  # no TOML, or no UTF-8
        raise RuntimeUnreadable(
            host=shell.host.name, what=what, message=short(str(error))
        ) from error


def with_imports(main: str) -> str:
    """Containerd's main file with haechi's drop-ins read after all else that it names."""
    if not main.strip():
        return runtime.MAIN_TEXT
    wanted = f"{runtime.DROP_INS}/*.toml"
    known = tomllib.loads(main).get("imports", [])
    if wanted in known:
        return main
    line = f"imports = {json.dumps([*known, wanted])}"
    table = re.search(r"^\s*\[", main, re.MULTILINE)
    head, rest = (main[: table.start()], main[table.start() :]) if table else (main, "")
    head, replaced = _IMPORTS.subn(lambda _: line, head, count=1)
    return head + rest if replaced else f"{line}\n{main}"


def _lacking(wanted: dict[str, Any], found: Any, path: tuple[str, ...]) -> list[str]:
    lost = []
    for key, value in wanted.items():
        own = found.get(key) if isinstance(found, dict) else None
        if isinstance(value, dict):
            lost += _lacking(value, own, (*path, key))
        elif own != value:
            lost.append(".".join((*path, key)))
    return lost
