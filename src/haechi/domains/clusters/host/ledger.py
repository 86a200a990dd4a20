"""What haechi made on a host, written there before it is made: `clean` takes back exactly that.

It lies under /var/lib/haechi/host, with the originals of files that were replaced. Whatever is
noted may not have happened (a crash came between); taking back what is not there is nothing.
"""

from typing import Any, Final

import msgspec

from haechi.domains.clusters.host.errors import FileMissing
from haechi.domains.clusters.host.ports import Shell

FOLDER: Final = "/var/lib/haechi/host"
PATH: Final = f"{FOLDER}/ledger.json"
BEFORE: Final = f"{FOLDER}/before"
"""Originals, by their full path below it."""


class Ledger(msgspec.Struct, kw_only=True):
    format: int = 1
    bundle: str = ""
    """Digest of the bundle's list that the host was prepared from last."""
    packages: list[str] = []
    """Installed by us: they were not there."""
    upgraded: dict[str, str] = {}
    """Package → the version that was there; this is not taken back."""
    files: dict[str, bool] = {}
    """Path → was there a file before (its original is kept)?"""
    folders: list[str] = []
    """Made by us, outermost first: removed where they are empty."""
    sysctls: dict[str, str] = {}
    """Name → value before."""
    units: list[str] = []
    """Enabled by us."""
    masked: list[str] = []
    runtime: bool = False
    """containerd's data under /var/lib/containerd is ours: there was none."""
    held: list[str] = []
    """Paths of another containerd as it was; newer ones than these go, so that it finds its own."""
    drop_in: str = ""
    """containerd settings as they were written: what `registry_trust` holds it to."""
    names: list[str] = []
    """Host names that we lead somewhere in /etc/hosts."""
    nft_tables: list[str] = []
    """That were there before (`ip nat`): never removed."""
    looked: bool = False
    """What ran here before anything of ours is noted: what runs later may be ours."""
    started: bool = False
    """Our runtime has been started here before."""
    services: list[str] = []
    """Ran before and go on, on our runtime: Docker, an older containerd."""

    def note(self, **values: Any) -> bool:
        """Add to lists and tables; False where all of it was noted already."""
        changed = False
        for name, value in values.items():
            known = getattr(self, name)
            if isinstance(value, dict):
                new = {key: it for key, it in value.items() if key not in known}
                known.update(new)
                changed = changed or bool(new)
            elif isinstance(value, list):
                fresh = [it for it in value if it not in known]
                known.extend(fresh)
                changed = changed or bool(fresh)
            elif known != value:
                setattr(self, name, value)
                changed = True
        return changed


async def read(shell: Shell) -> Ledger | None:
    try:
        return msgspec.json.decode(await shell.read(PATH, root=True), type=Ledger)
    except (FileMissing, msgspec.DecodeError):
        return None


async def save(shell: Shell, ledger: Ledger) -> None:
    content = msgspec.json.format(msgspec.json.encode(ledger), indent=1)
    await shell.write(PATH, content, mode=0o600)
