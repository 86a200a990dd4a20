"""The first half of deploying to one device: nothing that runs is touched.

preflight → build → plan → pull. `ctx` is JSON and complete enough to go on from any point.
"""

import asyncio
import contextlib
from typing import Any, Final

from haechi.core import ids
from haechi.core.clock import to_ms
from haechi.core.operations import Permanent, Run, Temporary
from haechi.domains.deployments import store
from haechi.domains.deployments.context import Context, reaching
from haechi.domains.deployments.model import (
    KEPT_BY_AGENT,
    Allowance,
    Deployment,
    DeploymentState,
    NoCamera,
    NoGpu,
    NoRoom,
    NotAgreed,
    Strategy,
    Wishes,
)
from haechi.domains.deployments.ports import Place, VersionToDeploy
from haechi.domains.deployments.specs import container_name
from haechi.errors import Unavailable
from haechi.protocol.commands import EngineInfo, PullProgress

PULLS: Final = 32
"""Devices that fetch an image at the same time."""
SLICE_S: Final = 60.0
"""What is away is told of in the log once in that time, and looked for anew at least so often."""
EXPECTED_GAP = "up to 10 s to stop the old one, then the start of the new one"


class Prepare:
    def __init__(self, context: Context) -> None:
        self._c = context
        self._pulls = asyncio.Semaphore(PULLS)

    async def preflight(self, run: Run) -> None:
        c = self._c
        ctx = run.ctx
        version = await c.versions.version_to_deploy(ctx["version_id"])
        place = await c.places.device(ctx["device_id"])
        wishes = Wishes(**ctx["wishes"])
        missing = disagreement(version, wishes)
        if missing is not None:
            raise missing
        info = await self._info(run, place)
        check_device(version, wishes, info, place.name)
        ctx["platform"] = info.platform
        ctx["memory_available_bytes"] = info.memory_available_bytes
        ctx["disk_free_bytes"] = info.disk_free_bytes
        ctx.setdefault("result", {}).update(
            device_id=place.device_id, device=place.name, version=version.version
        )
        run.log(
            f"device {place.name}: {info.engine} {info.version} on {info.platform}, "
            f"{info.memory_available_bytes // 1024**2} MB memory and "
            f"{info.disk_free_bytes // 1024**2} MB disk free"
        )
        run.progress(0.05, place.name)

    async def _info(self, run: Run, place: Place) -> EngineInfo:
        """Of a device, or of a cluster's API, that may be away: it is waited for as long as the
        caller said. One that is there and whose engine is not gets `away_s`.
        """
        c, ctx = self._c, run.ctx
        try:
            return await c.engine.info(place.device_id)
        except Unavailable as error:
            now_ms = to_ms(c.clock.now())
            began_ms = ctx.setdefault("asked_ms", now_ms)
            limit_s = ctx.get("wait_s", c.pace.away_s)
            # Of any other engine an agent that is there says nothing.
            by_agent = await c.engine.name_of(place.device_id) == KEPT_BY_AGENT
            if by_agent and c.devices.is_connected(place.device_id):
                limit_s = min(limit_s, c.pace.away_s)
                began_ms = max(began_ms, ctx.get("away_ms", 0))
            else:
                ctx["away_ms"] = now_ms
            await run.save()
            left_s = limit_s - (now_ms - began_ms) / 1000
            if left_s <= 0:
                raise Permanent(error) from error
            run.progress(0.0, f"waiting for {place.name}: {error}")
            if by_agent:
                _ = await c.devices.wait_connected(place.device_id, min(left_s, SLICE_S))
            else:
                await self._until_it_answers(place.device_id, min(left_s, SLICE_S))
            raise Temporary(c.pace.retry_s, error) from error

    async def _until_it_answers(self, device_id: str, timeout_s: float) -> None:
        """An engine that nobody tells of (a cluster's API, a Docker over SSH): asked often, and
        written of only once in that time.
        """
        c = self._c
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while True:
                    await c.clock.sleep(c.pace.retry_s)
                    with contextlib.suppress(Unavailable):
                        await c.engine.info(device_id)
                        return

    async def build(self, run: Run) -> None:
        c, ctx = self._c, run.ctx
        if "image" in ctx:
            return  # pinned by the caller: a rollback
        image = await c.images.image_of(ctx["version_id"], ctx["platform"])
        if image is None:
            run.log(f"not built for {ctx['platform']} yet")
            with reaching(c.pace.retry_s * 2):
                image = await c.images.build_image(
                    ctx["version_id"],
                    ctx["platform"],
                    ctx.get("requested_by", "haechi"),
                    run.log,
                    lambda ratio, text: run.progress(0.05 + 0.4 * (ratio or 0), text),
                )
        ctx["image"] = {
            "reference": image.reference,
            "digest": image.digest,
            "size_bytes": image.size_bytes,
            "platform": image.platform,
        }
        run.log(f"image {image.reference}")
        run.progress(0.45, "")

    async def plan(self, run: Run) -> None:
        """Decide what is made and what it replaces; the rows are there before anything starts."""
        c, ctx = self._c, run.ctx
        if "units" not in ctx:
            await self._decide(run)
            await run.save()
        ctx.setdefault("engine", await c.engine.name_of(ctx["device_id"]))
        async with c.db.write() as tx:
            for unit in ctx["units"]:
                await store.add_deployment(tx, await self._row(run, unit))
        if ctx["noop"]:
            run.log("the same image runs there already with the same settings: nothing to do")
            return
        run.log(
            f"strategy {ctx['strategy']}: {len(ctx['units'])} new, {len(ctx['old'])} replaced"
            + (f"; expected gap: {EXPECTED_GAP}" if ctx["strategy"] == "recreate" else "")
        )

    async def undo_plan(self, run: Run) -> None:
        if run.ctx.get("committed"):
            return
        async with self._c.db.write() as tx:
            mine = await store.deployments(tx, [unit["id"] for unit in run.ctx.get("units", [])])
            planned = [one.id for one in mine if one.state == DeploymentState.PLANNED]
            await self._c.end(tx, planned, outcome="failed", ended_at=self._c.clock.now())

    async def _decide(self, run: Run) -> None:
        c, ctx = self._c, run.ctx
        version = await c.versions.version_to_deploy(ctx["version_id"])
        wishes = Wishes(**ctx["wishes"])
        async with c.db.read() as tx:
            old = await store.on_device(
                tx,
                ctx["device_id"],
                states=[DeploymentState.RUNNING],
                package_id=version.package_id,
            )
            generation = await store.last_generation(tx, ctx["device_id"], version.package_id) + 1
        cameras = await self._cameras(ctx, version, wishes, old)
        same = [one for one in old if _same(one, ctx["image"]["digest"], version, wishes)]
        if version.camera == "one":
            kept = {one.camera_id for one in same}
            cameras = [camera for camera in cameras if camera not in kept]
            stay = {one.id for one in same}
            if wishes.camera_ids is not None:
                stay |= {one.id for one in old if one.camera_id and one.camera_id not in cameras}
            old = [one for one in old if one.id not in stay]
        elif same:
            cameras = []
            old = [one for one in old if one.id != same[0].id]
        ctx["units"] = [{"id": ids.new_id("deployment"), "camera_id": camera} for camera in cameras]
        ctx["noop"] = not ctx["units"] and not old
        ctx["kept"] = [one.id for one in same]
        ctx["old"] = [one.id for one in old]
        ctx["generation"] = generation
        ctx["strategy"] = choose_strategy(version, wishes, ctx, bool(old))
        ctx["result"] |= {
            "outcome": "unchanged" if ctx["noop"] else "",
            "deployment_ids": [*ctx["kept"], *(unit["id"] for unit in ctx["units"])],
            "replaced": ctx["old"],
            "strategy": ctx["strategy"],
        }

    async def _cameras(
        self, ctx: dict[str, Any], version: VersionToDeploy, wishes: Wishes, old: list[Deployment]
    ) -> list[str | None]:
        """One entry per container to be made: its fixed camera, or None."""
        if version.camera != "one":
            return [None]
        wanted = wishes.camera_ids
        if wanted is None:
            mine = await self._c.places.cameras_of(ctx["device_id"]) if wishes.assign else []
            kept = [one.camera_id for one in old if one.camera_id]
            wanted = [*dict.fromkeys([*mine, *kept])]
        if not wanted:
            raise Permanent(NoCamera(device=ctx["result"]["device"]))
        return list(wanted)

    async def _row(self, run: Run, unit: dict[str, Any]) -> Deployment:
        ctx = run.ctx
        version = await self._c.versions.version_to_deploy(ctx["version_id"])
        return Deployment(
            id=unit["id"],
            package_id=version.package_id,
            package_name=version.package_name,
            version_id=version.id,
            version=version.version,
            device_id=ctx["device_id"],
            engine=ctx["engine"],
            image=ctx["image"]["reference"],
            image_digest=ctx["image"]["digest"],
            name=container_name(version.package_name, unit["id"]),
            strategy=ctx["strategy"],
            camera=version.camera,
            camera_id=unit["camera_id"],
            wishes=Wishes(**ctx["wishes"]),
            needs=ctx.get("needs") or needs_of(version),
            generation=ctx["generation"],
            replaces=ctx["old"],
            desired="running",
            state=DeploymentState.PLANNED,
            outcome="",
            message="",
            operation_id=run.id,
            token_digest="",
            created_by=ctx.get("requested_by", "haechi"),
            created_at=self._c.clock.now(),
            started_at=None,
            ended_at=None,
        )

    async def pull(self, run: Run) -> None:
        c, ctx = self._c, run.ctx
        if ctx["noop"] or not ctx["units"]:
            return
        device_id, image = ctx["device_id"], ctx["image"]
        with reaching(c.pace.retry_s):
            if await c.engine.has_image(device_id, image["reference"]):
                run.log("the device has the image already")
                return
            free = ctx["disk_free_bytes"]
            if free and image["size_bytes"] > free:
                raise Permanent(
                    NoRoom(
                        device=ctx["result"]["device"],
                        what="disk",
                        needed_bytes=image["size_bytes"],
                        free_bytes=free,
                    )
                )
            access = await c.images.pull_access(device_id)
            shown = _Shown(run)
            async with self._pulls:
                pulled = await c.engine.pull(device_id, image["reference"], access, shown)
        run.log(f"pulled {pulled.image_id} ({pulled.size_bytes // 1024**2} MB)")
        run.progress(0.65, "")


class _Shown:
    """Pull progress as progress of the operation."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def __call__(self, progress: PullProgress) -> None:
        total = progress.total_bytes
        ratio = progress.done_bytes / total if total else 0.0
        text = progress.text or f"{progress.done_bytes // 1024**2} MB"
        self._run.progress(0.45 + 0.2 * min(ratio, 1.0), text)


def disagreement(version: VersionToDeploy, wishes: Wishes) -> NotAgreed | None:
    """What the package asks for and nobody has agreed to."""
    asked: list[Allowance] = []
    if version.internet:
        asked.append("internet")
    if version.privileged:
        asked.append("privileged")
    missing = [name for name in asked if name not in wishes.allow]
    return NotAgreed(needs=", ".join(missing)) if missing else None


def check_device(version: VersionToDeploy, wishes: Wishes, info: EngineInfo, name: str) -> None:
    """Raises what makes the device unfit, whatever the strategy."""
    if version.gpu and not info.gpu:
        raise Permanent(NoGpu(device=name))
    needed = wishes.memory_bytes or version.memory_bytes
    if needed and info.memory_bytes and needed > info.memory_bytes:
        raise Permanent(
            NoRoom(device=name, what="memory", needed_bytes=needed, free_bytes=info.memory_bytes)
        )


def choose_strategy(
    version: VersionToDeploy, wishes: Wishes, ctx: dict[str, Any], replaces: bool
) -> Strategy:
    """Overlap wherever two fit beside each other; a GPU is exclusive."""
    asked = wishes.strategy or version.strategy
    if asked is not None:
        return asked
    if not replaces:
        return "overlap"
    needed = wishes.memory_bytes or version.memory_bytes
    free = ctx["memory_available_bytes"]
    if version.gpu or (needed and free and needed > free):
        return "recreate"
    return "overlap"


def needs_of(version: VersionToDeploy) -> dict[str, Any]:
    return {
        "gpu": version.gpu,
        "cpu": version.cpu,
        "memory_bytes": version.memory_bytes,
        "internet": version.internet,
        "privileged": version.privileged,
        "ready": version.ready,
        "within_s": version.within_s,
        "heartbeat_s": version.heartbeat_s,
        "environment": version.environment,
    }


def _same(one: Deployment, digest: str, version: VersionToDeploy, wishes: Wishes) -> bool:
    """Nothing would change by making it anew; what it watches is assignments' business."""
    return (
        one.version_id == version.id
        and one.image_digest == digest
        and _settings(one.wishes) == _settings(wishes)
    )


def _settings(wishes: Wishes) -> tuple[Any, ...]:
    return (wishes.environment, wishes.cpu, wishes.memory_bytes, sorted(wishes.allow))
