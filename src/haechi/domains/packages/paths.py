"""Names of zip entries → clean relative paths. Pure; every way out of the tree ends here."""

import re
import unicodedata
from typing import Final

from haechi.domains.packages.names import printable
from haechi.domains.packages.problems import AbsolutePath, BadPath, LinkOut, Traversal

MAX_PATH_BYTES: Final = 1024
MAX_PART_BYTES: Final = 255
_DRIVE: Final = re.compile(r"^[A-Za-z]:")
_JUNK_NAMES: Final = frozenset({".ds_store", "thumbs.db", "desktop.ini"})
_LINK_HOPS: Final = 40


def decode(raw: bytes, *, utf8_flag: bool, from_windows: bool) -> str:
    """The entry's name as text. Without the UTF-8 flag: what the writing system most likely meant,
    cp949 on Korean Windows, UTF-8 elsewhere. Raises BadPath.
    """
    order = ("cp949", "utf-8") if from_windows else ("utf-8", "cp949")
    for encoding in ("utf-8",) if utf8_flag else order:
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    shown = printable(raw.decode("latin-1"))
    raise BadPath(path=shown, reason="UTF-8, cp949")


def clean(name: str) -> str:
    """One form for every way to write a path, NFC; empty for the root itself.

    Raises AbsolutePath, Traversal, BadPath.
    """
    text = unicodedata.normalize("NFC", name).replace("\\", "/")
    shown = printable(text)
    parts = [part for part in text.split("/") if part not in {"", "."}]
    if text.startswith("/") or (parts and _DRIVE.match(parts[0])):
        raise AbsolutePath(path=shown)
    if ".." in parts:
        raise Traversal(path=shown)
    if any(unicodedata.category(char) in {"Cc", "Cs"} for char in text):
        raise BadPath(path=shown, reason="control character")
    if any(len(part.encode()) > MAX_PART_BYTES for part in parts):
        raise BadPath(path=shown, reason=f"> {MAX_PART_BYTES} bytes")
    path = "/".join(parts)
    if len(path.encode()) > MAX_PATH_BYTES:
        raise BadPath(path=shown, reason=f"> {MAX_PATH_BYTES} bytes")
    return path


def is_junk(path: str) -> bool:
    """What operating systems leave in zips: no part of the package."""
    parts = path.split("/")
    last = parts[-1]
    return "__MACOSX" in parts or last.startswith("._") or last.lower() in _JUNK_NAMES


def resolve(path: str, links: dict[str, str]) -> str:
    """Where `path` ends when every link is followed as a file system would.

    Raises LinkOut when that leaves the tree, or never ends.
    """
    todo = [part for part in reversed(path.split("/")) if part]
    done: list[str] = []
    hops = 0
    while todo:
        part = todo.pop()
        if part == ".":
            continue
        if part == "..":
            if not done:
                raise LinkOut(path=path)
            done.pop()
            continue
        done.append(part)
        target = links.get("/".join(done))
        if target is None:
            continue
        hops += 1
        if hops > _LINK_HOPS or target.startswith("/") or not target:
            raise LinkOut(path=path)
        done.pop()
        todo += [piece for piece in reversed(target.split("/")) if piece]
    return "/".join(done)
