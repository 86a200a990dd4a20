"""One contract over both shells: haechi's own over a real SSH server, and the one in memory that
other tests rely on. What a command prints is scripted for the latter; all else it does itself.
"""

import hashlib
import stat
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from haechi.core.secrets import Secret
from haechi.domains.clusters.host.errors import (
    CommandFailed,
    CommandTimedOut,
    FileMissing,
    FileTooLarge,
    HostAway,
    HostDiskFull,
    TransferDamaged,
)
from haechi.domains.clusters.host.ports import Ran, Shell, TcpEnd
from haechi.testing.hosts import FakeHosts

DEVICE = "dev-aaaaaaaaaaaaaaaa"
SAYS: dict[str, Ran] = {
    "echo one; echo two; echo oops >&2": Ran(0, "one\ntwo\n", "oops\n"),
    "printf 'no end'; exit 3": Ran(3, "no end"),
    "echo out; echo; echo ' why ' >&2; exit 7": Ran(7, "out\n\n", " why \n"),
    "exit 4": Ran(4),
    "echo 'tar: x: No space left on device' >&2; echo 'tar: exiting' >&2; exit 2": Ran(
        2, "", "tar: x: No space left on device\ntar: exiting\n"
    ),
    "echo late >&2; exit 124": Ran(124, "", "late\n"),
}
"""What a host's `sh` does with these; the fake is told."""


def sh(script: str) -> list[str]:
    return ["sh", "-c", script]


class Real:
    def __init__(self, site) -> None:
        self._site = site

    @asynccontextmanager
    async def open(self):
        async with self._site() as it, it.open() as shell:
            self.folder = str(it.folder / "made")
            self._it = it
            yield shell

    async def cut_off(self) -> None:
        await self._it.server.stop()

    def mode(self, path: str) -> int:
        return stat.S_IMODE(Path(path).stat().st_mode)


class Fake:
    def __init__(self) -> None:
        self.folder = "/made"
        self._hosts = FakeHosts()

    @asynccontextmanager
    async def open(self):
        self._host = self._hosts.add(DEVICE, name="edge-1")
        for script, ran in SAYS.items():
            line = f"sh -c {_quoted(script)}"
            self._host.on(line, ran.stdout, stderr=ran.stderr, status=ran.status)
        self._host.on("cat", do=lambda call: Ran(0, call.stdin))
        async with self._hosts.open(DEVICE) as shell:
            yield shell

    async def cut_off(self) -> None:
        self._hosts.turn_off(DEVICE)

    def mode(self, path: str) -> int:
        return self._host.files[path].mode


def _quoted(script: str) -> str:
    import shlex

    return shlex.quote(script)


@pytest.fixture(params=["real", "fake"])
def host(request, site):
    return Real(site) if request.param == "real" else Fake()


async def test_both_are_shells(host):
    async with host.open() as shell:
        known: Shell = shell
        assert known.host.name == "edge-1" and known.host.device_id == DEVICE


@pytest.mark.parametrize("script", SAYS)
async def test_what_a_command_says(host, script):
    lines: list[str] = []
    async with host.open() as shell:
        ran = await shell.run(sh(script), check=False, on_line=lines.append)
        assert ran == SAYS[script]
        assert sorted(lines) == sorted([*ran.stdout.splitlines(), *ran.stderr.splitlines()])


@pytest.mark.parametrize(
    ("script", "error", "data"),
    [
        ("printf 'no end'; exit 3", CommandFailed, {"status": 3, "message": "no end"}),
        ("echo out; echo; echo ' why ' >&2; exit 7", CommandFailed, {"message": "why"}),
        ("exit 4", CommandFailed, {"status": 4, "message": ""}),
        (list(SAYS)[4], HostDiskFull, {"path": "tar: x: No space left on device"}),
        ("echo late >&2; exit 124", CommandTimedOut, {"timeout_s": 7, "message": "late"}),
    ],
)
async def test_how_a_failed_command_is_told(host, script, error, data):
    async with host.open() as shell:
        with pytest.raises(error) as caught:
            await shell.run(sh(script), timeout_s=7 if error is CommandTimedOut else 60)
    found = caught.value.data
    assert found["host"] == "edge-1"
    assert data.items() <= found.items()
    if error is not HostDiskFull:
        assert found["command"] == "sh -c '…'", "a script is not shown whole"


@pytest.mark.parametrize("stdin", [None, "", "text\n", "한글", b"bytes", Secret("hush")])
async def test_input(host, stdin):
    given = stdin.reveal() if isinstance(stdin, Secret) else stdin
    text = given.decode() if isinstance(given, bytes) else given or ""
    async with host.open() as shell:
        assert (await shell.run(["cat"], stdin=stdin)).stdout == text


async def test_files_are_written_once(host):
    async with host.open() as shell:
        path = f"{host.folder}/deep/file"
        assert await shell.write(path, "one\n", mode=0o600)
        assert not await shell.write(path, "one\n", mode=0o600)
        assert host.mode(path) == 0o600
        assert await shell.write(path, "one\n", mode=0o640), "another mode is a change"
        assert await shell.write(path, Secret("two"), mode=0o640)
        assert not await shell.write(path, b"two", mode=0o640)
        assert await shell.read(path) == b"two"
        assert await shell.read(path, root=True) == b"two"


async def test_an_owner_is_only_looked_at_where_one_is_given(host):
    import grp
    import os
    import pwd

    me = f"{pwd.getpwuid(os.getuid()).pw_name}:{grp.getgrgid(os.getgid()).gr_name}"
    async with host.open() as shell:
        path = f"{host.folder}/file"
        assert await shell.write(path, "one", owner=me)
        assert not await shell.write(path, "one", owner=me)
        assert not await shell.write(path, "one")


async def test_files_that_keep_their_place(host):
    async with host.open() as shell:
        path = f"{host.folder}/hosts"
        assert await shell.write(path, "one\n", mode=0o640, in_place=True)
        assert host.mode(path) == 0o640
        assert await shell.write(path, "two\n", in_place=True)
        assert not await shell.write(path, "two\n", mode=0o600, in_place=True)
        assert host.mode(path) == 0o640
        assert await shell.read(path) == b"two\n"


async def test_files_that_cannot_be_read(host):
    async with host.open() as shell:
        path = f"{host.folder}/file"
        with pytest.raises(FileMissing) as missing:
            await shell.read(path)
        assert missing.value.data == {"host": "edge-1", "path": path}
        await shell.write(path, "12345")
        assert await shell.read(path, limit_bytes=5) == b"12345"
        with pytest.raises(FileTooLarge) as large:
            await shell.read(path, limit_bytes=4)
        assert large.value.data == {"host": "edge-1", "path": path, "limit_bytes": 4}


async def test_files_sent_and_fetched(host, tmp_path):
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(b"x" * 100_000)
    sent: list[tuple[int, int]] = []
    async with host.open() as shell:
        path = f"{host.folder}/deep/file"
        assert await shell.send(source, path, mode=0o755, on_sent=lambda *at: sent.append(at))
        assert sent[-1] == (100_000, 100_000)
        assert host.mode(path) == 0o755
        sent.clear()
        assert not await shell.send(source, path, mode=0o700, on_sent=lambda *at: sent.append(at))
        assert sent == [(100_000, 100_000)]
        assert host.mode(path) == 0o700, "set though the content was there"
        await shell.fetch(path, back)
        assert back.read_bytes() == source.read_bytes()
        assert stat.S_IMODE(back.stat().st_mode) == 0o600
        with pytest.raises(FileMissing):
            await shell.fetch(f"{path}.none", back)


async def test_a_file_that_is_not_what_it_should_be_is_not_taken(host, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"damaged")
    digest = hashlib.sha256(b"as it should be").hexdigest()
    async with host.open() as shell:
        path = f"{host.folder}/file"
        with pytest.raises(TransferDamaged) as caught:
            await shell.send(source, path, digest=digest)
        assert caught.value.data == {"host": "edge-1", "path": path}
        with pytest.raises(FileMissing):
            await shell.read(path)


async def test_a_tunnel_has_a_folder_of_its_own(host):
    async with host.open() as shell:
        async with shell.tunnel(TcpEnd("127.0.0.1", 1)) as path:
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert not path.parent.exists()


async def test_a_host_that_went_away(host, tmp_path):
    (tmp_path / "source").write_bytes(b"x")
    async with host.open() as shell:
        await host.cut_off()
        for call in (
            shell.run(["cat"]),
            shell.run(["cat"], check=False),
            shell.read("/x"),
            shell.write("/x", ""),
            shell.send(tmp_path / "source", "/x"),
            shell.fetch("/x", tmp_path / "back"),
        ):
            with pytest.raises(HostAway):
                await call
