"""What the server knows of an agent, and why it may be turned away."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from haechi.core.secrets import Secret
from haechi.errors import AppError, Conflict, Forbidden, Invalid, Text, Unavailable, Upstream
from haechi.protocol.desired import ObservedState

Presence = Literal["new", "ok", "silent", "dead"]
"""`new`: enrolled or not, it has never called."""

CameraState = Literal["unknown", "ok", "offline", "unauthorized"]

ClockState = Literal["ok", "uncertain"]


@dataclass(frozen=True, slots=True)
class Agent:
    """A device as seen through its agent."""

    device_id: str
    presence: Presence
    presence_reason: str
    """`connected` | `no_word` | `neighbours_agree` | `server_start` | `never_called`, or what those
    who watch the device found out (`clusters.reasons`)."""
    presence_since: datetime
    connected: bool
    last_seen_at: datetime | None
    agent_version: str
    protocol: int | None
    boot_id: str
    machine_id: str
    host_name: str
    remote: str
    """Address it called from last."""
    addresses: list[str]
    capacity: dict[str, Any]
    clock: ClockState
    clock_offset_ms: float | None
    """Device's wall clock minus the server's."""
    rtt_ms: float | None
    desired_revision: int
    applied_revision: int
    refusal: dict[str, Any] | None
    """The last time somebody with this device's certificate was turned away: `{code, data, at}`."""
    observed: ObservedState | None = None


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A one-time invitation; `command` holds the token, so it is shown once and logged nowhere."""

    device_id: str
    token: Secret
    command: Secret
    server: str
    ca_fingerprint: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Stamp:
    """A device's time mapped to the server's (CONTRACTS 3)."""

    wall_ms: int
    clock: ClockState
    shift_ms: int = field(default=0)
    """What was added to the claimed time; other times of the same row move along."""


class NotConnected(Unavailable):
    code = "agents.not_connected"
    detail = Text(
        "장치 {device_id}의 에이전트가 연결되어 있지 않습니다.",
        "The agent of device {device_id} is not connected.",
    )
    remedy = Text(
        "장치의 전원과 네트워크, 에이전트가 실행 중인지 확인하세요.",
        "Check power and network of the device, and that its agent runs.",
    )


class LinkLost(Unavailable):
    code = "agents.link_lost"
    detail = Text(
        "장치 {device_id}와의 연결이 명령({verb}) 도중에 끊어졌습니다.",
        "The link to device {device_id} was lost during the command {verb}.",
    )
    remedy = Text(
        "장치가 다시 연결되면 자동으로 이어집니다.",
        "It goes on by itself once the device is back.",
    )


class BadAnswer(Upstream):
    code = "agents.bad_answer"
    detail = Text(
        "장치 {device_id}의 에이전트가 {verb} 명령에 알 수 없는 답을 보냈습니다: {problem}",
        "The agent of device {device_id} answered {verb} with something unknown: {problem}",
    )
    remedy = Text("장치의 에이전트를 업데이트하세요.", "Update the agent of the device.")


class TooManyCommands(Unavailable):
    code = "agents.too_many_commands"
    detail = Text(
        "장치 {device_id}에 처리 중인 명령이 너무 많습니다.",
        "Device {device_id} has too many commands in hand.",
    )
    remedy = Text("잠시 뒤 다시 시도하세요.", "Try again shortly.")


class NoFirstWord(Invalid):
    code = "agents.no_hello"
    detail = Text("연결의 첫 메시지는 hello여야 합니다.", "The first frame must be a hello.")
    remedy = Text(
        "장치의 에이전트를 서버와 맞는 버전으로 업데이트하세요.",
        "Update the agent of the device to a release that fits the server.",
    )


class WrongDevice(Forbidden):
    code = "agents.wrong_device"
    detail = Text(
        "인증서는 장치 {certificate}의 것인데 에이전트는 {claimed}라고 합니다.",
        "The certificate is that of {certificate}, the agent says it is {claimed}.",
    )
    remedy = Text(
        "에이전트의 데이터 폴더가 다른 장치에서 복사되었는지 확인하고 다시 등록하세요.",
        "Check whether the agent's data folder was copied from another device; enrol it again.",
    )


class TooOld(Forbidden):
    code = "agents.too_old"
    detail = Text(
        "에이전트 {agent_version}의 프로토콜 {protocol}은(는) 너무 오래되었습니다.",
        "Protocol {protocol} of agent {agent_version} is too old.",
    )
    remedy = Text("에이전트를 업데이트하세요.", "Update the agent.")


class TooNew(Forbidden):
    code = "agents.too_new"
    detail = Text(
        "에이전트 {agent_version}의 프로토콜 {protocol}이(가) 서버보다 새롭습니다.",
        "Protocol {protocol} of agent {agent_version} is newer than this server.",
    )
    remedy = Text("서버를 먼저 업데이트하세요.", "Update the server first.")


class CloneFound(Forbidden):
    code = "agents.clone"
    detail = Text(
        "장치 {device_id}의 인증서를 다른 컴퓨터({host_name}, {remote})가 쓰고 있습니다.",
        "Another computer ({host_name}, {remote}) uses the certificate of device {device_id}.",
    )
    remedy = Text(
        "복제된 디스크라면 그 컴퓨터를 새 장치로 등록하세요. 같은 장치에 운영체제를 다시 "
        "설치했다면 그 장치를 다시 등록하세요.",
        "If its disk was cloned, enrol that computer as a new device. If this device was installed "
        "anew, enrol it again.",
    )


class AlreadyConnected(Conflict):
    code = "agents.already_connected"
    detail = Text(
        "장치 {device_id}의 에이전트가 이미 연결되어 있고 응답하고 있습니다.",
        "The agent of device {device_id} is connected already and answers.",
    )
    remedy = Text(
        "장치에서 에이전트가 두 번 실행 중인지 확인하세요.",
        "Check whether the agent runs twice on the device.",
    )


class Revoked(Forbidden):
    code = "agents.revoked"
    detail = Text(
        "장치의 인증서가 폐기되었거나 서버가 알지 못하는 것입니다.",
        "The device's certificate was revoked, or is not known here.",
    )
    remedy = Text("장치를 다시 등록하세요.", "Enrol the device again.")


class LinkClosed(AppError):
    """Why a link ended; logged, and shown in the device's `presence_reason`."""

    code = "agents.link_closed"
    http_status = 503
    detail = Text("연결이 닫혔습니다: {reason}", "The link was closed: {reason}")
    remedy = Text(
        "에이전트가 곧 다시 연결합니다. 반복되면 에이전트 로그를 확인하세요.",
        "The agent connects again by itself; if it keeps happening, read its log.",
    )
