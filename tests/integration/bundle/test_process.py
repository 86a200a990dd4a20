"""Tools run with a log, a limit, and an end that takes their children with them."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from haechi.adapters.bundle_process import run
from haechi.core.tasks import Tasks
from haechi.domains.clusters.bundle.errors import BuildFailed, BuildTookTooLong
from haechi.testing.waiting import eventually


def shell(script, log, **given):
    settings = {"timeout_s": 120, "on_line": lambda _: None, **given}
    return run(["sh", "-c", script], what="a test", log=log, **settings)


async def test_output_and_log(tmp_path):
    heard = []
    said = await shell(
        "echo result; echo one >&2; printf 'a\\rb\\n' >&2; echo $GREETING >&2",
        tmp_path / "logs" / "x.log",
        on_line=heard.append,
        environment={"GREETING": "hello"},
        cwd=tmp_path,
    )
    assert said == "result\n"
    assert heard == ["one", "b", "hello"]
    assert (tmp_path / "logs" / "x.log").read_text().endswith("hello\n")


async def test_a_failure_is_told_in_the_tool_s_own_last_words(tmp_path):
    log = tmp_path / "x.log"
    with pytest.raises(BuildFailed) as failed:
        await shell("for i in $(seq 100); do echo line $i >&2; done; exit 3", log)
    problem = failed.value.problem("en")
    assert "line 100" in problem["detail"]
    assert "line 1 " not in problem["detail"]
    assert str(log) in problem["remedy"]
    with pytest.raises(BuildFailed, match="exit code 4"):
        await shell("exit 4", log)


async def test_a_program_that_is_not_there(tmp_path):
    with pytest.raises(BuildFailed) as failed:
        await run(
            ["/nowhere/go"],
            what="a test",
            log=tmp_path / "x.log",
            timeout_s=60,
            on_line=lambda _: None,
        )
    assert "/nowhere/go" in failed.value.problem("en")["detail"]


def gone(pid):
    """Ended, or only waiting to be collected by whoever is its parent now."""
    try:
        said = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return said.rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize("ignores", ["", "trap '' TERM;"])
async def test_cancelled_it_ends_its_children_too(tmp_path, ignores, monkeypatch):
    monkeypatch.setattr("haechi.adapters.bundle_process._END_S", 1.0)
    pids = tmp_path / "pids"
    script = f"{ignores} sleep 3600 & echo $! > {pids}.new; echo $$ >> {pids}.new; mv {pids}.new {pids}; wait; wait"
    tasks = Tasks("test")
    task = tasks.spawn("tool", shell(script, tmp_path / "x.log", timeout_s=600))
    await eventually(pids.exists, timeout_s=120)
    started = [int(line) for line in pids.read_text().split()]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await tasks.close()
    try:
        for pid in started:
            await eventually(lambda pid=pid: gone(pid), timeout_s=120)
    finally:
        for pid in started:
            if not gone(pid):
                os.kill(pid, signal.SIGKILL)


async def test_too_long(tmp_path):
    with pytest.raises(BuildTookTooLong):
        await shell("sleep 3600", tmp_path / "x.log", timeout_s=0.2)
