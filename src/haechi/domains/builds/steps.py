"""The operation `build_version`: one zip, one or more platforms, images in the site registry.

Everything a step needs after a crash is in `ctx`, in the build's row or in the operation's folder;
each step looks what is done already. The Engine stops a build whose caller is gone, so a `kill -9`
leaves no build running.
"""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from haechi.core.bus import Bus
from haechi.core.clock import Clock
from haechi.core.db import Database
from haechi.core.ids import new_id
from haechi.core.operations import Definition, Operation, Permanent, Run, State, Step, Temporary
from haechi.domains.builds import store
from haechi.domains.builds.images import is_tag
from haechi.domains.builds.model import (
    Build,
    BuildState,
    BuildTimedOut,
    ImageTooLarge,
)
from haechi.domains.builds.ports import (
    Builders,
    Child,
    Context,
    Login,
    Plan,
    Registry,
    RegistryNames,
    Versions,
    VersionToBuild,
)
from haechi.domains.builds.resolve import Resolver
from haechi.domains.builds.site_files import without_mount
from haechi.errors import AppError, DiskFull, Text, Unavailable
from haechi.settings import BuildsSettings

KIND: Final = "build_version"
STEP_LIMIT_S: Final = 24 * 3600.0
"""Builds have their own limit (`builds.timeout_s`); this one only catches what hangs for ever."""
RETRY_S: Final = 3.0
LOCAL: Final = "haechi-build"

Each = Callable[[dict[str, Any]], Awaitable[None]]


class BuildSteps:
    def __init__(
        self,
        *,
        db: Database,
        bus: Bus,
        clock: Clock,
        versions: Versions,
        builders: Builders,
        registry: Registry,
        names: RegistryNames,
        push_login: Callable[[], Login | None],
        settings: Callable[[], BuildsSettings],
        folder: Path,
        min_free_bytes: int,
        free_bytes: Callable[[Path], int],
    ) -> None:
        self._db = db
        self._bus = bus
        self._clock = clock
        self._versions = versions
        self._builders = builders
        self._registry = registry
        self._names = names
        self._push_login = push_login
        self._settings = settings
        self._resolver = Resolver(names=names, push_login=push_login, settings=settings)
        self._folder = folder
        self._min_free_bytes = min_free_bytes
        self._free_bytes = free_bytes

    def definition(self, parallel: int) -> Definition:
        def step(name: str, ko: str, en: str, do: Any, undo: Any = None) -> Step:
            return Step(name, Text(ko, en), do, undo, timeout_s=STEP_LIMIT_S)

        return Definition(
            kind=KIND,
            title=Text("버전 빌드", "Build a version"),
            parallel=parallel,
            on_end=self._ended,
            steps=[
                step("check", "준비 상태 확인", "Check space and builders", self.check),
                step("unpack", "압축 풀기", "Unpack the zip", self.unpack, self.drop_folder),
                step("resolve", "기본 이미지 확인", "Resolve base images", self.resolve),
                step("build", "이미지 빌드", "Build the image", self.build, self.drop_images),
                step("push", "레지스트리에 저장", "Push to the site registry", self.push),
                step("record", "결과 기록", "Record the image", self.record),
                step("clean", "정리", "Clean up", self.clean),
            ],
        )

    # --- steps

    async def check(self, run: Run) -> None:
        version = await self._versions.version_to_build(run.subject)
        self._folder.mkdir(parents=True, exist_ok=True)
        free = await asyncio.to_thread(self._free_bytes, self._folder)
        if free < self._min_free_bytes:
            raise Permanent(
                DiskFull(where="builds", free_bytes=free, needed_bytes=self._min_free_bytes)
            )
        async with _later():
            if not run.ctx["builds"]:
                native = (await (await self._builders.for_platform("")).engine()).platform
                run.ctx["builds"] = [{"id": new_id("build"), "platform": native}]
            for item in run.ctx["builds"]:
                builder = await self._builders.for_platform(item["platform"])
                run.log(f"{item['platform']}: built by {builder.name}")
        await run.save()
        async with self._db.write() as tx:
            known = {build.id for build in await store.of_operation(tx, run.id)}
            for item in run.ctx["builds"]:
                if item["id"] not in known:
                    await store.add(tx, self._row(run, version, item))
        self._tell(version)

    async def unpack(self, run: Run) -> None:
        await self._context(run)

    async def resolve(self, run: Run) -> None:
        version = await self._versions.version_to_build(run.subject)
        context = await self._context(run)
        async with self._db.read() as tx:
            base_map = {entry.source: entry.target for entry in await store.base_images(tx)}

        async def one(item: dict[str, Any]) -> None:
            builder = await self._builders.for_platform(item["platform"])
            resolved = await self._resolver.resolve(
                version,
                item["platform"],
                context,
                builder=builder,
                base_map=base_map,
                scratch=self._work(run),
                log=run.log,
            )
            (self._work(run) / f"{item['id']}.dockerfile").write_text(resolved.text, "utf-8")
            await self._update(item["id"], base_images=resolved.bases, recipe=resolved.recipe)
            item["reused"] = not run.ctx.get("no_cache") and await self._reuse(
                run, version, item["id"], resolved.recipe
            )

        await self._each(run, one)

    async def build(self, run: Run) -> None:
        version = await self._versions.version_to_build(run.subject)
        context = await self._context(run)
        settings = self._settings()
        count = len(run.ctx["builds"])

        async def one(item: dict[str, Any]) -> None:
            if item.get("reused") or item.get("image_id"):
                return
            place = run.ctx["builds"].index(item)

            def progress(ratio: float | None, text: str) -> None:
                run.progress(0.1 + 0.6 * (place + (ratio or 0)) / count, without_mount(text))
                last[0] = without_mount(text) or last[0]

            last = [""]
            builder = await self._builders.for_platform(item["platform"])
            now = self._clock.now()
            await self._update(item["id"], state=BuildState.BUILDING.value, started_at=now)
            plan = self._plan(version, context, item, run, settings)
            try:
                async with asyncio.timeout(settings.timeout_s):
                    built = await builder.build(plan, _bounded(run, settings), progress)
            except TimeoutError as error:
                raise BuildTimedOut(timeout_s=settings.timeout_s, step=last[0][:300]) from error
            if built.size_bytes > settings.max_image_bytes:
                raise ImageTooLarge(
                    size_bytes=built.size_bytes, limit_bytes=settings.max_image_bytes
                )
            item["image_id"] = built.image_id
            await self._update(item["id"], size_bytes=built.size_bytes)

        await self._each(run, one)

    async def push(self, run: Run) -> None:
        version = await self._versions.version_to_build(run.subject)
        count = len(run.ctx["builds"])

        async def one(item: dict[str, Any]) -> None:
            if item.get("reused") or item.get("digest"):
                return
            place = run.ctx["builds"].index(item)

            def progress(ratio: float | None, text: str) -> None:
                run.progress(0.7 + 0.25 * (place + (ratio or 0)) / count, text)

            await self._update(item["id"], state=BuildState.PUSHING.value)
            builder = await self._builders.for_platform(item["platform"])
            reference = f"{self._names.push}/{version.package_name}:{item['id']}"
            digest = await builder.push(item["image_id"], reference, self._push_login(), progress)
            run.log(f"pushed {version.package_name}@{digest}")
            item["digest"] = digest

        await self._each(run, one)

    async def record(self, run: Run) -> None:
        version = await self._versions.version_to_build(run.subject)

        async def one(item: dict[str, Any]) -> None:
            build = await self._build(item["id"])
            digest = build.digest if item.get("reused") else item["digest"]
            manifest = await self._registry.manifest(version.package_name, digest)
            await self._update(
                item["id"],
                state=BuildState.SUCCEEDED.value,
                digest=digest,
                manifest_bytes=manifest.size_bytes if manifest else 0,
                image=f"{self._names.pull}/{version.package_name}@{digest}",
                started_at=build.started_at or self._clock.now(),
                ended_at=self._clock.now(),
            )

        await self._each(run, one)
        async with _later():
            await self._tag_version(version)
        run.ctx["result"] = {
            "builds": [
                {"id": build.id, "platform": build.platform, "image": build.image}
                for build in [await self._build(item["id"]) for item in run.ctx["builds"]]
            ]
        }
        self._tell(version)

    async def clean(self, run: Run) -> None:
        """The newest image of a package stays local: the next build starts from its layers."""
        version = await self._versions.version_to_build(run.subject)
        for item in run.ctx["builds"]:
            if item.get("image_id"):
                async with _not_worth_failing(run):
                    builder = await self._builders.for_platform(item["platform"])
                    tag = item["platform"].replace("/", "-")
                    kept = f"{LOCAL}/{version.package_name}:{tag}"
                    await builder.keep(item["image_id"], kept)
                    await builder.remove(_local(item["id"]))
                    await builder.prune()
        await self.drop_folder(run)

    # --- undo

    async def drop_folder(self, run: Run) -> None:
        await asyncio.to_thread(shutil.rmtree, self._work(run), ignore_errors=True)

    async def drop_images(self, run: Run) -> None:
        for item in run.ctx["builds"]:
            builder = await self._builders.for_platform(item["platform"])
            await builder.remove(_local(item["id"]))

    async def _ended(self, operation: Operation) -> None:
        """Whatever happened, no build stays open."""
        if operation.state is State.SUCCEEDED:
            return
        cancelled = operation.state is State.CANCELLED
        async with self._db.write() as tx:
            await store.end_active(
                tx,
                operation.id,
                BuildState.CANCELLED if cancelled else BuildState.FAILED,
                operation.error,
                self._clock.now(),
            )
        self._bus.publish("states", {"kind": "version", "id": operation.subject, "change": "edit"})

    # --- parts

    async def _each(self, run: Run, one: Each) -> None:
        for item in run.ctx["builds"]:
            async with _later():
                await one(item)
            await run.save()

    def _work(self, run: Run) -> Path:
        return self._folder / run.id

    async def _context(self, run: Run) -> Context:
        """The unpacked zip, unpacked anew where a crash or a clean-up took it."""
        work = self._work(run)
        marker = work / "unpacked.json"
        if await asyncio.to_thread(marker.exists):
            saved = json.loads(marker.read_text())
            return Context(Path(saved["context_dir"]), saved["dockerfile"])
        await asyncio.to_thread(shutil.rmtree, work, ignore_errors=True)
        work.mkdir(parents=True)
        context = await self._versions.extract_context(run.subject, work / "context")
        saved = {"context_dir": str(context.context_dir), "dockerfile": context.dockerfile}
        marker.write_text(json.dumps(saved))
        return context

    async def _reuse(self, run: Run, version: VersionToBuild, build_id: str, recipe: str) -> bool:
        """Take over the image of an equal build, if the registry still has it."""
        async with self._db.write() as tx:
            equal = await store.succeeded(tx, recipe=recipe, repository=version.package_name)
            if equal is None:
                return False
            # Said first, so that a collection of garbage from now on keeps the image.
            await store.update(
                tx,
                build_id,
                digest=equal.digest,
                size_bytes=equal.size_bytes,
                reused_from=equal.id,
            )
        if await self._registry.manifest(version.package_name, equal.digest) is None:
            await self._update(build_id, digest="", size_bytes=0, reused_from=None)
            return False
        run.log(f"same content and base images as build {equal.id}: its image is taken over")
        return True

    def _plan(
        self,
        version: VersionToBuild,
        context: Context,
        item: dict[str, Any],
        run: Run,
        settings: BuildsSettings,
    ) -> Plan:
        proxies = {}
        if settings.proxy:
            # Predefined by BuildKit: kept out of history and of the cache key.
            for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
                proxies[name] = settings.proxy
        text = (self._work(run) / f"{item['id']}.dockerfile").read_text("utf-8")
        return Plan(
            context_dir=context.context_dir,
            dockerfile=context.dockerfile,
            dockerfile_text=text,
            platform=item["platform"],
            tag=_local(item["id"]),
            labels={
                "haechi.build": item["id"],
                "haechi.package": version.package_name,
                "haechi.version": version.version,
                "haechi.zip": version.zip_digest,
            },
            build_args=proxies,
            network=settings.network,
            memory_bytes=settings.memory_bytes,
            no_cache=bool(run.ctx.get("no_cache")),
        )

    async def _tag_version(self, version: VersionToBuild) -> None:
        """`<package>:<version>` names an index of all platforms, for people and other tools."""
        if not is_tag(version.version):
            return
        async with self._db.read() as tx:
            rows = await store.rows_of_versions(tx, [version.id])
        newest: dict[str, Child] = {}
        for row in rows:
            good = row.state == BuildState.SUCCEEDED.value and row.zip_digest == version.zip_digest
            if good and row.platform not in newest:
                manifest = await self._registry.manifest(row.repository, row.digest)
                if manifest is not None:
                    newest[row.platform] = Child(
                        row.digest, row.platform, manifest.size_bytes, manifest.media_type
                    )
        children = [newest[platform] for platform in sorted(newest)]
        if children:
            await self._registry.put_index(version.package_name, version.version, children)

    def _row(self, run: Run, version: VersionToBuild, item: dict[str, Any]) -> store.BuildRow:
        return store.BuildRow(
            id=item["id"],
            package_id=version.package_id,
            version_id=version.id,
            repository=version.package_name,
            version=version.version,
            zip_digest=version.zip_digest,
            platform=item["platform"],
            state=BuildState.QUEUED.value,
            operation_id=run.id,
            recipe="",
            reused_from=None,
            base_images=[],
            image="",
            digest="",
            size_bytes=0,
            manifest_bytes=0,
            error=None,
            deleted=False,
            created_at=self._clock.now(),
            started_at=None,
            ended_at=None,
        )

    async def _build(self, build_id: str) -> Build:
        async with self._db.read() as tx:
            return store.to_build(await store.row_of(tx, build_id))

    async def _update(self, build_id: str, **values: Any) -> None:
        async with self._db.write() as tx:
            await store.update(tx, build_id, **values)

    def _tell(self, version: VersionToBuild) -> None:
        self._bus.publish("states", {"kind": "version", "id": version.id, "change": "edit"})


def _local(build_id: str) -> str:
    """The Engine's name of an image while its build is going on."""
    return f"{LOCAL}:{build_id}"


def _bounded(run: Run, settings: BuildsSettings) -> Callable[[str], None]:
    """The run's log, until the build has said too much."""
    left = settings.max_log_bytes

    def log(line: str) -> None:
        nonlocal left
        if left <= 0:
            return
        text = without_mount(line)
        left -= len(text.encode()) + 1
        run.log(text)
        if left <= 0:
            run.log(f"[build log limit of {settings.max_log_bytes} bytes reached]")

    return log


@asynccontextmanager
async def _later() -> AsyncIterator[None]:
    """What cannot be reached now is tried again by the engine of operations."""
    try:
        yield
    except Unavailable as error:
        raise Temporary(RETRY_S, error) from error


@asynccontextmanager
async def _not_worth_failing(run: Run) -> AsyncIterator[None]:
    """The image is in the registry: tidying up may fail."""
    try:
        yield
    except AppError as error:
        run.log(f"-- tidying up: {error}")
