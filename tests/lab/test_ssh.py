"""Real sshd, real sudo: each way in which reaching a host goes wrong, and that the next call works."""

import asyncio
import dataclasses
import os

import pytest

from haechi.core.access import SYSTEM
from haechi.domains.clusters.host.errors import (
    HostConnectionLost,
    HostKeyChanged,
    HostKeyUnknown,
    HostRefused,
    LoginRefused,
    SudoAsks,
    SudoRefused,
)
from haechi.testing.waiting import eventually
from lab import faults

from .hosting import PACE, hosts_of

SLEEP = ["sleep", "987654"]


async def test_root_by_sudo_with_and_without_a_password_and_directly(bare_host, reach):
    for keeper in (True, False):
        async with await reach.shell(bare_host, keeper=keeper) as shell:
            ran = await shell.run(["sh", "-c", "id -un; cat"], root=True, stdin="input\n")
            assert ran.stdout == "root\ninput\n"
            assert (await shell.run(["id", "-un"])).stdout.strip() != "root"
            changed = await shell.write("/etc/a", "it's\n", mode=0o640, owner="root:adm")
            assert changed == keeper, "the same again is no change"
            assert await shell.read("/etc/a", root=True) == b"it's\n"
    await bare_host.shell(
        "install -d -m 700 /root/.ssh; cp ~robot/.ssh/authorized_keys /root/.ssh/"
    )
    known = reach.logins.targets[bare_host.name]
    reach.logins.targets[bare_host.name] = known._replace(user="root")
    async with reach.hosts.open(bare_host.name) as shell:
        assert (await shell.run(["id", "-un"], root=True)).stdout == "root\n"


async def test_the_password_is_nowhere_to_be_seen(bare_host, reach):
    async with await reach.shell(bare_host, keeper=True) as shell:
        running = asyncio.get_running_loop().create_task(
            shell.run(SLEEP, root=True, timeout_s=3600)
        )
        await bare_host.until("pgrep -x sleep", "the command runs")
        seen = await bare_host.shell(
            "ps axwwe; cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' '\\n'; journalctl"
        )
        assert "987654" in seen
        assert bare_host.keeper.password not in seen
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    await bare_host.until("! pgrep -x sleep", "it was ended on the host")


async def test_refused_then_accepted(bare_host, reach):
    name = await reach.logins.add(bare_host)
    await faults.refuse_ssh(bare_host)
    async with hosts_of(reach.logins) as hosts:
        with pytest.raises(HostRefused) as caught:
            async with hosts.open(name):
                pass
        assert bare_host.address in caught.value.problem("en")["detail"]
        await faults.accept_ssh(bare_host)
        async with hosts.open(name) as shell:
            await shell.run(["true"])


async def test_wrong_password(bare_host, reach):
    name = await reach.logins.add(bare_host, keeper=True)
    await faults.change_password(bare_host, "another one")
    with pytest.raises(LoginRefused) as caught:
        async with reach.hosts.open(name):
            pass
    assert caught.value.data["user"] == "keeper"


async def test_first_contact_and_changed_host_key(bare_host, reach):
    name = await reach.logins.add(bare_host)
    known = reach.logins.targets[name]
    reach.logins.targets[name] = known._replace(host_key=None)
    with pytest.raises(HostKeyUnknown) as unknown:
        async with reach.hosts.open(name):
            pass
    shown = str(unknown.value.data["fingerprint"])
    assert shown in await bare_host.shell("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub")
    await reach.hosts.learn(name, by=SYSTEM, fingerprint=shown)
    async with reach.hosts.open(name) as shell:
        await shell.run(["true"])

    await faults.change_host_key(bare_host)
    async with hosts_of(reach.logins) as hosts:
        with pytest.raises(HostKeyChanged) as caught:
            async with hosts.open(name):
                pass
        assert caught.value.data["expected"] == shown
        assert caught.value.data["fingerprint"] != shown
        await hosts.learn(name, by=SYSTEM, replace=True)
        async with hosts.open(name) as shell:
            await shell.run(["true"])


@pytest.mark.parametrize("keeper", [True, False])
async def test_a_connection_that_dies_in_the_middle_of_a_step(bare_host, reach, keeper):
    async with await reach.shell(bare_host, keeper=keeper) as shell:
        running = asyncio.get_running_loop().create_task(
            shell.run(SLEEP, root=True, timeout_s=3600)
        )
        await bare_host.until("pgrep -x sleep", "the command runs")
        await faults.cut_ssh(bare_host)
        with pytest.raises(HostConnectionLost):
            await running
        # Login anew, by the next call; what the lost one left behind is ended first.
        await shell.run(["true"], root=True)
        await bare_host.until("! pgrep -x sleep", "what was left is ended")


async def test_sudo_asks_although_it_should_not(bare_host, reach):
    await faults.make_sudo_ask(bare_host)
    async with await reach.shell(bare_host) as shell:
        with pytest.raises(SudoAsks) as caught:
            await shell.run(["true"], root=True)
        assert "NOPASSWD" in caught.value.problem("en")["remedy"]


async def test_sudo_refuses(bare_host, reach):
    await bare_host.shell("sed -i '/^keeper/d' /etc/sudoers.d/lab")
    async with await reach.shell(bare_host, keeper=True) as shell:
        with pytest.raises(SudoRefused) as caught:
            await shell.run(["true"], root=True)
        assert "sudoers" in caught.value.data["message"]


async def test_a_frozen_host_is_given_up_and_goes_on_when_it_thaws(bare_host, reach):
    name = await reach.logins.add(bare_host, keeper=True)
    pace = dataclasses.replace(PACE, keepalive_s=1, keepalive_count=3)
    async with hosts_of(reach.logins, pace) as hosts, hosts.open(name) as shell:
        running = asyncio.get_running_loop().create_task(
            shell.run(SLEEP, root=True, timeout_s=3600)
        )
        await bare_host.until("pgrep -x sleep", "the command runs")
        await bare_host.pause()
        with pytest.raises(HostConnectionLost) as caught:
            await running
        assert caught.value.http_status == 503
        await bare_host.resume()
        async with hosts_of(reach.logins) as patient, patient.open(name) as again:
            await again.run(["true"], root=True)


async def test_a_stall_of_half_a_minute_is_survived_by_who_waits(bare_host, reach):
    """The default pace gives a frozen host up; whoever tries again goes on where it was."""
    name = await reach.logins.add(bare_host)
    async with reach.hosts.open(name) as shell:
        await shell.run(["true"])
        await bare_host.pause()
        loop = asyncio.get_running_loop()
        began = loop.time()
        running = loop.create_task(shell.run(["echo", "late"]))
        with pytest.raises(HostConnectionLost):
            await running
        await asyncio.sleep(max(0.0, began + 30 - loop.time()))
        await bare_host.resume()
        assert (await shell.run(["echo", "again"])).stdout == "again\n"


async def test_a_transfer_goes_on_where_it_was_cut(bare_host, reach, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(os.urandom(60_000_000))
    half = asyncio.Event()
    starts = []

    def moved(there: int, total: int) -> None:
        if there > total // 2:
            half.set()

    async with await reach.shell(bare_host, keeper=True) as shell:
        sending = asyncio.get_running_loop().create_task(
            shell.send(source, "/opt/deep/target", on_sent=moved)
        )
        await half.wait()
        await faults.cut_ssh(bare_host)
        # On a fast machine all of it may be there by now.
        done = (await asyncio.gather(sending, return_exceptions=True))[0]
        if done is not True:
            assert isinstance(done, HostConnectionLost)
            await eventually(lambda: bare_host.holds("ls /opt/deep/.target.*.part"), 60)
            await shell.send(
                source, "/opt/deep/target", on_sent=lambda there, _: starts.append(there)
            )
            # Nothing was left to send where all of it was there but for its name.
            assert not starts or starts[0] > 1_000_000
        assert await bare_host.shell("stat -c %s /opt/deep/target") == "60000000"
        back = tmp_path / "back"
        await shell.fetch("/opt/deep/target", back)
        assert back.read_bytes() == source.read_bytes()
        assert await bare_host.shell("ls -A /opt/deep") == "target"
