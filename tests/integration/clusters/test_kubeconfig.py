"""The host user's kubeconfig, by the real scripts in a home of its own: given, kept, put back."""

import asyncio
import os
from pathlib import Path

import pytest

from haechi.core.secrets import Secret
from haechi.domains.clusters import kubeconfig
from haechi.domains.clusters.host.ports import Ran
from haechi.testing.hosts import FakeHosts

API = "api.clu-aaaaaaaaaaaaaaaa.haechi.internal"
OURS = Secret(f"server: https://{API}:6444\n")


class LocalShell:
    """Runs commands here, for a user whose home is `home`."""

    def __init__(self, folder: Path) -> None:
        self.host = FakeHosts().add("dev-a", name="alpha").host
        self.home = folder / "home"
        self.home.mkdir()
        (folder / "bin").mkdir()
        stub = folder / "bin" / "getent"
        stub.write_text(f"#!/bin/sh\necho kim:x:1000:1000::{self.home}:/bin/sh\n")
        stub.chmod(0o755)
        self.path = f"{folder / 'bin'}:{os.environ['PATH']}"
        self.owner = ""

    async def run(self, argv, *, root=False, timeout_s=60, check=True, **_):
        assert not root, "the user's own rights do"
        process = await asyncio.create_subprocess_exec(
            *argv,
            env={"PATH": self.path},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), timeout_s)
        assert not check or process.returncode == 0, err
        return Ran(process.returncode or 0, out.decode(), err.decode())

    async def write(self, path, content, *, mode=0o644, root=True, owner="", in_place=False):
        del root
        Path(path).write_text(content.reveal())
        Path(path).chmod(mode)
        self.owner = owner
        return True

    @property
    def config(self) -> Path:
        return self.home / ".kube" / "config"


@pytest.fixture
def shell(tmp_path):
    return LocalShell(tmp_path)


async def test_it_is_the_login_users_and_goes_without_a_trace(shell):
    user = await kubeconfig.give_to_user(shell, OURS)
    assert user.home == str(shell.home)
    assert shell.config.read_text() == OURS.reveal()
    assert (shell.config.stat().st_mode & 0o777, shell.owner) == (
        0o600,
        f"{user.name}:{user.group}",
    )
    (shell.home / ".kube" / "cache").mkdir()  # kubectl's own
    await kubeconfig.take_from_user(shell, API)
    assert list(shell.home.iterdir()) == []
    await kubeconfig.take_from_user(shell, API)


async def test_another_clusters_file_is_kept_and_put_back(shell):
    shell.config.parent.mkdir()
    shell.config.write_text("server: https://elsewhere\n")
    await kubeconfig.give_to_user(shell, OURS)
    await kubeconfig.give_to_user(shell, OURS)
    assert shell.config.read_text() == OURS.reveal()
    await kubeconfig.take_from_user(shell, API)
    assert shell.config.read_text() == "server: https://elsewhere\n"
    assert [one.name for one in shell.config.parent.iterdir()] == ["config"]


async def test_a_file_that_is_not_ours_stays(shell):
    shell.config.parent.mkdir()
    shell.config.write_text("server: https://elsewhere\n")
    await kubeconfig.take_from_user(shell, API)
    assert shell.config.read_text() == "server: https://elsewhere\n"


async def test_a_home_with_a_space_in_its_path_is_as_good_as_any(tmp_path):
    folder = tmp_path / "a b"
    folder.mkdir()
    shell = LocalShell(folder)
    await kubeconfig.give_to_user(shell, OURS)
    assert shell.config.read_text() == OURS.reveal()
    await kubeconfig.take_from_user(shell, API)
    assert list(shell.home.iterdir()) == []
