"""What making a bundle needs from outside: a Go compiler and a Debian mirror.

Both fill a folder that is empty at the start and thrown away when they fail. Errors that every
method may raise: ToolMissing, ToolTooOld, BuildFailed, BuildTookTooLong.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from haechi.domains.clusters.bundle.recipe import Build

OnLine = Callable[[str], None]
"""Takes what the tool said, a line at a time."""

LICENCES_NAME = "licences.json"
"""What `Compiler.build` leaves beside the programs: `[{"module", "version", "texts": [..]}]`."""


class Compiler(Protocol):
    async def check(self, go: str) -> None:
        """Raise where it is not there or older than `go` (`1.26`)."""

    async def build(self, build: Build, *, arch: str, target: Path, on_line: OnLine) -> None:
        """Static programs for Linux on `arch` into `target`, named as `build.programs`."""


class Distribution(Protocol):
    async def check(self) -> None: ...

    async def packages(
        self, names: Sequence[str], *, suite: str, arch: str, target: Path, on_line: OnLine
    ) -> None:
        """The `.deb` files of `names` and of all they rest on into `target`."""

    async def root(
        self, names: Sequence[str], *, suite: str, arch: str, target: Path, on_line: OnLine
    ) -> None:
        """A root file system of `names` and all they rest on, unpacked, no script run, as the tar
        file `target`.
        """


class Progress(Protocol):
    def step(self, name: str, number: int, count: int) -> None:
        """Step `number` of `count` begins."""

    def line(self, text: str) -> None:
        """Something was said by a tool."""
