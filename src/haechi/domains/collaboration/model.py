"""AIs with variants for weather classes, readings of the environment AI, and decisions."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from functools import reduce
from typing import Any, Final, Literal

from haechi.errors import Invalid, NotFound, Text, Upstream

CLASSES: Final = {
    "00": Text("환경 AI", "environment AI"),
    "01": Text("맑음", "sunny"),
    "02": Text("비", "rain"),
    "03": Text("흐림", "cloudy"),
    "04": Text("눈", "snow"),
    "05": Text("일출", "sunrise"),
    "06": Text("천둥", "thunder"),
}
ENVIRONMENT: Final = "00"
"""The AI that tells the weather is never switched by it."""

Action = Literal["none", "in_progress", "waiting", "started", "refused"]
Reason = Literal[
    "confidence_low",
    "environment_class",
    "class_runs_already",
    "no_package",
    "switch_in_flight",
    "not_steady",
    "minimum_stay",
    "weather_changed",
    "newer_version",
]

_VARIANT: Final = re.compile(r"^(?P<family>.+)-(?P<class>0[0-6])\Z")
_NUMBERS: Final = re.compile(r"^[vV]?(\d+(?:[._-]\d+)*)[vV]?\Z")


@dataclass(frozen=True, slots=True)
class Variant:
    """Packages of one family do the same for different classes; `class_` "" is for all."""

    family: str
    class_: str


@dataclass(frozen=True, slots=True)
class AiVersion:
    version_id: str
    package_id: str
    version: str
    variant: Variant
    uploaded_at: datetime


@dataclass(frozen=True, slots=True)
class RunningAi:
    """One package on one device; `deployment_ids` are its containers (one per camera, or one)."""

    device_id: str
    version: AiVersion
    deployment_ids: list[str]


@dataclass(frozen=True, slots=True)
class Reading:
    """What the environment AI of a device says."""

    device_id: str
    class_: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a reading led to, for one AI of the device."""

    family: str
    action: Action
    reason: Reason
    operation_id: str | None = None
    version_id: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict worth keeping, with the values seen and what could have been chosen."""

    id: str
    at: datetime
    policy: str
    device_id: str
    family: str
    action: Action
    reason: Reason
    values: dict[str, Any]
    candidates: list[str] = field(default_factory=list)
    operation_id: str | None = None
    outcome: str = ""
    ended_at: datetime | None = None


class UnknownClass(Invalid):
    code = "collaboration.unknown_class"
    detail = Text("날씨 분류 '{name}'은(는) 없습니다.", "There is no weather class '{name}'.")
    remedy = Text("00~06 중 하나를 보내세요.", "Send one of 00 to 06.")


class NoPackageForClass(NotFound):
    code = "collaboration.no_package_for_class"
    detail = Text(
        "'{family}'의 분류 {name}용 패키지가 없어 실행 중인 AI를 그대로 둡니다.",
        "There is no package of '{family}' for class {name}; the running AI stays.",
    )
    remedy = Text("그 분류용 패키지를 업로드하세요.", "Upload the package for that class.")


class SwitchFailed(Upstream):
    code = "collaboration.switch_failed"
    detail = Text(
        "장치 {device_id}의 '{family}' 전환에 실패했습니다. 이전 AI는 그대로 실행됩니다.",
        "Switching '{family}' on device {device_id} failed; the old AI goes on.",
    )
    remedy = Text("작업 로그에서 원인을 확인하세요.", "See the operation's log for the cause.")


def class_name(text: str) -> str:
    """Padded to two digits; raises UnknownClass."""
    padded = text.zfill(2) if text.isascii() and text.isdigit() else text
    if padded not in CLASSES:
        raise UnknownClass(name=text[:32])
    return padded


def variant_of_name(name: str) -> Variant:
    """`weather-02` → (`weather`, `02`); only a trailing class is cut."""
    found = _VARIANT.match(name)
    return Variant(found["family"], found["class"]) if found else Variant(name, "")


def is_older(one: AiVersion, other: AiVersion) -> bool:
    """By numbers, part by part, where both are numbers (`1.10` > `1.9`); else by upload time."""
    mine, theirs = numbers_of(one.version), numbers_of(other.version)
    if mine is not None and theirs is not None and mine != theirs:
        return mine < theirs
    return one.uploaded_at < other.uploaded_at


def newest(versions: list[AiVersion]) -> AiVersion | None:
    if not versions:
        return None
    return reduce(lambda best, one: one if is_older(best, one) else best, versions)


def numbers_of(version: str) -> tuple[int, ...] | None:
    """`1.2`, `v1.2`, `0.01v` → their numbers, trailing zeros left out; None for other texts."""
    found = _NUMBERS.match(version)
    if found is None:
        return None
    parts = [int(part[:18]) for part in re.split(r"[._-]", found[1])]
    while len(parts) > 1 and parts[-1] == 0:
        parts.pop()
    return tuple(parts)
