"""What each server of a test would make anew: its base image, compressed and pushed into its
registry, and its agent's archive. The first to have them leaves them for the next, by hard links.

Servers do not know: they push their base image and look for their archive as always, and find that
it is there. What they write themselves they write beside it or under a new name.
"""

import contextlib
import os
import shutil
from pathlib import Path

from lab import engine, images

REGISTRY = Path("registry/data/docker")
AGENTS = Path("agent-images")
ARCHIVES = "agent-*.tar.gz"
KEEP = 4
"""Archives: tests make a few agents' images of their own."""


def _shelf() -> Path:
    return engine.root() / "stock"


async def lay(data_dir: Path) -> None:
    """Before a server starts there for the first time."""
    if data_dir.exists():
        return
    async with images.alone():
        data_dir.mkdir(mode=0o700, parents=True)
        for part in (REGISTRY, AGENTS):
            if (kept := _shelf() / part).is_dir():
                _link(kept, data_dir / part)


async def keep_base(data_dir: Path) -> None:
    """Right after it has mapped the base image, while nothing else is in its registry."""
    kept = _shelf() / REGISTRY
    async with images.alone():
        if _contents(kept) == _contents(data_dir / REGISTRY):
            return
        scratch = kept.with_name(f".{kept.name}")
        for old in (scratch, kept):
            shutil.rmtree(old, ignore_errors=True)
        _link(data_dir / REGISTRY, scratch)
        scratch.rename(kept)


async def keep_agent(data_dir: Path) -> None:
    """When it has ended; the newest few are kept."""
    kept = _shelf() / AGENTS
    async with images.alone():
        kept.mkdir(parents=True, exist_ok=True)
        for archive in (data_dir / AGENTS).glob(ARCHIVES):
            if not (kept / archive.name).exists():
                _copy(str(archive), str(kept / archive.name))
        oldest_first = sorted(kept.glob(ARCHIVES), key=lambda path: path.stat().st_mtime)
        for archive in oldest_first[:-KEEP]:
            archive.unlink()


def _contents(folder: Path) -> set[str]:
    """Of what is large: it is named by its content."""
    found = (path for path in folder.rglob("*") if _is_content(path))
    return {str(path.relative_to(folder)) for path in found}


def _is_content(path: Path) -> bool:
    """Never written to again; a registry's pointers are."""
    return path.name == "data" or path.suffix == ".gz"


def _link(source: Path, target: Path) -> None:
    shutil.copytree(source, target, copy_function=_copy)


def _copy(one: str, to: str) -> None:
    if _is_content(Path(one)):
        with contextlib.suppress(OSError):  # on another file system it is copied
            os.link(one, to)
            return
    shutil.copy2(one, to)
