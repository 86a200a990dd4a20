"""Whatever a host sends, this server keeps no more of it than it asked for."""

import asyncio
from types import SimpleNamespace

import pytest

from haechi.adapters.ssh_command import Start
from haechi.adapters.ssh_link import Ended, _Job, _Run
from haechi.adapters.ssh_shell import AsyncsshShell
from haechi.domains.clusters.host.errors import FileTooLarge, HostStalled, TransferDamaged
from haechi.domains.clusters.host.ports import HostName

FIVE = "5 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824\n"
"""Of `hello`."""


class Talkative:
    """A link whose host says these pieces, call by call."""

    def __init__(self, *calls):
        self.host = HostName("dev-a", "alpha", "192.0.2.1")
        self.pace = SimpleNamespace(stall_s=1)
        self._calls = list(calls)
        self.heard = 0

    async def execute(self, argv, *, on_stdout, **given):
        for piece in self._calls.pop(0):
            self.heard += 1
            on_stdout(piece)
        return Ended(0)


async def test_a_file_that_is_larger_than_it_may_be():
    link = Talkative([b"x" * 1000] * 100)
    with pytest.raises(FileTooLarge):
        await AsyncsshShell(link).read("/etc/hosts", limit_bytes=10)
    assert await AsyncsshShell(Talkative([b"12345", b"67890"])).read("/x", limit_bytes=10) == (
        b"1234567890"
    )


async def test_a_file_is_fetched_as_it_was_announced(tmp_path):
    await AsyncsshShell(Talkative([FIVE.encode()], [b"hel", b"lo"])).fetch("/x", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"hello"


@pytest.mark.parametrize("answer", [b"", b"no such thing\n", b"5\n", b"x" * 100_000])
async def test_a_host_that_announces_nonsense(tmp_path, answer):
    with pytest.raises(TransferDamaged):
        await AsyncsshShell(Talkative([answer])).fetch("/x", tmp_path / "x")


async def test_a_host_that_sends_more_than_it_announced(tmp_path):
    link = Talkative([FIVE.encode()], [b"hello", b"y", b"y", b"y"])
    with pytest.raises(TransferDamaged):
        await AsyncsshShell(link).fetch("/x", tmp_path / "x")
    assert link.heard == 3, "it is not listened to any longer"
    assert list(tmp_path.iterdir()) == []


async def test_a_line_without_an_end():
    lines = []
    link = Talkative([b"z" * 50_000] * 20 + [b"\nend\n"])
    ran = await AsyncsshShell(link).run(["yes"], on_line=lines.append)
    assert len(lines) == 2
    assert len(lines[0]) <= 64 * 1024
    assert lines[1] == "end"
    assert len(ran.stdout) == 1_000_005


async def test_what_comes_in_the_very_moment_of_a_stall_is_too_late():
    """A busy server sees both at once: it is a stall, which is tried again, and no fault."""
    waits, comes, never = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def late(_size):
        waits.set()
        await comes.wait()
        comes.clear()
        return b"late"

    async def nothing(*_size):
        await never.wait()

    process = SimpleNamespace(
        stdout=SimpleNamespace(read=late), stderr=SimpleNamespace(read=nothing), wait_closed=nothing
    )
    start = Start.of(["cat"], privilege=None, timeout_s=None, marker="m", ready="r", ask="a")
    job = _Job(["cat"], "fetch /x", False, None, lambda _: None, lambda _: None, None, 3600)
    run = _Run(SimpleNamespace(host=HostName("dev-a", "alpha", "192.0.2.1")), job, start)
    ending = asyncio.get_running_loop().create_task(run.to_the_end(process))
    await waits.wait()
    run._stall.reschedule(0)
    comes.set()
    with pytest.raises(HostStalled):
        await ending


async def test_a_stall_is_told_with_the_time_in_which_nothing_moved():
    """What has been sent whole is under way for longer than a pause between two pieces may last."""
    fed, never = asyncio.Event(), asyncio.Event()
    start = Start.of(["cat"], privilege=None, timeout_s=None, marker="m", ready="r", ask="a")
    preamble = iter([f"{start.ready} 7\n".encode()])

    async def says(_size):
        for piece in preamble:
            return piece
        return await never.wait()

    async def nothing(*_size):
        await never.wait()

    async def content():
        yield b"all of it"

    process = SimpleNamespace(
        stdout=SimpleNamespace(read=nothing),
        stderr=SimpleNamespace(read=says),
        stdin=SimpleNamespace(write=lambda _: None, drain=_done, write_eof=fed.set),
        wait_closed=nothing,
    )
    job = _Job(["cat"], "send /x", False, content(), lambda _: None, lambda _: None, None, 3600)
    run = _Run(SimpleNamespace(host=HostName("dev-a", "alpha", "192.0.2.1")), job, start)
    ending = asyncio.get_running_loop().create_task(run.to_the_end(process))
    await fed.wait()
    waited_s = run._stall.when() - asyncio.get_running_loop().time()
    run._moved_s -= waited_s  # as if all of it had passed
    run._stall.reschedule(0)
    with pytest.raises(HostStalled) as caught:
        await ending
    assert caught.value.data["stall_s"] == 8 * 3600


async def _done():
    """The other side takes all at once."""
