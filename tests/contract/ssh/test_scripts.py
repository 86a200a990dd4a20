"""The scripts that move files, on this machine's own sh."""

import hashlib
import os
import shutil
import signal
import subprocess

import pytest

from haechi.adapters import ssh_scripts as scripts
from haechi.testing.waiting import eventually


@pytest.mark.parametrize("digester", ["openssl", "sha256sum"])
def test_a_host_digests_files_with_what_it_has(tmp_path, digester):
    if shutil.which(digester) is None:
        pytest.skip(f"{digester} is not on this machine")
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("stat", digester):
        (tools / name).symlink_to(shutil.which(name))
    file = tmp_path / "a file\\with odd name"
    file.write_bytes(b"abc" * 1000)
    ran = subprocess.run(
        ["/bin/sh", *scripts.script(scripts.FETCH, file)[1:]],
        env={"PATH": str(tools)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.split() == ["3000", hashlib.sha256(file.read_bytes()).hexdigest()]


async def test_a_write_that_a_shutdown_ends_leaves_nothing(tmp_path):
    """All processes of a session are ended at once, while the content is still on its way."""
    argv = ["/bin/sh", *scripts.script(scripts.WRITE, tmp_path / "unit", "644", "", 100, "no")[1:]]
    writing = subprocess.Popen(argv, stdin=subprocess.PIPE, start_new_session=True)
    with writing:
        writing.stdin.write(b"half")
        writing.stdin.flush()
        await eventually(lambda: [one for one in tmp_path.iterdir() if one.stat().st_size == 4])
        os.killpg(writing.pid, signal.SIGTERM)
    assert writing.returncode != 0
    assert list(tmp_path.iterdir()) == []
