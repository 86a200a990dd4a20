"""Making a bundle: programs, packages, images, list; then verified, then put in place at once.

Each piece is kept in the cache under a digest of all that decides it, so that a second run, also
one after a crash, makes only what is missing. A bundle of the same recipe that is already there is
taken as it is.
"""

import asyncio
import fcntl
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from haechi.domains.clusters.bundle import archive, debs, licences
from haechi.domains.clusters.bundle import errors as e
from haechi.domains.clusters.bundle.model import (
    LIST_NAME,
    Bundle,
    Image,
    Kind,
    Part,
    Role,
)
from haechi.domains.clusters.bundle.ports import Compiler, Distribution, Progress
from haechi.domains.clusters.bundle.recipe import (
    REVISION,
    SOURCES,
    Build,
    Recipe,
    image_name,
    known,
)
from haechi.domains.clusters.bundle.verify import problems, sha256_of, verify
from haechi.errors import AppError

NEEDED_BYTES: Final = 3 * 1024**3
"""Free space for the bundle and its pieces; the compiler's caches come on top."""
_LOCK_POLL_S: Final = 0.5
_SBIN: Final = "usr/sbin"
_TABLES: Final = (
    *("iptables", "iptables-save", "iptables-restore"),
    *("ip6tables", "ip6tables-save", "ip6tables-restore"),
)


@dataclass(frozen=True)
class Maker:
    """`cache` keeps pieces between runs; `again` takes the distribution's newest packages."""

    compiler: Compiler
    distribution: Distribution
    cache: Path
    progress: Progress
    again: bool = False

    async def create(self, recipe: Recipe, platform: str, target: Path) -> Bundle:
        """The bundle at `target`, made where it is not there yet.

        Raises BundlePlatformUnknown, BundleInTheWay, BundleDiskFull, BundleToolsMissing,
        BuildFailed, BuildTookTooLong, BundleDamaged (a fault of the recipe).
        """
        arch = known(platform)
        if not self.again:
            there = existing(recipe, platform, target)
            if there is not None:
                return there
        _check_place(target)
        await self._check_tools(recipe)
        async with _only_one(self.cache, arch, self.progress):
            _check_space(target, self.cache)
            return await _Making(self, recipe, platform, arch, target).run()

    async def _check_tools(self, recipe: Recipe) -> None:
        missing: list[AppError] = []
        for check in (self.compiler.check(recipe.go), self.distribution.check()):
            try:
                await check
            except (e.ToolMissing, e.ToolTooOld) as error:
                missing.append(error)
        if len(missing) == 1:
            raise missing[0]
        if missing:
            raise e.BundleToolsMissing.of(missing)


def existing(recipe: Recipe, platform: str, target: Path) -> Bundle | None:
    """The bundle of that very recipe, if it is there with all its files."""
    try:
        bundle = Bundle.open(target)
    except (e.BundleNotFound, e.BundleUnreadable):
        return None
    if bundle.recipe != recipe.digest(platform) or problems(bundle, quick=True):
        return None
    return bundle


class _Making:
    def __init__(
        self, maker: Maker, recipe: Recipe, platform: str, arch: str, target: Path
    ) -> None:
        self._maker = maker
        self._recipe = recipe
        self._platform = platform
        self._arch = arch
        self._target = target
        self._count = len(recipe.builds) + 4
        self._number = 0
        self._pieces = maker.cache / "bundle-pieces" / arch

    async def run(self) -> Bundle:
        builds = {build.name: await self._build(build) for build in self._recipe.builds}
        programs = {
            name: builds[build.name] / name
            for build in self._recipe.builds
            for name in build.programs
        }
        packages = await self._packages()
        root = await self._root()
        images = await self._images(programs, root)
        return await self._assemble(programs, list(builds.values()), packages, images)

    def _step(self, name: str) -> None:
        self._number += 1
        self._maker.progress.step(name, self._number, self._count)

    async def _build(self, build: Build) -> Path:
        self._step(build.name)
        folder = self._pieces / f"{build.name}-{build.digest()[:16]}"
        if not folder.is_dir():
            with _filling(folder) as scratch:
                await self._maker.compiler.build(
                    build, arch=self._arch, target=scratch, on_line=self._maker.progress.line
                )
        return folder

    async def _packages(self) -> Path:
        self._step("host packages")
        host = self._recipe.host
        folder = self._debian_piece("host", host.packages)
        if not folder.is_dir():
            with _filling(folder) as scratch:
                await self._maker.distribution.packages(
                    host.packages,
                    suite=host.suite,
                    arch=self._arch,
                    target=scratch,
                    on_line=self._maker.progress.line,
                )
                try:
                    index = await asyncio.to_thread(debs.index, scratch)
                except debs.DebFault as fault:
                    raise e.PackageWrong(path=str(folder), reason=str(fault)) from fault
                (scratch / debs.INDEX_NAME).write_text(index)
                made_at = datetime.fromisoformat(self._recipe.built_at)
                said = debs.release(index, self._arch, made_at)
                (scratch / debs.RELEASE_NAME).write_text(said)
        return folder

    async def _root(self) -> archive.Layer:
        self._step("root file system")
        folder = self._debian_piece("root", self._recipe.network)
        if not folder.is_dir():
            with _filling(folder) as scratch:
                tar = scratch / "root.tar"
                await self._maker.distribution.root(
                    self._recipe.network,
                    suite=self._recipe.host.suite,
                    arch=self._arch,
                    target=tar,
                    on_line=self._maker.progress.line,
                )
                layer = await asyncio.to_thread(
                    archive.root_layer, tar, root_extras(), scratch / "layer.tar.gz"
                )
                tar.unlink()
                (scratch / "layer.json").write_text(json.dumps(layer.as_json()))
        said = json.loads((folder / "layer.json").read_text())
        return archive.Layer(folder / "layer.tar.gz", **said)

    def _debian_piece(self, kind: str, names: tuple[str, ...]) -> Path:
        """Keyed by what was asked for, not by what the mirror had: `again` asks anew."""
        suite = self._recipe.host.suite
        extras = "".join(f"{path}{extra}" for path, extra in sorted(root_extras().items()))
        digest = licences.digest_of(kind, suite, str(REVISION), *names, extras)[:16]
        folder = self._pieces / f"debian-{kind}-{digest}"
        if self._maker.again:
            shutil.rmtree(folder, ignore_errors=True)
        return folder

    async def _images(self, programs: Mapping[str, Path], root: archive.Layer) -> Path:
        self._step("images")
        said = [f"{image}" for image in self._recipe.images]
        said += [
            programs[name].parent.name  # the piece's name holds its digest
            for image in self._recipe.images
            for name in image.programs().values()
        ]
        digest = licences.digest_of(root.digest, self._recipe.built_at, *said)[:16]
        folder = self._pieces / f"images-{digest}"
        if folder.is_dir():
            return folder
        roles: tuple[Role, ...] = ("worker", "control-plane")
        with _filling(folder) as scratch:
            digests: dict[str, str] = {}
            for role in roles:
                images = []
                for image in self._recipe.images:
                    if image.role != role:
                        continue
                    self._maker.progress.line(image.reference)
                    layer = await asyncio.to_thread(
                        archive.program_layer,
                        {at: programs[name] for at, name in image.programs().items()},
                        scratch / f"{image_name(image.reference)}.layer",
                    )
                    images.append(
                        archive.NewImage(
                            reference=image.reference,
                            platform=self._platform,
                            layers=[root, layer] if image.root else [layer],
                            entrypoint=[image.at],
                            created=self._recipe.built_at,
                            user=image.user,
                        )
                    )
                digests |= await asyncio.to_thread(archive.write, scratch / f"{role}.tar", images)
            for path in scratch.glob("*.layer"):
                path.unlink()
            (scratch / "digests.json").write_text(json.dumps(digests))
        return folder

    async def _assemble(
        self, programs: Mapping[str, Path], builds: list[Path], packages: Path, images: Path
    ) -> Bundle:
        self._step("bundle")
        digests = json.loads((images / "digests.json").read_text())
        with _filling(self._target) as scratch:
            bundle = await asyncio.to_thread(
                self._fill, scratch, programs, builds, packages, images, digests
            )
            await asyncio.to_thread(verify, bundle)
        return Bundle.open(self._target)

    def _fill(
        self,
        folder: Path,
        programs: Mapping[str, Path],
        builds: list[Path],
        packages: Path,
        images: Path,
        digests: Mapping[str, str],
    ) -> Bundle:
        parts: list[Part] = []

        def put(source: Path, path: str, kind: Kind, role: Role, mode: int = 0o644) -> None:
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            target.chmod(mode)
            size = target.stat().st_size
            parts.append(Part(path, kind, role, size, sha256_of(target)))

        for name, (path, role) in self._recipe.program_paths().items():
            kind: Kind = "plugin" if path.startswith("cni/") else "program"
            put(programs[name], path, kind, role, 0o755)
        put(images / "worker.tar", "images/worker.tar", "images", "worker")
        put(images / "control-plane.tar", "images/control-plane.tar", "images", "control-plane")
        for name in (debs.INDEX_NAME, debs.RELEASE_NAME):
            put(packages / name, f"host/{name}", "index", "worker")
        for deb in sorted(packages.glob("*.deb")):
            put(deb, f"host/{deb.name}", "package", "worker")
        for name, text in licences.texts(self._recipe, builds).items():
            source = folder / "licences" / f".{name}"
            source.parent.mkdir(exist_ok=True)
            source.write_text(text)
            put(source, f"licences/{name}", "licence", "control-plane")
            source.unlink()
        bundle = Bundle(
            folder=folder,
            kubernetes=self._recipe.kubernetes,
            platform=self._platform,
            recipe=self._recipe.digest(self._platform),
            versions=self._recipe.versions,
            host=self._recipe.host,
            parts=tuple(parts),
            images=tuple(
                Image(
                    image.reference,
                    image.role,
                    f"images/{image.role}.tar",
                    digests[image.reference],
                )
                for image in self._recipe.images
            ),
        )
        (folder / LIST_NAME).write_text(bundle.as_toml())
        return Bundle.open(folder)


def root_extras() -> dict[str, archive.Extra]:
    """What the root file system under kube-proxy and flannel has beside Debian's files."""
    chooser = SOURCES.joinpath("iptables-chosen.sh").read_bytes()
    links = {
        f"{_SBIN}/{name}": archive.Extra(link="iptables-chosen", mode=0o777) for name in _TABLES
    }
    folders = {
        path: archive.Extra(folder=True, mode=0o1777 if path == "tmp" else 0o755)
        for path in ("dev", "etc", "proc", "root", "run", "sys", "tmp", "var", "var/lib")
    }
    return {
        **folders,
        f"{_SBIN}/iptables-chosen": archive.Extra(chooser, mode=0o755),
        **links,
        "etc/passwd": archive.Extra(b"root:x:0:0:root:/root:/bin/sh\n"),
        "etc/group": archive.Extra(b"root:x:0:\n"),
        "etc/nsswitch.conf": archive.Extra(b"hosts: files dns\n"),
        "var/run": archive.Extra(link="/run", mode=0o777),
    }


def _check_place(target: Path) -> None:
    """Never over something that is no bundle."""
    if target.is_dir() and ((target / LIST_NAME).is_file() or not any(target.iterdir())):
        return
    if target.exists():
        raise e.BundleInTheWay(path=str(target))


def _check_space(target: Path, cache: Path) -> None:
    for place in (target, cache):
        there = place
        while not there.exists():
            there = there.parent
        free = shutil.disk_usage(there).free
        if free < NEEDED_BYTES:
            raise e.BundleDiskFull(path=str(place), needed_bytes=NEEDED_BYTES, free_bytes=free)


@asynccontextmanager
async def _only_one(cache: Path, arch: str, progress: Progress) -> AsyncIterator[None]:
    """One making per cache and machine; a second one waits. The lock dies with its process."""
    pieces = cache / "bundle-pieces" / arch
    pieces.mkdir(parents=True, exist_ok=True)
    with (pieces / ".lock").open("w") as handle:
        told = False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    progress.line("Another bundle is being made on this machine; waiting for it.")
                told = True
                await asyncio.sleep(_LOCK_POLL_S)
        for leftover in pieces.glob(".making-*"):
            shutil.rmtree(leftover, ignore_errors=True)  # of one that was killed
        yield


@contextmanager
def _filling(folder: Path) -> Iterator[Path]:
    """A scratch folder that takes the place of `folder` only when the block ends well."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".making-", dir=folder.parent))
    try:
        scratch.chmod(0o755)
        yield scratch
        if folder.exists():
            old = Path(tempfile.mkdtemp(prefix=".making-", dir=folder.parent))
            folder.rename(old / "old")
            scratch.rename(folder)
            shutil.rmtree(old, ignore_errors=True)
        else:
            scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
