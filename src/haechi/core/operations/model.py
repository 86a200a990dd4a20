"""What an operation is, and the only words a step may speak: Permanent and Temporary."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from haechi.errors import AppError, Conflict, Language, Text, Upstream


class State(StrEnum):
    QUEUED = "queued"
    """Accepted and saved, waiting for its turn."""
    RUNNING = "running"
    CANCELLING = "cancelling"
    """Asked to stop; keeps its subject until the step has really ended and is undone."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self in {State.SUCCEEDED, State.FAILED, State.CANCELLED}


ACTIVE = (State.QUEUED, State.RUNNING, State.CANCELLING)


@dataclass(frozen=True, slots=True)
class Operation:
    """`ctx` is the steps' own memory (JSON); `done` names the steps that are finished."""

    id: str
    kind: str
    subject: str
    state: State
    step: str | None
    done: list[str]
    ctx: dict[str, Any]
    progress_ratio: float | None
    progress_text: str
    error: dict[str, Any] | None
    """`{code, data}` of the AppError that ended it; texts are rendered when read."""
    requested_by: str
    parent_id: str | None
    claims: list[str]
    """Further subjects that are its own while it is active, with all below them (`dev-1/…`)."""
    attempts: int
    release: str
    """The haechi version that began it."""
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


class StepError(Exception):
    """Base of the two words."""


class Permanent(StepError):
    """It cannot work: stop, undo, report `error`."""

    def __init__(self, error: AppError) -> None:
        super().__init__(str(error))
        self.error = error


class Temporary(StepError):
    """It may work later: run the same step again after `retry_in_s` seconds."""

    def __init__(self, retry_in_s: float, error: AppError) -> None:
        super().__init__(str(error))
        self.retry_in_s = retry_in_s
        self.error = error


class Run(Protocol):
    """What a step sees of its operation. `ctx` changes are saved when the step ends."""

    id: str
    kind: str
    subject: str
    ctx: dict[str, Any]

    def log(self, line: str) -> None:
        """Append one line to the operation's log file and to its live topic. No secrets."""

    def progress(self, ratio: float | None, text: str = "") -> None:
        """Where the work is: 0-1 of the whole operation, and a short text."""

    async def save(self) -> None:
        """Save `ctx` now: before an act outside that must not be repeated or forgotten."""


Action = Callable[[Run], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Step:
    """`do` must be idempotent: after a crash it runs again. `undo` too, and it must cope with a
    `do` that stopped anywhere. `name` is stable for ever: it is saved.
    """

    name: str
    title: Text
    do: Action
    undo: Action | None = None
    timeout_s: float = 600
    temporary_limit: int = 20
    """How often a Temporary may be answered before it counts as Permanent."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A kind of operation. `parallel` limits how many of the kind run at once."""

    kind: str
    title: Text
    steps: list[Step]
    parallel: int = 8
    renamed: dict[str, str] = field(default_factory=dict)
    """Step names of older releases → names of today, so that their work counts as done."""
    on_end: Callable[[Operation], Awaitable[None]] | None = None
    """Called once the operation has ended in any way, before waiters are told; idempotent."""
    gives_way: bool = False
    """It does not hinder one that claims its subject: that one cancels it."""


class StepTimedOut(Upstream):
    code = "operations.step_timed_out"
    http_status = 504
    detail = Text(
        "'{step}' 단계가 {timeout_s}초 안에 끝나지 않았습니다.",
        "Step '{step}' did not end within {timeout_s} s.",
    )
    remedy = Text(
        "작업 로그를 확인하고 원인을 없앤 뒤 다시 시작하세요.",
        "Read the operation's log, remove the cause and start it again.",
    )


class CrashedRepeatedly(Upstream):
    code = "operations.crashed_repeatedly"
    http_status = 500
    detail = Text(
        "haechi가 '{step}' 단계에서 {attempts}번 중단되어 작업을 멈췄습니다.",
        "haechi went down {attempts} times in step '{step}', so the operation was stopped.",
    )
    remedy = Text(
        "서버 로그를 확인한 뒤 작업을 다시 시작하세요.",
        "Read the server's log, then start it again.",
    )


class UnknownKind(Conflict):
    code = "operations.unknown_kind"
    detail = Text(
        "이 버전의 haechi는 '{kind}' 작업을 알지 못합니다.",
        "This release of haechi does not know operations of kind '{kind}'.",
    )
    remedy = Text(
        "작업을 시작한 버전 이상으로 업데이트하세요.",
        "Update haechi to the release that began it, or a newer one.",
    )


class NotCancellable(Conflict):
    code = "operations.already_ended"
    detail = Text("작업 {id}은(는) 이미 끝났습니다.", "Operation {id} has already ended.")
    remedy = Text("취소할 것이 없습니다.", "There is nothing to cancel.")


class InternalFault(AppError):
    code = "core.internal"
    http_status = 500
    title = Text("내부 오류", "Internal error")
    detail = Text(
        "예상하지 못한 오류가 발생했습니다 (ID {fault_id}).",
        "Something unexpected went wrong (id {fault_id}).",
    )
    remedy = Text(
        "이 ID와 함께 서버 로그를 개발자에게 전달하세요.",
        "Give this id and the server's log to the developers.",
    )


def error_text(error: dict[str, Any] | None, language: Language) -> dict[str, Any] | None:
    """Render a saved error; a code that this release does not know keeps its data."""
    from haechi.errors import catalogue

    if error is None:
        return None
    cls = catalogue().get(error["code"])
    if cls is None:
        return {"code": error["code"], "detail": error["code"], "data": error["data"]}
    return cls(**error["data"]).problem(language)


def result_texts(result: Any, language: Language) -> Any:
    """The same result with every saved error inside it (`{code, data}` under `error`) rendered:
    outcomes of single hosts and devices carry theirs.
    """
    if isinstance(result, list):
        return [result_texts(one, language) for one in result]
    if not isinstance(result, dict):
        return result
    return {
        name: error_text(value, language)
        if name == "error" and isinstance(value, dict) and value.keys() == {"code", "data"}
        else result_texts(value, language)
        for name, value in result.items()
    }
