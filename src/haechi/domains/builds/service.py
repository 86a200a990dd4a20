"""Builds: start them, look at them, and keep the operator's base-image map."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncSession

from haechi.core.access import SYSTEM, Principal
from haechi.core.bus import Bus
from haechi.core.clock import Clock
from haechi.core.db import Database
from haechi.core.ids import new_id
from haechi.core.operations import Operation, Operations
from haechi.core.operations import store as operations
from haechi.core.pages import DEFAULT_LIMIT, Page
from haechi.domains.audit.service import Audit
from haechi.domains.builds import store
from haechi.domains.builds.base_store import BaseStore
from haechi.domains.builds.images import is_reference, same_platform
from haechi.domains.builds.model import (
    BadBaseImage,
    BadPlatform,
    BaseImage,
    BaseImageNotMapped,
    Build,
    BuildState,
)
from haechi.domains.builds.ports import Builders, Login, Registry, RegistryNames, Versions
from haechi.domains.builds.steps import KIND, BuildSteps
from haechi.domains.inventory.model import Use
from haechi.domains.packages.model import BuildFacts
from haechi.domains.packages.store import VersionRow
from haechi.errors import Busy, NotFound
from haechi.settings import BuildsSettings

OPERATING_SYSTEMS = ("linux",)
ARCHITECTURES = ("amd64", "arm64", "arm")


class Builds:
    """`folder` is DATA/builds. Call `start` before the operations engine starts."""

    def __init__(
        self,
        *,
        db: Database,
        bus: Bus,
        clock: Clock,
        audit: Audit,
        operations: Operations,
        versions: Versions,
        builders: Builders,
        registry: Registry,
        names: RegistryNames,
        push_login: Callable[[], Login | None],
        settings: Callable[[], BuildsSettings],
        folder: Path,
        min_free_bytes: int = 0,
        free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
        parallel: int = 1,
    ) -> None:
        self._db = db
        self._bus = bus
        self._clock = clock
        self._audit = audit
        self._operations = operations
        self._versions = versions
        self._builders = builders
        self._settings = settings
        self._folder = folder
        self._steps = BuildSteps(
            db=db,
            bus=bus,
            clock=clock,
            versions=versions,
            builders=builders,
            registry=registry,
            names=names,
            push_login=push_login,
            settings=settings,
            folder=folder,
            min_free_bytes=min_free_bytes,
            free_bytes=free_bytes,
        )
        operations.register(self._steps.definition(parallel))
        self._base_store = BaseStore(
            operations=operations, builders=builders, names=names, push_login=push_login
        )

    async def start(self) -> None:
        """Sweep the folders of builds that no operation will go on with."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for folder in self._folder.iterdir():
            try:
                ended = (await self._operations.get(folder.name)).state.ended
            except NotFound:
                ended = True
            if ended:
                shutil.rmtree(folder, ignore_errors=True)

    # --- builds

    async def build_version(
        self,
        version_id: str,
        platforms: Sequence[str] = (),
        *,
        by: Principal = SYSTEM,
        no_cache: bool = False,
        parent_id: str | None = None,
    ) -> Operation:
        """Start an operation that builds the version, for the server's own platform if none is
        named. The same bytes with the same base images are not built again unless `no_cache`.

        Raises NotFound, BadPlatform, PlatformRefused, Busy.
        """
        await self._versions.version_to_build(version_id)
        wanted = list(dict.fromkeys(check_platform(platform) for platform in platforms))
        for platform in wanted:
            await self._builders.for_platform(platform)
        builds = [{"id": new_id("build"), "platform": platform} for platform in wanted]
        operation = await self._operations.start(
            KIND,
            version_id,
            {"builds": builds, "no_cache": no_cache},
            requested_by=by.name,
            parent_id=parent_id,
        )
        async with self._db.write() as tx:
            facts = {"platforms": wanted, "operation_id": operation.id}
            await self._audit.record(tx, by, "build_version", version_id, facts)
        return operation

    async def ensure_built(
        self, version_id: str, platform: str, *, by: Principal = SYSTEM
    ) -> Operation | None:
        """None where it is built already; else the operation to wait for, perhaps one that
        somebody else started.
        """
        if await self.image_of(version_id, platform) is not None:
            return None
        try:
            return await self.build_version(version_id, [platform], by=by)
        except Busy:
            running = await self._operations.active_on(version_id)
            if running is None or running.kind != KIND:
                raise
            return running

    async def image_of(self, version_id: str, platform: str) -> Build | None:
        """The newest successful build of the version's current content for that platform."""
        async with self._db.read() as tx:
            version = await tx.get(VersionRow, version_id)
            rows = await store.rows_of_versions(tx, [version_id])
        wanted = f"sha256:{version.zip_sha256}" if version else None
        for row in rows:
            good = row.state == BuildState.SUCCEEDED.value and row.zip_digest == wanted
            if good and same_platform(row.platform, platform):
                return store.to_build(row)
        return None

    async def get(self, build_id: str) -> Build:
        async with self._db.read() as tx:
            return store.to_build(await store.row_of(tx, build_id))

    async def find(
        self,
        *,
        version_id: str | None = None,
        package_id: str | None = None,
        state: BuildState | None = None,
        limit: int = DEFAULT_LIMIT,
        cursor: str | None = None,
    ) -> Page[Build]:
        async with self._db.read() as tx:
            return await store.find(
                tx,
                version_id=version_id,
                package_id=package_id,
                state=state,
                limit=limit,
                cursor=cursor,
            )

    async def log_path(self, build_id: str) -> Path | None:
        """Where the log of its operation lies; None before it has one."""
        build = await self.get(build_id)
        if build.operation_id is None:
            return None
        await self._operations.flush_log(build.operation_id)
        return self._operations.log_path(build.operation_id)

    async def follow_log(self, build_id: str) -> AsyncIterator[bytes]:
        """The log as it is written, until the operation has ended."""
        build = await self.get(build_id)
        if build.operation_id is None:
            return
        path = self._operations.log_path(build.operation_id)
        read = 0
        with self._bus.subscribe({f"log:{build.operation_id}", "operations"}) as news:
            while True:
                ended = (await self._operations.get(build.operation_id)).state.ended
                await self._operations.flush_log(build.operation_id)
                piece = await asyncio.to_thread(_read_from, path, read)
                read += len(piece)
                if piece:
                    yield piece
                if ended or await news.get() is None:  # the server stops
                    return

    # --- for the packages domain

    async def build_facts(
        self, tx: AsyncSession, version_ids: Sequence[str]
    ) -> dict[str, BuildFacts]:
        """`BuildBook` of packages: how the current content of versions stands."""
        facts: dict[str, BuildFacts] = {}
        rows = await store.rows_of_versions(tx, version_ids)
        for version_id in version_ids:
            version = await tx.get(VersionRow, version_id)
            if version is None:
                continue
            current = f"sha256:{version.zip_sha256}"
            mine = [r for r in rows if r.version_id == version_id and r.zip_digest == current]
            built = [row for row in mine if row.state == BuildState.SUCCEEDED.value]
            if any(row.state in store.ACTIVE for row in mine):
                state = "building"
            elif built:
                state = "built"
            else:
                state = "failed" if mine else "none"
            facts[version_id] = BuildFacts(
                state=state,  # type: ignore[arg-type]  # one of the literals above
                image_digest=built[0].digest if built else None,
                platforms=sorted({row.platform for row in built}),
            )
        return facts

    async def uses_of_version(self, tx: AsyncSession, version_id: str) -> list[Use]:
        """`DeleteCheck` of packages: a version that is being built cannot go, not even by force."""
        rows = await store.rows_of_versions(tx, [version_id])
        uses = [
            Use(kind="build", id=row.id, name=row.platform, blocking=True)
            for row in rows
            if row.state in store.ACTIVE
        ]
        accepted = await operations.active_on(tx, version_id)
        if accepted is not None and not uses:  # its first step has not written the builds down yet
            uses = [Use(kind="operation", id=accepted.id, name=accepted.kind, blocking=True)]
        return uses

    async def forget_version(self, tx: AsyncSession, version_id: str) -> None:
        """`DeleteHook` of packages: its images go at the next collection."""
        await store.mark_deleted(tx, version_id)

    # --- base-image map

    async def base_images(self) -> list[BaseImage]:
        async with self._db.read() as tx:
            return await store.base_images(tx)

    async def map_base_image(
        self, source: str, target: str, *, by: Principal
    ) -> tuple[BaseImage, Operation | None]:
        """Wherever a Dockerfile names `source`, later builds take `target`. The operation stores
        `target` in the registry ahead of them; None where that is going on already.
        """
        for reference in (source, target):
            if not is_reference(reference):
                raise BadBaseImage(reference=reference[:200])
        entry = BaseImage(source, target, self._clock.now())
        async with self._db.write() as tx:
            await store.put_base_image(tx, entry)
            await self._audit.record(tx, by, "map_base_image", source, {"target": target})
        self._bus.publish("states", {"kind": "base_image", "id": source, "change": "edit"})
        return entry, await self._base_store.store(target, requested_by=by.name)

    async def unmap_base_image(self, source: str, *, by: Principal) -> None:
        async with self._db.write() as tx:
            if not await store.delete_base_image(tx, source):
                raise BaseImageNotMapped(source=source[:200])
            await self._audit.record(tx, by, "unmap_base_image", source)
        self._bus.publish("states", {"kind": "base_image", "id": source, "change": "delete"})


def _read_from(path: Path, offset: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read()
    except FileNotFoundError:
        return b""


def check_platform(platform: str) -> str:
    """Raises BadPlatform."""
    os_name, _, rest = platform.partition("/")
    architecture, _, variant = rest.partition("/")
    good = os_name in OPERATING_SYSTEMS and architecture in ARCHITECTURES
    if not good or len(variant) > 4 or (variant and not variant.isalnum()):
        raise BadPlatform(platform=platform[:64])
    return platform
