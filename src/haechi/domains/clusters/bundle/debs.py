"""Debian packages in a folder: read what they say of themselves, write apt's index of them.

Sources: deb(5), deb-control(5); the flat repository form of sources.list(5).
"""

import hashlib
import io
import lzma
import re
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

INDEX_NAME: Final = "Packages"
RELEASE_NAME: Final = "Release"
_MAGIC: Final = b"!<arch>\n"
_MAX_CONTROL: Final = 4 * 1024 * 1024
_MAX_UNPACKED: Final = 16 * 1024 * 1024
_MAX_MEMORY: Final = 128 * 1024 * 1024


class DebFault(Exception):
    """What is wrong with a package, in a few words."""


@dataclass(frozen=True, slots=True)
class Deb:
    """`fields` are those of its control file."""

    file: str
    fields: Mapping[str, str]
    control: str

    @property
    def name(self) -> str:
        return self.fields["Package"]

    @property
    def arch(self) -> str:
        return self.fields["Architecture"]

    @property
    def provides(self) -> set[str]:
        return {self.name} | {names[0] for names in clauses(self.fields.get("Provides", ""))}

    @property
    def needs(self) -> list[list[str]]:
        """Each inner list: any one of these will do."""
        said = [self.fields.get(key, "") for key in ("Pre-Depends", "Depends")]
        return [names for text in said for names in clauses(text)]


def clauses(text: str) -> list[list[str]]:
    """`a (>= 1) | b:any, c` → `[[a, b], [c]]`: versions and architectures are apt's business."""
    return [
        [re.split(r"[\s(:\[]", name.strip(), maxsplit=1)[0] for name in clause.split("|")]
        for clause in text.replace("\n", " ").split(",")
        if clause.strip()
    ]


def read(path: Path) -> Deb:
    """Raises DebFault."""
    try:
        with path.open("rb") as file:
            if file.read(8) != _MAGIC:
                raise DebFault("no Debian package")
            while header := file.read(60):
                if len(header) < 60 or header[58:] != b"`\n":
                    raise DebFault("cut off or damaged")
                name = header[:16].decode("ascii", "replace").strip().rstrip("/")
                size = int(header[48:58])
                if name.startswith("control.tar"):
                    if size > _MAX_CONTROL:
                        raise DebFault(f"{name} is too large")
                    return _deb(path.name, _control(name, file.read(size)))
                file.seek(size + size % 2, io.SEEK_CUR)
    except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error, tarfile.TarError) as error:
        raise DebFault(str(error)[:200] or type(error).__name__) from error
    raise DebFault("it has no control file")


def _control(name: str, content: bytes) -> str:
    with tarfile.open(fileobj=io.BytesIO(_unpacked(name, content))) as tar:
        for member in tar:
            if member.name.removeprefix("./") == "control":
                opened = tar.extractfile(member)
                assert opened is not None
                return opened.read().decode().strip() + "\n"
    raise DebFault("it has no control file")


def _unpacked(name: str, content: bytes) -> bytes:
    """Of bounded size and memory: a small file may unpack without end."""
    if name == "control.tar":
        return content
    if name.endswith(".xz"):
        unpacking: Any = lzma.LZMADecompressor(memlimit=_MAX_MEMORY)
    elif name.endswith(".gz"):
        unpacking = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    else:
        raise DebFault(f"{name} is packed in an unknown way")
    found: bytes = unpacking.decompress(content, _MAX_UNPACKED)
    if not unpacking.eof:
        full = len(found) == _MAX_UNPACKED
        raise DebFault(f"{name} is too large" if full else f"{name} is cut off")
    return found


def _deb(file: str, control: str) -> Deb:
    fields: dict[str, str] = {}
    key = ""
    for line in control.splitlines():
        if line[:1].isspace():
            fields[key] = f"{fields.get(key, '')}\n{line}"
            continue
        key, _, value = line.partition(":")
        fields[key] = value.strip()
    missing = [key for key in ("Package", "Version", "Architecture") if not fields.get(key)]
    if missing:
        raise DebFault(f"its control file has no {', '.join(missing)}")
    return Deb(file, fields, control)


def plain_name(file: str) -> str:
    """Without the epoch: apt would read `%3a` in an index as `:`."""
    return re.sub(r"_\d+%3a", "_", file)


def index(folder: Path) -> str:
    """The content of `Packages` for all `.deb` files of a folder."""
    stanzas = []
    for path in sorted(folder.glob("*.deb")):
        deb = read(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        stanzas.append(
            f"{deb.control}Filename: ./{path.name}\nSize: {path.stat().st_size}\nSHA256: {digest}\n"
        )
    return "\n".join(stanzas)


def release(packages: str, arch: str, at: datetime) -> str:
    """The content of `Release` beside an index: apt checks the index against it, and without one
    tries every packing of the index first and calls each an error.
    """
    content = packages.encode()
    return (
        "Origin: haechi\nLabel: haechi\nSuite: bundle\nCodename: bundle\n"
        f"Date: {at:%a, %d %b %Y %H:%M:%S} UTC\nArchitectures: {arch}\n"
        f"SHA256:\n {hashlib.sha256(content).hexdigest()} {len(content)} {INDEX_NAME}\n"
    )


def unmet(debs: Iterable[Deb]) -> dict[str, list[str]]:
    """Package → what it needs that none of them provides."""
    listed = list(debs)
    there = {name for deb in listed for name in deb.provides}
    found = {
        deb.name: [" | ".join(names) for names in deb.needs if not there.intersection(names)]
        for deb in listed
    }
    return {name: needs for name, needs in found.items() if needs}
