"""Putting files on a host so that they can be taken back, sending only what differs."""

import asyncio
import hashlib
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from haechi.core.tasks import TaskGroup
from haechi.domains.clusters.host import ledger as ledgers
from haechi.domains.clusters.host.ledger import BEFORE, Ledger
from haechi.domains.clusters.host.ports import Shell

STATE_SCRIPT: Final = files(__package__).joinpath("scripts/state.sh").read_text()
STATE_S: Final = 300.0
_AT_ONCE: Final = 3
"""Transfers beside each other: small files do not wait for the host's answers one by one."""


@dataclass(frozen=True, slots=True)
class Item:
    """One file to be there: `content`, or the local file `source` with its `digest`."""

    path: str
    mode: int
    content: bytes = b""
    source: Path | None = None
    digest: str = ""
    size_bytes: int = 0

    @classmethod
    def text(cls, path: str, content: str, mode: int = 0o644) -> "Item":
        data = content.encode()
        return cls(path, mode, data, None, hashlib.sha256(data).hexdigest(), len(data))


@dataclass
class State:
    """What is there."""

    files: dict[str, str] = field(default_factory=dict)
    """Path → `sha256 mode`, or `other` where it is no plain file."""
    missing_folders: list[str] = field(default_factory=list)
    """Outermost first."""
    packages: dict[str, str] = field(default_factory=dict)
    """Installed ones → version."""
    services: dict[str, str] = field(default_factory=dict)
    enabled: set[str] = field(default_factory=set)
    """Services that start by themselves."""
    nft_tables: list[str] = field(default_factory=list)
    images: dict[str, str] = field(default_factory=dict)
    runtime_data: bool = False
    held: list[str] = field(default_factory=list)
    """Paths of the runtime that has data here."""

    def has(self, item: Item) -> bool:
        return self.files.get(item.path) == f"{item.digest} {item.mode:o}"


async def look(shell: Shell, paths: Sequence[str]) -> State:
    argv = ["sh", "-s", "--", *paths]
    ran = await shell.run(argv, root=True, stdin=STATE_SCRIPT, timeout_s=STATE_S)
    state = State()
    for line in ran.stdout.splitlines():
        kind, name, value = [*line.split("\t", 2), "", ""][:3]
        match kind:
            case "file":
                state.files[name] = value
            case "no_folder" if name not in state.missing_folders:
                state.missing_folders.append(name)
            case "package" if value[1:2] == "i":
                state.packages[name] = value[3:].strip()
            case "service":
                state.services[name] = value
            case "enabled" if value == "enabled":
                state.enabled.add(name)
            case "nft":
                state.nft_tables.append(name)
            case "image":
                state.images[name] = value
            case "data":
                state.runtime_data = True
            case "held":
                state.held.append(name)
    state.missing_folders.sort(key=len)
    return state


async def place(
    shell: Shell,
    ledger: Ledger,
    state: State,
    items: Sequence[Item],
    *,
    on_bytes: Callable[[int], None],
) -> list[str]:
    """Paths that were written. Noted before anything is; originals of others are kept."""
    wanted = await announce(shell, ledger, state, items)
    await put_all(shell, wanted, on_bytes)
    return [item.path for item in wanted]


async def announce(shell: Shell, ledger: Ledger, state: State, items: Sequence[Item]) -> list[Item]:
    """Those that are to be put: noted, and originals of others kept, before anything is written."""
    wanted = [item for item in items if not state.has(item)]
    strangers = [
        item.path for item in wanted if item.path in state.files and item.path not in ledger.files
    ]
    if strangers:
        await _keep(shell, strangers)
    noted = ledger.note(
        files={item.path: item.path in state.files for item in wanted},
        folders=[one for one in state.missing_folders if _holds(one, wanted)],
    )
    if noted:
        await ledgers.save(shell, ledger)
    return wanted


async def put_all(shell: Shell, items: Sequence[Item], on_bytes: Callable[[int], None]) -> None:
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one(item: Item) -> None:
        async with slots:
            await put(shell, item, on_bytes)

    try:
        async with TaskGroup() as group:
            for item in items:
                group.create_task(one(item))
    except BaseExceptionGroup as found:
        raise found.exceptions[0] from None  # the others were cancelled with it


async def side_by_side(*parts: Coroutine[Any, Any, None]) -> None:
    """Each comes to its end, whatever the others say; then the first error is raised. An apt that
    is broken off because a file did not arrive would leave half a package.
    """
    ended = await asyncio.gather(*parts, return_exceptions=True)
    for one in ended:
        if one is not None:
            raise one


async def put(shell: Shell, item: Item, on_bytes: Callable[[int], None]) -> None:
    if item.source is None:
        await shell.write(item.path, item.content, mode=item.mode)
        on_bytes(item.size_bytes)
        return
    sent = 0

    def moved(there: int, total: int) -> None:
        nonlocal sent
        del total
        on_bytes(there - sent)
        sent = there

    await shell.send(item.source, item.path, mode=item.mode, digest=item.digest, on_sent=moved)


async def _keep(shell: Shell, paths: Sequence[str]) -> None:
    """Copy originals aside, once: a later try must not take our own file for one."""
    script = (
        f'for path in "$@"; do to={BEFORE}$path; [ -e "$to" ] || [ -L "$to" ] && continue; '
        'mkdir -p "$(dirname "$to")" && cp -a -T -- "$path" "$to.new" && mv -T "$to.new" "$to" '
        "|| exit 1; done"
    )
    await shell.run(["sh", "-c", script, "sh", *paths], root=True, timeout_s=120)


def _holds(folder: str, items: Sequence[Item]) -> bool:
    return any(item.path.startswith(f"{folder}/") for item in items)
