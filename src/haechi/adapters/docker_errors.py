"""What can go wrong at a Docker Engine, as errors that may be shown.

Kept apart from the client so that the server can render errors that an agent sends as
`{code, data}` without loading the client. Domains need not import this: they treat `Unavailable`
as "later", anything else as final.
"""

import re
from typing import Final

from haechi.errors import (
    AppError,
    Conflict,
    DiskFull,
    Invalid,
    NotFound,
    Text,
    Unavailable,
    Upstream,
)

MESSAGE_LIMIT: Final = 300


class EngineUnreachable(Unavailable):
    code = "engine.unreachable"
    title = Text("Docker에 연결할 수 없음", "Docker unreachable")
    detail = Text(
        "Docker 엔진({engine})에 연결할 수 없습니다: {reason}",
        "The Docker engine ({engine}) cannot be reached: {reason}",
    )
    remedy = Text(
        "Docker가 실행 중인지 확인하세요(systemctl status docker). 다시 연결되면 계속 진행됩니다.",
        "Check that Docker runs (systemctl status docker). Work goes on once it is back.",
    )


class EngineTimedOut(Unavailable):
    code = "engine.timed_out"
    http_status = 504
    title = Text("Docker 응답 없음", "Docker does not answer")
    detail = Text(
        "Docker 엔진이 {timeout_s}초 안에 '{what}' 요청에 응답하지 않았습니다.",
        "The Docker engine did not answer '{what}' within {timeout_s} s.",
    )
    remedy = Text(
        "장치의 부하와 디스크 상태를 확인한 뒤 다시 시도하세요.",
        "Check load and disk of the machine, then try again.",
    )


class EngineObjectNotFound(NotFound):
    code = "engine.not_found"
    detail = Text(
        "Docker 엔진에 없습니다: {message}", "The Docker engine does not have it: {message}"
    )
    remedy = Text(
        "이름이나 ID를 확인하세요. 이미 삭제되었을 수 있습니다.",
        "Check the name or id; it may have been removed already.",
    )


class EngineConflict(Conflict):
    code = "engine.conflict"
    detail = Text(
        "Docker 엔진이 요청을 거절했습니다: {message}", "The Docker engine refused it: {message}"
    )
    remedy = Text(
        "같은 이름의 컨테이너나 사용 중인 이미지가 있는지 확인하세요.",
        "Look for a container of the same name, or an image still in use.",
    )


class EngineRefused(Invalid):
    code = "engine.refused"
    detail = Text(
        "Docker 엔진이 요청 값을 받아들이지 않았습니다: {message}",
        "The Docker engine did not accept the request: {message}",
    )
    remedy = Text(
        "컨테이너 설정(환경 변수, 자원 한도, 명령)을 확인하세요.",
        "Check the container's settings (environment, limits, command).",
    )


class EngineFailed(Upstream):
    code = "engine.failed"
    title = Text("Docker 오류", "Docker failed")
    detail = Text(
        "Docker 엔진에서 오류가 발생했습니다: {message}", "The Docker engine failed: {message}"
    )
    remedy = Text(
        "장치의 Docker 로그(journalctl -u docker)를 확인하세요.",
        "Read the machine's Docker log (journalctl -u docker).",
    )


class ImageNotFound(NotFound):
    code = "engine.image_not_found"
    title = Text("이미지 없음", "Image not found")
    detail = Text(
        "이미지 '{image}'을(를) 찾을 수 없습니다: {message}",
        "The image '{image}' was not found: {message}",
    )
    remedy = Text(
        "이미지 이름과 플랫폼을 확인하거나 패키지 버전을 다시 빌드하세요.",
        "Check the image's name and platform, or build the package version again.",
    )


class RegistryUnreachable(Unavailable):
    code = "engine.registry_unreachable"
    title = Text("레지스트리에 연결할 수 없음", "Registry unreachable")
    detail = Text(
        "Docker가 레지스트리에 연결하지 못했습니다('{image}'): {message}",
        "Docker could not reach the registry for '{image}': {message}",
    )
    remedy = Text(
        "서버의 레지스트리가 실행 중인지, 장치가 서버에 접속할 수 있는지 확인하세요.",
        "Check that the server's registry runs and that the device reaches the server.",
    )


class RegistryDenied(Upstream):
    code = "engine.registry_denied"
    title = Text("레지스트리 접근 거부", "Registry access denied")
    detail = Text(
        "레지스트리가 '{image}'에 대한 접근을 거부했습니다: {message}",
        "The registry denied access to '{image}': {message}",
    )
    remedy = Text(
        "장치의 레지스트리 자격 증명을 다시 발급하세요. 외부 이미지라면 접근 권한을 확인하세요.",
        "Issue the device's registry credentials anew; for an outside image check your access.",
    )


def short(message: str) -> str:
    """An engine's words, on one line and of bounded length; the reason stands at the end."""
    line = " ".join(message.split())
    if len(line) <= MESSAGE_LIMIT:
        return line
    half = MESSAGE_LIMIT // 2
    return f"{line[: half - 1]}…{line[-half:]}"


def from_status(status: int, message: str, what: str) -> AppError:
    """The error of an HTTP answer ≥ 400."""
    text = short(message)
    if "no space left on device" in text.lower():
        return DiskFull(where="docker")
    match status:
        case 404:
            return EngineObjectNotFound(message=text)
        case 409:
            return EngineConflict(message=text)
        case 400:
            return EngineRefused(message=text)
        case 503:
            return EngineUnreachable(engine=what, reason=text)
    return EngineFailed(message=text or f"{what}: HTTP {status}")


# Words of dockerd 20.10 to 28 in the `error` lines of pull and push, which come with HTTP 200.
_UNREACHABLE: Final = (
    "connection refused",
    "connection reset",
    "no such host",
    "i/o timeout",
    "no route to host",
    "network is unreachable",
    "server misbehaving",
    "tls handshake",
    "client.timeout exceeded",
    "context deadline exceeded",
    "unexpected eof",
    "broken pipe",
    "http status: 50",
    "received unexpected http status: 50",
    "dial tcp",
    ": eof",
)
_MISSING: Final = ("manifest unknown", "not found", "no matching manifest", "does not exist")
_ADDRESS: Final = re.compile(r'https?://[^\s"]*')
_DENIED: Final = ("unauthorized", "denied", "no basic auth credentials", "authentication required")


def reason_in(message: str, image: str) -> str:
    """All that was said, in small letters, as the reason stands at its end; but without the image's
    name and without addresses: names and digests may hold what a reason says ("denied", 403).
    """
    return _ADDRESS.sub("", message.replace(image, "")).lower()


def from_transfer(image: str, message: str) -> AppError:
    """The error of an `error` line of a pull or push."""
    text = short(message)
    lower = reason_in(message, image)
    if "no space left on device" in lower:
        return DiskFull(where="docker")
    # "pull access denied … repository does not exist or may require login": a hub's way to say
    # that the image is not there.
    if "repository does not exist" in lower or any(word in lower for word in _MISSING):
        return ImageNotFound(image=image, message=text)
    if any(word in lower for word in _DENIED):
        return RegistryDenied(image=image, message=text)
    if any(word in lower for word in _UNREACHABLE):
        return RegistryUnreachable(image=image, message=text)
    return EngineFailed(message=text)
