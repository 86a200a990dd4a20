"""The folder in which a machine keeps its bundles: which there are, and the one that fits."""

import re
from dataclasses import dataclass
from pathlib import Path

from haechi.domains.clusters.bundle.errors import BundleNotFound
from haechi.domains.clusters.bundle.model import Bundle, name_of
from haechi.domains.clusters.bundle.verify import problems
from haechi.errors import AppError


@dataclass(frozen=True, slots=True)
class Shelved:
    """One folder of the shelf."""

    folder: Path
    bundle: Bundle | None
    """None where its list cannot be read."""
    fault: AppError | None
    """The first thing wrong with it, as far as names and sizes tell."""


@dataclass(frozen=True, slots=True)
class Shelf:
    folder: Path

    def all(self) -> list[Shelved]:
        """Every folder, by name. Scratch folders (`.…`) are left out."""
        if not self.folder.is_dir():
            return []
        folders = sorted(path for path in self.folder.iterdir() if path.is_dir())
        return [_look(path) for path in folders if not path.name.startswith(".")]

    def bundles(self) -> list[Bundle]:
        """The complete ones, oldest Kubernetes first."""
        found = [one.bundle for one in self.all() if one.bundle is not None and one.fault is None]
        return sorted(found, key=lambda bundle: version_key(bundle.kubernetes))

    def find(self, kubernetes: str, platform: str) -> Bundle:
        """By exact version. Raises BundleNotFound."""
        for bundle in self.bundles():
            if (bundle.kubernetes, bundle.platform) == (kubernetes, platform):
                return bundle
        raise BundleNotFound(path=str(self.folder / name_of(kubernetes, platform)))


def fits(kubernetes: str, wanted: str) -> bool:
    """Is `1.36.3` what `1.36`, `1.36.3`, `v1.36` or nothing asks for?"""
    prefix = wanted.removeprefix("v")
    return not prefix or f"{kubernetes}.".startswith(f"{prefix}.")


def version_key(kubernetes: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", kubernetes))


def _look(folder: Path) -> Shelved:
    try:
        bundle = Bundle.open(folder)
    except AppError as error:
        return Shelved(folder, None, error)
    found = problems(bundle, quick=True)
    return Shelved(folder, bundle, found[0] if found else None)
