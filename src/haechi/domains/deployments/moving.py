"""Everything that a device should run moves to another one: for a node that is replaced.

Cameras at home there get the new home; each package is deployed as it was, with the same wishes and
exactly the cameras that it watched, which change over once the new deployment has proven itself.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from haechi.core.access import SYSTEM
from haechi.core.operations import Operations, State
from haechi.domains.deployments import store
from haechi.domains.deployments.context import Context
from haechi.domains.deployments.model import Deployment, DeploymentState, WorkNotMoved
from haechi.domains.deployments.service import Deployments
from haechi.errors import AppError

OnText = Callable[[str], None]
WAIT_S: Final = 600.0
"""The new device has just been there: one that is cut off, or whose cluster's API is away, comes
back, and nobody would move its work a second time."""
_WANTED = (DeploymentState.PLANNED, DeploymentState.STARTING, DeploymentState.RUNNING)


class Moving:
    def __init__(
        self,
        *,
        context: Context,
        deployments: Deployments,
        operations: Operations,
    ) -> None:
        self._c = context
        self._deployments = deployments
        self._operations = operations

    async def move_work(self, old_id: str, new_id: str, *, by: str, log: OnText) -> None:
        """Idempotent: what has moved already is no longer on the old device. What one deployment
        refuses does not keep the others; raises WorkNotMoved with all of them.
        """
        for name in await self._c.places.rehome_cameras(old_id, new_id):
            log(f"camera {name} is at home there now")
        failures = [
            failure
            for package in await self._packages(old_id)
            if (failure := await self._move(package, new_id, by, log)) is not None
        ]
        if failures:
            names = ", ".join(str(one["package"]) for one in failures)
            raise WorkNotMoved(packages=names, count=len(failures), failures=failures)

    async def _packages(self, device_id: str) -> list[list[Deployment]]:
        """The deployments of each package there, the newest first."""
        async with self._c.db.read() as tx:
            there = await store.on_device(tx, device_id, states=list(_WANTED))
        packages: dict[str, list[Deployment]] = {}
        for one in sorted(there, key=lambda d: -d.generation):
            packages.setdefault(one.package_id, []).append(one)
        return list(packages.values())

    async def _move(
        self, there: list[Deployment], new_id: str, by: str, log: OnText
    ) -> dict[str, object] | None:
        newest = there[0]
        try:
            error = await self._deploy(there, new_id, by, log)
            for one in there if error is None else ():
                _ = await self._deployments.remove_deployment(one.id, by=SYSTEM)
        except AppError as refused:
            error = {"code": refused.code, "data": refused.data}
        if error is None:
            return None
        log(f"!! {newest.package_name} {newest.version}: {error['code']}")
        return {"package": newest.package_name, "deployment_id": newest.id, "error": error}

    async def _deploy(
        self, there: list[Deployment], new_id: str, by: str, log: OnText
    ) -> dict[str, object] | None:
        """Its error, or None where it runs there."""
        newest = there[0]
        async with self._c.db.read() as tx:
            held = await store.assignments_of(tx, [one.id for one in there])
        fixed = [one.camera_id for one in there if one.camera_id is not None]
        cameras = list(dict.fromkeys([*fixed, *(one.camera_id for one in held)]))
        wishes = replace(newest.wishes, assign=bool(cameras), camera_ids=cameras or None)
        operation = await self._deployments.deploy_package(
            newest.version_id, [new_id], by=SYSTEM, wishes=wishes, wait_s=WAIT_S
        )
        log(f"{newest.package_name} {newest.version}: {operation.id} (asked for by {by})")
        ended = await self._operations.wait(operation.id)
        if ended.state == State.SUCCEEDED:
            return None
        return ended.error or {"code": f"operations.{ended.state.value}", "data": {}}
