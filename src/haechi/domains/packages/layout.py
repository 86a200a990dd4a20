"""Where in the zip the package lies: its Dockerfile, its build context, its manifest. Pure."""

import fnmatch
import posixpath
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from haechi.domains.packages import manifest
from haechi.domains.packages.dockerfile import Copy
from haechi.domains.packages.problems import CopySourceMissing, NoDockerfile, TwoDockerfiles

DOCKERFILE: Final = "Dockerfile"
MAX_PATTERNS: Final = 200
"""So many are compared with every path; of further ones the build will say."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths relative to the zip's root; `` is the root itself."""

    context: str
    dockerfile: str
    manifest: str | None

    def as_json(self) -> dict[str, Any]:
        return {
            "context": self.context,
            "dockerfile": self.dockerfile,
            "manifest": self.manifest,
        }


def find_dockerfile(files: Collection[str]) -> str:
    """The shallowest; raises NoDockerfile or TwoDockerfiles."""
    found = [path for path in files if posixpath.basename(path) == DOCKERFILE]
    if not found:
        alike = sorted(
            path for path in files if posixpath.basename(path).lower().startswith("dockerfile")
        )
        raise NoDockerfile(hint=f"({', '.join(alike[:3])}?)" if alike else "")
    depth = min(path.count("/") for path in found)
    shallowest = sorted(path for path in found if path.count("/") == depth)
    if len(shallowest) > 1:
        raise TwoDockerfiles(paths=", ".join(shallowest[:10]), path=shallowest[0])
    return shallowest[0]


def find_manifest(files: Collection[str], dockerfile: str) -> str | None:
    """Beside the Dockerfile, else at the root."""
    beside = posixpath.join(posixpath.dirname(dockerfile), manifest.FILE_NAME)
    return next((path for path in (beside, manifest.FILE_NAME) if path in files), None)


def find_context(
    dockerfile: str, copies: list[Copy], paths: Collection[str]
) -> tuple[str, list[CopySourceMissing]]:
    """The Dockerfile's folder; the root where only from there every copied path exists.

    `paths` are all files and folders of the zip.
    """
    folder = posixpath.dirname(dockerfile)
    missing = _missing(folder, copies, paths)
    if not missing:
        return folder, []
    if folder and not _missing("", copies, paths):
        return "", []
    return folder, [CopySourceMissing(line=line, path=source) for source, line in missing]


def _missing(base: str, copies: list[Copy], paths: Collection[str]) -> list[tuple[str, int]]:
    patterns = 0
    missing = []
    for copy in copies:
        for source in copy.sources:
            patterns += _is_pattern(source)
            if patterns > MAX_PATTERNS and _is_pattern(source):
                continue
            if not _exists(base, source, paths):
                missing.append((source, copy.line))
    return missing


def _is_pattern(path: str) -> bool:
    return any(char in path for char in "*?[")


def _exists(base: str, source: str, paths: Collection[str]) -> bool:
    # As BuildKit reads it: absolute means from the context, `..` cannot leave it.
    inside = posixpath.normpath("/" + source).lstrip("/")
    path = posixpath.join(base, inside) if base else inside
    path = path.rstrip("/")
    if path in {"", base}:
        return True
    if _is_pattern(path):
        depth = path.count("/")
        return any(
            known.count("/") >= depth
            and fnmatch.fnmatchcase("/".join(known.split("/")[: depth + 1]), path)
            for known in paths
        )
    return path in paths
