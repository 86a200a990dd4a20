"""What a command that ended badly on a host is told as, whoever ran it there."""

from collections.abc import Sequence
from typing import Final

from haechi.domains.clusters.host.errors import (
    CommandFailed,
    CommandTimedOut,
    HostDiskFull,
    short,
)
from haechi.domains.clusters.host.ports import Ran, shown
from haechi.errors import AppError

TIMED_OUT: Final = 124
"""The status by which timeout(1) says so."""
_NAME_LIMIT: Final = 120
_LINES_LOOKED_AT: Final = 50
_NO_SPACE: Final = ("no space left on device", "disk quota exceeded")


def named(argv: Sequence[str]) -> str:
    """A command for errors and logs: one line, of bounded length; a script by its arguments."""
    words = list(argv)
    if words[:2] == ["sh", "-c"]:
        words = ["sh", "-c", "…", *words[4:]]
    line = " ".join(shown(words).split())
    return line if len(line) <= _NAME_LIMIT else line[: _NAME_LIMIT - 1] + "…"


def failure_of(host: str, command: str, ran: Ran, timeout_s: float) -> AppError:
    """Of a status other than 0. `command` as `named` gives it."""
    for line in ran.stderr.splitlines()[-_LINES_LOOKED_AT:]:
        if any(words in line.lower() for words in _NO_SPACE):
            return HostDiskFull(host=host, path=short(line))
    message = short(ran.last_line)
    if ran.status == TIMED_OUT:
        return CommandTimedOut(host=host, command=command, timeout_s=timeout_s, message=message)
    return CommandFailed(host=host, command=command, status=ran.status, message=message)
