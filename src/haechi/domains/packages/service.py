"""Packages: take in, describe, list, edit, delete, hand out.

A version becomes visible in one transaction, after its zip lies durably under its digest; a crash
at any moment leaves at most files that the next start sweeps.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path
from typing import Final, TypedDict, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from haechi.core.access import Principal
from haechi.core.bus import Bus
from haechi.core.clock import Clock
from haechi.core.db import Database
from haechi.core.pages import DEFAULT_LIMIT, Page
from haechi.domains.audit.ports import AuditTrail
from haechi.domains.inventory.model import Use
from haechi.domains.packages import extraction, intake, names, store
from haechi.domains.packages.files import FreeBytes, ZipFiles, free_bytes
from haechi.domains.packages.inspection import Limits, inspect
from haechi.domains.packages.model import (
    BuildFacts,
    Package,
    PackageSummary,
    PackageVersion,
    Revision,
    Unpacked,
    Uploaded,
)
from haechi.domains.packages.ports import BuildBook, DeleteCheck, DeleteHook
from haechi.domains.packages.problems import (
    StillDeployed,
    ZipLost,
)
from haechi.domains.packages.store import PackageRow, RevisionRow, VersionRow
from haechi.errors import ObjectNotFound, StaleEdit
from haechi.settings import PackagesSettings

log = logging.getLogger(__name__)
T = TypeVar("T")
PARALLEL_INSPECTIONS: Final = 2


class PackageFields(TypedDict, total=False):
    title_ko: str
    title_en: str
    description: str
    author: str
    classes: list[str]


class Packages:
    def __init__(
        self,
        *,
        db: Database,
        bus: Bus,
        clock: Clock,
        audit: AuditTrail,
        folder: Path,
        settings: PackagesSettings,
        free: FreeBytes = free_bytes,
    ) -> None:
        """`folder` is DATA/packages. `free` tells a disk's free bytes (tests fill it)."""
        self._db = db
        self._bus = bus
        self._clock = clock
        self._audit = audit
        self._files = ZipFiles(
            folder,
            max_bytes=settings.max_upload_bytes,
            min_free_bytes=settings.min_free_bytes,
            free=free,
        )
        self._limits = Limits(settings.max_files, settings.max_unpacked_bytes)
        self._inspecting = asyncio.Semaphore(PARALLEL_INSPECTIONS)
        # Held while zips appear or vanish together with their rows, so that neither can
        # slip between the other's check and act.
        self._lock = asyncio.Lock()
        self._checks: list[DeleteCheck] = []
        self._hooks: list[DeleteHook] = []
        self._builds: BuildBook | None = None

    async def start(self) -> None:
        """Make the folders and sweep what a crash left: call before the first request."""
        await asyncio.to_thread(self._files.prepare)
        async with self._db.read() as tx:
            known = await store.known_digests(tx)
        gone = await asyncio.to_thread(self._files.sweep, known)
        if gone:
            log.info("swept %d zips that no version knows", len(gone))

    def on_delete_check(self, check: DeleteCheck) -> None:
        """Ask `check` before a version is deleted."""
        self._checks.append(check)

    def on_delete(self, hook: DeleteHook) -> None:
        """Call `hook` inside the transaction that deletes a version."""
        self._hooks.append(hook)

    def built_by(self, builds: BuildBook) -> None:
        """Who tells how the builds of versions went."""
        self._builds = builds

    # --- in

    async def upload(
        self,
        pieces: AsyncIterator[bytes],
        *,
        file_name: str,
        version: str,
        by: Principal,
        name: str = "",
        replace: bool = False,
        expected_bytes: int | None = None,
    ) -> Uploaded:
        """Take in a zip. The same bytes again change nothing; other bytes under a known version
        are refused unless `replace`, which keeps the old content as history.

        Raises the only problem with it or PackageRefused, VersionExists, NameCollision, TooLarge,
        DiskFull; nothing of it is left then.
        """
        names.version(version)
        from_file = names.from_file_name(file_name)
        given = names.original(name) if name else from_file
        async with self._files.receive(pieces, expected_bytes=expected_bytes) as received:
            async with self._inspecting:
                inspection = await _in_thread(
                    lambda stop: inspect(received.path, self._limits, stop=stop)
                )
            about = inspection.manifest.package
            wanted = given if name or not about.name else names.original(about.name)
            async with self._lock:
                async with self._db.read() as tx:
                    await intake.refuse_conflict(
                        tx, wanted, version, received.sha256, replace=replace
                    )
                await self._files.keep(received)
                try:
                    async with self._db.write() as tx:
                        uploaded = await intake.record(
                            tx,
                            name=wanted,
                            version=version,
                            file_name=file_name,
                            received=received,
                            inspection=inspection,
                            by=by,
                            now=self._clock.now(),
                            audit=self._audit,
                        )
                except BaseException:
                    await self._drop_unknown({received.sha256})
                    raise
        if uploaded.change != "unchanged":
            created = uploaded.change == "created"
            self._tell("package", uploaded.version.package_id, "edit")
            self._tell("version", uploaded.version.id, "create" if created else "edit")
        return uploaded

    # --- look

    async def get(self, ref: str) -> PackageSummary:
        """By id or name; raises ObjectNotFound."""
        async with self._db.read() as tx:
            return await store.summary(tx, await store.package_row(tx, ref))

    async def find(
        self, *, name: str | None = None, limit: int = DEFAULT_LIMIT, cursor: str | None = None
    ) -> Page[PackageSummary]:
        async with self._db.read() as tx:
            return await store.find_packages(tx, name=name, limit=limit, cursor=cursor)

    async def versions(
        self, ref: str, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None
    ) -> Page[PackageVersion]:
        """Newest first."""
        async with self._db.read() as tx:
            package = await store.package_row(tx, ref)
            return await store.find_versions(tx, package, limit=limit, cursor=cursor)

    async def get_version(self, ref: str, version: str) -> PackageVersion:
        """By package (id or name) and version (text or id); raises ObjectNotFound."""
        async with self._db.read() as tx:
            package = await store.package_row(tx, ref)
            return store.to_version(await store.version_row(tx, package.id, version), package.name)

    async def version(self, version_id: str) -> PackageVersion:
        """By its id alone; raises ObjectNotFound."""
        async with self._db.read() as tx:
            return await self.read_version(tx, version_id)

    async def read_version(self, tx: AsyncSession, version_id: str) -> PackageVersion:
        """`version` inside the caller's transaction."""
        row = await tx.get(VersionRow, version_id)
        if row is None:
            raise ObjectNotFound(kind="version", id=version_id)
        package = await store.package_row(tx, row.package_id)
        return store.to_version(row, package.name)

    async def revisions(self, version_id: str) -> list[Revision]:
        """Every content the version had, the current one first."""
        async with self._db.read() as tx:
            return [store.to_revision(row) for row in await store.revisions(tx, version_id)]

    async def build_facts(self, version_ids: list[str]) -> dict[str, BuildFacts]:
        if self._builds is None:
            return {}
        async with self._db.read() as tx:
            return await self._builds.build_facts(tx, version_ids)

    # --- out

    async def zip_path(self, version_id: str, *, revision: int | None = None) -> Path:
        """The zip of a version as it is, or as it was; raises ObjectNotFound, ZipLost."""
        async with self._db.read() as tx:
            row = await tx.get(VersionRow, version_id)
            if row is None:
                raise ObjectNotFound(kind="version", id=version_id)
            content = await tx.get(RevisionRow, (version_id, revision or row.revision))
        if content is None:
            raise ObjectNotFound(kind="revision", id=f"{row.version}/{revision}")
        path = self._files.path_of(content.zip_sha256)
        if not path.exists():
            raise ZipLost(version=row.version)
        return path

    async def extract_context(self, version_id: str, target: Path) -> Unpacked:
        """Unpack a version into `target` (new or empty) for a build. Raises DiskFull, ZipLost;
        `target` is gone then.
        """
        version = await self.version(version_id)
        zip_path = await self.zip_path(version_id)
        target.parent.mkdir(parents=True, exist_ok=True)
        self._files.check_room(version.unpacked_bytes, target.parent)
        await _in_thread(lambda stop: extraction.extract(zip_path, target, self._limits, stop=stop))
        layout = version.layout
        return Unpacked(target / layout.context, target / layout.dockerfile, version)

    # --- edit and delete

    async def edit(
        self, ref: str, fields: PackageFields, *, by: Principal, revision: int | None = None
    ) -> Package:
        """What is set by hand is not overwritten by later uploads."""
        async with self._db.write() as tx:
            row = await store.package_row(tx, ref)
            if revision is not None and row.revision != revision:
                raise StaleEdit
            for key, value in fields.items():
                setattr(row, key, value)
            row.edited = sorted({*row.edited, *fields})
            row.revision += 1
            row.updated_at = self._clock.now()
            await self._audit.record(tx, by, "edit_package", row.id, dict(fields))
            package = store.to_package(row)
        self._tell("package", package.id, "edit")
        return package

    async def edit_version(
        self,
        version_id: str,
        description: str,
        *,
        by: Principal,
        known_at: datetime | None = None,
    ) -> None:
        """With `known_at` (its `updated_at` as the caller knows it): StaleEdit where it changed."""
        async with self._db.write() as tx:
            row = await tx.get(VersionRow, version_id)
            if row is None:
                raise ObjectNotFound(kind="version", id=version_id)
            if known_at is not None and row.updated_at != known_at:
                raise StaleEdit
            row.description, row.updated_at = description, self._clock.now()
            await self._audit.record(tx, by, "edit_version", row.id, {"description": description})
        self._tell("version", version_id, "edit")

    async def delete(self, ref: str, *, by: Principal, force: bool = False) -> None:
        """The package with all its versions, or nothing."""
        async with self._lock:
            async with self._db.write() as tx:
                package = await store.package_row(tx, ref)
                query = sa.select(VersionRow).where(VersionRow.package_id == package.id)
                rows = list(await tx.scalars(query))
                digests = await self._remove(tx, package, rows, by=by, force=force)
                await tx.delete(package)
                await self._audit.record(
                    tx, by, "delete_package", package.id, {"package": package.name}
                )
            await self._drop_unknown(digests)
        for row in rows:
            self._tell("version", row.id, "delete")
        self._tell("package", package.id, "delete")

    async def delete_version(
        self, ref: str, version: str, *, by: Principal, force: bool = False
    ) -> None:
        """One version with its history. Raises StillDeployed naming where, unless `force`."""
        async with self._lock:
            async with self._db.write() as tx:
                package = await store.package_row(tx, ref)
                row = await store.version_row(tx, package.id, version)
                digests = await self._remove(tx, package, [row], by=by, force=force)
            await self._drop_unknown(digests)
        self._tell("version", row.id, "delete")
        self._tell("package", package.id, "edit")

    async def _remove(
        self,
        tx: AsyncSession,
        package: PackageRow,
        rows: list[VersionRow],
        *,
        by: Principal,
        force: bool,
    ) -> set[str]:
        uses: list[Use] = []
        for row in rows:
            for check in self._checks:
                uses += await check(tx, row.id)
        hindering = [use.as_dict() for use in uses if use.blocking or not force]
        if hindering:
            raise StillDeployed(
                package=package.name,
                version=", ".join(row.version for row in rows)[:200],
                count=len(hindering),
                where=hindering,
            )
        digests = await store.digests_of(tx, [row.id for row in rows])
        for row in rows:
            for hook in self._hooks:
                await hook(tx, row.id)
            await tx.delete(row)
            facts = {"package": package.name, "version": row.version, "forced": bool(uses)}
            await self._audit.record(tx, by, "delete_version", row.id, facts)
        await tx.flush()
        return digests

    async def _drop_unknown(self, digests: set[str]) -> None:
        """Delete zips that no revision needs any more; the lock is held."""
        async with self._db.read() as tx:
            known = await store.known_digests(tx, digests)
        for digest in digests - known:
            await asyncio.to_thread(self._files.delete, digest)

    def _tell(self, kind: str, subject: str, change: str) -> None:
        self._bus.publish("states", {"kind": kind, "id": subject, "change": change})


async def _in_thread(work: Callable[[Callable[[], bool]], T]) -> T:
    """Run blocking work in a thread. When the caller is cancelled, `stop()` tells the work to end,
    and its end is awaited: nothing goes on behind anybody's back.
    """
    stop = threading.Event()
    future = asyncio.get_running_loop().run_in_executor(None, work, stop.is_set)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([future])
        if not future.cancelled():
            future.exception()
        raise
