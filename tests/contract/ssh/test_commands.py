"""Commands on a host: output, status, root's rights, limits; nothing secret on a command line."""

import asyncio
import contextlib
import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from haechi.adapters.ssh_asyncssh import AsyncsshHosts
from haechi.core.secrets import Secret
from haechi.domains.clusters.host.errors import (
    CommandFailed,
    CommandTimedOut,
    HostConnectionLost,
    HostDiskFull,
    HostStalled,
    HostTimedOut,
    SudoAsks,
    SudoRefused,
)
from haechi.testing.waiting import eventually

from .conftest import DEVICE, PACE

SLEEP = "sleep 987654"


def mine(it) -> list[str]:
    """Ids of the sleeping programs that this test's hosts started."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            marker = f"HAECHI_RUN={it.hosts._owner}.".encode()
            if words[:2] == SLEEP.split() and marker in (process / "environ").read_bytes():
                found.append(process.name)
    return found


async def test_output_lines_and_status(site):
    async with site() as it, it.open() as shell:
        lines = []
        script = "echo one; printf 'two\\nthr'; echo oops >&2; exit 3"
        ran = await shell.run(["sh", "-c", script], check=False, on_line=lines.append)
        assert (ran.status, ran.stdout, ran.stderr) == (3, "one\ntwo\nthr", "oops\n")
        assert sorted(lines) == ["one", "oops", "thr", "two"]
        with pytest.raises(CommandFailed) as caught:
            await shell.run(["sh", "-c", script])
        assert caught.value.data["status"] == 3 and caught.value.data["message"] == "oops"
        with pytest.raises(CommandFailed) as caught:
            await shell.run(["no-such-program"])
        assert caught.value.data["status"] == 127


async def test_arguments_and_input_arrive_as_they_are(site):
    odd = ["", "a b", "$HOME", "'", '"', "`id`", "한글", "*", "a\nb", "-n"]
    async with site() as it, it.open() as shell:
        ran = await shell.run(["printf", "<%s>", *odd])
        assert ran.stdout == "".join(f"<{word}>" for word in odd)
        big = os.urandom(3_000_000).hex()
        ran = await shell.run(["sha256sum"], stdin=big, timeout_s=300)
        assert ran.stdout.split()[0] == hashlib.sha256(big.encode()).hexdigest()
        assert (await shell.run(["cat"])).stdout == ""


async def test_a_program_that_does_not_read_its_input(site):
    async with site() as it, it.open() as shell:
        await shell.run(["true"], stdin=b"x" * 5_000_000, timeout_s=300)


async def test_much_output_is_cut(site):
    async with site() as it, it.open() as shell:
        ran = await shell.run(["head", "-c", "9000000", "/dev/zero"], timeout_s=300)
        assert len(ran.stdout) == 4_000_000


@pytest.mark.parametrize("sudo", ["free", "asks"])
async def test_root_by_sudo_and_the_password_is_nobodys_input(site, sudo):
    async with site(sudo=sudo) as it, it.open() as shell:
        ran = await shell.run(["sh", "-c", 'echo "$FAKE_ROOT"; cat'], root=True, stdin="input")
        assert ran.stdout == "1\ninput"
        assert (await shell.run(["sh", "-c", 'echo "$FAKE_ROOT"'])).stdout == "\n"
        sent = "\n".join(it.server.commands)
        assert it.server.password not in sent


async def test_secret_input_is_not_on_the_command_line(site):
    async with site() as it, it.open() as shell:
        ran = await shell.run(["cat"], stdin=Secret("hush"))
        assert ran.stdout == "hush"
        assert "hush" not in "\n".join(it.server.commands)


async def test_sudo_asks_and_no_password_is_known(site):
    import asyncssh

    key = asyncssh.generate_private_key("ssh-ed25519")
    public = " ".join(key.export_public_key().decode().split()[:2])
    async with site(sudo="asks", authorized=[public]) as it:
        it.book.change(password=None, key=Secret(key.export_private_key().decode()))
        async with it.open() as shell:
            with pytest.raises(SudoAsks) as caught:
                await shell.run(["true"], root=True)
    assert caught.value.data == {"host": "edge-1", "user": "tester"}


async def test_sudo_with_another_password_than_the_login(site):
    import asyncssh

    key = asyncssh.generate_private_key("ssh-ed25519")
    public = " ".join(key.export_public_key().decode().split()[:2])
    async with site(sudo="asks", authorized=[public]) as it:
        private = Secret(key.export_private_key().decode())
        it.book.change(password=Secret("wrong"), key=private)
        async with it.open() as shell:
            with pytest.raises(SudoRefused) as caught:
                await shell.run(["true"], root=True)
    assert "wrong password" in caught.value.data["message"]


async def test_not_in_sudoers_and_no_sudo(site):
    async with site(sudo="refuses") as it, it.open() as shell:
        with pytest.raises(SudoRefused) as caught:
            await shell.run(["true"], root=True)
        assert "not in the sudoers file" in caught.value.data["message"]
        (it.folder / "bin" / "sudo").write_text("#!/bin/sh\necho 'no sudo here' >&2; exit 127\n")
        with pytest.raises(SudoRefused) as caught:
            await shell.run(["true"], root=True)
        assert "no sudo here" in caught.value.data["message"]


async def test_the_host_itself_ends_a_command_that_takes_too_long(site):
    async with site() as it, it.open() as shell:
        with pytest.raises(CommandTimedOut) as caught:
            await shell.run(SLEEP.split(), timeout_s=0.5)
        assert caught.value.data["command"] == SLEEP
        await eventually(lambda: not mine(it), 60)


async def test_a_command_does_not_wait_for_its_turn_for_ever(site):
    """As where eight followed logs hold all of a host's sessions."""
    async with site(pace=replace(PACE, queue_s=0.5)) as it, it.open() as shell:
        loop = asyncio.get_running_loop()
        held = [loop.create_task(shell.run(SLEEP.split(), timeout_s=3600)) for _ in range(8)]
        try:
            await eventually(lambda: len(mine(it)) == len(held), 60)
            with pytest.raises(HostTimedOut) as caught:
                await shell.run(["true"])
            assert caught.value.data["timeout_s"] == 0.5 and "true" in caught.value.data["what"]
            held.pop().cancel()
            await eventually(lambda: len(mine(it)) == len(held), 60)
            await shell.run(["true"])
        finally:
            for one in held:
                one.cancel()
            await asyncio.gather(*held, return_exceptions=True)


async def test_a_stall_is_told_from_slow_work_and_ended_on_the_host(site):
    async with site() as it, it.open() as shell:
        busy = "for n in 1 2 3 4 5 6; do echo $n; sleep 0.05; done"
        await shell.run(["sh", "-c", busy], stall_s=60)
        with pytest.raises(HostStalled):
            await shell.run(["sh", "-c", f"echo begin; {SLEEP}"], root=True, stall_s=2)
        await eventually(lambda: not mine(it), 60)


async def test_cancelling_ends_it_on_the_host(site):
    async with site() as it, it.open() as shell:
        running = asyncio.get_running_loop().create_task(
            shell.run(SLEEP.split(), timeout_s=3600, root=True)
        )
        await eventually(lambda: mine(it), 60)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await eventually(lambda: not mine(it), 60)


async def test_a_connection_that_dies_in_the_middle_and_what_it_left(site):
    async with site() as it, it.open() as shell:
        running = asyncio.get_running_loop().create_task(
            shell.run(SLEEP.split(), timeout_s=3600, root=True)
        )
        await eventually(lambda: mine(it), 60)
        it.wire.cut()
        with pytest.raises(HostConnectionLost) as caught:
            await running
        assert caught.value.data["what"] == SLEEP and caught.value.http_status == 503
        assert mine(it), "the host knows nothing of it"
        await shell.run(["true"], root=True)
        await eventually(lambda: not mine(it), 60)


async def test_what_a_crashed_server_left_running_is_ended(site):
    async with site() as it:
        async with it.open() as shell:
            running = asyncio.get_running_loop().create_task(
                shell.run(SLEEP.split(), timeout_s=3600)
            )
            await eventually(lambda: mine(it), 60)
            again = AsyncsshHosts(it.book, owner=it.hosts._owner, pace=it.hosts._pace)
            stranger = AsyncsshHosts(it.book, pace=it.hosts._pace)
            async with stranger.open(DEVICE) as other:
                await other.run(["true"], root=True)
            assert mine(it), "another server's commands are left alone"
            async with again.open(DEVICE) as other:
                await other.run(["true"], root=True)
            await eventually(lambda: not mine(it), 60)
            with contextlib.suppress(CommandFailed):
                await running
        await again.close()
        await stranger.close()


async def test_a_full_disk_has_its_own_error(site):
    async with site() as it, it.open() as shell:
        with pytest.raises(HostDiskFull):
            await shell.run(["sh", "-c", "cat /etc/passwd > /dev/full"])
