"""haechi's errors in the words of the old interface: one table, no decisions."""

from collections.abc import Mapping
from typing import Any, Final

from haechi.errors import (
    AppError,
    Forbidden,
    Invalid,
    Language,
    ManyProblems,
    NotFound,
    Overloaded,
    Text,
    Unauthorized,
    Unavailable,
    Upstream,
    catalogue,
)
from haechi.interop.codes import Refusal

_EXACT: Final = {
    "core.not_found": "0004",
    "core.busy": "9999",
    "core.disk_full": "9999",
    "core.timed_out": "0014",
    "core.bad_request": "0010",
    "telemetry.broken": "0011",
    "inventory.duplicate_name": "0003",
    "inventory.duplicate_host_name": "0003",
    "inventory.alias_taken": "0003",
    "inventory.still_used": "9999",
    "inventory.no_host_login": "0020",
    "packages.not_a_zip": "0010",
    "packages.truncated": "0010",
    "packages.damaged": "0010",
    "packages.incomplete": "0010",
    "packages.no_dockerfile": "0020",
    "packages.copy_source_missing": "0020",
    "packages.zip_lost": "0020",
    "packages.too_large": "0016",
    "packages.name_collision": "0003",
    "packages.version_exists": "0003",
    "packages.still_deployed": "9999",
    "clusters.device_in_cluster": "0003",
    "clusters.bad_members": "0003",
    "clusters.not_found": "0004",
    "clusters.host_busy": "9999",
    "deployments.no_devices": "0020",
    "deployments.no_camera": "0020",
    "deployments.not_agreed": "9999",
    "deployments.not_running": "0004",
    "collaboration.no_package_for_class": "0020",
}
_BY_DOMAIN: Final = {
    "inventory": "0019",
    "packages": "0019",
    "collaboration": "0019",
    "results": "0010",
    "auth": "0005",
    "deployments": "0014",
    "builds": "0014",
    "engine": "0014",
    "agent": "0014",
    "agents": "0014",
    "clusters": "0014",
    "bundle": "0014",
    "registry": "0014",
    "operations": "0014",
}
_NOT_FOUND_BEHIND_US: Final = {"builds", "engine", "agent", "agents", "registry"}


def code_of(error: AppError) -> str:
    if isinstance(error, ManyProblems):
        codes = {_code_of_name(code) for code in error.codes}
        for code in ("0019", "0010", "0020"):
            if code in codes:
                return code
    return _code_of_one(error)


def _code_of_one(error: AppError) -> str:
    domain = error.code.partition(".")[0]
    if error.code in _EXACT:
        found = _EXACT[error.code]
    elif isinstance(error, NotFound) and domain not in _NOT_FOUND_BEHIND_US:
        found = "0004"
    elif domain in _BY_DOMAIN:
        found = _BY_DOMAIN[domain]
    elif isinstance(error, Unauthorized | Forbidden):
        found = "0005"
    elif isinstance(error, Upstream | Unavailable):
        found = "0014"
    else:
        found = "0019" if isinstance(error, Invalid) else "9999"
    return found


def _code_of_name(code: str) -> str:
    return _EXACT.get(code) or _BY_DOMAIN.get(code.partition(".")[0], "9999")


def explain(error: AppError, language: Language) -> str:
    """Reason and remedy in one text; every problem where there are several."""
    document = error.problem(language)
    texts = [document["detail"], document["remedy"]]
    if isinstance(error, ManyProblems):
        parts = document["data"]["problems"]
        texts = [
            document["detail"],
            *(f"{part.get('path') or ''} {part['detail']}".strip() for part in parts[:50]),
        ]
    return " ".join(text for text in texts if text)


def to_refusal(error: AppError) -> Refusal:
    """The same failure for an old caller."""
    if isinstance(error, Overloaded):
        return overload(error.retry_after_s or 1)
    more: dict[str, Any] = {}
    if error.code == "core.busy":
        more["busy_with"] = error.data.get("operation_id", "")
    if error.code in {"packages.still_deployed", "inventory.still_used"}:
        more["nodes"] = [
            {**row, "id": row.get("device_id", row.get("id", ""))}
            for row in error.data.get("where", [])
        ]
    refusal = Refusal(code_of(error), more=more)
    refusal.detail = Text(explain(error, "ko"), explain(error, "en"))
    return refusal


def of_saved(error: Mapping[str, Any] | None) -> AppError | None:
    """The error that an operation ended with."""
    if error is None:
        return None
    cls = catalogue().get(str(error.get("code")))
    return None if cls is None else cls(**error.get("data", {}))


def overload(retry_after_s: int = 1) -> Refusal:
    refusal = Refusal(
        "9999",
        f"지금은 처리량이 한계입니다. {retry_after_s}초 뒤 다시 보내세요.",
        f"Too much at once; send it again in {retry_after_s} s.",
        status=503,
    )
    refusal.more["retry_after_s"] = retry_after_s
    return refusal
