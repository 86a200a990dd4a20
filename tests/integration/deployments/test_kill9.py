"""A real server process, really killed in the middle of a deployment."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "server_process.py"


async def start(folder, version, hold=""):
    return await asyncio.create_subprocess_exec(
        sys.executable, str(SCRIPT), str(folder), version, hold, stdout=asyncio.subprocess.PIPE
    )


async def finish(folder, version):
    process = await start(folder, version)
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    assert process.returncode == 0
    return json.loads(out)


@pytest.mark.parametrize("hold", ["before:pull", "after:start", "before:status", "after:remove"])
async def test_kill_9_and_resume(tmp_path, hold):
    first = await finish(tmp_path, "1")
    assert (first["state"], first["running"]) == ("succeeded", ["1"])
    process = await start(tmp_path, "2", hold)
    async with asyncio.timeout(60):
        assert (await process.stdout.readline()).strip() == b"held"
    process.kill()
    await process.wait()
    ended = await finish(tmp_path, "2")
    assert ended["resumed"]
    assert (ended["state"], ended["running"]) == ("succeeded", ["2"]), ended
    assert (ended["containers"], ended["alive"]) == (1, 1)
    assert ended["assigned"] == {"cam-1": "2", "cam-2": "2"}
