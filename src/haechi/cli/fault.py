"""What the CLI says when something unforeseen happens: a bug, told without its traceback.

The traceback goes to a file of the user's own, so that it can be sent to the developers.
"""

import errno
import tempfile
import traceback
from typing import Any

import click

from haechi.cli.client import EXIT_BUG, EXIT_UPSTREAM, ApiError


class Fault(ApiError):
    """Shown like a problem of the API."""

    def __init__(self, problem: dict[str, Any], code: int, *, as_json: bool) -> None:
        super().__init__(500, problem, as_json=as_json)
        self._code = code

    @property
    def exit_code(self) -> int:  # type: ignore[override]  # click reads it as an attribute
        return self._code


def told(error: Exception, ctx: click.Context) -> Fault:
    """`error` as something that click shows."""
    ko = ctx.meta.get("language", getattr(ctx.obj, "language", "en")) == "ko"
    as_json = bool(ctx.meta.get("json", getattr(ctx.obj, "json_output", False)))
    file = _file(error)
    if file is not None:
        problem = {
            "code": "cli.file",
            "detail": file,
            "remedy": (
                "파일의 위치와 권한, 디스크를 확인하세요."
                if ko
                else "Check where the file is, its permissions and the disk."
            ),
        }
        return Fault(problem, EXIT_UPSTREAM, as_json=as_json)
    kept = _keep(error)
    what = f"{type(error).__name__} ({_place(error)})"
    problem = {
        "code": "cli.fault",
        "detail": (
            f"예상하지 못한 오류가 발생했습니다: {what}" if ko else f"An unexpected fault: {what}"
        ),
        "remedy": (
            f"{kept} 파일을 개발자에게 전달하세요." if ko else f"Send the developers {kept}."
        ),
    }
    return Fault(problem, EXIT_BUG, as_json=as_json)


def _file(error: Exception) -> str | None:
    """What is wrong with which file; None where it is about no file."""
    if isinstance(error, click.FileError):
        return f"{error.ui_filename}: {error.message}"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return None


def is_for_click(error: Exception) -> bool:
    """Its own ways out, and a reader that left (`haechi … | head`)."""
    if isinstance(error, OSError):
        return error.errno == errno.EPIPE
    if isinstance(error, click.FileError):
        return False
    return isinstance(error, click.ClickException | click.exceptions.Exit | click.Abort)


def _keep(error: Exception) -> str:
    """The traceback's file, readable by its owner only."""
    with tempfile.NamedTemporaryFile(
        "w", prefix="haechi-fault-", suffix=".txt", delete=False, encoding="utf-8"
    ) as file:
        file.write("".join(traceback.format_exception(error)))
    return file.name


def _place(error: Exception) -> str:
    own = [
        f"{frame.name}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if "haechi" in frame.filename
    ]
    return own[-1] if own else "?"
