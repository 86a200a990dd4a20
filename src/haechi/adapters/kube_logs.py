"""Logs of a pod through the API server, as pieces with the time of each line."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, Final

from haechi.adapters.kube_calls import Calls
from haechi.adapters.kube_specs import CONTAINER
from haechi.core.clock import from_ms, to_ms, to_text
from haechi.protocol.commands import LogLine, LogLines

PIECE: Final = 200


async def read_logs(
    calls: Calls,
    pod: Mapping[str, Any],
    *,
    since_ms: int | None = None,
    follow: bool = False,
    tail: int | None = None,
) -> AsyncGenerator[LogLines, None]:
    """Of the container's present life. A pod that has not begun has none yet: nothing, where it
    is not followed; the API waits for it where it is.
    """
    meta = pod["metadata"]
    if not follow and not _has_begun(pod):
        return
    lines = calls.logs(
        meta["namespace"],
        meta["name"],
        CONTAINER,
        follow=follow,
        since="" if since_ms is None else to_text(from_ms(since_ms)),
        tail=tail,
    )
    waiting: list[LogLine] = []
    async with aclosing(lines):
        async for line in lines:
            waiting.append(log_line(line))
            if follow or len(waiting) >= PIECE:
                yield LogLines(waiting)
                waiting = []
    if waiting:
        yield LogLines(waiting)


def _has_begun(pod: Mapping[str, Any]) -> bool:
    return any(
        one.get("containerID") for one in (pod.get("status") or {}).get("containerStatuses") or []
    )


def log_line(text: str) -> LogLine:
    """`2026-01-02T03:04:05.006007008Z said` → its time and what was said."""
    moment, _, said = text.partition(" ")
    whole, _, fraction = moment.removesuffix("Z").partition(".")
    try:
        at = datetime.fromisoformat(f"{whole}.{(fraction + '000000')[:6]}").replace(tzinfo=UTC)
    except ValueError:
        return LogLine(0, text)
    return LogLine(to_ms(at), said)
