"""The lower domains as deployments use them: packages, builds with the registry, inventory."""

from collections.abc import Callable

from sqlalchemy.ext.asyncio import AsyncSession

from haechi.core.access import SYSTEM
from haechi.core.bus import Bus
from haechi.core.operations import Operation, Operations, State
from haechi.core.secrets import Secret
from haechi.core.tasks import Tasks
from haechi.domains.builds.registry import SiteRegistry
from haechi.domains.builds.service import Builds
from haechi.domains.clusters.errors import ClusterNotFound
from haechi.domains.clusters.model import MemberState
from haechi.domains.clusters.service import Clusters
from haechi.domains.deployments import store
from haechi.domains.deployments.model import NotBuilt
from haechi.domains.deployments.ports import (
    CameraPlace,
    Image,
    OnRatio,
    OnText,
    Place,
    VersionToDeploy,
)
from haechi.domains.deployments.service import Deployments
from haechi.domains.inventory import Inventory
from haechi.domains.inventory.model import Use
from haechi.domains.packages.service import Packages
from haechi.errors import AppError, catalogue
from haechi.protocol.commands import RegistryAccess

_MB = 1024**2


class PackageVersions:
    def __init__(self, packages: Packages) -> None:
        self._packages = packages

    async def version_to_deploy(self, version_id: str) -> VersionToDeploy:
        found = await self._packages.version(version_id)
        needs, health = found.manifest.needs, found.manifest.health
        return VersionToDeploy(
            id=found.id,
            package_id=found.package_id,
            package_name=found.package_name,
            version=found.version,
            camera=needs.camera,
            gpu=needs.gpu,
            cpu=needs.cpu,
            memory_bytes=None if needs.memory_mb is None else needs.memory_mb * _MB,
            internet=needs.internet,
            privileged=needs.privileged,
            ready=health.ready,
            within_s=health.within_s,
            heartbeat_s=health.heartbeat_s,
            strategy=found.manifest.deploy.strategy,
            environment=dict(found.manifest.environment),
        )


class BuiltImages:
    """`access` gives what a device needs to reach the registry, its login left out."""

    def __init__(
        self,
        *,
        builds: Builds,
        registry: SiteRegistry,
        operations: Operations,
        bus: Bus,
        access: Callable[[], RegistryAccess],
    ) -> None:
        self._builds = builds
        self._registry = registry
        self._operations = operations
        self._bus = bus
        self._access = access

    async def image_of(self, version_id: str, platform: str) -> Image | None:
        build = await self._builds.image_of(version_id, platform)
        if build is None:
            return None
        return Image(build.image, build.digest, build.size_bytes, build.platform)

    async def build_image(
        self, version_id: str, platform: str, requested_by: str, log: OnText, progress: OnRatio
    ) -> Image:
        del requested_by
        operation = await self._builds.ensure_built(version_id, platform, by=SYSTEM)
        if operation is not None:
            log(f"build: operation {operation.id}")
            ended = await self._follow(operation, log, progress)
            if ended.state != State.SUCCEEDED:
                raise _error_of(ended)
        image = await self.image_of(version_id, platform)
        if image is None:  # a build that was joined was for another platform
            raise NotBuilt(version_id=version_id, platform=platform)
        return image

    async def _follow(self, operation: Operation, log: OnText, progress: OnRatio) -> Operation:
        tasks = Tasks(f"follow:{operation.id}")
        with self._bus.subscribe({f"log:{operation.id}", "operations"}, limit=5000) as news:

            async def tell() -> None:
                async for message in news:
                    if message.topic != "operations":
                        log(f"  {str(message.data).partition(' ')[2]}")
                    elif message.data["id"] == operation.id:
                        progress(message.data["progress_ratio"], message.data["progress_text"])

            _ = tasks.spawn("tell", tell())
            try:
                return await self._operations.wait(operation.id)
            finally:
                await tasks.close()

    async def pull_access(self, device_id: str) -> RegistryAccess | None:
        access = self._access()
        login = await self._registry.pull_login(device_id)
        return RegistryAccess(
            name=access.name,
            address=access.address,
            ca_pem=access.ca_pem,
            user=login.name,
            password=login.password.reveal(),
        )


class InventoryPlaces:
    """`clusters` None: there are none."""

    def __init__(self, inventory: Inventory, clusters: Clusters | None = None) -> None:
        self._inventory = inventory
        self._clusters = clusters

    async def device(self, device_id: str) -> Place:
        found = await self._inventory.devices.get(device_id)
        return Place(found.id, found.name, found.host_name or "")

    async def devices_of_group(self, group_id: str) -> list[str]:
        return list((await self._inventory.groups.get(group_id)).device_ids)

    async def devices_of_cluster(self, cluster_id: str, *, control_planes: bool) -> list[str]:
        if self._clusters is None:
            raise ClusterNotFound(id=cluster_id)
        view = await self._clusters.book.get(cluster_id)
        return [
            one.device_id
            for one in view.members
            if one.state == MemberState.READY and (control_planes or not one.is_control_plane)
        ]

    async def camera(self, camera_id: str) -> CameraPlace:
        found = await self._inventory.cameras.get(camera_id)
        return CameraPlace(found.id, found.name, found.device_id)

    async def cameras_of(self, device_id: str) -> list[str]:
        return [camera.id for camera in await self._inventory.cameras.of_device(device_id)]

    async def rehome_cameras(self, old_id: str, new_id: str) -> list[str]:
        names = []
        for camera in await self._inventory.cameras.of_device(old_id):
            await self._inventory.cameras.edit(camera.id, {"device_id": new_id}, by=SYSTEM)
            names.append(camera.name)
        return names

    async def camera_source(self, camera_id: str) -> tuple[Secret, Secret | None]:
        return await self._inventory.camera_source(camera_id)


def _error_of(operation: Operation) -> AppError:
    error = operation.error or {}
    cls = catalogue().get(str(error.get("code")))
    if cls is None:
        return NotBuilt(version_id=operation.subject, platform="", operation_id=operation.id)
    return cls(**error["data"])


def register_checks(
    deployments: Deployments, *, packages: Packages, inventory: Inventory, registry: SiteRegistry
) -> None:
    """What is deployed or watched is not deleted under anybody's feet."""

    async def version_uses(tx: AsyncSession, version_id: str) -> list[Use]:
        uses = []
        for one in await deployments.book.where_version(tx, version_id):
            device = await inventory.devices.read(tx, one.device_id)
            uses.append(
                Use(
                    kind="deployment",
                    id=one.id,
                    name=device.name,
                    facts={
                        "deployment_id": one.id,
                        "device_id": one.device_id,
                        "device": device.name,
                        "version": one.version,
                    },
                )
            )
        return uses

    async def device_uses(tx: AsyncSession, device_id: str) -> list[Use]:
        return [
            Use(kind="deployment", id=one.id, name=one.name, facts={"version": one.version})
            for one in await deployments.book.on_device(tx, device_id)
        ]

    async def camera_uses(tx: AsyncSession, camera_id: str) -> list[Use]:
        return [
            Use(kind="assignment", id=one.id, facts={"deployment_id": one.deployment_id})
            for one in await store.handed_out(tx, camera_id=camera_id)
        ]

    packages.on_delete_check(version_uses)
    inventory.on_delete_check("device", device_uses)
    inventory.on_delete_check("camera", camera_uses)
    inventory.on_delete("device", deployments.end_device)
    inventory.on_delete("camera", deployments.end_camera)
    registry.on_use_check(deployments.book.digests_in_use)
