"""A bundle as one file, to be carried to a site without internet: a plain tar (its big files are
packed already), under the folder's usual name.
"""

import shutil
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from haechi.domains.clusters.bundle import errors as e
from haechi.domains.clusters.bundle.model import LIST_NAME, Bundle
from haechi.domains.clusters.bundle.verify import verify

OnPart = Callable[[str], None]


def pack(bundle: Bundle, target: Path, *, on_part: OnPart = lambda _: None) -> None:
    """Write the tar; the same bundle gives the same bytes. Raises BundleDamaged, BundleDiskFull."""
    verify(bundle, quick=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    _check_space(target.parent, bundle.size_bytes)
    scratch = target.with_name(f".{target.name}.part")
    try:
        with tarfile.open(scratch, "w", format=tarfile.PAX_FORMAT) as tar:
            for path in (LIST_NAME, *(part.path for part in bundle.parts)):
                on_part(path)
                source = bundle.folder / path
                entry = tarfile.TarInfo(f"{bundle.name}/{path}")
                entry.size = source.stat().st_size
                entry.mode = 0o755 if source.stat().st_mode & 0o100 else 0o644
                with source.open("rb") as file:
                    tar.addfile(entry, file)
        scratch.replace(target)
    finally:
        scratch.unlink(missing_ok=True)


def unpack(source: Path, parent: Path, *, on_part: OnPart = lambda _: None) -> Bundle:
    """Unpack into `parent`, verify all of it, and only then put it in place.

    Raises BadCarrier, BundleDamaged, BundleUnreadable, BundleInTheWay, BundleDiskFull.
    """
    parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=parent))
    try:
        bundle = Bundle.open(_extract(source, scratch, on_part))
        verify(bundle)
        target = parent / bundle.name
        if target.exists():
            _make_way(target, scratch)
        bundle.folder.rename(target)
        return Bundle.open(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _extract(source: Path, scratch: Path, on_part: OnPart) -> Path:
    """The one folder in it. Links, devices and paths that lead out are refused by the filter."""
    try:
        _check_space(scratch, source.stat().st_size)
        with tarfile.open(source, "r:") as tar:
            top = ""
            for member in tar:
                top = PurePosixPath(member.name).parts[0]
                if not (scratch / top).exists() and any(scratch.iterdir()):
                    raise e.BadCarrier(path=str(source), reason="more than one folder")
                on_part(member.name)
                tar.extract(member, scratch, filter="data")
    except (tarfile.TarError, EOFError, OSError, IndexError) as error:
        raise e.BadCarrier(path=str(source), reason=str(error)[:200]) from error
    if not (scratch / top / LIST_NAME).is_file():
        raise e.BadCarrier(path=str(source), reason=f"no {LIST_NAME}")
    return scratch / top


def _make_way(target: Path, scratch: Path) -> None:
    if not (target / LIST_NAME).is_file():
        raise e.BundleInTheWay(path=str(target))
    target.rename(scratch / "replaced")


def _check_space(place: Path, needed: int) -> None:
    free = shutil.disk_usage(place).free
    if free < needed:
        raise e.BundleDiskFull(path=str(place), needed_bytes=needed, free_bytes=free)
