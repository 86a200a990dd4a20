"""Programs of a bundle from Go modules: pinned by go.mod and go.sum, static, for any platform.

No C compiler is needed (CGO is off), so that the same machine builds for amd64 and arm64. Compiled
packages and modules stay in the cache: the second build takes seconds.
"""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from haechi.adapters.bundle_process import run
from haechi.domains.clusters.bundle.errors import ToolMissing, ToolTooOld
from haechi.domains.clusters.bundle.ports import LICENCES_NAME, OnLine
from haechi.domains.clusters.bundle.recipe import Build

BUILD_LIMIT_S: Final = 3 * 3600.0
"""A cold Kubernetes on a slow machine; warm it takes seconds."""
_ASK_LIMIT_S: Final = 900.0
_FETCHING: Final = (1, 21)
"""From this version on, Go fetches a newer toolchain by itself where it may."""
_HOW: Final = (
    "Go {wanted} 이상을 설치해 PATH에 넣으세요 (`go version`으로 확인). / "
    "Install Go {wanted} or newer and put it on PATH (`go version` shows it)."
)
_LICENCE: Final = re.compile(r"(LICEN[CS]E|COPYING|NOTICE|COPYRIGHT)([.-].*)?\Z", re.IGNORECASE)
_MODULE: Final = (
    "{{with .Module}}{{if not .Main}}{{.Path}}\t{{.Version}}\t"
    "{{with .Replace}}{{.Version}}{{end}}\t{{.Dir}}{{end}}{{end}}"
)
_MAX_LICENCE: Final = 256 * 1024


class GoCompiler:
    """`cache` holds Go's own caches (`build`, `mod`); `logs` what the compiler said."""

    def __init__(self, *, cache: Path, logs: Path, program: str = "go") -> None:
        self._cache = cache
        self._logs = logs
        self._program = program

    async def check(self, go: str) -> None:
        how = _HOW.format(wanted=go)
        if shutil.which(self._program) is None:
            raise ToolMissing(tool="go", how=how)
        log = self._logs / "go.log"
        said = await self._ask(["version"], log)
        match = re.search(r"go(\d+)\.(\d+)", said)
        if match is None:
            raise ToolTooOld(tool="go", found=said.strip()[:60], wanted=go, how=how)
        found = (int(match[1]), int(match[2]))
        if found >= tuple(int(part) for part in go.split(".")[:2]):
            return
        fetches = found >= _FETCHING and "local" not in await self._ask(["env", "GOTOOLCHAIN"], log)
        if not fetches:
            raise ToolTooOld(tool="go", found=f"{match[1]}.{match[2]}", wanted=go, how=how)

    async def _ask(self, words: Sequence[str], log: Path) -> str:
        return await run(
            [self._program, *words], what="go", log=log, timeout_s=60, on_line=lambda _: None
        )

    async def build(self, build: Build, *, arch: str, target: Path, on_line: OnLine) -> None:
        folder = target / ".source"
        for path, content in build.files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        log = self._logs / f"{build.name}-{arch}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")
        environment = {
            "CGO_ENABLED": "0",
            "GOOS": "linux",
            "GOARCH": arch,
            "GOFLAGS": "-mod=readonly",
            "GOWORK": "off",
            "GOCACHE": str(self._cache / "build"),
            "GOMODCACHE": str(self._cache / "mod"),
        }
        packages = list(build.programs.values())

        async def go(*words: str, limit_s: float = _ASK_LIMIT_S) -> str:
            return await run(
                [self._program, *words],
                what=f"{build.name} ({arch})",
                log=log,
                timeout_s=limit_s,
                on_line=on_line,
                cwd=folder,
                environment=environment,
            )

        if build.own_main:
            said = await go("list", "-m", "-f", "{{.Dir}}", build.own_main)
            if not said.strip():  # listed, and not yet in the cache
                await go("mod", "download", build.own_main)
                said = await go("list", "-m", "-f", "{{.Dir}}", build.own_main)
            copy_main(Path(said.strip()), folder, build.without)
        variables = " ".join(f"-X {name}={text}" for name, text in build.variables.items())
        tags = ["-tags", ",".join(build.tags)] if build.tags else []
        out = target / ".out"
        out.mkdir()
        await go(
            "build",
            "-trimpath",
            "-buildvcs=false",
            *tags,
            "-ldflags",
            f"-s -w {variables}".strip(),
            "-o",
            f"{out}/",
            *packages,
            limit_s=BUILD_LIMIT_S,
        )
        for name, package in build.programs.items():
            (out / _output_name(package, build.name)).rename(target / name)
        listed = await go("list", "-deps", *tags, "-f", _MODULE, *packages)
        root = (await go("env", "GOROOT")).strip()
        licences = _licences(listed, Path(root))
        (target / LICENCES_NAME).write_text(json.dumps(licences, ensure_ascii=False, indent=1))
        shutil.rmtree(folder)
        out.rmdir()


def copy_main(source: Path, target: Path, without: Sequence[str]) -> None:
    """A module's main package, without tests and without some imports for their side effects."""
    left_out = {f'_ "{package}"' for package in without}
    for path in sorted(source.glob("*.go")):
        if path.name.endswith("_test.go"):
            continue
        lines = path.read_text().splitlines(keepends=True)
        kept = [line for line in lines if line.strip() not in left_out]
        (target / path.name).write_text("".join(kept))


def _output_name(package: str, build: str) -> str:
    """How `go build` names what it makes of a package: its last word that is no version."""
    words = f"haechi.internal/{build}".split("/") if package == "." else package.split("/")
    return words[-2] if re.fullmatch(r"v\d+", words[-1]) else words[-1]


def _licences(listed: str, go_root: Path) -> list[dict[str, Any]]:
    """Of every module that went into the programs, and of Go's own library."""
    found = {("Go", "standard library"): go_root}
    for line in listed.splitlines():
        if line:
            path, version, replaced_by, folder = line.split("\t")
            found[path, replaced_by or version] = Path(folder)
    return [
        {"module": name, "version": version, "texts": _texts(folder)}
        for (name, version), folder in sorted(found.items())
    ]


def _texts(folder: Path) -> list[str]:
    return [
        path.read_text("utf-8", "replace")
        for path in sorted(folder.iterdir())
        if path.is_file() and _LICENCE.match(path.name) and path.stat().st_size < _MAX_LICENCE
    ]
