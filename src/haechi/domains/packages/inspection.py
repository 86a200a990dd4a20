"""Looks through a zip without unpacking it and says everything that is wrong with it.

The very same code runs in the server at upload and on a developer's machine in `haechi package
check`. It blocks: call it in a thread; `stop` ends it early.
"""

import stat
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from haechi.domains.packages import dockerfile as dockerfiles
from haechi.domains.packages import layout as layouts
from haechi.domains.packages import manifest as manifests
from haechi.domains.packages import paths, problems
from haechi.domains.packages.dockerfile import Dockerfile
from haechi.domains.packages.layout import Layout
from haechi.domains.packages.manifest import Manifest
from haechi.domains.packages.names import printable
from haechi.domains.packages.zipfile_reader import DEFLATED, STORED, Entry, ZipReader
from haechi.errors import AppError

MAX_RATIO: Final = 200
RATIO_FROM_BYTES: Final = 16 * 1024 * 1024
MAX_DOCKERFILE_BYTES: Final = 256 * 1024
MAX_LINK_BYTES: Final = 4096
_KINDS: Final = {
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
}


@dataclass(frozen=True, slots=True)
class Limits:
    max_files: int
    max_unpacked_bytes: int


@dataclass(frozen=True, slots=True)
class Note:
    """Worth knowing, nothing wrong: `exposes_ignored`, `syntax_line`, `junk_ignored`…"""

    code: str
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Contents:
    """The entries by clean path."""

    files: dict[str, Entry] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    links: dict[str, Entry] = field(default_factory=dict)
    targets: dict[str, str] = field(default_factory=dict)
    junk: int = 0

    @property
    def unpacked_bytes(self) -> int:
        return sum(entry.size_bytes for entry in self.files.values())


@dataclass(frozen=True, slots=True)
class Inspection:
    layout: Layout
    dockerfile: Dockerfile
    manifest: Manifest
    has_manifest: bool
    notes: list[Note]
    files: int
    unpacked_bytes: int


class Stopped(Exception):
    """The caller asked to stop."""


def inspect(path: Path, limits: Limits, *, stop: Callable[[], bool] = lambda: False) -> Inspection:
    """Raises the only problem, or PackageRefused with all of them."""
    with ZipReader(path) as zip_file:
        look = _Look(zip_file, limits, stop)
        inspection = look.all()
    problems.refuse(look.problems)
    assert inspection is not None
    return inspection


def read_contents(zip_file: ZipReader, limits: Limits) -> Contents:
    """The entries of a zip that was inspected before, for unpacking it."""
    look = _Look(zip_file, limits, lambda: False)
    look.contents()
    problems.refuse(look.problems)
    return look.found


class _Look:
    def __init__(self, zip_file: ZipReader, limits: Limits, stop: Callable[[], bool]) -> None:
        self._zip = zip_file
        self._limits = limits
        self._stop = stop
        self.problems: list[AppError] = []
        self.found = Contents()

    def all(self) -> Inspection | None:
        self.contents()
        found = self.found
        file_names = found.files.keys()
        try:
            dockerfile_path = layouts.find_dockerfile(file_names)
        except AppError as error:
            self.problems.append(error)
            return None
        text = self._small_file(dockerfile_path, MAX_DOCKERFILE_BYTES)
        dockerfile = dockerfiles.parse(dockerfiles.decode(text)) if text is not None else None
        manifest_path = layouts.find_manifest(file_names, dockerfile_path)
        manifest = self._manifest(manifest_path)
        if dockerfile is None:
            return None
        self.problems += [
            problems.BadDockerfile(line=fault.line, reason=fault.reason, path=dockerfile_path)
            for fault in dockerfile.faults
        ]
        everything = found.folders | found.files.keys() | found.links.keys()
        context, missing = layouts.find_context(dockerfile_path, dockerfile.copies, everything)
        self.problems += [item for item in missing if not self._behind_link(context, item)]
        if not self.problems:
            self._verify()
        return Inspection(
            layout=Layout(context, dockerfile_path, manifest_path),
            dockerfile=dockerfile,
            manifest=manifest,
            has_manifest=manifest_path is not None,
            notes=_notes(dockerfile, found, context, dockerfile_path),
            files=len(found.files),
            unpacked_bytes=found.unpacked_bytes,
        )

    def contents(self) -> None:
        """Names, kinds and sizes of all entries."""
        entries = self._zip.entries(limit=self._limits.max_files)
        self._sizes(entries)
        for entry in entries:
            self._check_stop()
            try:
                self._place(entry)
            except AppError as error:
                self.problems.append(error)
        self._overlaps()
        self._collisions()
        self._links()

    def _place(self, entry: Entry) -> None:
        name = paths.decode(
            entry.raw_name, utf8_flag=entry.utf8_flag, from_windows=entry.from_windows
        )
        path = paths.clean(name)
        kind = stat.S_IFMT(entry.mode)
        is_folder = entry.ends_with_slash or kind == stat.S_IFDIR
        if path and not is_folder and paths.is_junk(path):
            self.found.junk += 1
            return
        if is_folder or not path:
            if path and not paths.is_junk(path + "/"):
                self.found.folders.add(path)
            return
        if kind not in {0, stat.S_IFREG, stat.S_IFLNK}:
            raise problems.SpecialFile(path=path, kind=_KINDS.get(kind, oct(kind)))
        if path in self.found.files or path in self.found.links:
            raise problems.DuplicateEntry(path=path)
        if kind == stat.S_IFLNK:
            self.found.links[path] = entry
        else:
            self.found.files[path] = entry

    def _sizes(self, entries: list[Entry]) -> None:
        total = sum(entry.size_bytes for entry in entries)
        if total > self._limits.max_unpacked_bytes:
            self.problems.append(
                problems.TooMuchUnpacked(
                    size_bytes=total, limit_bytes=self._limits.max_unpacked_bytes
                )
            )
        encrypted = [entry for entry in entries if entry.encrypted]
        if encrypted:
            self.problems.append(
                problems.Encrypted(count=len(encrypted), path=_shown(encrypted[0]))
            )
        unknown = [entry for entry in entries if entry.method not in {STORED, DEFLATED}]
        for method, count in Counter(entry.method for entry in unknown).items():
            example = next(entry for entry in unknown if entry.method == method)
            self.problems.append(
                problems.UnknownCompression(method=method, count=count, path=_shown(example))
            )
        for entry in entries:
            ratio = entry.size_bytes // max(1, entry.packed_bytes)
            if entry.size_bytes >= RATIO_FROM_BYTES and ratio > MAX_RATIO:
                self.problems.append(problems.Bomb(path=_shown(entry), ratio=ratio))
                break

    def _overlaps(self) -> None:
        """Every entry's bytes are its own."""
        end = 0
        placed = [*self.found.files.items(), *self.found.links.items()]
        for path, entry in sorted(placed, key=lambda item: item[1].header_at):
            self._check_stop()
            if entry.header_at < end:
                self.problems.append(problems.Overlapping(path=path))
                return
            try:
                end = self._zip.data_at(entry) + entry.packed_bytes
            except AppError as error:
                self.problems.append(error)
                return
        if end > self._zip.directory_at:
            self.problems.append(problems.Truncated(reason="data"))

    def _collisions(self) -> None:
        found = self.found
        leaves = found.files.keys() | found.links.keys()
        parents = set(found.folders)
        for path in leaves | found.folders:
            parts = path.split("/")[:-1]
            parents |= {"/".join(parts[: n + 1]) for n in range(len(parts))}
        self.problems += [problems.PathClash(path=path) for path in sorted(parents & leaves)[:20]]
        found.folders = parents - leaves
        seen: dict[str, str] = {}
        for path in sorted(leaves | found.folders):
            other = seen.setdefault(path.casefold(), path)
            if other != path:
                self.problems.append(problems.CaseCollision(path=path, other=other))

    def _links(self) -> None:
        """Targets stay in the tree, followed as a file system would."""
        for path, entry in self.found.links.items():
            try:
                raw = self._zip.read_all(entry, path, limit=MAX_LINK_BYTES)
                self.found.targets[path] = raw.decode("utf-8")
            except (AppError, UnicodeDecodeError):
                self.problems.append(problems.LinkOut(path=path))
        for path in self.found.targets:
            try:
                paths.resolve(path, self.found.targets)
            except AppError as error:
                self.problems.append(error)

    def _behind_link(self, context: str, missing: problems.CopySourceMissing) -> bool:
        source = f"{context}/{missing.data['path']}".strip("/")
        parts = source.split("/")
        prefixes = {"/".join(parts[: n + 1]) for n in range(len(parts))}
        return bool(prefixes & self.found.links.keys())

    def _small_file(self, path: str, limit: int) -> bytes | None:
        entry = self.found.files[path]
        if entry.encrypted or entry.method not in {STORED, DEFLATED}:
            return None
        try:
            return self._zip.read_all(entry, path, limit=limit)
        except AppError as error:
            self.problems.append(error)
            return None

    def _manifest(self, path: str | None) -> Manifest:
        content = None if path is None else self._small_file(path, manifests.MAX_BYTES)
        if content is None:
            return manifests.PLAIN
        manifest, wrong = manifests.parse(content)
        self.problems += wrong
        return manifest

    def _verify(self) -> None:
        """Read everything once, so that unpacking cannot fail later for what is in the zip."""
        for path, entry in self.found.files.items():
            try:
                for _ in self._zip.read(entry, path):
                    self._check_stop()
            except AppError as error:
                self.problems.append(error)

    def _check_stop(self) -> None:
        if self._stop():
            raise Stopped


def _shown(entry: Entry) -> str:
    try:
        name = paths.decode(
            entry.raw_name, utf8_flag=entry.utf8_flag, from_windows=entry.from_windows
        )
    except AppError:
        name = entry.raw_name.decode("latin-1")
    return printable(name)


def _notes(dockerfile: Dockerfile, found: Contents, context: str, path: str) -> list[Note]:
    notes = []
    if dockerfile.exposes:
        notes.append(Note("exposes_ignored", {"ports": " ".join(dockerfile.exposes)[:200]}))
    if dockerfile.syntax:
        notes.append(Note("syntax_line", {"image": dockerfile.syntax[:200]}))
    if found.junk:
        notes.append(Note("junk_ignored", {"count": found.junk}))
    manifests_of_kubernetes = [p for p in found.files if p.endswith((".yaml", ".yml"))]
    if manifests_of_kubernetes:
        notes.append(Note("yaml_ignored", {"count": len(manifests_of_kubernetes)}))
    if path.count("/") > context.count("/") + bool(context):
        notes.append(Note("context_is_root", {"dockerfile": path}))
    if not dockerfile.has_command:
        notes.append(Note("no_command", {}))
    return notes
