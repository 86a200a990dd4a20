"""What builds need from outside: versions, builders, the site registry and its process."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from haechi.core.secrets import Secret

OnText = Callable[[str], None]
OnProgress = Callable[[float | None, str], None]


@dataclass(frozen=True, slots=True)
class VersionToBuild:
    id: str
    package_id: str
    package_name: str
    """A DNS label: it names the repository in the registry."""
    version: str
    zip_digest: str


@dataclass(frozen=True, slots=True)
class Context:
    """An unpacked zip: `dockerfile` is relative to `context_dir`."""

    context_dir: Path
    dockerfile: str


class Versions(Protocol):
    """The packages domain as builds see it."""

    async def version_to_build(self, version_id: str) -> VersionToBuild:
        """Raises NotFound."""

    async def extract_context(self, version_id: str, target: Path) -> Context:
        """Unpack the zip below `target`, under the limits of uploads."""


@dataclass(frozen=True, slots=True)
class RegistryNames:
    """How image references name the site registry: never by an address, which may change."""

    pull: str
    """`registry.haechi.internal:8425`: in what devices are given."""
    push: str
    """The server's own door, which devices do not know."""


@dataclass(frozen=True, slots=True)
class Login:
    name: str
    password: Secret


@dataclass(frozen=True, slots=True)
class Engine:
    """What a builder is: the platform its machine has, and the engine's version."""

    platform: str
    version: str
    heredocs: bool
    emulates: frozenset[str] = frozenset()
    """Further platforms that its kernel runs by emulation."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One image to build. `context_dir` is sent as it is, but for `dockerfile_text`."""

    context_dir: Path
    dockerfile: str
    dockerfile_text: str
    platform: str
    tag: str
    """Local name of the outcome, `name:tag`."""
    labels: Mapping[str, str] = field(default_factory=dict)
    build_args: Mapping[str, str] = field(default_factory=dict)
    network: str = "default"
    memory_bytes: int | None = None
    no_cache: bool = False


@dataclass(frozen=True, slots=True)
class BuiltImage:
    image_id: str
    size_bytes: int


class Builder(Protocol):
    """One engine that builds. Raises `Unavailable` where it cannot be reached now."""

    name: str

    async def engine(self) -> Engine: ...

    async def ensure_image(
        self, reference: str, platform: str, login: Login | None, log: OnText
    ) -> str:
        """Have an image of that platform there, pulling it where it is missing; its id.

        Raises Unavailable, DiskFull, or another AppError that says why it cannot be had.
        """

    async def build(self, plan: Plan, log: OnText, progress: OnProgress) -> BuiltImage:
        """Cancelling stops it. Raises BuildFailed, DiskFull, Unavailable."""

    async def push(
        self, image: str, reference: str, login: Login | None, progress: OnProgress
    ) -> str:
        """Give `image` the name `reference` and push it; the manifest's digest."""

    async def keep(self, image: str, reference: str) -> None:
        """Give `image` the local name `reference`, so that its layers stay cached."""

    async def remove(self, reference: str) -> None:
        """Drop a name, and what nothing else uses; gone already is fine."""

    async def prune(self) -> int:
        """Drop untagged images of builds; the bytes freed."""


class Builders(Protocol):
    async def for_platform(self, platform: str) -> Builder:
        """A builder that can build for it. Raises PlatformRefused or Unavailable."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """An image or an index in the registry. `blobs` maps digests to sizes, config included."""

    digest: str
    media_type: str
    size_bytes: int
    blobs: Mapping[str, int]
    children: tuple["Child", ...] = ()


@dataclass(frozen=True, slots=True)
class Child:
    digest: str
    platform: str
    size_bytes: int
    media_type: str = "application/vnd.docker.distribution.manifest.v2+json"


class Registry(Protocol):
    """The site registry's HTTP API. Raises RegistryDown (Unavailable) or RegistryFailed."""

    async def ping(self) -> None: ...

    async def repositories(self) -> list[str]: ...

    async def tags(self, repository: str) -> list[str]: ...

    async def manifest(self, repository: str, reference: str) -> Manifest | None:
        """By tag or digest; None where it is not there."""

    async def put_index(self, repository: str, tag: str, children: list[Child]) -> str:
        """Tag an index of several platforms' images; its digest."""

    async def delete_manifest(self, repository: str, digest: str) -> None:
        """Gone already is fine."""


class RegistryProcess(Protocol):
    """The registry's processes: one for pulls, which cannot change anything, one for pushes."""

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    @property
    def running(self) -> bool: ...

    @property
    def read_only(self) -> bool:
        """Pulls only: garbage is being collected."""

    async def collect_garbage(self, log: OnText) -> None:
        """Delete blobs that no manifest names; pushes are refused meanwhile, pulls go on."""

    async def write_logins(self, pull: Mapping[str, str]) -> None:
        """Replace who may pull: name → bcrypt hash."""

    def data_dir(self) -> Path: ...
