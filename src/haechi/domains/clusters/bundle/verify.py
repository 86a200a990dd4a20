"""Is a bundle whole? Every problem at once, each with the file it is about.

Checked: every listed file's size and sha256, no file beside them, everything a node needs listed,
each program's machine, each image's name, platform, layers and program, each package's
architecture and what it rests on. With `quick` only names and sizes: a fraction of a second.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from haechi.domains.clusters.bundle import archive, debs, elf
from haechi.domains.clusters.bundle import errors as e
from haechi.domains.clusters.bundle import recipe as recipes
from haechi.domains.clusters.bundle.model import LIST_NAME, Bundle, Part
from haechi.errors import AppError

_CHUNK: Final = 1024 * 1024
OnPart = Callable[[str], None]


def verify(bundle: Bundle, *, quick: bool = False, on_part: OnPart = lambda _: None) -> None:
    """Raises BundleDamaged with all that is wrong."""
    e.refuse(str(bundle.folder), problems(bundle, quick=quick, on_part=on_part))


def problems(
    bundle: Bundle, *, quick: bool = False, on_part: OnPart = lambda _: None
) -> list[AppError]:
    found: list[AppError] = []
    whole: list[Part] = []
    for part in bundle.parts:
        on_part(part.path)
        wrong = _file(bundle.path_of(part), part, quick=quick)
        if wrong is None:
            whole.append(part)
        else:
            found.append(wrong)
    found += _unlisted(bundle)
    found += _absent(bundle)
    if not quick:
        for part in whole:
            on_part(part.path)
            found += _content(bundle, part)
        found += _packages(bundle, [part for part in whole if part.kind == "package"])
    return found


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _file(path: Path, part: Part, *, quick: bool) -> AppError | None:
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            return e.PartUnreadable(path=part.path, reason="not a plain file")
        if status.st_size != part.size_bytes:
            return e.PartSize(path=part.path, found=status.st_size, expected=part.size_bytes)
        digest = part.sha256 if quick else sha256_of(path)
    except FileNotFoundError:
        return e.PartMissing(path=part.path)
    except OSError as error:
        return e.PartUnreadable(path=part.path, reason=error.strerror or str(error))
    if digest != part.sha256:
        return e.PartChanged(path=part.path, found=digest[:12], expected=part.sha256[:12])
    runs = status.st_mode & stat.S_IXUSR or part.kind not in {"program", "plugin"}
    return None if runs else e.NotExecutable(path=part.path, mode=oct(status.st_mode & 0o7777))


def _unlisted(bundle: Bundle) -> Iterator[AppError]:
    for folder, _, names in os.walk(bundle.folder):
        for name in sorted(names):
            path = Path(folder, name).relative_to(bundle.folder).as_posix()
            if path not in bundle.by_path and path != LIST_NAME:
                yield e.PartUnlisted(path=path)


def _absent(bundle: Bundle) -> Iterator[AppError]:
    """What a node cannot do without. A bundle whose exact version this haechi no longer, or not
    yet, lists serves the clusters of that version: then programs and images count by their names.
    """
    recipe = _nearest(bundle.kubernetes)
    for path, _ in recipe.program_paths().values():
        if path not in bundle.by_path:
            yield e.PartAbsent(path=path)
    exact = recipe.kubernetes == bundle.kubernetes
    listed = {image.reference for image in bundle.images}
    names = {recipes.image_name(reference) for reference in listed}
    for reference in recipe.references:
        there = reference in listed if exact else recipes.image_name(reference) in names
        if not there:
            yield e.PartAbsent(path=reference)
    for image in bundle.images:
        if image.archive not in bundle.by_path:
            yield e.PartAbsent(path=image.archive)
    for name in (debs.INDEX_NAME, debs.RELEASE_NAME):
        if f"host/{name}" not in bundle.by_path:
            yield e.PartAbsent(path=f"host/{name}")


def _nearest(kubernetes: str) -> recipes.Recipe:
    """The recipe of that version, else of its minor version, else the newest."""
    for wanted in (kubernetes, kubernetes.rpartition(".")[0]):
        try:
            return recipes.load(wanted)
        except e.BundleVersionUnknown:
            continue
    return recipes.load()


def _content(bundle: Bundle, part: Part) -> Iterator[AppError]:
    if part.kind in {"program", "plugin"}:
        yield from _program(bundle, part)
    elif part.kind == "images":
        yield from _images(bundle, part)


def _program(bundle: Bundle, part: Part) -> Iterator[AppError]:
    with bundle.path_of(part).open("rb") as file:
        found = elf.read(file.read(elf.HEAD_BYTES))
    platform = found.platform if found else "-"
    if found is None or platform != bundle.platform:
        yield e.WrongMachine(path=part.path, found=platform, platform=bundle.platform)
    elif not found.static:
        yield e.NotStatic(path=part.path)


def _images(bundle: Bundle, part: Part) -> Iterator[AppError]:
    try:
        found = {image.reference: image for image in archive.read(bundle.path_of(part))}
    except archive.ArchiveFault as fault:
        yield e.ArchiveUnreadable(path=part.path, reason=str(fault))
        return
    for listed in bundle.images:
        if listed.archive != part.path:
            continue
        image = found.get(listed.reference)
        if image is None:
            yield e.ImageMissing(path=part.path, reference=listed.reference)
            continue
        reason = _wrong(image, listed.digest, bundle.platform)
        if reason:
            yield e.ImageWrong(path=part.path, reference=listed.reference, reason=reason)


def _wrong(image: archive.FoundImage, digest: str, platform: str) -> str:
    if image.digest != digest:
        return f"digest {image.digest[:19]}, {digest[:19]} is listed"
    if image.platform != platform:
        return f"for {image.platform}"
    if image.program is None:
        return "its entrypoint is no program"
    if image.program.platform != platform:
        return f"its program is for {image.program.platform}"
    return "" if image.loadable else "manifest.json does not name it"


def _packages(bundle: Bundle, parts: list[Part]) -> Iterator[AppError]:
    found: dict[str, debs.Deb] = {}
    for part in parts:
        try:
            deb = debs.read(bundle.path_of(part))
        except debs.DebFault as fault:
            yield e.PackageWrong(path=part.path, reason=str(fault))
            continue
        found[part.path] = deb
        if deb.arch not in {bundle.arch, "all"}:
            yield e.WrongMachine(
                path=part.path, found=f"linux/{deb.arch}", platform=bundle.platform
            )
    names = {deb.name: path for path, deb in found.items()}
    for name in bundle.host.packages:
        if name not in names:
            yield e.PartAbsent(path=f"host/{name}")
    for name, needs in debs.unmet(found.values()).items():
        yield e.PackageWrong(path=names[name], reason=f"needs {', '.join(needs)}")
    yield from _index(bundle.folder / "host", found)


def _index(host: Path, found: Mapping[str, debs.Deb]) -> Iterator[AppError]:
    """What apt will see: every package, under a `Release` that says the same."""
    index, release = host / debs.INDEX_NAME, host / debs.RELEASE_NAME
    if not (index.is_file() and release.is_file()):
        return
    said = index.read_text("utf-8", "replace")
    for path, deb in found.items():
        if f"\nFilename: ./{deb.file}\n" not in said:
            yield e.PackageWrong(path=path, reason=f"not in {debs.INDEX_NAME}")
    if f" {sha256_of(index)} " not in release.read_text("utf-8", "replace"):
        path = f"host/{debs.RELEASE_NAME}"
        yield e.PackageWrong(path=path, reason=f"not of this {debs.INDEX_NAME}")
