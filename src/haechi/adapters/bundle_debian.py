"""What a bundle takes from Debian by mmdebstrap: packages for hosts, a root tree for images.

mmdebstrap checks the mirror's signatures, resolves dependencies with apt and never runs a script of
a package here (`--variant=extract`), so that another architecture needs no emulation.
"""

import os
import re
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from haechi.adapters.bundle_process import run
from haechi.domains.clusters.bundle import debs
from haechi.domains.clusters.bundle.errors import ToolMissing
from haechi.domains.clusters.bundle.ports import OnLine

LIMIT_S: Final = 1800.0
_HOW: Final = (
    "'apt-get install mmdebstrap debian-archive-keyring'를 실행하세요. / "
    "Run `apt-get install mmdebstrap debian-archive-keyring`."
)
_PROXY: Final = re.compile(r'(?i)(acquire::https?::proxy "[^"]+")\s*;')


class DebianMirror:
    """`mirror` is an address of a Debian archive; empty: as this machine's own apt has it."""

    def __init__(self, *, logs: Path, mirror: str = "", program: str = "mmdebstrap") -> None:
        self._logs = logs
        self._mirror = mirror
        self._program = program

    async def check(self) -> None:
        if shutil.which(self._program) is None:
            raise ToolMissing(tool="mmdebstrap", how=_HOW)

    async def packages(
        self, names: Sequence[str], *, suite: str, arch: str, target: Path, on_line: OnLine
    ) -> None:
        hook = f"--extract-hook=copy-out /var/cache/apt/archives {shlex.quote(str(target))}"
        await self._make(f"packages-{arch}", names, suite, arch, Path(os.devnull), on_line, hook)
        archives = target / "archives"
        for path in sorted(archives.glob("*.deb")):
            path.rename(target / debs.plain_name(path.name))
        shutil.rmtree(archives)

    async def root(
        self, names: Sequence[str], *, suite: str, arch: str, target: Path, on_line: OnLine
    ) -> None:
        await self._make(f"root-{arch}", names, suite, arch, target, on_line)

    async def _make(
        self,
        what: str,
        names: Sequence[str],
        suite: str,
        arch: str,
        target: Path,
        on_line: OnLine,
        *options: str,
    ) -> None:
        log = self._logs / f"debian-{what}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")
        await run(
            [
                self._program,
                "--variant=extract",
                "--format=tar",
                f"--architectures={arch}",
                f"--include={','.join(names)}",
                *await self._proxies(log),
                *options,
                suite,
                str(target),
                *([self._mirror] if self._mirror else []),
            ],
            what=f"Debian {what}",
            log=log,
            timeout_s=LIMIT_S,
            on_line=on_line,
        )

    async def _proxies(self, log: Path) -> list[str]:
        """The proxy of this machine's own apt: mmdebstrap's apt does not read its settings."""
        if shutil.which("apt-config") is None:
            return []
        said = await run(
            ["apt-config", "dump"], what="apt", log=log, timeout_s=60, on_line=lambda _: None
        )
        return [f"--aptopt={option}" for option in _PROXY.findall(said)]
