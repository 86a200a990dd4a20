"""The scripted hosts say no where a real one would, and satisfy the ports."""

import pytest

from haechi.core.access import SYSTEM
from haechi.domains.clusters.host.errors import (
    CommandFailed,
    HostConnectionLost,
    HostKeyChanged,
    HostUnreachable,
)
from haechi.domains.clusters.host.ports import HostKey, Hosts, Ran, Shell
from haechi.testing.hosts import FakeHosts, FakeShell


def _as_ports(hosts: Hosts, shell: Shell) -> None:
    """mypy checks the shapes."""


async def test_scripted_answers_faults_and_files():
    hosts = FakeHosts()
    host = hosts.add("dev-a", name="worker")
    host.on("kubeadm join", "joined\n")
    lost = HostConnectionLost(host="worker", address="x", what="kubeadm join", reason="reset")
    host.fail("kubeadm join", lost)
    host.on("cat", status=1, stderr="cat: no such file\n")
    lines = []
    async with hosts.open("dev-a") as shell:
        _as_ports(hosts, shell)
        with pytest.raises(HostConnectionLost):
            await shell.run(["kubeadm", "join"], root=True)
        ran = await shell.run(["kubeadm", "join"], root=True, on_line=lines.append)
        assert ran.stdout == "joined\n" and lines == ["joined"]
        with pytest.raises(CommandFailed) as caught:
            await shell.run(["cat", "a b"])
        assert caught.value.data["command"] == "cat 'a b'"
        assert await shell.run(["cat", "x"], check=False) == Ran(1, "", "cat: no such file\n")
        assert await shell.write("/etc/x", "one") and not await shell.write("/etc/x", "one")
        assert await shell.read("/etc/x") == b"one"
        with pytest.raises(AssertionError):
            await shell.run(["rm"])
    assert host.commands()[:2] == ["kubeadm join", "kubeadm join"]


async def test_a_host_that_is_off_and_a_changed_key():
    hosts = FakeHosts()
    hosts.add("dev-a")
    key = await hosts.learn("dev-a", by=SYSTEM)
    hosts.keys["dev-a"] = HostKey("ssh-ed25519 other", "SHA256:other")
    with pytest.raises(HostKeyChanged) as caught:
        await hosts.learn("dev-a", by=SYSTEM)
    assert caught.value.data["expected"] == key.fingerprint
    assert (await hosts.learn("dev-a", by=SYSTEM, replace=True)).fingerprint == "SHA256:other"
    hosts.turn_off("dev-a")
    with pytest.raises(HostUnreachable):
        async with hosts.open("dev-a"):
            raise AssertionError("it is off")
    hosts.turn_on("dev-a")
    async with hosts.open("dev-a") as shell:
        assert isinstance(shell, FakeShell)
