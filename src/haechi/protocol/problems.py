"""Failures of an agent, in one place because both sides speak of them.

The agent raises them and sends `{code, data}`; the server builds the same class again
(`from_wire_error`) so that the texts a user reads are declared once.
"""

from typing import Any

from haechi.errors import (
    AppError,
    Conflict,
    DiskFull,
    Invalid,
    NotFound,
    Text,
    Unavailable,
    Upstream,
    catalogue,
)


class UnknownVerb(Conflict):
    code = "agent.unknown_verb"
    detail = Text(
        "이 장치의 에이전트는 '{verb}' 명령을 알지 못합니다.",
        "The agent of this device does not know the command '{verb}'.",
    )
    remedy = Text("장치의 에이전트를 업데이트하세요.", "Update the agent of the device.")


class BadArguments(Invalid):
    code = "agent.bad_arguments"
    detail = Text(
        "에이전트가 '{verb}' 명령의 인자를 받아들이지 않았습니다: {problem}",
        "The agent refused the arguments of '{verb}': {problem}",
    )
    remedy = Text(
        "서버와 에이전트의 버전이 맞는지 확인하세요.",
        "Check that server and agent are of matching releases.",
    )


class CommandCancelled(Conflict):
    code = "agent.cancelled"
    detail = Text("'{verb}' 명령이 취소되었습니다.", "The command '{verb}' was cancelled.")
    remedy = Text("필요하면 다시 시작하세요.", "Start it again if it is still wanted.")


class DeadlinePassed(Upstream):
    code = "agent.deadline_passed"
    http_status = 504
    detail = Text(
        "장치가 '{verb}' 명령을 제시간에 끝내지 못했습니다.",
        "The device did not finish the command '{verb}' in time.",
    )
    remedy = Text(
        "장치의 부하와 네트워크를 확인하세요.", "Check the load and network of the device."
    )


class EngineAway(Unavailable):
    code = "agent.engine_away"
    detail = Text(
        "장치의 컨테이너 엔진이 응답하지 않습니다: {detail}",
        "The container engine of the device does not answer: {detail}",
    )
    remedy = Text(
        "장치에서 Docker가 실행 중인지 확인하세요 (systemctl status docker).",
        "Check that Docker runs on the device (systemctl status docker).",
    )


class EngineFailed(Upstream):
    code = "agent.engine_failed"
    detail = Text(
        "장치의 컨테이너 엔진이 요청을 거절했습니다: {detail}",
        "The container engine of the device refused: {detail}",
    )
    remedy = Text(
        "메시지를 확인하고 장치의 Docker 로그를 살펴보세요.",
        "Read the message, then the Docker log of the device.",
    )


class ImageMissing(Conflict):
    code = "agent.image_missing"
    detail = Text(
        "장치에 이미지가 없습니다: {image}", "The device does not have the image: {image}"
    )
    remedy = Text("다시 배포하면 이미지를 받습니다.", "Deploy again: the image is pulled then.")


class ImageNotFound(NotFound):
    code = "agent.image_not_found"
    detail = Text("레지스트리에 이미지가 없습니다: {image}", "The registry has no image {image}.")
    remedy = Text("패키지 버전을 다시 빌드하세요.", "Build the package version again.")


class RegistryUnreachable(Unavailable):
    code = "agent.registry_unreachable"
    detail = Text(
        "장치가 레지스트리({address})에 연결하지 못했습니다: {detail}",
        "The device cannot reach the registry at {address}: {detail}",
    )
    remedy = Text(
        "장치에서 서버까지의 네트워크와 방화벽을 확인하세요.",
        "Check network and firewall from the device to the server.",
    )


class RegistryRefused(Upstream):
    code = "agent.registry_refused"
    detail = Text(
        "레지스트리({address})가 장치를 거절했습니다: {detail}",
        "The registry at {address} refused the device: {detail}",
    )
    remedy = Text(
        "장치를 다시 등록해 인증 정보를 갱신하세요.",
        "Enrol the device again to renew its credentials.",
    )


class WrongPlatform(Conflict):
    code = "agent.wrong_platform"
    detail = Text(
        "이미지는 {image_platform}용이고 장치는 {platform}입니다: {image}",
        "The image is for {image_platform}, the device is {platform}: {image}",
    )
    remedy = Text("장치의 플랫폼용으로 빌드하세요.", "Build it for the platform of the device.")


class DeviceDiskFull(DiskFull):
    code = "agent.disk_full"
    detail = Text(
        "장치의 디스크가 부족합니다 (필요 {needed_bytes}바이트, 남음 {free_bytes}바이트).",
        "The disk of the device is too full ({needed_bytes} bytes needed, {free_bytes} free).",
    )
    remedy = Text(
        "쓰지 않는 이미지를 지우거나 디스크를 늘리세요.",
        "Remove unused images, or add disk space.",
    )


class NoContainer(NotFound):
    code = "agent.no_container"
    detail = Text(
        "장치에 배포 {deployment_id}의 컨테이너가 없습니다.",
        "The device has no container of deployment {deployment_id}.",
    )
    remedy = Text(
        "배포를 다시 실행하거나 제거하세요.",
        "Deploy it again, or remove the deployment.",
    )


class MediaAway(Unavailable):
    code = "agent.media_away"
    detail = Text(
        "장치의 영상 서비스가 응답하지 않습니다: {detail}",
        "The media service of the device does not answer: {detail}",
    )
    remedy = Text(
        "잠시 뒤 다시 시도하세요. 에이전트가 영상 서비스를 다시 시작합니다.",
        "Try again shortly; the agent starts the media service again.",
    )


class CameraFailed(Upstream):
    code = "agent.camera_failed"
    detail = Text(
        "카메라 {camera_id}에서 영상을 받지 못했습니다 ({error}): {detail}",
        "No picture from camera {camera_id} ({error}): {detail}",
    )
    remedy = Text(
        "카메라의 전원, 네트워크, 주소, 비밀번호를 확인하세요.",
        "Check power, network, address and password of the camera.",
    )


class AgentFault(Upstream):
    code = "agent.internal"
    detail = Text(
        "장치의 에이전트에서 예상하지 못한 오류가 발생했습니다 (ID {fault_id}).",
        "Something unexpected went wrong in the agent of the device (id {fault_id}).",
    )
    remedy = Text(
        "이 ID와 함께 에이전트 로그를 개발자에게 전달하세요.",
        "Give this id and the agent's log to the developers.",
    )


def to_wire_error(error: AppError) -> dict[str, Any]:
    return {"code": error.code, "data": error.data}


def from_wire_error(error: dict[str, Any]) -> AppError:
    """The AppError an agent spoke of; whatever is not one of `agent.*` counts as a fault."""
    code, data = error.get("code"), error.get("data")
    cls = catalogue().get(code) if isinstance(code, str) else None
    if cls is None or not cls.code.startswith("agent.") or not isinstance(data, dict):
        return AgentFault(fault_id=str(code)[:80])
    return cls(**{str(key): value for key, value in data.items()})
