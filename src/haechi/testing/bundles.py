"""Bundles without compiler and mirror: fakes of the ports that fill them with small real things.

Programs are true ELF files of the wanted machine that print their name and end, packages are true
`.deb` files, so that verification, Docker and apt take them as they take the real ones.
"""

import asyncio
import io
import json
import lzma
import struct
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from haechi.domains.clusters.bundle import recipe as recipes
from haechi.domains.clusters.bundle.create import Maker
from haechi.domains.clusters.bundle.errors import BuildFailed
from haechi.domains.clusters.bundle.model import Bundle, name_of
from haechi.domains.clusters.bundle.ports import LICENCES_NAME, OnLine
from haechi.domains.clusters.bundle.recipe import Build
from haechi.errors import AppError

_BASE: Final = 0x400000
_CODE_AT: Final = 120
"""After the header and one program header."""


def tiny_program(arch: str, says: str) -> bytes:
    """A static program that writes a line and ends well."""
    text = says.encode() + b"\n"
    machine, code = (62, _amd64(text)) if arch == "amd64" else (183, _arm64(text))
    size = _CODE_AT + len(code)
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack(
        "<HHIQQQIHHHHHH", 2, machine, 1, _BASE + _CODE_AT, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    loaded = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return header + loaded + code


def _amd64(text: bytes) -> bytes:
    write = b"\xb8\x01\0\0\0" + b"\xbf\x01\0\0\0" + b"\x48\x8d\x35\x10\0\0\0"
    write += b"\xba" + struct.pack("<I", len(text)) + b"\x0f\x05"
    return write + b"\xb8\x3c\0\0\0" + b"\x31\xff" + b"\x0f\x05" + text


def _arm64(text: bytes) -> bytes:
    write = (0xD2800020, 0x100000E1, 0xD2800002 | len(text) << 5, 0xD2800808, 0xD4000001)
    end = (0xD2800000, 0xD2800BA8, 0xD4000001)
    return struct.pack("<8I", *write, *end) + text


def tiny_deb(name: str, arch: str, *, depends: str = "", version: str = "1.0") -> bytes:
    """A Debian package of one file."""
    lines = {
        "Package": name,
        "Version": version,
        "Architecture": arch,
        "Maintainer": "haechi <haechi@example.org>",
        "Depends": depends,
        "Description": f"{name} of a test\n more of it",
    }
    control = "".join(f"{key}: {value}\n" for key, value in lines.items() if value)
    members = {
        "debian-binary": b"2.0\n",
        "control.tar.xz": lzma.compress(_tar({"./control": control.encode()})),
        "data.tar.xz": lzma.compress(_tar({f"./usr/share/{name}/file": name.encode()})),
    }
    packed = b"!<arch>\n"
    for member, content in members.items():
        packed += f"{member:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        packed += content + b"\n" * (len(content) % 2)
    return packed


def _tar(files: dict[str, bytes]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return written.getvalue()


@dataclass
class FakeCompiler:
    missing: AppError | None = None
    failing: set[str] = field(default_factory=set)
    """Names of builds that fail."""
    waiting: asyncio.Event | None = None
    """Each build waits for it."""
    built: list[str] = field(default_factory=list)

    async def check(self, go: str) -> None:
        del go
        if self.missing:
            raise self.missing

    async def build(self, build: Build, *, arch: str, target: Path, on_line: OnLine) -> None:
        on_line(f"compiling {build.name}")
        if self.waiting:
            await self.waiting.wait()
        if build.name in self.failing:
            raise BuildFailed(what=build.name, reason="it was to fail", log="-")
        for name in build.programs:
            (target / name).write_bytes(tiny_program(arch, name))
        licences = [{"module": f"example.org/{build.name}", "version": "v1", "texts": ["Free."]}]
        (target / LICENCES_NAME).write_text(json.dumps(licences))
        self.built.append(build.name)


@dataclass
class FakeDistribution:
    missing: AppError | None = None
    made: list[str] = field(default_factory=list)

    async def check(self) -> None:
        if self.missing:
            raise self.missing

    async def packages(
        self, names: Sequence[str], *, suite: str, arch: str, target: Path, on_line: OnLine
    ) -> None:
        del suite
        on_line("fetching packages")
        (target / f"libfake1_1.0_{arch}.deb").write_bytes(tiny_deb("libfake1", arch))
        for name in names:
            deb = tiny_deb(name, arch, depends="libfake1 (>= 0.9) | libother1")
            (target / f"{name}_1.0_{arch}.deb").write_bytes(deb)
        self.made.append("packages")

    async def root(
        self, names: Sequence[str], *, suite: str, arch: str, target: Path, on_line: OnLine
    ) -> None:
        del suite, names
        on_line("making a root file system")
        tables = tiny_program(arch, "tables")
        with tarfile.open(target, "w") as tar:
            for name, content in {
                "./usr/sbin/xtables-nft-multi": tables,
                "./usr/share/doc/iptables/copyright": b"GPL-2",
                "./usr/share/doc/iptables/changelog.gz": b"left out",
                "./usr/share/man/man8/iptables.8.gz": b"left out",
            }.items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(content), 0o755
                tar.addfile(entry, io.BytesIO(content))
            device = tarfile.TarInfo("./dev/null")
            device.type = tarfile.CHRTYPE
            tar.addfile(device)
        self.made.append("root")


@dataclass
class HeardProgress:
    steps: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def step(self, name: str, number: int, count: int) -> None:
        self.steps.append(f"{number}/{count} {name}")

    def line(self, text: str) -> None:
        self.lines.append(text)


def maker(
    cache: Path,
    *,
    compiler: FakeCompiler | None = None,
    distribution: FakeDistribution | None = None,
    again: bool = False,
) -> Maker:
    return Maker(
        compiler=compiler or FakeCompiler(),
        distribution=distribution or FakeDistribution(),
        cache=cache,
        progress=HeardProgress(),
        again=again,
    )


async def small_bundle(parent: Path, platform: str = "linux/amd64") -> Bundle:
    """A complete bundle of a few hundred kilobytes under `parent`, which is a shelf then."""
    recipe = recipes.load()
    target = parent / name_of(recipe.kubernetes, platform)
    return await maker(parent / ".cache").create(recipe, platform, target)
