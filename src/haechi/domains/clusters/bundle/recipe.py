"""Which versions belong together, read from `versions/*.toml`: data, so that a newer Kubernetes is
a new file and no new code.

    load("1.36")            newest known 1.36
    recipe.digest(platform) changes with all that decides a bundle's content
"""

import hashlib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, Final

from haechi.domains.clusters.bundle.errors import BundlePlatformUnknown, BundleVersionUnknown
from haechi.domains.clusters.bundle.model import PLATFORMS, HostSystem, Role, repository

REVISION: Final = 2
"""Rises when the same versions give another content, because this code changed."""

_HERE: Final = resources.files("haechi.domains.clusters.bundle")
VERSIONS: Final = _HERE.joinpath("versions")
SOURCES: Final = _HERE.joinpath("sources")


@dataclass(frozen=True, slots=True)
class Build:
    """Programs that come from one Go module graph. `files` are its go.mod, go.sum, own sources."""

    name: str
    programs: Mapping[str, str]
    """Program → Go package."""
    licence: str
    tags: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    """Go variable → text that the linker puts there."""
    own_main: str = ""
    """A module whose main package is copied, to be built without the imports in `without`."""
    without: tuple[str, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)

    def digest(self) -> str:
        """Of all that decides the programs, on any platform."""
        said = [self.name, *self.tags, self.own_main, *self.without]
        said += [f"{name}={package}" for name, package in sorted(self.programs.items())]
        said += [f"{name}={value}" for name, value in sorted(self.variables.items())]
        return _digest({"build": "\n".join(said).encode(), **self.files})


@dataclass(frozen=True, slots=True)
class ImageRecipe:
    reference: str
    role: Role
    program: str
    at: str
    """Absolute path of the program in the image; also its entrypoint."""
    root: str = ""
    """Name of the root file system under it; empty: nothing but the program."""
    also: tuple[str, ...] = ()
    """Programs beside it."""
    user: str = ""

    def programs(self) -> dict[str, str]:
        """Path in the image → program."""
        folder = self.at.rpartition("/")[0]
        return {self.at: self.program} | {f"{folder}/{name}": name for name in self.also}


@dataclass(frozen=True)
class Recipe:
    kubernetes: str
    go: str
    built_at: str
    versions: Mapping[str, str]
    builds: tuple[Build, ...]
    worker_programs: tuple[str, ...]
    control_programs: tuple[str, ...]
    plugins: tuple[str, ...]
    images: tuple[ImageRecipe, ...]
    host: HostSystem
    network: tuple[str, ...]
    """Packages of the root file system `network`."""
    cni_plugin: str
    """Image that holds the CNI plugin `flannel`, for nodes that are not made from a bundle."""
    content: bytes

    @cached_property
    def references(self) -> tuple[str, ...]:
        return tuple(image.reference for image in self.images)

    def digest(self, platform: str) -> str:
        known(platform)
        built = {f"build/{build.name}": build.digest().encode() for build in self.builds}
        revision = f"{REVISION} {platform}".encode()
        wrapper = {"iptables": SOURCES.joinpath("iptables-chosen.sh").read_bytes()}
        return _digest({"": self.content, "revision": revision, **built, **wrapper})

    def program_paths(self) -> Mapping[str, tuple[str, Role]]:
        """Program → where it lies in a bundle, and who needs it there."""
        found: dict[str, tuple[str, Role]] = {}
        found |= {name: (f"bin/{name}", "worker") for name in self.worker_programs}
        found |= {name: (f"bin/{name}", "control-plane") for name in self.control_programs}
        found |= {name: (f"cni/{name}", "worker") for name in self.plugins}
        return found


def known(platform: str) -> str:
    """Its architecture. Raises BundlePlatformUnknown."""
    if platform not in PLATFORMS:
        raise BundlePlatformUnknown(platform=platform, known=", ".join(PLATFORMS))
    return PLATFORMS[platform]


def minors() -> list[str]:
    """Known minor versions, oldest first."""
    names = [
        entry.name.removesuffix(".toml")
        for entry in VERSIONS.iterdir()
        if entry.name.endswith(".toml")
    ]
    return sorted(names, key=lambda name: [int(part) for part in name.split(".")])


def load(kubernetes: str = "") -> Recipe:
    """By `1.36`, `1.36.3` or `v1.36.3`; empty: the newest. Raises BundleVersionUnknown."""
    wanted = kubernetes.removeprefix("v")
    recipes = {minor: _load(minor) for minor in minors()}
    if not wanted:
        return recipes[minors()[-1]]
    for minor, recipe in recipes.items():
        if wanted in {minor, recipe.kubernetes}:
            return recipe
    raise BundleVersionUnknown(
        version=wanted, known=", ".join(recipe.kubernetes for recipe in recipes.values())
    )


def _load(minor: str) -> Recipe:
    content = VERSIONS.joinpath(f"{minor}.toml").read_bytes()
    document = tomllib.loads(content.decode())
    debian = document["debian"]
    files = document["files"]
    return Recipe(
        kubernetes=document["kubernetes"],
        go=document["go"],
        built_at=document["built_at"],
        versions=document["versions"],
        builds=tuple(_build(minor, entry) for entry in document["build"]),
        worker_programs=tuple(files["worker"]),
        control_programs=tuple(files["control-plane"]),
        plugins=tuple(files["plugins"]),
        images=tuple(
            ImageRecipe(**{**entry, "also": tuple(entry.get("also", ()))})
            for entry in document["image"]
        ),
        host=HostSystem(
            id=debian["id"],
            version=debian["version"],
            suite=debian["suite"],
            packages=tuple(debian["host"]),
        ),
        network=tuple(debian["network"]),
        cni_plugin=_distribution(minor)["cni-plugin"],
        content=content,
    )


def _distribution(minor: str) -> dict[str, Any]:
    return tomllib.loads(VERSIONS.joinpath(minor).joinpath("distribution.toml").read_text())


def _build(minor: str, entry: Mapping[str, Any]) -> Build:
    name = entry["name"]
    folder = (
        SOURCES.joinpath(entry["source"])
        if "source" in entry
        else VERSIONS.joinpath(minor).joinpath(name)
    )
    return Build(
        name=name,
        programs=entry["programs"],
        licence=entry["licence"],
        tags=tuple(entry.get("tags", ())),
        variables=entry.get("variables", {}),
        own_main=entry.get("own_main", ""),
        without=tuple(entry.get("without", ())),
        files=dict(sorted(_files(folder))),
    )


def _files(folder: Traversable, inside: str = "") -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        path = f"{inside}{entry.name}"
        if entry.is_dir():
            yield from _files(entry, f"{path}/")
        else:
            yield path, entry.read_bytes()


def _digest(said: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, content in sorted(said.items()):
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def image_name(reference: str) -> str:
    """`registry.k8s.io/coredns/coredns:v1.14.2` → `coredns`."""
    return repository(reference).rpartition("/")[2]
