"""Packages, their versions, and the revisions that a version went through."""

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from haechi.domains.packages.inspection import Note
from haechi.domains.packages.layout import Layout
from haechi.domains.packages.manifest import Manifest

BuildState = Literal["none", "building", "built", "failed"]


@dataclass(frozen=True, slots=True)
class Package:
    id: str
    name: str
    """DNS label: repository and container name."""
    original_name: str
    """As people wrote it."""
    title_ko: str
    title_en: str
    description: str
    author: str
    classes: list[str]
    revision: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class PackageVersion:
    """`version` is the human tag; `revision` counts how often its content was replaced."""

    id: str
    package_id: str
    package_name: str
    version: str
    revision: int
    zip_sha256: str
    size_bytes: int
    unpacked_bytes: int
    file_name: str
    manifest: Manifest
    has_manifest: bool
    dockerfile: dict[str, Any]
    """`images` (of FROM, COPY --from, RUN --mount from), `stages`, `exposes`, `syntax`…"""
    layout: Layout
    notes: list[Note]
    description: str
    created_by: str
    created_at: datetime
    updated_at: datetime

    @property
    def images(self) -> list[str]:
        """References of every image that its Dockerfile needs from outside."""
        return list(dict.fromkeys(image["reference"] for image in self.dockerfile["images"]))


@dataclass(frozen=True, slots=True)
class Revision:
    """One content that a version had; the highest number is the current one."""

    number: int
    zip_sha256: str
    size_bytes: int
    file_name: str
    created_by: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class PackageSummary:
    package: Package
    latest_version: str | None
    version_count: int


@dataclass(frozen=True, slots=True)
class BuildFacts:
    """What the builds domain knows of a version's current content."""

    state: BuildState = "none"
    image_digest: str | None = None
    platforms: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Uploaded:
    version: PackageVersion
    change: Literal["created", "replaced", "unchanged"]


class Unpacked(NamedTuple):
    """An unpacked version, ready to build."""

    context: Path
    """Folder that is the build context."""
    dockerfile: Path
    """Inside `context`."""
    version: PackageVersion

    @property
    def manifest(self) -> Manifest:
        return self.version.manifest
