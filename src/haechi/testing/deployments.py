"""Fakes of what the deployments domain needs from its neighbours."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from haechi.core.secrets import Secret, token_digest
from haechi.domains.deployments.ports import (
    CameraPlace,
    Image,
    OnRatio,
    OnText,
    Place,
    SectionProvider,
    VersionToDeploy,
)
from haechi.errors import ObjectNotFound
from haechi.protocol.commands import RegistryAccess
from haechi.protocol.desired import DesiredState, ObservedState
from haechi.protocol.results import AgentResult, Result


@dataclass
class FakeVersions:
    versions: dict[str, VersionToDeploy] = field(default_factory=dict)

    def add(self, version_id: str, version: str, **facts: Any) -> VersionToDeploy:
        made = VersionToDeploy(version_id, "pkg-detector", "detector", version, **facts)
        self.versions[version_id] = made
        return made

    def change(self, version_id: str, **facts: Any) -> None:
        self.versions[version_id] = replace(self.versions[version_id], **facts)

    async def version_to_deploy(self, version_id: str) -> VersionToDeploy:
        if version_id not in self.versions:
            raise ObjectNotFound(kind="version", id=version_id)
        return self.versions[version_id]


def image_reference(version_id: str) -> str:
    return f"registry.haechi.internal/detector@sha256:{token_digest(version_id)}"


@dataclass
class FakeImages:
    built: set[str] = field(default_factory=set)
    builds: list[str] = field(default_factory=list)
    fail: list[Exception] = field(default_factory=list)
    size_bytes: int = 1000

    def _image(self, version_id: str, platform: str) -> Image:
        reference = image_reference(version_id)
        digest = reference.partition("@")[2]
        return Image(reference, digest, self.size_bytes, platform)

    async def image_of(self, version_id: str, platform: str) -> Image | None:
        return self._image(version_id, platform) if version_id in self.built else None

    async def build_image(
        self, version_id: str, platform: str, requested_by: str, log: OnText, progress: OnRatio
    ) -> Image:
        del requested_by
        log("building")
        progress(0.5, "step 1")
        if self.fail:
            raise self.fail.pop(0)
        self.builds.append(version_id)
        self.built.add(version_id)
        return self._image(version_id, platform)

    async def pull_access(self, device_id: str) -> RegistryAccess | None:
        return RegistryAccess("registry.haechi.internal", "127.0.0.1:8425", user=device_id)


@dataclass
class FakePlaces:
    devices: dict[str, str] = field(default_factory=dict)
    """Id → name."""
    cameras: dict[str, str | None] = field(default_factory=dict)
    """Camera → home device."""
    groups: dict[str, list[str]] = field(default_factory=dict)
    clusters: dict[str, tuple[list[str], list[str]]] = field(default_factory=dict)
    """Id → (control planes, workers)."""

    async def device(self, device_id: str) -> Place:
        if device_id not in self.devices:
            raise ObjectNotFound(kind="device", id=device_id)
        return Place(device_id, self.devices[device_id], f"host-{self.devices[device_id]}")

    async def devices_of_group(self, group_id: str) -> list[str]:
        return self.groups[group_id]

    async def devices_of_cluster(self, cluster_id: str, *, control_planes: bool) -> list[str]:
        masters, workers = self.clusters[cluster_id]
        return [*masters, *workers] if control_planes else list(workers)

    async def camera(self, camera_id: str) -> CameraPlace:
        if camera_id not in self.cameras:
            raise ObjectNotFound(kind="camera", id=camera_id)
        return CameraPlace(camera_id, camera_id, self.cameras[camera_id])

    async def rehome_cameras(self, old_id: str, new_id: str) -> list[str]:
        moved = await self.cameras_of(old_id)
        self.cameras |= dict.fromkeys(moved, new_id)
        return moved

    async def cameras_of(self, device_id: str) -> list[str]:
        return [camera for camera, home in self.cameras.items() if home == device_id]

    async def camera_source(self, camera_id: str) -> tuple[Secret, Secret | None]:
        return Secret(f"rtsp://root:pass@127.0.0.1/{camera_id}"), None


class FakeTokens:
    def __init__(self) -> None:
        self.issued: list[str] = []
        self.direct: set[str] = set()
        self.revoked: list[str] = []

    async def issue_deployment_token(
        self,
        tx: AsyncSession,
        *,
        deployment_id: str,
        device_id: str,
        facts: dict[str, str],
        direct: bool = False,
    ) -> tuple[Secret, str]:
        del tx, device_id, facts
        self.issued.append(deployment_id)
        if direct:
            self.direct.add(deployment_id)
        secret = Secret(f"token-{deployment_id}-{len(self.issued)}")
        return secret, token_digest(secret.reveal())

    async def revoke_deployment_token(self, tx: AsyncSession, deployment_id: str) -> None:
        del tx
        self.revoked.append(deployment_id)


class FakeDevices:
    """The link, without a link: desired documents are made when asked and applied at once by every
    device that is connected."""

    def __init__(self) -> None:
        self.connected: set[str] = set()
        self.sections: dict[str, SectionProvider] = {}
        self.desired: dict[str, DesiredState] = {}
        self.states: dict[str, ObservedState] = {}
        self.dirty: list[str] = []
        self.addresses_of: dict[str, list[str]] = {}
        self.state_handlers: list[Callable[..., None]] = []
        self.listeners: list[Callable[[str, list[AgentResult]], None]] = []

    def register_section(self, name: str, provider: SectionProvider) -> None:
        self.sections[name] = provider

    def changed(self, device_id: str) -> None:
        self.dirty.append(device_id)

    async def push(self, device_id: str) -> int:
        made: dict[str, Any] = {
            name: list(await provider(device_id)) for name, provider in self.sections.items()
        }
        before = self.desired.get(device_id)
        revision = before.revision if before else 0
        state = DesiredState(revision=revision, **made)
        if before != state:
            state.revision += 1
        self.desired[device_id] = state
        return state.revision

    async def wait_applied(self, device_id: str, revision: int, timeout_s: float) -> bool:
        del revision, timeout_s
        return device_id in self.connected

    def is_connected(self, device_id: str) -> bool:
        return device_id in self.connected

    async def wait_connected(self, device_id: str, timeout_s: float) -> bool:
        del timeout_s
        return device_id in self.connected

    def observed(self, device_id: str) -> ObservedState | None:
        return self.states.get(device_id)

    def addresses(self, device_id: str) -> list[str]:
        return self.addresses_of.get(device_id, [])

    def on_state(self, handler: Callable[[str, ObservedState, ObservedState | None], None]) -> None:
        self.state_handlers.append(handler)

    def listen_results(self, listener: Callable[[str, list[AgentResult]], None]) -> None:
        self.listeners.append(listener)

    # --- for tests

    def report(self, device_id: str, state: ObservedState) -> None:
        before = self.states.get(device_id)
        self.states[device_id] = state
        for handler in self.state_handlers:
            handler(device_id, state, before)

    def result(self, device_id: str, deployment_id: str, assignment_id: str | None = None) -> None:
        row = AgentResult(Result(assignment_id=assignment_id), deployment_id, 1, 1, "boot")
        for listener in self.listeners:
            listener(device_id, [row])
