"""A build context as a tar stream: the same bytes for the same files, made piece by piece.

Owner, times and order are fixed so that BuildKit's cache knows unchanged files again.
`.dockerignore` is honoured here, as the docker CLI does it: the Engine does not.
"""

import asyncio
import os
import stat
import tarfile
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_CHUNK: Final = 256 * 1024
_IGNORE_FILE: Final = ".dockerignore"
_IGNORE_BYTES: Final = 64 * 1024
_IGNORE_RULES: Final = 1000
"""More of a stranger's rules are not looked at: what they would leave out is sent along."""

_Step = Callable[[str, set[int]], set[int]]
"""(path, places in it) → places after one more part of a pattern has matched."""


@dataclass(frozen=True, slots=True)
class _Rule:
    pattern: list[_Step]
    keep: bool

    def fits(self, path: str) -> bool:
        """Follows all ways through the pattern at once: a regular expression of a stranger's
        stars could take for ever, and nothing else would run meanwhile.
        """
        at = {0}
        for step in self.pattern:
            at = step(path, at)
            if not at:
                return False
        return len(path) in at


async def stream_context(
    directory: Path, dockerfile: str, dockerfile_text: str
) -> AsyncGenerator[bytes, None]:
    """The tar of `directory`, with `dockerfile_text` in the place of `dockerfile`."""
    pieces = _pieces(directory, dockerfile, dockerfile_text.encode())
    while piece := await asyncio.to_thread(_take, pieces):
        yield piece


def _take(pieces: Iterator[bytes]) -> bytes:
    """Enough pieces for one trip to the thread."""
    taken = bytearray()
    for piece in pieces:
        taken += piece
        if len(taken) >= _CHUNK:
            break
    return bytes(taken)


def _pieces(directory: Path, dockerfile: str, dockerfile_text: bytes) -> Iterator[bytes]:
    rules = read_rules(directory, dockerfile)
    for path, entry in _entries(directory, ""):
        if path == dockerfile or is_ignored(path, rules):
            continue
        info = _info(path, entry)
        if info is None:
            continue
        if not info.isreg():
            yield _header(info)
            continue
        with Path(entry.path).open("rb") as file:
            info.size = os.fstat(file.fileno()).st_size
            yield _header(info)
            left = info.size
            while left and (piece := file.read(min(_CHUNK, left))):
                left -= len(piece)
                yield piece
            yield b"\0" * (left + -info.size % tarfile.BLOCKSIZE)
    info = tarfile.TarInfo(dockerfile)
    info.size = len(dockerfile_text)
    yield _header(info)
    yield dockerfile_text + b"\0" * (-info.size % tarfile.BLOCKSIZE)
    yield b"\0" * (2 * tarfile.BLOCKSIZE)


def _entries(directory: Path, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    with os.scandir(directory / prefix) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        path = f"{prefix}{entry.name}"
        yield path, entry
        if entry.is_dir(follow_symlinks=False):
            yield from _entries(directory, path + "/")


def _info(path: str, entry: os.DirEntry[str]) -> tarfile.TarInfo | None:
    """Header of a folder, file or link; None for anything else."""
    status = entry.stat(follow_symlinks=False)
    info = tarfile.TarInfo(path)
    info.mode = 0o755 if status.st_mode & 0o111 else 0o644
    if stat.S_ISDIR(status.st_mode):
        info.type, info.mode = tarfile.DIRTYPE, 0o755
    elif stat.S_ISLNK(status.st_mode):
        info.type, info.mode = tarfile.SYMTYPE, 0o777
        info.linkname = str(Path(entry.path).readlink())
    elif not stat.S_ISREG(status.st_mode):
        return None
    return info


def _header(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def read_rules(directory: Path, dockerfile: str) -> list[_Rule]:
    """`<Dockerfile>.dockerignore` wins over `.dockerignore`, as with BuildKit."""
    for name in (f"{dockerfile}{_IGNORE_FILE}", _IGNORE_FILE):
        path = directory / name
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                lines = file.read(_IGNORE_BYTES).decode("utf-8", "replace").splitlines()
            return [rule for line in lines if (rule := _rule(line))][:_IGNORE_RULES]
    return []


def is_ignored(path: str, rules: list[_Rule]) -> bool:
    """The last rule that fits decides; what lies in an ignored folder is ignored with it."""
    if not rules or path == _IGNORE_FILE:
        return False
    parts = path.split("/")
    ways = ["/".join(parts[: index + 1]) for index in range(len(parts))]
    ignored = False
    for rule in rules:
        if any(rule.fits(way) for way in ways):
            ignored = not rule.keep
    return ignored


def _rule(line: str) -> _Rule | None:
    line = line.strip()
    if not line or line.startswith("#"):
        return None
    keep = line.startswith("!")
    path = os.path.normpath(line.removeprefix("!").strip()).lstrip("/")
    return None if path == "." else _Rule(_pattern(path), keep)


def _pattern(glob: str) -> list[_Step]:
    """Go's filepath.Match with `**` for any number of folders."""
    steps: list[_Step] = []
    text, at = "", 0
    while at < len(glob):
        step: _Step | None = None
        char, end = glob[at], at + 1
        if glob.startswith("**/", at):
            step, end = _folders, at + 3
        elif glob.startswith("**", at):
            step, end = _anything, at + 2
        elif char == "*":
            step = _within_folder
        elif char == "?":
            step = _one(lambda one: one != "/")
        elif char == "[" and (close := glob.find("]", at + 2)) > 0:
            step, end = _one(_class(glob[at + 1 : close])), close + 1
        elif char == "\\" and end < len(glob):
            char, end = glob[end], end + 1
        if step is None:
            text += char
        else:
            steps += [_text(text), step] if text else [step]
            text = ""
        at = end
    return [*steps, _text(text)] if text else steps


def _text(text: str) -> _Step:
    return lambda path, at: {one + len(text) for one in at if path.startswith(text, one)}


def _one(fits: Callable[[str], bool]) -> _Step:
    return lambda path, at: {one + 1 for one in at if one < len(path) and fits(path[one])}


def _class(text: str) -> Callable[[str], bool]:
    """`a-z0` or, for all others, `^a-z0`."""
    body = text.removeprefix("^")
    ranges, at = [], 0
    while at < len(body):
        last = at + 2 if body[at + 1 : at + 2] == "-" and at + 2 < len(body) else at
        ranges.append((body[at], body[last]))
        at = last + 1
    wanted = body == text
    return lambda one: any(low <= one <= high for low, high in ranges) == wanted


def _within_folder(path: str, at: set[int]) -> set[int]:
    found: set[int] = set()
    for one in at:
        place = one
        while place not in found:
            found.add(place)
            if place == len(path) or path[place] == "/":
                break
            place += 1
    return found


def _anything(path: str, at: set[int]) -> set[int]:
    return set(range(min(at), len(path) + 1))


def _folders(path: str, at: set[int]) -> set[int]:
    first = min(at)
    return at | {place + 1 for place in range(first, len(path)) if path[place] == "/"}
