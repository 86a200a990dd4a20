"""Silent and dead (DESIGN 6), judged on the monotonic clock only; pure.

A device that never called stays `new`. After a server start every known device gets the benefit
of the doubt until `dead_after_s` have passed.
"""

from dataclasses import dataclass
from typing import Final

from haechi.domains.agents.model import Presence

TICK_S: Final = 0.25


@dataclass(slots=True)
class Watched:
    presence: Presence
    reason: str
    since_ms: int
    last_word_s: float | None
    """Server monotonic; None: never called."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Shown as silent one tick early, so that it is on the screen when `silent_after_s` is up."""

    silent_after_s: float
    dead_after_s: float


def judge(
    last_word_s: float | None, now_s: float, limits: Limits, neighbours_reach: bool | None
) -> tuple[Presence, str]:
    """(presence, reason). `neighbours_reach`: None where nobody can say."""
    if last_word_s is None:
        return "new", "never_called"
    quiet_s = now_s - last_word_s
    if quiet_s < limits.silent_after_s - TICK_S:
        return "ok", "connected"
    if quiet_s >= limits.dead_after_s - TICK_S:
        return "dead", "no_word"
    if neighbours_reach is False:
        return "dead", "neighbours_agree"
    return "silent", "no_word"
