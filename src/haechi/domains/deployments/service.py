"""Deployments as others use them: deploy, roll back, remove, look, read logs."""

import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from haechi.core.access import Principal, Role
from haechi.core.operations import Operation, Operations
from haechi.domains.audit.ports import AuditTrail
from haechi.domains.deployments import store
from haechi.domains.deployments.book import Book
from haechi.domains.deployments.context import Context
from haechi.domains.deployments.fleet import Fleet, subject_of
from haechi.domains.deployments.follow import Follow
from haechi.domains.deployments.keeping import Keeper
from haechi.domains.deployments.model import (
    DeploymentState,
    NotAgreed,
    NoTargets,
    NothingToRollBack,
    NotRunning,
    Wishes,
)
from haechi.domains.deployments.prepare import Prepare, disagreement
from haechi.domains.deployments.procedures import Remove, definitions
from haechi.domains.deployments.replace import Replace
from haechi.domains.deployments.sections import Sections


class Deployments:
    def __init__(self, *, context: Context, operations: Operations, audit: AuditTrail) -> None:
        self._c = context
        self._db = context.db
        self._operations = operations
        self._audit = audit
        self.assignments = context.assignments
        self.book = Book(context)
        self._fleet = Fleet(operations, context.bus)
        sections = Sections(context)
        sections.register()
        replacing = Replace(context)
        self._follow = Follow(context, replacing, sections)
        self.keeper = Keeper(context, replacing)
        for definition in definitions(Prepare(context), replacing, Remove(context), self._fleet):
            operations.register(definition)

    @property
    def context(self) -> Context:
        return self._c

    async def start(self) -> None:
        """After the agents domain knows its sections, before operations are resumed."""
        await self.assignments.start()
        self.keeper.start()

    async def close(self) -> None:
        await self.keeper.close()
        await self._follow.close()
        await self.assignments.close()

    def heard_results(self, deployment_id: str, count: int, now_ms: int) -> None:
        """Results of it came straight to the server and are stored."""
        self._c.heard.results(deployment_id, count, now_ms)

    @property
    def is_comparing(self) -> bool:
        """Whether a device's report is still being looked at."""
        return self._follow.is_comparing

    # --- long work

    async def deploy_package(
        self,
        version_id: str,
        device_ids: Sequence[str],
        *,
        by: Principal,
        group_id: str | None = None,
        cluster_id: str | None = None,
        control_planes: bool = False,
        wishes: Wishes | None = None,
        wait_s: float | None = None,
    ) -> Operation:
        """To devices, a group's, and a cluster's workers (with `control_planes` all of its nodes).

        One parent operation with a child per device. A device that is away is waited for
        `wait_s`; None: a moment, as for an engine that does not answer.

        The same deployment already under way is joined; another one on the same device and
        package: Busy.
        """
        c = self._c
        wishes = wishes or Wishes()
        version = await c.versions.version_to_deploy(version_id)
        targets = [*device_ids]
        if group_id is not None:
            targets += await c.places.devices_of_group(group_id)
        if cluster_id is not None:
            targets += await c.places.devices_of_cluster(cluster_id, control_planes=control_planes)
        targets = [(await c.places.device(one)).device_id for one in dict.fromkeys(targets)]
        if not targets:
            raise NoTargets
        missing = disagreement(version, wishes)
        if missing is not None:
            raise missing
        _check_privilege(by, wishes)
        ctx: dict[str, Any] = {
            "version_id": version.id,
            "package_id": version.package_id,
            "device_ids": targets,
            "wishes": wishes.as_json(),
            "requested_by": by.name,
        }
        if wait_s is not None:
            ctx["wait_s"] = wait_s
        async with self._fleet.lock:
            joined = await self._fleet.joined(ctx)
            if joined is not None:
                return joined
            operation = await self._operations.start(
                "deploy_package",
                f"{version.id}/{secrets.token_hex(4)}",
                ctx,
                requested_by=by.name,
            )
            self._fleet.claim(operation)
        async with self._db.write() as tx:
            await self._audit.record(
                tx,
                by,
                "deploy_package",
                version.id,
                {"device_ids": targets, "version": version.version, "operation": operation.id},
            )
        return operation

    async def rollback_deployment(
        self, deployment_id: str, *, by: Principal, wait_s: float | None = None
    ) -> Operation:
        """Back to the version that ran there before this one, with its settings and image.
        Raises NotAgreed where that one is privileged and the caller no administrator.
        """
        async with self._db.read() as tx:
            now = await store.deployment(tx, deployment_id)
            past = await store.history(tx, now.device_id, now.package_id)
        earlier = next(
            (
                one
                for one in past
                if one.generation < now.generation
                and (one.image_digest != now.image_digest or one.version_id != now.version_id)
            ),
            None,
        )
        if earlier is None:
            raise NothingToRollBack(id=deployment_id)
        _check_privilege(by, earlier.wishes)
        await self._c.versions.version_to_deploy(earlier.version_id)
        operation = await self._operations.start(
            "rollback_deployment",
            subject_of(now.device_id, now.package_id),
            {
                "version_id": earlier.version_id,
                "package_id": earlier.package_id,
                "device_id": earlier.device_id,
                "wishes": replace(earlier.wishes, strategy=None).as_json(),
                "requested_by": by.name,
                "needs": earlier.needs,
                **({} if wait_s is None else {"wait_s": wait_s}),
                "image": {
                    "reference": earlier.image,
                    "digest": earlier.image_digest,
                    "size_bytes": 0,
                    "platform": "",
                },
            },
            requested_by=by.name,
        )
        await self._record(by, "rollback_deployment", deployment_id, {"to": earlier.version})
        return operation

    async def remove_deployment(self, deployment_id: str, *, by: Principal) -> Operation:
        async with self._db.read() as tx:
            one = await store.deployment(tx, deployment_id)
        if one.state == DeploymentState.GONE:
            raise NotRunning(id=deployment_id)
        operation = await self._operations.start(
            "remove_deployment",
            subject_of(one.device_id, one.package_id),
            {"deployment_id": one.id, "device_id": one.device_id, "package_id": one.package_id},
            requested_by=by.name,
        )
        await self._record(by, "remove_deployment", deployment_id, {"version": one.version})
        return operation

    async def end_device(self, tx: AsyncSession, device_id: str) -> None:
        """A device is deleted: nothing runs there any more, as far as haechi goes."""
        there = await store.on_device(
            tx, device_id, states=[state for state in DeploymentState if state != "gone"]
        )
        ids = [one.id for one in there]
        await self.assignments.ledger.end_of(tx, ids)
        await self._c.end(tx, ids, outcome="removed", ended_at=self._c.clock.now())

    async def end_camera(self, tx: AsyncSession, camera_id: str) -> None:
        """A camera is deleted: what watches it ends in the same transaction."""
        ended = await store.handed_out(tx, camera_id=camera_id)
        await self.assignments.ledger.end(tx, ended)

    async def _record(
        self, by: Principal, action: str, subject: str, details: dict[str, Any]
    ) -> None:
        async with self._db.write() as tx:
            await self._audit.record(tx, by, action, subject, details)


def _check_privilege(by: Principal, wishes: Wishes) -> None:
    if "privileged" in wishes.allow and (by.role is None or by.role < Role.ADMIN):
        raise NotAgreed(needs="privileged")
