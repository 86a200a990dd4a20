"""What a build is, and every way in which it can fail."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from haechi.errors import Conflict, Invalid, NotFound, Text, Unavailable, Upstream


class BuildState(StrEnum):
    QUEUED = "queued"
    BUILDING = "building"
    PUSHING = "pushing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self in {BuildState.SUCCEEDED, BuildState.FAILED, BuildState.CANCELLED}


@dataclass(frozen=True, slots=True)
class BaseUse:
    """An outside image that a Dockerfile names, and what was taken for it."""

    source: str
    used: str
    platform: str
    line: int
    image_id: str = ""
    """Id of the image that was used, once it was there."""


@dataclass(frozen=True, slots=True)
class BaseImage:
    """One entry of the operator's map: wherever `source` is named, `target` is taken."""

    source: str
    target: str
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Build:
    id: str
    package_id: str
    version_id: str
    platform: str
    state: BuildState
    operation_id: str | None
    recipe: str
    """Digest of all that decides the outcome: same recipe, same image."""
    reused_from: str | None
    """The earlier build whose image this one took over."""
    base_images: list[BaseUse]
    image: str
    """`<registry>/<repository>@sha256:…`; empty until pushed."""
    digest: str
    size_bytes: int
    error: dict[str, Any] | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None

    @property
    def duration_s(self) -> float | None:
        if self.started_at is None or self.ended_at is None:
            return None
        return (self.ended_at - self.started_at).total_seconds()


@dataclass(frozen=True, slots=True)
class RegistryTag:
    tag: str
    digest: str
    size_bytes: int
    platforms: list[str]


@dataclass(frozen=True, slots=True)
class RegistryRepository:
    """`size_bytes` counts each layer once, though several versions share it."""

    name: str
    size_bytes: int
    tags: list[RegistryTag]


@dataclass(frozen=True, slots=True)
class RegistryState:
    reference: str
    """How image references name it: `registry.haechi.internal:8425`."""
    running: bool
    read_only: bool
    repositories: list[RegistryRepository]
    used_bytes: int
    disk_free_bytes: int
    disk_total_bytes: int


class BuildNotFound(NotFound):
    code = "builds.not_found"
    detail = Text("빌드 '{id}'을(를) 찾을 수 없습니다.", "There is no build '{id}'.")
    remedy = Text("빌드 목록에서 ID를 확인하세요.", "Check the id in the list of builds.")


class BaseImageNotMapped(NotFound):
    code = "builds.base_image_not_mapped"
    detail = Text(
        "기본 이미지 '{source}'에 대한 매핑이 없습니다.", "No base image '{source}' is mapped."
    )
    remedy = Text(
        "'haechi baseimage list'로 매핑 목록을 확인하세요.",
        "`haechi baseimage list` shows what is mapped.",
    )


class BadBaseImage(Invalid):
    code = "builds.bad_base_image"
    detail = Text(
        "'{reference}'은(는) 올바른 이미지 이름이 아닙니다.",
        "'{reference}' is not an image reference.",
    )
    remedy = Text(
        "'python:3.11-slim'처럼 이름과 태그로 쓰세요.",
        "Write name and tag, such as `python:3.11-slim`.",
    )


class BadDockerfile(Invalid):
    code = "builds.bad_dockerfile"
    title = Text("Dockerfile 오류", "Dockerfile not valid")
    detail = Text(
        "Dockerfile {line}번째 줄을 읽을 수 없습니다: {problem}",
        "The Dockerfile cannot be read at line {line}: {problem}",
    )
    remedy = Text(
        "Dockerfile을 고쳐 새 버전으로 올리세요.", "Correct it and upload it as a new version."
    )


class HeredocsUnsupported(Invalid):
    code = "builds.heredocs_unsupported"
    title = Text("heredoc을 지원하지 않는 Docker", "Docker too old for heredocs")
    detail = Text(
        "Dockerfile이 heredoc(<<)을 쓰지만 Docker {engine}은(는) 외부 프런트엔드 없이 이를 처리하지"
        " 못합니다.",
        "The Dockerfile uses heredocs (<<), which Docker {engine} cannot do without a frontend"
        " fetched from outside.",
    )
    remedy = Text(
        "heredoc 대신 RUN 명령을 '&&'로 잇거나 파일로 두고 COPY하세요. Docker 23 이상에서는 그대로"
        " 빌드됩니다.",
        "Join the commands with `&&` or COPY a script instead; Docker 23 and newer build it as is.",
    )


class BaseImageMissing(Upstream):
    code = "builds.base_image_missing"
    title = Text("기본 이미지 없음", "Base image missing")
    detail = Text(
        "Dockerfile {line}번째 줄의 기본 이미지 '{image}'({platform})을(를) 가져올 수 없습니다:"
        " {reason}",
        "The base image '{image}' ({platform}) at line {line} of the Dockerfile cannot be had:"
        " {reason}",
    )
    remedy = Text(
        "서버의 Docker에 있는 이미지로 매핑하세요: haechi baseimage map {source} <이미지>"
        " (PUT /api/v1/base-images). 또는 'docker load'로 '{image}'을(를) 넣으세요.",
        "Map it to an image this server's Docker has: haechi baseimage map {source} <image>"
        " (PUT /api/v1/base-images), or bring '{image}' in with `docker load`.",
    )


class BaseTargetMissing(Upstream):
    code = "builds.base_target_missing"
    title = Text("매핑한 이미지 없음", "Mapped image missing")
    detail = Text(
        "매핑한 이미지 '{target}'({platform})을(를) 서버의 Docker에서 찾거나 받을 수 없습니다:"
        " {reason}",
        "The mapped image '{target}' ({platform}) is not in this server's Docker and cannot be"
        " pulled: {reason}",
    )
    remedy = Text(
        "'docker load'나 'docker import'로 이미지를 서버에 넣은 뒤 다시 매핑하세요.",
        "Bring it to the server with `docker load` or `docker import`, then map it again.",
    )


class BuildFailed(Upstream):
    code = "builds.failed"
    title = Text("빌드 실패", "Build failed")
    detail = Text(
        "'{step}' 단계에서 빌드가 실패했습니다: {reason}",
        "The build failed in step '{step}': {reason}",
    )
    remedy = Text(
        "빌드 로그의 마지막 줄을 확인하고 Dockerfile이나 코드를 고쳐 새 버전으로 올리세요.",
        "Read the last lines of the build log, correct Dockerfile or code, upload a new version.",
    )


class BuildTimedOut(Upstream):
    code = "builds.timed_out"
    http_status = 504
    title = Text("빌드 시간 초과", "Build took too long")
    detail = Text(
        "빌드가 {timeout_s}초 안에 끝나지 않아 중지했습니다(마지막 단계: '{step}').",
        "The build did not end within {timeout_s} s and was stopped (last step: '{step}').",
    )
    remedy = Text(
        "끝나지 않는 RUN 명령이 없는지 확인하세요. 정상적으로 오래 걸린다면 builds.timeout_s를"
        " 늘리세요.",
        "Look for a RUN that never ends; if it is rightly slow, raise builds.timeout_s.",
    )


class ImageTooLarge(Upstream):
    code = "builds.image_too_large"
    http_status = 413
    title = Text("이미지가 너무 큼", "Image too large")
    detail = Text(
        "이미지 크기 {size_bytes}바이트가 한도 {limit_bytes}바이트를 넘습니다.",
        "The image has {size_bytes} bytes, more than the {limit_bytes} allowed.",
    )
    remedy = Text(
        "불필요한 파일을 빼거나 다단계 빌드로 줄이세요. 한도는 builds.max_image_bytes입니다.",
        "Leave out what is not needed or use stages; the limit is builds.max_image_bytes.",
    )


class PlatformRefused(Conflict):
    code = "builds.no_builder_for_platform"
    title = Text("플랫폼을 빌드할 수 없음", "No builder for the platform")
    detail = Text(
        "이 서버({native})에서는 {platform} 이미지를 빌드할 수 없습니다: {reason}",
        "This server ({native}) cannot build for {platform}: {reason}",
    )
    remedy = Text(
        "{platform} 장치를 Docker 호스트로 등록하거나, qemu-user-static을 설치하고"
        " builds.foreign_platforms=qemu로 설정하세요(약 10배 느림).",
        "Enrol a Docker host of that platform, or install qemu-user-static and set"
        " builds.foreign_platforms=qemu (about ten times slower).",
    )


class BadPlatform(Invalid):
    code = "builds.bad_platform"
    detail = Text("'{platform}'은(는) 올바른 플랫폼이 아닙니다.", "'{platform}' is not a platform.")
    remedy = Text(
        "'linux/amd64'나 'linux/arm64'처럼 쓰세요.", "Write `linux/amd64` or `linux/arm64`."
    )


class RegistryDown(Unavailable):
    code = "builds.registry_down"
    title = Text("레지스트리 중단", "Registry not running")
    detail = Text(
        "현장 레지스트리에 연결할 수 없습니다: {reason}",
        "The site registry cannot be reached: {reason}",
    )
    remedy = Text(
        "haechi가 자동으로 다시 시작합니다. 계속되면 'haechi doctor'와 서버 로그를 확인하세요.",
        "haechi starts it again by itself. If it stays away, see `haechi doctor` and the log.",
    )


class RegistryFailed(Upstream):
    code = "builds.registry_failed"
    title = Text("레지스트리 오류", "Registry failed")
    detail = Text(
        "현장 레지스트리가 요청을 처리하지 못했습니다: {reason}",
        "The site registry could not do it: {reason}",
    )
    remedy = Text("DATA/registry/registry.log를 확인하세요.", "Read DATA/registry/registry.log.")


class RegistryProgramMissing(Upstream):
    code = "builds.registry_program_missing"
    title = Text("레지스트리 프로그램 없음", "Registry program missing")
    detail = Text(
        "레지스트리 프로그램 '{binary}'을(를) 찾을 수 없습니다.",
        "The registry program '{binary}' was not found.",
    )
    remedy = Text(
        "'apt-get install docker-registry'로 설치하거나 registry.binary를 설정하세요.",
        "Install it (`apt-get install docker-registry`) or set registry.binary.",
    )


class ImageInUse(Conflict):
    code = "builds.image_in_use"
    detail = Text(
        "이미지를 아직 사용 중이라 지울 수 없습니다: {where}", "The image is still in use: {where}"
    )
    remedy = Text("먼저 배포를 제거하세요.", "Remove the deployments first.")
