"""Packages and deployments as policies use them."""

from collections.abc import Iterable
from dataclasses import replace

from haechi.core.access import Principal
from haechi.core.operations import Operation, Operations
from haechi.core.pages import MAX_LIMIT
from haechi.domains.collaboration.model import AiVersion, RunningAi, Variant, variant_of_name
from haechi.domains.deployments.model import Deployment, DeploymentState, NotRunning, Wishes
from haechi.domains.deployments.service import Deployments
from haechi.domains.packages.model import Package, PackageVersion
from haechi.domains.packages.service import Packages
from haechi.errors import Busy, ObjectNotFound


def variant_of(package: Package, version: PackageVersion) -> Variant:
    """What the manifest says, else the package's name."""
    told = version.manifest.variant
    if told is not None:
        return Variant(told.of, told.class_)
    return variant_of_name(package.original_name)


class PackagedAis:
    def __init__(self, packages: Packages, deployments: Deployments) -> None:
        self._packages = packages
        self._deployments = deployments

    async def version(self, version_id: str) -> AiVersion:
        found = await self._packages.version(version_id)
        package = (await self._packages.get(found.package_id)).package
        return ai_version(package, found)

    async def running_on(self, device_id: str) -> list[RunningAi]:
        page = await self._deployments.book.find(device_id=device_id, limit=MAX_LIMIT)
        return await self._group(page.items)

    async def running_of(self, package_id: str) -> list[RunningAi]:
        page = await self._deployments.book.find(package_id=package_id, limit=MAX_LIMIT)
        return await self._group(page.items)

    async def built_for(self, family: str, class_: str) -> list[AiVersion]:
        wanted = Variant(family, class_)
        found = []
        for summary in (await self._packages.find(limit=MAX_LIMIT)).items:
            package = summary.package
            by_name = variant_of_name(package.original_name) == wanted
            if not by_name and variant_of_name(package.original_name).class_:
                continue
            versions = (await self._packages.versions(package.id, limit=MAX_LIMIT)).items
            mine = [version for version in versions if variant_of(package, version) == wanted]
            facts = await self._packages.build_facts([version.id for version in mine])
            found += [
                ai_version(package, version)
                for version in mine
                if version.id in facts and facts[version.id].state == "built"
            ]
        return found

    async def _group(self, deployments: Iterable[Deployment]) -> list[RunningAi]:
        groups: dict[tuple[str, str], list[str]] = {}
        for one in deployments:
            if one.state == DeploymentState.RUNNING:
                groups.setdefault((one.device_id, one.version_id), []).append(one.id)
        found = []
        for (device_id, version_id), deployment_ids in groups.items():
            try:
                version = await self.version(version_id)
            except ObjectNotFound:
                continue  # deleted by force under a running deployment
            found.append(RunningAi(device_id, version, sorted(deployment_ids)))
        return found


def ai_version(package: Package, version: PackageVersion) -> AiVersion:
    return AiVersion(
        version_id=version.id,
        package_id=version.package_id,
        version=version.version,
        variant=variant_of(package, version),
        uploaded_at=version.updated_at,
    )


class DeploymentsDeployer:
    def __init__(self, deployments: Deployments, operations: Operations | None = None) -> None:
        """Without `operations`, a removal that is under way already counts as Busy."""
        self._deployments = deployments
        self._operations = operations

    async def deploy_beside(self, version_id: str, like: RunningAi, by: Principal) -> Operation:
        return await self._deployments.deploy_package(
            version_id, [like.device_id], by=by, wishes=await self._wishes_of(like)
        )

    async def replace(
        self, version_id: str, running: list[RunningAi], by: Principal
    ) -> list[Operation]:
        """One operation for all devices that have the same settings."""
        groups: list[tuple[Wishes, list[str]]] = []
        for ai in running:
            first = await self._deployments.book.get(ai.deployment_ids[0])
            wishes = replace(first.wishes, strategy=None)
            for known, devices in groups:
                if known == wishes:
                    devices.append(ai.device_id)
                    break
            else:
                groups.append((wishes, [ai.device_id]))
        return [
            await self._deployments.deploy_package(version_id, devices, by=by, wishes=wishes)
            for wishes, devices in groups
        ]

    async def remove(self, deployment_id: str, by: Principal) -> Operation | None:
        try:
            return await self._deployments.remove_deployment(deployment_id, by=by)
        except NotRunning:
            return None
        except Busy as busy:
            if self._operations is None:
                raise
            holder = await self._operations.get(str(busy.data["operation_id"]))
            if holder.ctx.get("deployment_id") == deployment_id:
                return holder  # it is being removed already: after a crash, or by hand
            raise

    async def _wishes_of(self, ai: RunningAi) -> Wishes:
        """The settings of what runs, for the same cameras; the strategy is not inherited."""
        cameras: list[str] = []
        wishes = Wishes()
        for deployment_id in ai.deployment_ids:
            one = await self._deployments.book.get(deployment_id)
            wishes = one.wishes
            if one.camera_id is not None:
                cameras.append(one.camera_id)
            held = await self._deployments.assignments.find(deployment_id=deployment_id)
            cameras += [assignment.camera_id for assignment in held.items]
        unique = list(dict.fromkeys(cameras))
        return replace(wishes, strategy=None, camera_ids=unique or wishes.camera_ids)
