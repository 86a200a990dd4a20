"""Deploying to several devices: one child operation each, one outcome each.

One bad device does not stop the others. The parent only starts children, follows them and sums
up; after a crash it finds those it had started.
"""

import asyncio
from typing import Any

from haechi.core.bus import Bus
from haechi.core.operations import Operation, Operations, Permanent, Run, State
from haechi.domains.deployments.model import PartlyFailed
from haechi.errors import AppError, Busy, catalogue

CHILD_KIND = "deploy_to_device"


def subject_of(device_id: str, package_id: str) -> str:
    """One deploy, rollback or removal at a time per device and package."""
    return f"{device_id}/{package_id}"


class Fleet:
    def __init__(self, operations: Operations, bus: Bus) -> None:
        self._operations = operations
        self._bus = bus
        self._claimed: dict[str, Operation] = {}
        self.lock = asyncio.Lock()

    # --- before the children exist

    async def joined(self, ctx: dict[str, Any]) -> Operation | None:
        """The operation to join, where exactly this is under way. Raises Busy for a single device
        that is taken; of several, the parent reports the taken ones. Hold `lock` from here until
        `claim`: a subject is taken from the parent's start on, before its children exist.
        """
        if len(ctx["device_ids"]) != 1:
            return None
        device_id = ctx["device_ids"][0]
        subject = subject_of(device_id, ctx["package_id"])
        parent = self._claimed.get(subject)
        if parent is not None and (await self._operations.get(parent.id)).state.ended:
            self._claimed.pop(subject, None)  # cancelled before its first step
            parent = None
        if parent is not None:
            if parent.ctx == ctx:
                return parent
            raise Busy(subject=subject, operation_id=parent.id, kind=parent.kind)
        holder = await self._operations.at_work_on(subject)
        if holder is None:
            return None
        if wants_the_same(holder, ctx | {"device_id": device_id}):
            return await self._operations.get(holder.parent_id or holder.id)
        raise Busy(subject=subject, operation_id=holder.id, kind=holder.kind)

    def claim(self, operation: Operation) -> None:
        for subject in _subjects(operation.ctx):
            self._claimed[subject] = operation

    def _release(self, run: Run) -> None:
        for subject in _subjects(run.ctx):
            self._claimed.pop(subject, None)

    async def release_claims(self, run: Run) -> None:
        self._release(run)

    # --- steps of the parent

    async def fan_out(self, run: Run) -> None:
        """Start what is not started; ctx remembers each child before the next begins."""
        ctx = run.ctx
        children: dict[str, str] = ctx.setdefault("children", {})
        errors: dict[str, Any] = ctx.setdefault("errors", {})
        for device_id in ctx["device_ids"]:
            if device_id in children or device_id in errors:
                continue
            try:
                children[device_id] = await self._child(run, device_id)
            except AppError as error:
                errors[device_id] = {"code": error.code, "data": error.data}
                run.log(f"!! {device_id}: {error}")
            await run.save()

    async def _child(self, run: Run, device_id: str) -> str:
        ctx = run.ctx
        child_ctx = {
            "version_id": ctx["version_id"],
            "package_id": ctx["package_id"],
            "device_id": device_id,
            "wishes": ctx["wishes"],
            "requested_by": ctx["requested_by"],
        }
        if "wait_s" in ctx:
            child_ctx["wait_s"] = ctx["wait_s"]
        subject = subject_of(device_id, ctx["package_id"])
        try:
            child = await self._operations.start(
                CHILD_KIND,
                subject,
                child_ctx,
                requested_by=ctx["requested_by"],
                parent_id=run.id,
            )
        except Busy:
            holder = await self._operations.active_on(subject)
            if holder is not None and wants_the_same(holder, child_ctx):
                return holder.id
            raise
        return child.id

    async def wait(self, run: Run) -> None:
        ctx = run.ctx
        devices = {child: device_id for device_id, child in ctx["children"].items()}
        ratios = dict.fromkeys(devices, 0.0)
        outcomes: dict[str, Operation] = {}
        with self._bus.subscribe({"operations"}, limit=10_000) as news:
            for child in devices:
                await self._look(child, devices, outcomes)
            while len(outcomes) < len(devices):
                message = await news.get()
                if message is None:
                    await asyncio.Event().wait()  # the server stops: resumed at the next start
                    continue
                child = message.data["id"]
                if child not in devices:
                    continue
                ratios[child] = message.data["progress_ratio"] or ratios[child]
                if message.data["ended_at"] is not None:
                    ratios[child] = 1.0
                    await self._look(child, devices, outcomes)
                text = f"{len(outcomes)}/{len(devices)}" if len(devices) > 1 else ""
                run.progress(
                    sum(ratios.values()) / len(ratios), message.data["progress_text"] or text
                )
        ctx["result"] = {"devices": _summary(ctx, outcomes)}
        failed = [one for one in ctx["result"]["devices"] if one["state"] != "succeeded"]
        if failed:
            raise Permanent(_error(failed, len(ctx["device_ids"])))

    async def _look(
        self, child: str, devices: dict[str, str], outcomes: dict[str, Operation]
    ) -> None:
        operation = await self._operations.get(child)
        if operation.state.ended:
            outcomes[devices[child]] = operation

    async def undo(self, run: Run) -> None:
        """Cancel what still runs; each child undoes itself."""
        self._release(run)
        for child in run.ctx.get("children", {}).values():
            operation = await self._operations.get(child)
            if operation.parent_id != run.id or operation.state.ended:
                continue
            if operation.state != State.CANCELLING:
                await self._operations.cancel(child)
            await self._operations.wait(child)


def _subjects(ctx: dict[str, Any]) -> list[str]:
    return [subject_of(device_id, ctx["package_id"]) for device_id in ctx["device_ids"]]


def wants_the_same(holder: Operation, ctx: dict[str, Any]) -> bool:
    """Is the active operation about exactly this? Then the caller may join it."""
    names = ("version_id", "device_id", "wishes")
    return holder.kind == CHILD_KIND and all(holder.ctx.get(n) == ctx.get(n) for n in names)


def _summary(ctx: dict[str, Any], outcomes: dict[str, Operation]) -> list[dict[str, Any]]:
    rows = []
    for device_id in ctx["device_ids"]:
        operation = outcomes.get(device_id)
        if operation is None:
            error = ctx["errors"].get(device_id)
            rows.append({"device_id": device_id, "state": "failed", "error": error})
            continue
        rows.append(
            {
                **operation.ctx.get("result", {}),
                "device_id": device_id,
                "operation_id": operation.id,
                "state": operation.state.value,
                "error": operation.error,
            }
        )
    return rows


def _error(failed: list[dict[str, Any]], total: int) -> AppError:
    """With one device its own error, else how many failed."""
    error = failed[0].get("error")
    cls = catalogue().get(error["code"]) if total == 1 and error else None
    if cls is not None and error is not None:
        return cls(**error["data"])
    return PartlyFailed(failed=len(failed), total=total, devices=failed)
