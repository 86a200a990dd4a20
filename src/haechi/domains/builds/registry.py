"""The site registry as a service: what it holds, who may pull, and getting space back."""

import asyncio
import contextlib
import logging
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession

from haechi.core.access import SYSTEM, Principal
from haechi.core.bus import Bus
from haechi.core.clock import Clock
from haechi.core.db import Database
from haechi.core.ids import is_id
from haechi.core.operations import Definition, Operation, Operations, Run, Step, Temporary
from haechi.core.secrets import Keyring, Secret
from haechi.core.tasks import Tasks
from haechi.domains.audit.service import Audit
from haechi.domains.builds import base_store, store
from haechi.domains.builds.model import (
    RegistryRepository,
    RegistryState,
    RegistryTag,
)
from haechi.domains.builds.ports import Login, Manifest, Registry, RegistryNames, RegistryProcess
from haechi.errors import AppError, Busy, Text, Unavailable

log = logging.getLogger(__name__)

KIND: Final = "collect_registry"
SUBJECT: Final = "registry"
QUIET_S: Final = 5.0
"""After the deletion of a version: so that deleting ten collects once."""
RETRY_S: Final = 3.0
CACHED_MANIFESTS: Final = 5000

InUse = Callable[[AsyncSession], Awaitable[set[str]]]
"""Digests of images that are still deployed, or may be rolled back to."""


class SiteRegistry:
    """`hash_password` makes what the registry's password file takes."""

    def __init__(
        self,
        *,
        db: Database,
        bus: Bus,
        clock: Clock,
        audit: Audit,
        operations: Operations,
        registry: Registry,
        process: RegistryProcess,
        names: RegistryNames,
        keyring: Keyring,
        hash_password: Callable[[Secret], str],
        new_secret: Callable[[], str],
    ) -> None:
        self._db = db
        self._clock = clock
        self._audit = audit
        self._operations = operations
        self._registry = registry
        self._process = process
        self._names = names
        self._keyring = keyring
        self._hash_password = hash_password
        self._new_secret = new_secret
        self._in_use: list[InUse] = []
        self._manifests: dict[str, Manifest] = {}
        self._tasks = Tasks("site-registry")
        self._version_deleted = asyncio.Event()
        # What was read first must not be written last.
        self._writing_logins = asyncio.Lock()
        bus.on("states", self._see_state)
        operations.register(self._definition())

    async def start(self) -> None:
        """Start the processes; before the operations engine. A registry that will not start does
        not keep the server from starting: it is said in the log and by `state`.
        """
        await self._write_logins()
        try:
            await self._process.start()
        except AppError as error:
            log.error("the site registry does not start: %s", error)  # noqa: TRY400 - foreseen
        self._tasks.forever("collect", self._collect_after_deletions)

    async def close(self) -> None:
        await self._tasks.close()
        await self._process.close()

    def on_use_check(self, check: InUse) -> None:
        """Ask `check` which digests must stay, whatever became of their versions."""
        self._in_use.append(check)

    # --- who may pull

    async def pull_login(self, device_id: str) -> Login:
        """The device's own credential, good for pulling only; made at the first call."""
        owner = f"{device_id}:registry"
        async with self._db.read() as tx:
            row = await store.pull_login(tx, device_id)
        if row is None:
            secret = Secret(self._new_secret())
            hashed = await asyncio.to_thread(self._hash_password, secret)
            async with self._db.write() as tx:
                row = await store.pull_login(tx, device_id)
                if row is None:
                    row = store.PullLoginRow(
                        device_id=device_id,
                        password=self._keyring.encrypt(secret, owner),
                        hashed=hashed,
                        created_at=self._clock.now(),
                    )
                    tx.add(row)
            await self._write_logins()
        return Login(device_id, self._keyring.decrypt(row.password, owner))

    async def revoke_pull(self, device_id: str) -> None:
        """The device's credential ends at once; a later `pull_login` makes another."""
        async with self._db.write() as tx:
            row = await store.pull_login(tx, device_id)
            if row is not None:
                await tx.delete(row)
        await self._write_logins()

    async def delete_device(self, tx: AsyncSession, device_id: str) -> None:
        """Part of the transaction that deletes the device; the password file follows."""
        row = await store.pull_login(tx, device_id)
        if row is not None:
            await tx.delete(row)

    async def _write_logins(self) -> None:
        async with self._writing_logins:
            async with self._db.read() as tx:
                logins = {row.device_id: row.hashed for row in await store.pull_logins(tx)}
            await self._process.write_logins(logins)

    # --- what it holds

    async def state(self) -> RegistryState:
        """Repositories and sizes are empty while it is not running."""
        repositories: list[RegistryRepository] = []
        running = self._process.running
        if running and not self._process.read_only:
            try:
                repositories = [
                    await self._repository(name) for name in await self._registry.repositories()
                ]
            except Unavailable:
                running = False
        folder = self._process.data_dir()
        used, disk = await asyncio.to_thread(_disk, folder)
        return RegistryState(
            reference=self._names.pull,
            running=running,
            read_only=self._process.read_only,
            repositories=[entry for entry in repositories if entry.tags],
            used_bytes=used,
            disk_free_bytes=disk.free,
            disk_total_bytes=disk.total,
        )

    async def _repository(self, name: str) -> RegistryRepository:
        tags: list[RegistryTag] = []
        blobs: dict[str, int] = {}
        for tag in sorted(await self._registry.tags(name)):
            manifest = await self._registry.manifest(name, tag)
            if manifest is None:
                continue
            own = await self._blobs(name, manifest)
            blobs |= own
            if not is_id(tag, "build"):
                platforms = [child.platform for child in manifest.children]
                tags.append(RegistryTag(tag, manifest.digest, sum(own.values()), platforms))
        return RegistryRepository(name, sum(blobs.values()), tags)

    async def _blobs(self, repository: str, manifest: Manifest) -> dict[str, int]:
        blobs = {manifest.digest: manifest.size_bytes, **manifest.blobs}
        for child in manifest.children:
            found = self._manifests.get(child.digest)
            if found is None:
                found = await self._registry.manifest(repository, child.digest)
            if found is not None:
                if len(self._manifests) >= CACHED_MANIFESTS:
                    self._manifests.clear()
                self._manifests[child.digest] = found
                blobs |= await self._blobs(repository, found)
        return blobs

    # --- getting space back

    async def collect(self, *, by: Principal = SYSTEM) -> Operation:
        """Start the operation that deletes images of deleted versions and frees their space."""
        operation = await self._operations.start(KIND, SUBJECT, {}, requested_by=by.name)
        async with self._db.write() as tx:
            await self._audit.record(tx, by, KIND, SUBJECT, {"operation_id": operation.id})
        return operation

    def _definition(self) -> Definition:
        return Definition(
            kind=KIND,
            title=Text("레지스트리 공간 확보", "Collect the registry's garbage"),
            parallel=1,
            steps=[
                Step(
                    "delete_manifests",
                    Text("삭제된 버전의 이미지 제거", "Delete images of deleted versions"),
                    self._delete_manifests,
                ),
                Step("collect", Text("공간 확보", "Free the space"), self._collect, timeout_s=7200),
                Step("forget", Text("기록 정리", "Tidy the records"), self._forget),
            ],
        )

    async def _delete_manifests(self, run: Run) -> None:
        try:
            # What is there is listed first and what is wanted is read after, so that an image
            # pushed in between is not taken for one that nobody wants.
            listed = [
                (repository, tag)
                for repository in await self._registry.repositories()
                for tag in await self._registry.tags(repository)
            ]
            wanted, tags, doomed = await self._wanted()
            for repository, tag in listed:
                manifest = await self._registry.manifest(repository, tag)
                if manifest is None or manifest.digest in wanted or (repository, tag) in tags:
                    continue
                run.log(f"deleting {repository}:{tag}")
                await self._registry.delete_manifest(repository, manifest.digest)
            for repository, digest in sorted(doomed):
                if digest not in wanted:
                    await self._registry.delete_manifest(repository, digest)
        except Unavailable as error:
            raise Temporary(RETRY_S, error) from error

    async def _wanted(self) -> tuple[set[str], set[tuple[str, str]], set[tuple[str, str]]]:
        """(digests to keep, (repository, tag) to keep, (repository, digest) of deleted builds)."""
        async with self._db.read() as tx:
            known = await store.manifests(tx, deleted=False)
            # Without anybody to ask what is deployed, an older build of a version may be.
            living = await store.current_manifests(tx) if self._in_use else known
            digests = {digest for _, digest in living}
            for check in self._in_use:
                digests |= await check(tx)
            tags = await store.living_tags(tx) | await store.active_tags(tx)
            tags |= {
                (base_store.REPOSITORY, base_store.tag_of(entry.target))
                for entry in await store.base_images(tx)
            }
            doomed = await store.manifests(tx, deleted=True) | known
        return digests, tags, doomed

    async def _collect(self, run: Run) -> None:
        folder = self._process.data_dir()
        before = run.ctx.setdefault("before_bytes", await asyncio.to_thread(_used_bytes, folder))
        await run.save()
        try:
            await self._process.collect_garbage(run.log)
        except Unavailable as error:
            raise Temporary(RETRY_S, error) from error
        after = await asyncio.to_thread(_used_bytes, folder)
        run.ctx["result"] = {"freed_bytes": max(0, before - after), "used_bytes": after}
        run.log(f"freed {max(0, before - after)} bytes, {after} in use")

    async def _forget(self, run: Run) -> None:
        del run
        self._manifests.clear()
        async with self._db.write() as tx:
            await store.forget_deleted(tx)

    def _see_state(self, topic: str, data: Any) -> None:
        del topic
        if data.get("kind") == "version" and data.get("change") == "delete":
            self._version_deleted.set()
        if data.get("kind") == "device" and data.get("change") == "delete":
            _ = self._tasks.spawn("write-logins", self._write_logins())

    async def _collect_after_deletions(self) -> None:
        while True:
            await self._version_deleted.wait()
            await self._clock.sleep(QUIET_S)
            self._version_deleted.clear()
            with contextlib.suppress(Busy):
                await self.collect()


def _used_bytes(folder: Path) -> int:
    total = 0
    for directory, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                total += (Path(directory) / name).lstat().st_size
    return total


def _disk(folder: Path) -> tuple[int, Any]:
    place = folder if folder.exists() else Path("/")
    return _used_bytes(folder), shutil.disk_usage(place)
