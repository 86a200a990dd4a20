"""What a bundle is: a folder with `bundle.toml` and the files that it lists.

    bundle.toml      this list: versions, and each file with kind, role, size and sha256
    bin/             programs for /usr/local/bin: containerd, kubelet, kubeadm, kubectl …
    cni/             plugins for /opt/cni/bin
    images/          one archive a role (OCI layout and `docker load` in one), layers gzipped
    host/            Debian packages of a bare host, and apt's index of them (Packages, Release)
    licences/        of everything above

A control plane needs what a worker needs and its own files beside, so that a worker never takes
the others' bytes over its radio. Opening reads `bundle.toml` only; `verify.py` reads it all.
"""

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal, Self, get_args

from haechi.domains.clusters.bundle.errors import BundleNotFound, BundleUnreadable

LIST_NAME: Final = "bundle.toml"
FORMAT: Final = 1

_VERSION: Final = re.compile(r"\d+\.\d+\.\d+[0-9A-Za-z.+-]*")

Role = Literal["worker", "control-plane"]
Kind = Literal["program", "plugin", "images", "package", "index", "licence"]

PLATFORMS: Final[Mapping[str, str]] = {"linux/amd64": "amd64", "linux/arm64": "arm64"}
"""Platform as images name it → architecture as Go and Debian name it."""


@dataclass(frozen=True, slots=True)
class Part:
    """One file. `role` is who needs it: "worker" means every node."""

    path: str
    """Relative, with `/`: `bin/kubelet`."""
    kind: Kind
    role: Role
    size_bytes: int
    sha256: str

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name


@dataclass(frozen=True, slots=True)
class Image:
    """A container image inside one of the archives."""

    reference: str
    """As kubeadm and the manifests ask for it: `registry.k8s.io/pause:3.10.2`."""
    role: Role
    archive: str
    """Path of the part that holds it."""
    digest: str
    """Of its manifest: `sha256:…`."""


@dataclass(frozen=True, slots=True)
class HostSystem:
    """The distribution that the packages under `host/` are of, as /etc/os-release says it."""

    id: str
    version: str
    suite: str
    packages: tuple[str, ...]
    """What to ask apt for; the rest of `host/` is what these rest on."""


@dataclass(frozen=True)
class Bundle:
    """`folder` is where it lies; everything else is what `bundle.toml` says."""

    folder: Path
    kubernetes: str
    """Without `v`: `1.36.3`."""
    platform: str
    """`linux/amd64`."""
    recipe: str
    """Digest of all that decides the content: same recipe, nothing to make."""
    versions: Mapping[str, str]
    """Component → version: `containerd`, `etcd`, `flannel` …"""
    host: HostSystem
    parts: tuple[Part, ...]
    images: tuple[Image, ...]
    digest: str = ""
    """sha256 of `bundle.toml`: says which bundle a host was prepared from."""

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read the list. Raises BundleNotFound, BundleUnreadable."""
        path = folder / LIST_NAME
        try:
            content = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise BundleNotFound(path=str(folder)) from error
        except OSError as error:
            raise BundleUnreadable(path=str(path), reason=error.strerror or "") from error
        try:
            document = tomllib.loads(content.decode())
            return cls(folder=folder, digest=hashlib.sha256(content).hexdigest(), **_read(document))
        except (KeyError, TypeError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"[:200]
            raise BundleUnreadable(path=str(path), reason=reason) from error

    @property
    def arch(self) -> str:
        """As Go, Debian and Kubernetes' `kubernetes.io/arch` name it."""
        return PLATFORMS[self.platform]

    @property
    def name(self) -> str:
        return name_of(self.kubernetes, self.platform)

    @property
    def size_bytes(self) -> int:
        return sum(part.size_bytes for part in self.parts)

    def files_for(self, role: Role, *kinds: Kind) -> tuple[Part, ...]:
        """What a node of that role needs, of those kinds (none named: all), in listed order."""
        roles = _covered(role)
        return tuple(
            part for part in self.parts if part.role in roles and (not kinds or part.kind in kinds)
        )

    def images_for(self, role: Role) -> tuple[Image, ...]:
        roles = _covered(role)
        return tuple(image for image in self.images if image.role in roles)

    def image(self, name: str) -> Image:
        """By the last word of its repository: `pause`, `flannel`. Raises KeyError."""
        for image in self.images:
            if repository(image.reference).rpartition("/")[2] == name:
                return image
        raise KeyError(name)

    def path_of(self, part: Part) -> Path:
        return self.folder / part.path

    @cached_property
    def by_path(self) -> Mapping[str, Part]:
        return {part.path: part for part in self.parts}

    def as_toml(self) -> str:
        """The content of `bundle.toml`; the same bundle gives the same bytes."""
        return _write(self)


def name_of(kubernetes: str, platform: str) -> str:
    """The folder's usual name: `v1.36.3-linux-amd64`."""
    return f"v{kubernetes}-{platform.replace('/', '-')}"


def repository(reference: str) -> str:
    """An image reference without its tag."""
    head, colon, tag = reference.rpartition(":")
    return head if colon and "/" not in tag else reference


def _covered(role: Role) -> tuple[Role, ...]:
    return ("worker",) if role == "worker" else ("worker", "control-plane")


def _read(document: Mapping[str, Any]) -> dict[str, Any]:
    if document["format"] != FORMAT:
        raise ValueError(f"format {document['format']}, this haechi reads {FORMAT}")
    if document["platform"] not in PLATFORMS:
        raise ValueError(f"platform {document['platform']!r}")
    host = document["host"]
    return {
        "kubernetes": _version(document["kubernetes"]),
        "platform": document["platform"],
        "recipe": _text(document["recipe"]),
        "versions": {key: _text(value) for key, value in document["versions"].items()},
        "host": HostSystem(
            id=_text(host["id"]),
            version=_text(host["version"]),
            suite=_text(host["suite"]),
            packages=tuple(_text(name) for name in host["packages"]),
        ),
        "parts": tuple(_part(entry) for entry in document["part"]),
        "images": tuple(
            Image(
                reference=_text(entry["reference"]),
                role=_one_of(entry["role"], Role),
                archive=_inside(entry["archive"]),
                digest=_text(entry["digest"]),
            )
            for entry in document["image"]
        ),
    }


def _part(entry: Mapping[str, Any]) -> Part:
    size = entry["size_bytes"]
    if not isinstance(size, int) or size < 0:
        raise ValueError(f"size_bytes {size!r}")
    return Part(
        path=_inside(entry["path"]),
        kind=_one_of(entry["kind"], Kind),
        role=_one_of(entry["role"], Role),
        size_bytes=size,
        sha256=_text(entry["sha256"]),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _version(value: Any) -> str:
    """It becomes part of a folder's name."""
    if not _VERSION.fullmatch(_text(value)):
        raise ValueError(f"{value!r} is no version of Kubernetes")
    return str(value)


def _one_of(value: Any, choices: Any) -> Any:
    if value not in get_args(choices):
        raise ValueError(f"{value!r} is none of {', '.join(get_args(choices))}")
    return value


def _inside(value: Any) -> str:
    """A relative path that stays in the bundle: it becomes a path on other machines."""
    path = PurePosixPath(_text(value))
    if path.is_absolute() or ".." in path.parts or str(path) != value or not path.name:
        raise ValueError(f"path {value!r} leads out of the bundle")
    return str(value)


def _write(bundle: Bundle) -> str:
    host = bundle.host
    blocks = [
        {
            "format": FORMAT,
            "kubernetes": bundle.kubernetes,
            "platform": bundle.platform,
            "recipe": bundle.recipe,
        },
        ("[versions]", dict(bundle.versions)),
        (
            "[host]",
            {
                "id": host.id,
                "version": host.version,
                "suite": host.suite,
                "packages": list(host.packages),
            },
        ),
        *(
            (
                "[[image]]",
                {
                    "reference": image.reference,
                    "role": image.role,
                    "archive": image.archive,
                    "digest": image.digest,
                },
            )
            for image in bundle.images
        ),
        *(
            (
                "[[part]]",
                {
                    "path": part.path,
                    "kind": part.kind,
                    "role": part.role,
                    "size_bytes": part.size_bytes,
                    "sha256": part.sha256,
                },
            )
            for part in bundle.parts
        ),
    ]
    return "\n".join(_block(block) for block in blocks)


def _block(block: Any) -> str:
    header, table = block if isinstance(block, tuple) else ("", block)
    lines = [header] if header else []
    # JSON texts, numbers and lists of these are TOML as well.
    lines += [f"{json.dumps(key)} = {json.dumps(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"
