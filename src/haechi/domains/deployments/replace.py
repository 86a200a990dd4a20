"""The second half of deploying to one device: from the old AI to the new one, and back.

stop_old (recreate) → start → prove → switch → retire. The old one is never removed before the
replacement has proven itself; until `retire` has begun, everything can be undone, and where the
device is away, its desired state undoes it when it returns.
"""

from typing import Any, Final

from haechi.core.clock import to_ms
from haechi.core.operations import Run
from haechi.domains.deployments import store
from haechi.domains.deployments.context import TAIL_LINES, Context, reaching
from haechi.domains.deployments.model import Assignment, Deployment, DeploymentState
from haechi.domains.deployments.proving import Proving, refuse_withdrawn
from haechi.domains.deployments.sections import to_wire_assignment
from haechi.domains.deployments.specs import GRACE_S, container_spec
from haechi.errors import AppError, Unavailable
from haechi.protocol.desired import ContainerStatus

KEPT_IMAGES: Final = 2
"""Of a package on a device: the one that runs, and the one before it."""
CLEARED_IMAGES: Final = 5
"""At most so many older ones are asked after at a time; most went long ago."""


class Replace:
    def __init__(self, context: Context) -> None:
        self._c = context
        self._proving = Proving(context)

    def heard(self, device_id: str) -> None:
        """The device has reported: whoever waits looks again at once."""
        self._proving.heard(device_id)

    # --- stop_old

    async def stop_old(self, run: Run) -> None:
        """Only for recreate: the gap begins here."""
        c, ctx = self._c, run.ctx
        if _nothing(ctx) or ctx["strategy"] != "recreate" or not ctx["old"]:
            return
        ctx.setdefault("gap_began_ms", to_ms(c.clock.now()))
        await run.save()
        old = await self._read(ctx["old"])
        async with c.db.write() as tx:
            await store.change_deployments(tx, ctx["old"], desired="stopped")
        c.announce(old, DeploymentState.RUNNING)
        await c.settle(ctx["device_id"])
        for one in old:
            with reaching(c.pace.retry_s):
                await c.engine.stop(one.device_id, one.id, GRACE_S)
            run.log(f"stopped {one.id} (version {one.version})")

    async def undo_stop_old(self, run: Run) -> None:
        """The old one runs again: by its desired state in any case, by command sooner."""
        c, ctx = self._c, run.ctx
        if ctx.get("committed") or "gap_began_ms" not in ctx:
            return
        # One that was removed meanwhile, or whose device has left its cluster, stays away.
        old = [one for one in await self._read(ctx["old"]) if one.state.live]
        async with c.db.write() as tx:
            await store.change_deployments(tx, [one.id for one in old], desired="running")
        c.announce(old, DeploymentState.RUNNING)
        for one in old:
            try:
                await self._start_one(one, await self._assignments([one.id]))
                run.log(f"version {one.version} runs again ({one.id})")
            except Unavailable as error:
                run.log(f"-- {error}; the device starts {one.id} again when it is back")
        self._note_gap(ctx)

    # --- start

    async def start(self, run: Run) -> None:
        c, ctx = self._c, run.ctx
        if _nothing(ctx):
            return
        new = await self._read(_unit_ids(ctx))
        old = await self._read(ctx["old"])
        wishes = new[0].wishes if new else None
        cameras: list[str] = []
        if wishes is not None and wishes.assign and not old:
            cameras = await c.places.cameras_of(ctx["device_id"])
        async with c.db.write() as tx:
            await refuse_withdrawn(tx, run, _unit_ids(ctx))
            for one in new:
                await c.token_of(tx, one)
            await store.change_deployments(
                tx, [one.id for one in new], state=DeploymentState.STARTING.value
            )
            trials = await c.assignments.ledger.begin_trials(tx, new, old, cameras, run.id)
        c.assignments.await_results(trials)
        c.announce(new, DeploymentState.STARTING)
        await c.assignments.announce(trials)
        await c.devices.push(ctx["device_id"])
        for one in await self._read(_unit_ids(ctx)):
            with reaching(c.pace.retry_s):
                status = await self._start_one(one, await self._assignments([one.id]))
            run.log(f"started {one.name} ({one.id}): {status.state}")
        run.progress(0.7, "")

    async def undo_start(self, run: Run) -> None:
        """The new one goes; its last words stay."""
        c, ctx = self._c, run.ctx
        if ctx.get("committed"):
            return
        new = [one for one in await self._read(_unit_ids(ctx)) if one.state.live]
        if not new:
            return
        async with c.db.write() as tx:
            ended = await c.assignments.ledger.end_of(tx, [one.id for one in new])
            await store.change_deployments(
                tx,
                [one.id for one in new],
                state=DeploymentState.STOPPING.value,
                outcome="failed",
                started_at=None,
                ended_at=c.clock.now(),
            )
        await c.assignments.announce(ended)
        c.announce(new, DeploymentState.STOPPING)
        for one in new:
            await self._remove_one(run, one, grace_s=1.0)

    async def start_again(self, one: Deployment) -> ContainerStatus:
        """One that runs by the book and was lost by its engine."""
        return await self._start_one(one, await self._assignments([one.id]))

    async def _start_one(self, one: Deployment, assignments: list[Assignment]) -> ContainerStatus:
        c = self._c
        place = await c.places.device(one.device_id)
        async with c.db.write() as tx:
            token = await c.token_of(tx, one)
            fresh = await store.deployment(tx, one.id)
        spec = container_spec(fresh, place, c.server_url())
        given = [to_wire_assignment(assignment) for assignment in assignments]
        return await c.engine.start(one.device_id, spec, token, given)

    # --- prove

    async def prove(self, run: Run) -> None:
        if _nothing(run.ctx) or not run.ctx["units"]:
            return
        await self._proving.prove(run, await self._read(_unit_ids(run.ctx)))
        self._note_gap(run.ctx)
        run.progress(0.9, "")

    # --- switch and retire

    async def switch(self, run: Run) -> None:
        """The cameras are the new one's; the old one still runs."""
        c, ctx = self._c, run.ctx
        if _nothing(ctx):
            return
        await self._wait_for_the_new_eyes(run)
        new = await self._read(_unit_ids(ctx))
        async with c.db.write() as tx:
            await refuse_withdrawn(tx, run, _unit_ids(ctx))
            changed = await c.assignments.ledger.promote(tx, _unit_ids(ctx), ctx["old"])
            await store.change_deployments(
                tx,
                _unit_ids(ctx),
                state=DeploymentState.RUNNING.value,
                desired="running",
                started_at=c.clock.now(),
            )
        await c.assignments.announce(changed)
        c.announce(new, DeploymentState.RUNNING)
        await c.settle(ctx["device_id"])
        run.log(f"{len([one for one in changed if one.ended_at is None])} assignments switched")

    async def _wait_for_the_new_eyes(self, run: Run) -> None:
        """Where the old one has just given results, wait for the new one's first."""
        c, ctx = self._c, run.ctx
        trials = await self._assignments(_unit_ids(ctx))
        ages = [c.assignments.seconds_since_result(old) for old in ctx["old"]]
        seeing = any(age is not None and age < c.pace.fresh_s for age in ages)
        timeout_s = c.pace.first_result_s if seeing else 0.0
        if trials and not await c.assignments.wait_first_results(trials, timeout_s) and seeing:
            run.log(f"-- no result of the new version within {timeout_s:g} s; it takes over anyway")

    async def undo_switch(self, run: Run) -> None:
        """The old one takes its cameras back, under a new epoch."""
        c, ctx = self._c, run.ctx
        if ctx.get("committed") or _nothing(ctx):
            return
        old = [one for one in await self._read(ctx["old"]) if one.state.live]
        async with c.db.write() as tx:
            given = await store.assignments_of(tx, _unit_ids(ctx))
            changed = await c.assignments.ledger.give_back(tx, given, old)
        await c.assignments.announce(changed)
        await c.devices.push(ctx["device_id"])

    async def retire(self, run: Run) -> None:
        """From here on there is no way back: the replacement runs."""
        c, ctx = self._c, run.ctx
        if _nothing(ctx):
            return
        ctx["committed"] = True
        await run.save()
        old = [one for one in await self._read(ctx["old"]) if one.state != DeploymentState.GONE]
        async with c.db.write() as tx:
            await store.change_deployments(
                tx,
                [one.id for one in old],
                state=DeploymentState.STOPPING.value,
                outcome="replaced",
                desired="stopped",
                ended_at=c.clock.now(),
            )
        c.announce(old, DeploymentState.STOPPING)
        for one in old:
            await self._remove_one(run, one, grace_s=GRACE_S)
        await self._clear_images(run)
        ctx["result"]["outcome"] = "deployed"
        run.progress(1.0, "")

    async def _remove_one(self, run: Run, one: Deployment, *, grace_s: float) -> None:
        """By command now; where that fails, the desired state does it later."""
        c = self._c
        try:
            removed = await c.engine.remove(one.device_id, one.id, grace_s, TAIL_LINES)
        except AppError as error:
            run.log(f"-- {error}; the device removes {one.id} by itself")
            return
        await c.keep_log(one.id, removed.log_tail)
        await c.set_state([one], DeploymentState.GONE)
        run.log(f"removed {one.name} ({one.id})")

    async def _clear_images(self, run: Run) -> None:
        """Disks of devices are small: of a package its image stays there and the one that a
        rollback needs. What a container still uses is left to the engine's own judgement.
        """
        c, ctx = self._c, run.ctx
        async with c.db.read() as tx:
            images = await store.images_of(tx, ctx["device_id"], ctx["package_id"])
            states = [state for state in DeploymentState if state != DeploymentState.GONE]
            wanted = {
                one.image for one in await store.on_device(tx, ctx["device_id"], states=states)
            }
        proven = list(dict.fromkeys(image for image, started in images if started))
        wanted |= {*proven[:KEPT_IMAGES]}
        known = dict.fromkeys(image for image, _ in images)
        for image in [image for image in known if image not in wanted][:CLEARED_IMAGES]:
            try:
                if await c.engine.remove_image(ctx["device_id"], image):
                    run.log(f"removed the image {image}, which nothing needs any more")
            except AppError as error:
                run.log(f"-- {error}; old images stay until the next deployment")
                return

    # --- small

    def _note_gap(self, ctx: dict[str, Any]) -> None:
        began_ms = ctx.get("gap_began_ms")
        if began_ms is not None and "gap_s" not in ctx["result"]:
            now_ms = to_ms(self._c.clock.now())
            ctx["result"]["gap_s"] = round((now_ms - began_ms) / 1000, 2)

    async def _read(self, deployment_ids: list[str]) -> list[Deployment]:
        async with self._c.db.read() as tx:
            return await store.deployments(tx, deployment_ids)

    async def _assignments(self, deployment_ids: list[str]) -> list[Assignment]:
        async with self._c.db.read() as tx:
            return await store.assignments_of(tx, deployment_ids)


def _unit_ids(ctx: dict[str, Any]) -> list[str]:
    return [unit["id"] for unit in ctx.get("units", [])]


def _nothing(ctx: dict[str, Any]) -> bool:
    return bool(ctx.get("noop", True))
