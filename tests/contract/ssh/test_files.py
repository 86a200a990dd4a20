"""Files to and from a host, tunnels: whole or not at all, resumed, checked, private."""

import asyncio
import hashlib
import os
import stat
from dataclasses import replace

import pytest

from haechi.adapters import ssh_link
from haechi.adapters import ssh_scripts as scripts
from haechi.domains.clusters.host.errors import (
    FileMissing,
    FileTooLarge,
    HostConnectionLost,
    HostStalled,
    TunnelRefused,
)
from haechi.domains.clusters.host.ports import TcpEnd, UnixEnd
from haechi.testing.waiting import eventually

from .conftest import DEVICE, PACE


async def test_write_and_read(site):
    async with site() as it, it.open() as shell:
        path = it.folder / "a b" / "file"
        assert await shell.write(str(path), "one\n", mode=0o600)
        assert not await shell.write(str(path), "one\n", mode=0o600)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert await shell.write(str(path), "one\n", mode=0o640), "another mode is a change"
        assert await shell.write(str(path), b"\0\xff", mode=0o640)
        assert await shell.read(str(path)) == b"\0\xff"
        assert not list(path.parent.glob(".haechi*"))
        with pytest.raises(FileMissing):
            await shell.read(str(it.folder / "none"))
        with pytest.raises(FileTooLarge):
            await shell.read(str(path), limit_bytes=1)


async def test_a_link_is_replaced_and_not_followed(site):
    async with site() as it, it.open() as shell:
        target, link = it.folder / "target", it.folder / "link"
        target.write_text("same")
        link.symlink_to(target)
        assert await shell.write(str(link), "same")
        assert not link.is_symlink() and target.read_text() == "same"


async def test_a_file_that_cannot_be_renamed_over_is_written_through(site):
    async with site() as it, it.open() as shell:
        path = it.folder / "hosts"
        assert await shell.write(str(path), "new\n", mode=0o640, in_place=True)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        place = path.stat().st_ino
        assert await shell.write(str(path), "longer than before\n", in_place=True)
        assert await shell.write(str(path), "short\n", in_place=True)
        assert not await shell.write(str(path), "short\n", in_place=True)
        assert (path.read_text(), path.stat().st_ino) == ("short\n", place)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert not list(path.parent.glob(".haechi*"))


@pytest.mark.parametrize("in_place", ["yes", "no"])
async def test_a_content_that_did_not_arrive_whole_replaces_nothing(site, in_place):
    """As where the connection ends in the middle: the host's side sees the end of its input."""
    async with site() as it, it.open() as shell:
        path = it.folder / "hosts"
        path.write_text("before\n")
        cut = scripts.script(scripts.WRITE, path, "644", "", 100, in_place)
        ran = await shell.run(cut, stdin="half", check=False)
        assert ran.status == 1 and "not all of" in ran.stderr
        assert path.read_text() == "before\n"
        assert not list(path.parent.glob(".haechi*"))


async def test_send_and_fetch_with_progress(site, tmp_path):
    async with site() as it, it.open() as shell:
        source, target = tmp_path / "source", it.folder / "deep" / "target"
        source.write_bytes(os.urandom(3_000_000))
        seen = []
        done = lambda there, total: seen.append((there, total))  # noqa: E731
        assert await shell.send(source, str(target), mode=0o755, on_sent=done)
        assert target.read_bytes() == source.read_bytes()
        assert stat.S_IMODE(target.stat().st_mode) == 0o755
        assert seen[-1] == (3_000_000, 3_000_000) and len(seen) > 5
        assert not await shell.send(source, str(target), mode=0o755)
        assert [one.name for one in target.parent.iterdir()] == ["target"]

        back = tmp_path / "back"
        await shell.fetch(str(target), back)
        assert back.read_bytes() == source.read_bytes()
        assert stat.S_IMODE(back.stat().st_mode) == 0o600
        with pytest.raises(FileMissing):
            await shell.fetch(str(it.folder / "none"), back)
        assert sorted(one.name for one in tmp_path.iterdir()) == ["back", "host", "source"]


async def test_an_empty_file(site, tmp_path):
    async with site() as it, it.open() as shell:
        (tmp_path / "source").touch()
        await shell.send(tmp_path / "source", str(it.folder / "target"))
        await shell.fetch(str(it.folder / "target"), tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == b""


async def test_a_transfer_goes_on_where_it_was_cut(site, tmp_path):
    async with site() as it, it.open() as shell:
        source, target = tmp_path / "source", it.folder / "target"
        source.write_bytes(os.urandom(20_000_000))
        digest = hashlib.sha256(source.read_bytes()).hexdigest()
        it.wire.cut_after_bytes = it.wire.carried_bytes + 8_000_000
        with pytest.raises(HostConnectionLost):
            await shell.send(source, str(target), digest=digest)
        part = it.folder / f".target.{digest[:16]}.part"
        # What had arrived may still be on its way into the file.
        await eventually(lambda: part.exists() and part.stat().st_size > 1_000_000, 60)
        before = it.wire.carried_bytes
        await shell.send(source, str(target), digest=digest)
        assert target.read_bytes() == source.read_bytes() and not part.exists()
        assert it.wire.carried_bytes - before < 20_000_000


async def test_a_transfer_that_moves_may_take_as_long_as_it_takes(site, tmp_path):
    """A bundle over a slow radio link takes hours: neither end gives it a time of its own."""
    async with site() as it, it.open() as shell:
        source = tmp_path / "source"
        source.write_bytes(os.urandom(1000))
        await shell.send(source, str(it.folder / "target"))
        await shell.fetch(str(it.folder / "target"), tmp_path / "back")
        carrying = [
            line for line in it.server.commands if 'exec cat >>"$1"' in line or " cat " in line
        ]
        assert len(carrying) == 2
        assert not [line for line in carrying if "timeout -k" in line]


async def test_a_transfer_that_does_not_move_is_given_up_and_goes_on_later(
    site, tmp_path, monkeypatch
):
    monkeypatch.setattr(ssh_link, "_END_S", 0.2)  # it cannot be ended there over a dead link
    async with site(replace(PACE, stall_s=4)) as it, it.open() as shell:
        source, target = tmp_path / "source", it.folder / "target"
        source.write_bytes(os.urandom(20_000_000))
        digest = hashlib.sha256(source.read_bytes()).hexdigest()

        def stop(done_bytes, total_bytes):
            if done_bytes > 8_000_000:
                it.wire.hold()

        with pytest.raises(HostStalled):
            await shell.send(source, str(target), digest=digest, on_sent=stop)
        it.wire.release()
        before = it.wire.carried_bytes
        await shell.send(source, str(target), digest=digest)
        assert target.read_bytes() == source.read_bytes()
        assert it.wire.carried_bytes - before < 20_000_000


async def test_a_slow_link_that_moves_is_no_stall(site, tmp_path):
    """Of what a link is given it takes megabytes at once, and needs longer for them than a stall
    may last.
    """
    async with site(replace(PACE, stall_s=2)) as it, it.open() as shell:
        source, target = tmp_path / "source", it.folder / "target"
        source.write_bytes(os.urandom(1_200_000))
        it.wire.bytes_per_s = 300_000
        await shell.send(source, str(target))
        assert target.read_bytes() == source.read_bytes()


async def test_a_damaged_beginning_is_sent_anew(site, tmp_path):
    async with site() as it, it.open() as shell:
        source, target = tmp_path / "source", it.folder / "target"
        source.write_bytes(b"right" * 1000)
        digest = hashlib.sha256(source.read_bytes()).hexdigest()
        (it.folder / f".target.{digest[:16]}.part").write_bytes(b"wrong")
        await shell.send(source, str(target), digest=digest)
        assert target.read_bytes() == source.read_bytes()


async def echo(reader, writer):
    while data := await reader.read(1000):
        writer.write(data.upper())
        await writer.drain()
    writer.close()


async def say(path, text):
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(text)
    writer.write_eof()
    try:
        return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_a_tunnel_is_private_and_survives_a_lost_connection(site, kind):
    async with site() as it, it.open() as shell:
        if kind == "tcp":
            server = await asyncio.start_server(echo, "127.0.0.1", 0)
            end = TcpEnd("127.0.0.1", server.sockets[0].getsockname()[1])
        else:
            server = await asyncio.start_unix_server(echo, it.folder / "service")
            end = UnixEnd(str(it.folder / "service"))
        async with server, shell.tunnel(end) as path:
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
            said = await asyncio.gather(*(say(path, f"word {n}".encode()) for n in range(20)))
            assert said == [f"WORD {n}".encode() for n in range(20)]
            it.server.cut()
            await eventually(it.hosts._links[DEVICE]._connection.is_closed, 60)
            assert await say(path, b"again") == b"AGAIN"
        assert not path.parent.exists()


async def test_a_unix_socket_that_only_root_may_use(site):
    async with site(sudo="asks") as it, it.open() as shell:
        bridge = "import os,socket,sys,threading\n"
        bridge += "s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[2].split(':',1)[1])\n"
        bridge += "def up():\n  while d:=os.read(0,999): s.sendall(d)\n  s.shutdown(1)\n"
        bridge += "threading.Thread(target=up,daemon=True).start()\n"
        bridge += "while d:=s.recv(999): os.write(1,d)\n"
        program = it.folder / "bin" / "socat"
        program.write_text(
            f'#!/bin/sh\n[ "$FAKE_ROOT" = 1 ] || exit 1\nexec python3 -c "$(cat {it.folder}/b)" "$3" "$4"\n'
        )
        program.chmod(0o755)
        (it.folder / "b").write_text(bridge)
        async with (
            await asyncio.start_unix_server(echo, it.folder / "service"),
            shell.tunnel(UnixEnd(str(it.folder / "service"), root=True)) as path,
        ):
            assert await say(path, b"quiet") == b"QUIET"


async def test_nothing_listens_at_the_far_end(site):
    async with site() as it, it.open() as shell:
        with pytest.raises(TunnelRefused) as caught:
            async with shell.tunnel(UnixEnd(str(it.folder / "none"))):
                pass
        assert caught.value.data["end"].endswith("/none")
        async with shell.tunnel(TcpEnd("127.0.0.1", 1)) as path:
            assert await say(path, b"hello") == b""
