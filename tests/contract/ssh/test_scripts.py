"""The scripts that move files, on this machine's own sh."""

import hashlib
import shutil
import subprocess

import pytest

from haechi.adapters import ssh_scripts as scripts


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
