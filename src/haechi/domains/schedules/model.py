"""What a schedule is, one run of it, a device's maintenance hours, and what may be wrong."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Final, Literal

from haechi.errors import Conflict, Invalid, Text

ActionName = Literal["deploy_package", "remove_package", "back_up_cluster"]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
RoleName = Literal["operator", "admin"]
DAYS: Final[tuple[Day, ...]] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True)
class Hours:
    """On these days from `start` to `end` (`HH:MM`, the site's zone). An end that is not after
    the start is on the next day.
    """

    days: list[Day]
    start: str
    end: str


@dataclass(frozen=True, slots=True)
class Maintenance:
    """When a device may be disturbed by schedules; no hours: at any time."""

    device_id: str
    hours: list[Hours]
    revision: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """Either `at` (once) or `cron` (five fields, in `timezone`)."""

    id: str
    name: str
    action: ActionName
    arguments: dict[str, Any]
    """What the action takes, as checked when the schedule was saved."""
    at: datetime | None
    cron: str | None
    timezone: str
    catch_up_s: int
    """So late it is still done where the server was away at the time."""
    enabled: bool
    next_at: datetime | None
    """None: never again."""
    message: str
    """Why it was switched off by itself."""
    role: RoleName
    """What whoever saved it last may do; its runs may do no more."""
    created_by: str
    revision: int
    created_at: datetime


def shown(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Without the values of environments: they may be secrets."""
    wishes = arguments.get("wishes")
    if not wishes or not wishes.get("environment"):
        return dict(arguments)
    hidden = dict.fromkeys(wishes["environment"], "***")
    return {**arguments, "wishes": {**wishes, "environment": hidden}}


class RunState(StrEnum):
    WAITING = "waiting"
    """For the maintenance hours of some device."""
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """Something of it; `errors` say what."""
    MISSED = "missed"
    """The server was away for longer than `catch_up_s`, or no maintenance hours came."""
    SKIPPED = "skipped"
    """The run before was still going on."""

    @property
    def ended(self) -> bool:
        return self not in {RunState.WAITING, RunState.RUNNING}


@dataclass(frozen=True, slots=True)
class ScheduleRun:
    id: str
    schedule_id: str
    due_at: datetime
    at_once: bool
    """Asked for by hand: maintenance hours are not waited for."""
    state: RunState
    waiting: list[str]
    """Devices whose maintenance hours have not come yet."""
    operations: list[str]
    errors: list[dict[str, Any]]
    """`{code, data, device_ids}` of what could not be begun or failed."""
    started_at: datetime | None
    ended_at: datetime | None


class BadCron(Invalid):
    code = "schedules.bad_cron"
    detail = Text(
        "'{cron}'은(는) 올바른 cron 식이 아닙니다: {reason}",
        "'{cron}' is not a cron expression: {reason}",
    )
    remedy = Text(
        "분 시 일 월 요일 다섯 항목으로 쓰세요. 예: '30 3 * * mon-fri'.",
        "Give five fields: minute hour day month weekday, as in '30 3 * * mon-fri'.",
    )


class NeverDue(Invalid):
    code = "schedules.never_due"
    detail = Text(
        "이 시각({when})은 다시 오지 않습니다.", "That time ({when}) does not come any more."
    )
    remedy = Text(
        "미래의 시각이나 반복되는 cron 식을 지정하세요.",
        "Give a time in the future, or a cron expression that comes again.",
    )


class OneTime(Invalid):
    code = "schedules.at_or_cron"
    detail = Text(
        "시각(at)과 cron 중 하나만 지정해야 합니다.",
        "Give either a time (at) or a cron expression.",
    )
    remedy = Text("둘 중 하나만 보내세요.", "Send one of the two.")


class BadArguments(Invalid):
    code = "schedules.bad_arguments"
    detail = Text(
        "'{action}'에 쓸 수 없는 값입니다: {reason}", "'{action}' cannot be done so: {reason}"
    )
    remedy = Text(
        "버전, 장치, 그룹, 클러스터의 ID를 확인하세요.",
        "Check the ids of version, devices, group and cluster.",
    )


class BadHours(Invalid):
    code = "schedules.bad_hours"
    detail = Text(
        "유지보수 시간 '{start}-{end}'이(가) 올바르지 않습니다.",
        "The maintenance hours '{start}-{end}' are not valid.",
    )
    remedy = Text(
        "HH:MM 형식으로, 시작과 끝을 다르게 지정하고 요일을 하나 이상 고르세요.",
        "Give HH:MM, a start that differs from the end, and at least one day.",
    )


class DuplicateSchedule(Conflict):
    code = "schedules.duplicate_name"
    detail = Text("'{name}'이라는 예약이 이미 있습니다.", "There is a schedule '{name}' already.")
    remedy = Text("다른 이름을 쓰세요.", "Use another name.")


class StillRunning(Conflict):
    code = "schedules.still_running"
    detail = Text(
        "예약 '{name}'의 이전 실행이 아직 끝나지 않았습니다.",
        "The run before of schedule '{name}' has not ended.",
    )
    remedy = Text("끝난 뒤에 다시 실행하세요.", "Run it again when that has ended.")


class NothingToDo(Conflict):
    code = "schedules.nothing_to_do"
    detail = Text(
        "예약 '{name}'이(가) 대상으로 하는 장치나 클러스터가 더 이상 없습니다.",
        "The devices or the cluster of schedule '{name}' are gone.",
    )
    remedy = Text("예약의 대상을 고치거나 예약을 지우세요.", "Edit its targets, or delete it.")


class NoMaintenanceHours(Conflict):
    code = "schedules.no_maintenance_hours"
    detail = Text(
        "{hours}시간 안에 유지보수 시간이 오지 않아 장치 {device_ids}에는 실행하지 않았습니다.",
        "No maintenance hours came within {hours} h, so nothing was done on {device_ids}.",
    )
    remedy = Text(
        "장치의 유지보수 시간과 예약 시각을 맞추세요.",
        "Make the schedule fit the devices' maintenance hours.",
    )


class OperationFailed(Conflict):
    code = "schedules.operation_failed"
    detail = Text(
        "예약이 시작한 작업 {operation_id}이(가) 성공하지 못했습니다 ({state}).",
        "The operation {operation_id} that the schedule began did not succeed ({state}).",
    )
    remedy = Text("그 작업의 오류와 로그를 확인하세요.", "Read that operation's error and log.")
    korean: ClassVar[Mapping[str, str]] = {"failed": "실패", "cancelled": "취소됨"}
