"""What schedules can do, by the domains beneath: deploy and remove AIs, back clusters up."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession

from haechi.core.access import Principal, Role
from haechi.core.operations import Operation, Operations
from haechi.domains.clusters.service import Clusters
from haechi.domains.clusters.upkeep import Upkeep
from haechi.domains.deployments.model import NotAgreed, Wishes
from haechi.domains.deployments.ports import Places
from haechi.domains.deployments.service import Deployments
from haechi.domains.inventory import Inventory
from haechi.domains.inventory.model import Use
from haechi.domains.packages.service import Packages
from haechi.domains.schedules.model import BadArguments
from haechi.domains.schedules.service import Schedules
from haechi.errors import AppError, Busy, NotFound


class InventorySite:
    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory

    async def timezone(self) -> str:
        return (await self._inventory.site()).timezone

    async def device_id(self, ref: str) -> str:
        return (await self._inventory.devices.get(ref)).id


class Targets:
    """Devices by id, by group and by cluster. A group or a cluster means its members of the day."""

    def __init__(self, inventory: Inventory, places: Places) -> None:
        self._inventory = inventory
        self._places = places

    async def check(self, action: str, arguments: dict[str, Any]) -> dict[str, Any]:
        devices = [(await self._inventory.devices.get(one)).id for one in arguments["device_ids"]]
        group_id = arguments["group_id"]
        if group_id is not None:
            group_id = (await self._inventory.groups.get(group_id)).id
        cluster_id, masters = arguments["cluster_id"], arguments["control_planes"]
        if cluster_id is not None:
            await self._places.devices_of_cluster(cluster_id, control_planes=masters)
        if not devices and group_id is None and cluster_id is None:
            raise BadArguments(action=action, reason="no device, group or cluster")
        return {
            "device_ids": list(dict.fromkeys(devices)),
            "group_id": group_id,
            "cluster_id": cluster_id,
            "control_planes": masters,
        }

    async def devices(self, arguments: dict[str, Any]) -> list[str]:
        """Those that are still there."""
        wanted = list(arguments["device_ids"])
        if arguments["group_id"] is not None:
            with suppress(NotFound):  # deleted since: it names nobody any more
                wanted += (await self._inventory.groups.get(arguments["group_id"])).device_ids
        if arguments["cluster_id"] is not None:
            with suppress(NotFound):
                wanted += await self._places.devices_of_cluster(
                    arguments["cluster_id"], control_planes=arguments["control_planes"]
                )
        there = []
        for device_id in dict.fromkeys(wanted):
            try:
                there.append((await self._inventory.devices.get(device_id)).id)
            except NotFound:
                continue
        return there


WAIT_S: Final = 600.0
"""A night's run is not lost to a cluster's API or a device that is away for some minutes; and one
that is off keeps no later run away for long."""


class DeployPackage:
    """Arguments: `version_id`, `wishes`, and whom (`Targets`)."""

    by_device = True

    def __init__(self, deployments: Deployments, packages: Packages, targets: Targets) -> None:
        self._deployments = deployments
        self._packages = packages
        self._targets = targets

    async def check(self, arguments: dict[str, Any], by: Principal) -> dict[str, Any]:
        version = await self._packages.version(arguments["version_id"])
        wishes = _wishes(arguments["wishes"])
        if "privileged" in wishes.allow and (by.role is None or by.role < Role.ADMIN):
            raise NotAgreed(needs="privileged")
        targets = await self._targets.check("deploy_package", arguments)
        return {"version_id": version.id, "wishes": wishes.as_json(), **targets}

    async def devices(self, arguments: dict[str, Any]) -> list[str]:
        return await self._targets.devices(arguments)

    async def begin(
        self, arguments: dict[str, Any], device_ids: Sequence[str], by: Principal
    ) -> list[Operation]:
        """Devices that run exactly this already are left as they are."""
        operation = await self._deployments.deploy_package(
            arguments["version_id"],
            device_ids,
            by=by,
            wishes=_wishes(arguments["wishes"]),
            wait_s=WAIT_S,
        )
        return [operation]


class RemovePackage:
    """Arguments: `package_id`, and whom (`Targets`)."""

    by_device = True

    def __init__(
        self,
        deployments: Deployments,
        packages: Packages,
        targets: Targets,
        operations: Operations,
    ) -> None:
        self._deployments = deployments
        self._packages = packages
        self._targets = targets
        self._operations = operations

    async def check(self, arguments: dict[str, Any], by: Principal) -> dict[str, Any]:
        del by
        package = (await self._packages.get(arguments["package_id"])).package
        targets = await self._targets.check("remove_package", arguments)
        return {"package_id": package.id, **targets}

    async def devices(self, arguments: dict[str, Any]) -> list[str]:
        return await self._targets.devices(arguments)

    async def begin(
        self, arguments: dict[str, Any], device_ids: Sequence[str], by: Principal
    ) -> list[Operation]:
        """One operation per container. One that other work holds does not stop the rest; it is
        told when they have begun.
        """
        begun: list[Operation] = []
        refused: AppError | None = None
        for device_id in device_ids:
            page = await self._deployments.book.find(
                device_id=device_id, package_id=arguments["package_id"], limit=1000
            )
            for one in page.items:
                try:
                    begun.append(await self._deployments.remove_deployment(one.id, by=by))
                except Busy as busy:
                    try:
                        begun.append(await _begun(self._operations, busy, "remove_deployment"))
                    except Busy as error:
                        refused = error
                except NotFound:
                    continue  # gone meanwhile
        if refused is not None:
            raise refused
        return begun


class BackUpCluster:
    """Arguments: `cluster_id`."""

    by_device = False

    def __init__(self, clusters: Clusters, upkeep: Upkeep, operations: Operations) -> None:
        self._clusters = clusters
        self._upkeep = upkeep
        self._operations = operations

    async def check(self, arguments: dict[str, Any], by: Principal) -> dict[str, Any]:
        del by
        found = await self._clusters.book.get(arguments["cluster_id"])
        return {"cluster_id": found.cluster.id}

    async def devices(self, arguments: dict[str, Any]) -> list[str]:
        del arguments
        return []

    async def begin(
        self, arguments: dict[str, Any], device_ids: Sequence[str], by: Principal
    ) -> list[Operation]:
        del device_ids
        try:
            return [await self._upkeep.back_up_cluster(arguments["cluster_id"], by=by)]
        except Busy as busy:
            return [await _begun(self._operations, busy, "back_up_cluster")]


def register(
    schedules: Schedules,
    *,
    deployments: Deployments,
    places: Places,
    packages: Packages,
    inventory: Inventory,
    clusters: Clusters,
    upkeep: Upkeep,
    operations: Operations,
) -> None:
    """What schedules can do, and what they keep from being deleted."""
    targets = Targets(inventory, places)
    schedules.can("deploy_package", DeployPackage(deployments, packages, targets))
    schedules.can("remove_package", RemovePackage(deployments, packages, targets, operations))
    schedules.can("back_up_cluster", BackUpCluster(clusters, upkeep, operations))

    async def version_uses(tx: AsyncSession, version_id: str) -> list[Use]:
        return [
            Use(kind="schedule", id=one.id, name=one.name, facts={"schedule_id": one.id})
            for one in await schedules.that_deploy(tx, version_id)
        ]

    packages.on_delete_check(version_uses)
    inventory.on_delete("device", schedules.forget_device)


async def _begun(operations: Operations, busy: Busy, kind: str) -> Operation:
    """What is at work there already, where it is just this: begun by a server that died before it
    had written that down, or by somebody else. Raises `busy` where it is something else.
    """
    holder = await operations.get(str(busy.data["operation_id"]))
    if holder.kind != kind:
        raise busy
    return holder


def _wishes(saved: dict[str, Any]) -> Wishes:
    known = {one.name for one in fields(Wishes)}
    return Wishes(**{name: value for name, value in saved.items() if name in known})
