"""Fakes of the ports of builds: an engine, a registry and a source of versions in memory."""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from haechi.adapters.docker_errors import EngineUnreachable, ImageNotFound
from haechi.domains.builds.model import RegistryDown, RegistryFailed
from haechi.domains.builds.ports import (
    BuiltImage,
    Child,
    Context,
    Engine,
    Login,
    Manifest,
    OnProgress,
    OnText,
    Plan,
    VersionToBuild,
)


def digest_of(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


@dataclass
class FakeRegistry:
    """`down`: every call says that it cannot be reached."""

    manifests: dict[tuple[str, str], Manifest] = field(default_factory=dict)
    names: dict[tuple[str, str], str] = field(default_factory=dict)
    """(repository, tag) → digest."""
    down: bool = False

    def take(self, repository: str, tag: str, manifest: Manifest) -> None:
        self._check()
        self.manifests[repository, manifest.digest] = manifest
        self.names[repository, tag] = manifest.digest

    def _check(self) -> None:
        if self.down:
            raise RegistryDown(reason="the fake is down")

    async def ping(self) -> None:
        self._check()

    async def repositories(self) -> list[str]:
        self._check()
        return sorted({repository for repository, _ in self.manifests})

    async def tags(self, repository: str) -> list[str]:
        self._check()
        return sorted(tag for name, tag in self.names if name == repository)

    async def manifest(self, repository: str, reference: str) -> Manifest | None:
        self._check()
        digest = self.names.get((repository, reference), reference)
        return self.manifests.get((repository, digest))

    async def put_index(self, repository: str, tag: str, children: list[Child]) -> str:
        self._check()
        for child in children:
            if (repository, child.digest) not in self.manifests:
                raise RegistryFailed(reason=f"manifest unknown: {child.digest}")
        digest = digest_of(",".join(child.digest for child in children))
        self.take(repository, tag, Manifest(digest, "index", 1, {}, tuple(children)))
        return digest

    async def delete_manifest(self, repository: str, digest: str) -> None:
        self._check()
        self.manifests.pop((repository, digest), None)
        for name in [name for name, known in self.names.items() if known == digest]:
            if name[0] == repository:
                del self.names[name]


@dataclass
class FakeBuilder:
    """Builds by hashing. `failures` are raised, one a call, before anything is done."""

    registry: FakeRegistry
    platform: str = "linux/amd64"
    name: str = "fake"
    heredocs: bool = True
    images: set[str] = field(default_factory=set)
    failures: list[Exception] = field(default_factory=list)
    plans: list[Plan] = field(default_factory=list)
    local: dict[str, str] = field(default_factory=dict)
    building: asyncio.Event = field(default_factory=asyncio.Event)
    may_end: asyncio.Event | None = None
    """Builds wait for it, where there is one."""
    down: bool = False
    size_bytes: int = 1000

    def _check(self) -> None:
        if self.down:
            raise EngineUnreachable(engine=self.name, reason="the fake is down")
        if self.failures:
            raise self.failures.pop(0)

    async def engine(self) -> Engine:
        return Engine(self.platform, "99.0", self.heredocs)

    async def ensure_image(
        self, reference: str, platform: str, login: Login | None, log: OnText
    ) -> str:
        del platform, login, log
        self._check()
        if reference not in self.images:
            raise ImageNotFound(image=reference, message="the fake has none")
        return digest_of(reference)

    async def build(self, plan: Plan, log: OnText, progress: OnProgress) -> BuiltImage:
        self._check()
        self.plans.append(plan)
        progress(0.5, "[1/2] FROM fake")
        log(f"building {plan.platform}")
        self.building.set()
        if self.may_end is not None:
            await self.may_end.wait()
        image = digest_of(plan.dockerfile_text + plan.platform + plan.tag)
        self.local[plan.tag] = image
        return BuiltImage(image, self.size_bytes)

    async def push(
        self, image: str, reference: str, login: Login | None, progress: OnProgress
    ) -> str:
        del login
        self._check()
        progress(1.0, "")
        name, _, tag = reference.rpartition(":")
        repository = name.partition("/")[2]
        digest = digest_of(image)
        self.registry.take(repository, tag, Manifest(digest, "image", 10, {image: self.size_bytes}))
        return digest

    async def keep(self, image: str, reference: str) -> None:
        self.local[reference] = image

    async def remove(self, reference: str) -> None:
        self.local.pop(reference, None)

    async def prune(self) -> int:
        return 0


@dataclass
class FakeVersions:
    """`dockerfile` is what every version holds."""

    dockerfile: str = "FROM scratch\n"
    name: str = "fake-package"
    version: str = "1.0"
    zip_digest: str = "sha256:zip"
    on_extract: Callable[[Path], None] | None = None

    async def version_to_build(self, version_id: str) -> VersionToBuild:
        return VersionToBuild(
            version_id, "pkg-aaaaaaaaaaaaaaaa", self.name, self.version, self.zip_digest
        )

    async def extract_context(self, version_id: str, target: Path) -> Context:
        del version_id
        await asyncio.to_thread(target.mkdir, parents=True)
        if self.on_extract is not None:
            self.on_extract(target)
        await asyncio.to_thread((target / "Dockerfile").write_text, self.dockerfile)
        return Context(target, "Dockerfile")
