"""The one error shape: every failure a user may see is an AppError with a stable code.

Each domain declares its own errors beside its model; this module knows none of them. The
texts live on the class (Korean and English) so that code, message and remedy cannot drift apart,
and the reference page is generated from `catalogue()`. Whatever is *not* an AppError is a bug:
the caller gets an id, the log gets the traceback.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Self

Language = Literal["ko", "en"]


class Text(NamedTuple):
    """One sentence in both languages; `{name}` placeholders are filled from the error's data."""

    ko: str
    en: str

    def render(self, language: Language, data: Mapping[str, Any]) -> str:
        template = self.ko if language == "ko" else self.en
        return template.format_map(_Lenient(data))


class _Lenient(dict[str, Any]):
    """A placeholder without data shows as itself rather than raising while reporting an error."""

    def __missing__(self, key: str) -> str:
        return "{" + key + "}"


_catalogue: dict[str, type["AppError"]] = {}


class AppError(Exception):
    """Safe to show. Subclass per reason; `code` is `domain.reason` and never changes once shipped.

    `data` must be JSON-serialisable and free of secrets: it is sent to the caller and logged.
    """

    code: ClassVar[str] = ""
    http_status: ClassVar[int] = 500
    title: ClassVar[Text] = Text("오류", "Error")
    detail: ClassVar[Text] = Text("요청을 처리하지 못했습니다.", "The request could not be done.")
    remedy: ClassVar[Text] = Text("", "")
    korean: ClassVar[Mapping[str, str]] = {}
    """Words of `data` that Korean texts say in Korean."""

    def __init__(self, **data: Any) -> None:
        self.data: dict[str, Any] = data
        super().__init__(self.code, data)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "code" not in cls.__dict__ or not cls.code:
            return
        known = _catalogue.get(cls.code)
        if known is not None and known.__qualname__ != cls.__qualname__:
            raise TypeError(f"error code {cls.code} is declared by {known} and {cls}")
        _catalogue[cls.code] = cls

    def __str__(self) -> str:
        return f"{self.code}: {self.detail.render('en', self.data)}"

    @property
    def retry_after_s(self) -> int | None:
        """Seconds after which the same call is worth trying again (`Retry-After`)."""
        value = self.data.get("retry_after_s")
        return value if isinstance(value, int) else None

    def problem(self, language: Language) -> dict[str, Any]:
        """RFC 9457 problem document without request id: CONTRACTS 1."""
        said = _said(type(self), language, self.data)
        return {
            "type": f"urn:haechi:error:{self.code}",
            "title": self.title.render(language, said),
            "status": self.http_status,
            "code": self.code,
            "detail": self.detail.render(language, said),
            "remedy": self.remedy.render(language, said),
            "data": self.data,
        }


def _said(cls: type[AppError], language: Language, data: Mapping[str, Any]) -> Mapping[str, Any]:
    """`data` as the texts of that language say it."""
    if language != "ko" or not cls.korean:
        return data
    return {
        name: cls.korean.get(value, value) if isinstance(value, str) else value
        for name, value in data.items()
    }


class NotFound(AppError):
    http_status = 404
    title = Text("찾을 수 없음", "Not found")


class Conflict(AppError):
    http_status = 409
    title = Text("충돌", "Conflict")


class Invalid(AppError):
    http_status = 422
    title = Text("잘못된 입력", "Invalid input")


class ManyProblems(Invalid):
    """Everything that is wrong at once; `data["problems"]` names each by its own error code.

    `cls.of(errors)` builds it; the texts of the parts are rendered with the whole, in its language.
    """

    @classmethod
    def of(cls, errors: Sequence[AppError], **data: Any) -> Self:
        parts = [{"code": error.code, "data": error.data} for error in errors]
        return cls(problems=parts, count=len(parts), **data)

    @property
    def codes(self) -> list[str]:
        return [part["code"] for part in self.data["problems"]]

    def problem(self, language: Language) -> dict[str, Any]:
        document = super().problem(language)
        rendered = [_render_part(part, language) for part in self.data["problems"]]
        document["data"] = {**self.data, "problems": rendered}
        return document


def _render_part(part: Mapping[str, Any], language: Language) -> dict[str, Any]:
    cls = _catalogue.get(part["code"])
    data = part["data"]
    if cls is None:
        return {"code": part["code"], "detail": part["code"], "remedy": "", "data": data}
    said = _said(cls, language, data)
    return {
        "code": part["code"],
        "path": data.get("path"),
        "detail": cls.detail.render(language, said),
        "remedy": cls.remedy.render(language, said),
        "data": data,
    }


class Unauthorized(AppError):
    http_status = 401
    title = Text("인증 필요", "Not signed in")


class Forbidden(AppError):
    http_status = 403
    title = Text("권한 없음", "Not allowed")


class TooMany(AppError):
    http_status = 429
    title = Text("요청이 너무 많음", "Too many requests")


class Unavailable(AppError):
    """A part of haechi cannot take the request now; the caller should come back."""

    http_status = 503
    title = Text("잠시 사용할 수 없음", "Temporarily unavailable")


class Upstream(AppError):
    """Something haechi depends on (host, engine, registry, camera) failed."""

    http_status = 502
    title = Text("연결된 시스템 오류", "Upstream failure")


class ObjectNotFound(NotFound):
    code = "core.not_found"
    detail = Text("{kind} '{id}'을(를) 찾을 수 없습니다.", "There is no {kind} '{id}'.")
    remedy = Text("목록에서 ID를 확인하세요.", "Check the id in the list.")
    korean: ClassVar[Mapping[str, str]] = {
        "assignment": "할당",
        "build": "빌드",
        "camera": "카메라",
        "cluster": "클러스터",
        "deployment": "배포",
        "device": "장치",
        "group": "그룹",
        "link": "이웃 연결",
        "operation": "작업",
        "package": "패키지",
        "revision": "버전 내용",
        "schedule": "예약",
        "version": "버전",
    }


class Busy(Conflict):
    code = "core.busy"
    detail = Text(
        "'{subject}'에 대해 다른 작업({operation_id}, {kind})이 진행 중입니다.",
        "Another operation ({operation_id}, {kind}) is running on '{subject}'.",
    )
    remedy = Text(
        "그 작업이 끝난 뒤 다시 시도하거나 먼저 취소하세요.",
        "Wait until it ends, or cancel it first.",
    )


class Overloaded(Unavailable):
    code = "core.overloaded"
    detail = Text(
        "지금은 처리량이 한계에 도달해 더 받을 수 없습니다.",
        "The server cannot take more right now.",
    )
    remedy = Text(
        "{retry_after_s}초 뒤 다시 보내세요. 응답받지 못한 데이터는 저장되지 않았습니다.",
        "Send it again in {retry_after_s} s. What was not acknowledged was not stored.",
    )


class TimedOut(Upstream):
    code = "core.timed_out"
    http_status = 504
    detail = Text(
        "{what}이(가) {timeout_s}초 안에 응답하지 않았습니다.",
        "{what} did not answer within {timeout_s} s.",
    )
    remedy = Text(
        "장치의 전원과 네트워크를 확인한 뒤 다시 시도하세요.",
        "Check power and network of the device, then try again.",
    )


class BadRequest(Invalid):
    code = "core.bad_request"
    detail = Text("입력 값이 올바르지 않습니다: {reason}", "The input is not valid: {reason}")
    remedy = Text(
        "표시된 항목을 고쳐 다시 보내세요.", "Correct the named fields and send it again."
    )


class StaleEdit(AppError):
    code = "core.stale_edit"
    http_status = 412
    title = Text("다른 곳에서 변경됨", "Changed elsewhere")
    detail = Text(
        "읽은 뒤에 다른 사용자가 변경했습니다.", "It was changed by someone else after you read it."
    )
    remedy = Text("새로 고친 뒤 다시 변경하세요.", "Reload it and edit again.")


class EditNeedsETag(AppError):
    code = "core.edit_needs_etag"
    http_status = 428
    title = Text("If-Match 필요", "If-Match required")
    detail = Text("변경에는 If-Match 헤더가 필요합니다.", "An edit needs the If-Match header.")
    remedy = Text(
        "먼저 GET으로 ETag를 읽어 If-Match로 보내세요.",
        "GET it first and send its ETag as If-Match.",
    )


class DiskFull(AppError):
    code = "core.disk_full"
    http_status = 507
    title = Text("디스크 공간 부족", "Disk full")
    detail = Text(
        "디스크에 공간이 부족합니다 ({where}).", "There is not enough disk space ({where})."
    )
    remedy = Text(
        "오래된 패키지 버전과 이미지를 지우거나 디스크를 늘리세요.",
        "Delete old package versions and images, or add disk space.",
    )


def catalogue() -> dict[str, type[AppError]]:
    """Every declared code; complete once the modules that declare errors are imported."""
    return dict(sorted(_catalogue.items()))
