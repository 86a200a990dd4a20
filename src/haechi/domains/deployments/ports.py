"""What deployments need: an engine, versions and their images, places, tokens and the link."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from haechi.core.secrets import Secret
from haechi.domains.deployments.model import CameraNeed, ReadyBy, Strategy
from haechi.protocol.assignments import Assignment
from haechi.protocol.commands import (
    EngineInfo,
    LogLines,
    PulledImage,
    PullProgress,
    RegistryAccess,
    RemovedContainer,
)
from haechi.protocol.desired import ContainerSpec, ContainerStatus, ObservedState
from haechi.protocol.results import AgentResult

OnText = Callable[[str], None]
OnRatio = Callable[[float | None, str], None]


class Engine(Protocol):
    """What runs containers on a device: its agent's Docker here; a cluster, or Docker over SSH,
    are further adapters. Every call is idempotent by deployment id or image digest.

    Raises `errors.Unavailable` (device, engine or registry cannot be reached now: worth another
    try) or another AppError (it will not work).
    """

    name: str

    async def name_of(self, device_id: str) -> str:
        """Of the engine that the device's next deployment goes to: where one face stands for
        several, the device's own; else `name`."""

    async def info(self, device_id: str) -> EngineInfo: ...

    async def has_image(self, device_id: str, image: str) -> bool: ...

    async def pull(
        self,
        device_id: str,
        image: str,
        access: RegistryAccess | None,
        progress: Callable[[PullProgress], None],
    ) -> PulledImage: ...

    async def remove_image(self, device_id: str, image: str) -> bool:
        """False where there is none, where a container uses it, or where the engine clears up by
        itself.
        """

    async def start(
        self,
        device_id: str,
        spec: ContainerSpec,
        token: Secret,
        assignments: Sequence[Assignment],
    ) -> ContainerStatus:
        """Make it where it is absent, start it where it is not running. The image is there."""

    async def stop(self, device_id: str, deployment_id: str, grace_s: float) -> ContainerStatus:
        """Keeps it, to be started again."""

    async def remove(
        self, device_id: str, deployment_id: str, grace_s: float, keep_log_lines: int
    ) -> RemovedContainer:
        """Gone already is fine."""

    async def status(self, device_id: str, deployment_ids: Sequence[str]) -> list[ContainerStatus]:
        """One per id, `absent` where there is none."""

    def logs(
        self,
        device_id: str,
        deployment_id: str,
        *,
        since_ms: int | None = None,
        follow: bool = False,
        tail: int | None = None,
    ) -> AsyncIterator[LogLines]: ...


@dataclass(frozen=True, slots=True)
class VersionToDeploy:
    """A package version and what its manifest says."""

    id: str
    package_id: str
    package_name: str
    """A DNS label."""
    version: str
    camera: CameraNeed = "many"
    gpu: bool = False
    cpu: float | None = None
    memory_bytes: int | None = None
    internet: bool = False
    privileged: bool = False
    ready: ReadyBy | None = None
    within_s: float | None = None
    heartbeat_s: float | None = None
    strategy: Strategy | None = None
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Image:
    """`reference` is pinned by digest."""

    reference: str
    digest: str
    size_bytes: int
    platform: str


class Versions(Protocol):
    async def version_to_deploy(self, version_id: str) -> VersionToDeploy:
        """Raises NotFound."""


class Images(Protocol):
    async def image_of(self, version_id: str, platform: str) -> Image | None:
        """None where it is not built for that platform."""

    async def build_image(
        self, version_id: str, platform: str, requested_by: str, log: OnText, progress: OnRatio
    ) -> Image:
        """Build it, or join the build that is running. Cancelling leaves the build alone."""

    async def pull_access(self, device_id: str) -> RegistryAccess | None:
        """How the device reaches the registry, with its own credential."""


@dataclass(frozen=True, slots=True)
class Place:
    device_id: str
    name: str
    host_name: str


@dataclass(frozen=True, slots=True)
class CameraPlace:
    camera_id: str
    name: str
    device_id: str | None


class Places(Protocol):
    """Devices and cameras. Raises NotFound."""

    async def device(self, device_id: str) -> Place: ...

    async def devices_of_group(self, group_id: str) -> list[str]: ...

    async def devices_of_cluster(self, cluster_id: str, *, control_planes: bool) -> list[str]:
        """Its workers that are in order, with its control planes where asked for."""

    async def camera(self, camera_id: str) -> CameraPlace: ...

    async def cameras_of(self, device_id: str) -> list[str]: ...

    async def rehome_cameras(self, old_id: str, new_id: str) -> list[str]:
        """Cameras at home on one device are at home on the other; their names."""

    async def camera_source(self, camera_id: str) -> tuple[Secret, Secret | None]: ...


class Tokens(Protocol):
    async def issue_deployment_token(
        self,
        tx: AsyncSession,
        *,
        deployment_id: str,
        device_id: str,
        facts: dict[str, str],
        direct: bool = False,
    ) -> tuple[Secret, str]:
        """`direct`: good from anywhere, for there is no agent that it could come through."""

    async def revoke_deployment_token(self, tx: AsyncSession, deployment_id: str) -> None: ...


SectionProvider = Callable[[str], Awaitable[Sequence[Struct] | Sequence[str]]]


class Devices(Protocol):
    """The agents domain as deployments see it."""

    def register_section(self, name: str, provider: SectionProvider) -> None: ...

    def changed(self, device_id: str) -> None: ...

    async def push(self, device_id: str) -> int: ...

    async def wait_applied(self, device_id: str, revision: int, timeout_s: float) -> bool: ...

    def is_connected(self, device_id: str) -> bool: ...

    async def wait_connected(self, device_id: str, timeout_s: float) -> bool: ...

    def observed(self, device_id: str) -> ObservedState | None: ...

    def addresses(self, device_id: str) -> list[str]: ...

    def on_state(
        self, handler: Callable[[str, ObservedState, ObservedState | None], None]
    ) -> None: ...

    def listen_results(self, listener: Callable[[str, list[AgentResult]], None]) -> None: ...
