"""Running the tools that make a bundle: a log file, a time limit, and an end with their children.

A tool runs in a process group of its own, so that cancelling ends the compilers it started too.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from haechi.core.tasks import TaskGroup
from haechi.domains.clusters.bundle.errors import BuildFailed, BuildTookTooLong
from haechi.domains.clusters.bundle.ports import OnLine

_END_S: Final = 5.0
_LINE_LIMIT: Final = 1024 * 1024
_REASON_LINES: Final = 6


async def run(
    argv: Sequence[str],
    *,
    what: str,
    log: Path,
    timeout_s: float,
    on_line: OnLine,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run to the end; returns its standard output. What it says on the other goes to `log` and
    `on_line`. Raises BuildFailed, BuildTookTooLong.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            cwd=cwd,
            env={**os.environ, **(environment or {})},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            limit=_LINE_LIMIT,
        )
    except OSError as error:
        raise BuildFailed(what=what, reason=f"{argv[0]}: {error.strerror}", log=str(log)) from error
    assert process.stdout is not None
    assert process.stderr is not None
    last: list[str] = []
    try:
        async with asyncio.timeout(timeout_s), TaskGroup() as tasks:
            said = tasks.create_task(process.stdout.read())
            tasks.create_task(_follow(process.stderr, log, last, on_line))
            code = await process.wait()
    except TimeoutError as error:
        raise BuildTookTooLong(what=what, timeout_s=round(timeout_s), log=str(log)) from error
    finally:
        await _end(process)
    if code != 0:
        reason = " / ".join(last[-_REASON_LINES:]) or f"{argv[0]}: exit code {code}"
        raise BuildFailed(what=what, reason=reason[:600], log=str(log))
    return said.result().decode("utf-8", "replace")


async def _follow(
    stream: asyncio.StreamReader, log: Path, last: list[str], on_line: OnLine
) -> None:
    with log.open("ab") as file:
        async for raw in stream:
            file.write(raw)
            # Progress bars write over their own line.
            line = raw.decode("utf-8", "replace").rstrip().rpartition("\r")[2]
            if line:
                last[:] = [*last[-(_REASON_LINES * 2) :], line[:300]]
                on_line(line[:300])


async def _end(process: asyncio.subprocess.Process) -> None:
    """Ask the whole group to end, then make it."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_S):
                await process.wait()
