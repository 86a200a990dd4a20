"""What a deployment and an assignment are, and every way in which they can go wrong."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Final, Literal

from haechi.errors import Conflict, Forbidden, Invalid, NotFound, Text, Unavailable, Upstream
from haechi.protocol.assignments import Mode, Stream
from haechi.protocol.desired import ContainerStatus

Strategy = Literal["overlap", "recreate"]
CameraNeed = Literal["none", "one", "many"]
ReadyBy = Literal["sdk", "result", "uptime"]
Allowance = Literal["internet", "privileged"]
MAX_WAIT_S: Final = 7 * 86_400
"""Longest that a deployment waits for a device that is away."""
Outcome = Literal["", "failed", "replaced", "removed"]
KEPT_BY_AGENT: Final = "docker-agent"
"""The engine whose containers the device's agent keeps running by its desired state; those of every
other engine are kept by the server (keeping.py)."""
WITHOUT_AGENT: Final = "docker-ssh"
"""The engine of hosts without an agent: their AIs give results straight to the server."""


class DeploymentState(StrEnum):
    PLANNED = "planned"
    STARTING = "starting"
    """Its container is made and must prove itself; the old one still stands."""
    RUNNING = "running"
    """Proven; the device keeps it running."""
    STOPPING = "stopping"
    """Must go; the device may not have heard of it yet."""
    GONE = "gone"

    @property
    def live(self) -> bool:
        return self in {DeploymentState.STARTING, DeploymentState.RUNNING}


class AssignmentState(StrEnum):
    TRIAL = "trial"
    """Handed out, not yet authoritative: the deployment before it still counts."""
    ACTIVE = "active"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the caller asked for beside the version; kept with the deployment for a rollback."""

    strategy: Strategy | None = None
    environment: dict[str, str] = field(default_factory=dict)
    cpu: float | None = None
    memory_bytes: int | None = None
    allow: list[Allowance] = field(default_factory=list)
    assign: bool = True
    """Hand the device's cameras to it, where it takes cameras and nothing is replaced."""
    camera_ids: list[str] | None = None
    """These cameras instead of all of the device."""
    mode: Mode = "watch"
    fps: float = 5.0
    stream: Stream = "main"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Deployment:
    id: str
    package_id: str
    package_name: str
    version_id: str
    version: str
    device_id: str
    engine: str
    image: str
    image_digest: str
    name: str
    """Of its container; a DNS label."""
    strategy: str
    camera: CameraNeed
    camera_id: str | None
    """Its only camera, where the package takes one by environment."""
    wishes: Wishes
    needs: dict[str, Any]
    """What the version's manifest asked for, as it was then."""
    generation: int
    """Rises with each deploy of the package on the device."""
    replaces: list[str]
    desired: Literal["running", "stopped"]
    state: DeploymentState
    outcome: Outcome
    message: str
    operation_id: str | None
    token_digest: str
    created_by: str
    created_at: datetime
    started_at: datetime | None
    """When it was proven."""
    ended_at: datetime | None
    observed: ContainerStatus | None = None
    """What the device said last; None where it has said nothing."""


@dataclass(frozen=True, slots=True)
class Assignment:
    id: str
    camera_id: str
    deployment_id: str
    package_id: str
    device_id: str
    mode: Mode
    fps: float
    stream: Stream
    epoch: int
    state: AssignmentState
    replaces: str | None
    operation_id: str | None
    """The operation that made it and will end its trial; None: a move."""
    export_path: str
    until: datetime | None
    reason: dict[str, str]
    created_at: datetime
    effective_at: datetime | None
    """From when its results are the authoritative ones."""
    ended_at: datetime | None


class DeploymentNotFound(NotFound):
    code = "deployments.not_found"
    detail = Text("배포 '{id}'을(를) 찾을 수 없습니다.", "There is no deployment '{id}'.")
    remedy = Text("배포 목록에서 ID를 확인하세요.", "Check the id in the list of deployments.")


class AssignmentNotFound(NotFound):
    code = "deployments.assignment_not_found"
    detail = Text("할당 '{id}'을(를) 찾을 수 없습니다.", "There is no assignment '{id}'.")
    remedy = Text("할당 목록에서 ID를 확인하세요.", "Check the id in the list of assignments.")


class NoTargets(Invalid):
    code = "deployments.no_devices"
    detail = Text("배포할 장치가 없습니다.", "There is no device to deploy to.")
    remedy = Text("장치나 장치가 있는 그룹을 지정하세요.", "Name devices, or a group with devices.")


class NotBuilt(Conflict):
    code = "deployments.not_built"
    detail = Text(
        "버전 {version_id}의 {platform}용 이미지를 만들지 못했습니다.",
        "There is no image of version {version_id} for {platform}.",
    )
    remedy = Text(
        "빌드 작업의 결과를 확인하고 다시 빌드하세요.",
        "See how its build ended, and build it again.",
    )


class NoRoom(Conflict):
    code = "deployments.no_room"
    detail = Text(
        "장치 {device}의 {what}이(가) 부족합니다 "
        "(필요 {needed_bytes}바이트, 가능 {free_bytes}바이트).",
        "Device {device} has too little {what} ({needed_bytes} bytes needed, {free_bytes} free).",
    )
    remedy = Text(
        "다른 배포를 제거하거나 자원 제한을 낮추거나 다른 장치를 고르세요.",
        "Remove another deployment, lower the limits, or choose another device.",
    )
    korean: ClassVar[Mapping[str, str]] = {"memory": "메모리", "disk": "디스크 공간"}


class NoGpu(Conflict):
    code = "deployments.no_gpu"
    detail = Text(
        "패키지는 GPU가 필요하지만 장치 {device}에는 없습니다.",
        "The package needs a GPU; device {device} has none.",
    )
    remedy = Text("GPU가 있는 장치를 고르세요.", "Choose a device with a GPU.")


class NotAgreed(Forbidden):
    code = "deployments.not_agreed"
    detail = Text(
        "패키지가 요청한 권한({needs})에 동의하지 않았습니다.",
        "The package asks for {needs}; nobody has agreed to that.",
    )
    remedy = Text(
        "패키지를 신뢰한다면 배포할 때 allow에 명시하세요. privileged는 관리자만 허용할 수 "
        "있습니다.",
        "If you trust it, name them in `allow` when deploying; only an administrator may allow "
        "privileged.",
    )


class NoCamera(Conflict):
    code = "deployments.no_camera"
    detail = Text(
        "패키지는 카메라가 필요하지만 장치 {device}에 카메라가 없습니다.",
        "The package needs a camera; device {device} has none.",
    )
    remedy = Text(
        "장치에 카메라를 등록하거나 camera_ids로 카메라를 지정하세요.",
        "Give the device a camera, or name cameras in `camera_ids`.",
    )


class NotProven(Upstream):
    """`log` holds the last lines of the container."""

    code = "deployments.not_proven"
    http_status = 424
    title = Text("동작 확인 실패", "Did not prove itself")
    detail = Text(
        "버전 {version}이(가) 장치 {device}에서 정상 동작하지 않아 되돌렸습니다 ({reason}).",
        "Version {version} did not come to work on device {device} and was taken back ({reason}).",
    )
    remedy = Text(
        "마지막 로그를 확인하고 패키지를 고쳐 새 버전으로 올리세요.",
        "Read its last log lines, correct the package and upload a new version.",
    )


class Withdrawn(Conflict):
    """It was removed, or its device left the cluster that was to run it."""

    code = "deployments.withdrawn"
    title = Text("배포 도중 제거됨", "Removed while it was being deployed")
    detail = Text(
        "버전 {version}은(는) 장치 {device}에 배포되는 도중에 제거되었습니다.",
        "Version {version} was removed while it was being deployed to device {device}.",
    )
    remedy = Text(
        "장치가 클러스터를 떠났는지, 누가 배포를 제거했는지 확인하고, 필요하면 다시 배포하세요.",
        "See whether the device has left its cluster or who removed the deployment, and deploy "
        "again where it is wanted.",
    )


class PartlyFailed(Upstream):
    code = "deployments.partly_failed"
    http_status = 424
    detail = Text(
        "장치 {total}대 중 {failed}대에서 배포하지 못했습니다.",
        "{failed} of {total} devices could not be deployed to.",
    )
    remedy = Text(
        "장치별 결과를 확인하고 그 장치에만 다시 배포하세요.",
        "See the outcome of each device and deploy to those again.",
    )


class NothingToRollBack(Conflict):
    code = "deployments.nothing_to_roll_back"
    detail = Text(
        "이 장치에서 되돌아갈 이전 버전이 없습니다.",
        "There is no earlier version on this device to go back to.",
    )
    remedy = Text("원하는 버전을 직접 배포하세요.", "Deploy the version you want.")


class NotRunning(Conflict):
    code = "deployments.not_running"
    detail = Text("배포 {id}은(는) 실행 중이 아닙니다.", "Deployment {id} is not running.")
    remedy = Text("실행 중인 배포를 고르세요.", "Choose a deployment that runs.")


class FixedCamera(Conflict):
    code = "deployments.fixed_camera"
    detail = Text(
        "이 패키지는 카메라마다 컨테이너가 따로 있어 카메라를 옮길 수 없습니다.",
        "This package has a container per camera; cameras cannot be moved to it.",
    )
    remedy = Text(
        "옮길 장치에 camera_ids로 패키지를 배포하세요.",
        "Deploy the package to the other device with `camera_ids`.",
    )


class TakesNoCamera(Conflict):
    code = "deployments.takes_no_camera"
    detail = Text("이 패키지는 카메라를 쓰지 않습니다.", "This package takes no camera.")
    remedy = Text(
        "카메라를 쓰는 패키지의 배포를 고르세요.",
        "Choose a deployment of a package that takes cameras.",
    )


class AlreadyAssigned(Conflict):
    code = "deployments.already_assigned"
    detail = Text(
        "카메라 {camera_id}은(는) 이 패키지의 할당 {assignment_id}에 이미 맡겨져 있습니다.",
        "Camera {camera_id} is already handed to this package by assignment {assignment_id}.",
    )
    remedy = Text("그 할당을 옮기거나 지우세요.", "Move that assignment, or delete it.")


class OtherPackage(Conflict):
    code = "deployments.other_package"
    detail = Text(
        "할당은 같은 패키지의 배포로만 옮길 수 있습니다.",
        "An assignment moves only to a deployment of the same package.",
    )
    remedy = Text(
        "다른 패키지에는 새 할당을 만드세요.", "Create a new assignment for the other package."
    )


class NoHome(Conflict):
    code = "deployments.camera_without_device"
    detail = Text(
        "카메라 {camera_id}에 담당 장치가 없어 영상을 받을 수 없습니다.",
        "Camera {camera_id} has no home device that could pull it.",
    )
    remedy = Text("카메라의 장치를 지정하세요.", "Give the camera a device.")


class LogsAway(Unavailable):
    code = "deployments.no_logs"
    detail = Text(
        "배포 {id}의 로그를 지금 읽을 수 없습니다.",
        "The logs of deployment {id} cannot be read now.",
    )
    remedy = Text("장치가 연결된 뒤 다시 시도하세요.", "Try again once the device is connected.")


class WorkNotMoved(Upstream):
    """`failures` names each package with its own error."""

    code = "deployments.work_not_moved"
    detail = Text(
        "패키지 {count}개를 새 장치로 옮기지 못했습니다: {packages}",
        "{count} packages could not be moved to the new device: {packages}",
    )
    remedy = Text(
        "표시된 오류를 고친 뒤 그 패키지를 새 장치에 직접 배포하세요.",
        "Correct the errors shown, then deploy those packages to the new device.",
    )
