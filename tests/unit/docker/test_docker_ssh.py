"""Wiring a Docker host's registry over SSH, and reading what the host is; on scripted hosts."""

from types import SimpleNamespace

import pytest

from haechi.adapters.docker_ssh_errors import OnlyOnLoopback, RegistryNotWired
from haechi.adapters.docker_ssh_facts import _read
from haechi.adapters.docker_ssh_trust import is_loopback_url, wire_host
from haechi.app.deploying import Deploying
from haechi.domains.clusters.host.errors import SudoRefused
from haechi.protocol.commands import RegistryAccess
from haechi.testing.hosts import FakeHosts

NAME = "registry.haechi.internal"
ACCESS = RegistryAccess(f"{NAME}:8425", "192.0.2.9:8425", "the CA", "user", "password")
CERTIFICATE = f"/etc/docker/certs.d/{NAME}:8425/ca.crt"


@pytest.fixture
def host():
    shell = FakeHosts().add("dev-a", name="gate")
    shell.put("/etc/hosts", "127.0.0.1\tlocalhost\n192.0.2.1\told\n")
    return shell


async def test_the_registrys_name_and_certificate_are_made_known(host):
    assert await wire_host(host, ACCESS)
    lines = host.text("/etc/hosts").splitlines()
    assert lines[0] == f"192.0.2.9 {NAME} # haechi"
    assert lines[1:] == ["127.0.0.1\tlocalhost", "192.0.2.1\told"]
    assert host.text(CERTIFICATE) == "the CA"
    assert not await wire_host(host, ACCESS)


async def test_a_server_that_moved_is_followed(host):
    await wire_host(host, ACCESS)
    moved = RegistryAccess(ACCESS.name, "192.0.2.10:8425", "the CA")
    assert await wire_host(host, moved)
    assert f"192.0.2.10 {NAME}" in host.text("/etc/hosts")
    assert "192.0.2.9" not in host.text("/etc/hosts")


async def test_a_host_wired_by_hand_needs_no_rights(host, monkeypatch):
    await wire_host(host, ACCESS)

    async def refused(*_args, **_kwargs):
        raise SudoRefused(host="gate", user="edge")

    monkeypatch.setattr(host, "write", refused)
    assert not await wire_host(host, ACCESS)
    host.put("/etc/hosts", "127.0.0.1\tlocalhost\n")
    with pytest.raises(RegistryNotWired) as caught:
        await wire_host(host, ACCESS)
    assert caught.value.data["host"] == "gate"
    assert caught.value.data["files"] == "/etc/hosts"
    assert "password" not in str(caught.value.problem("en"))


async def test_a_registry_on_loopback_is_of_no_use_to_another_host(host):
    alone = RegistryAccess(ACCESS.name, "127.0.0.1:8425", "the CA")
    with pytest.raises(OnlyOnLoopback) as caught:
        await wire_host(host, alone)
    assert caught.value.data["setting"] == "registry.address"


def test_what_the_kernel_says():
    text = "MemAvailable:  2048 kB\ndisk 100 4096\nregister\nqemu-aarch64\nstatus\n"
    assert _read(text) == (2048 * 1024, 409_600, ["arm64"])
    assert _read("nonsense\nMemAvailable:\n") == (0, 0, [])


@pytest.mark.parametrize(
    ("url", "is_one"),
    [("http://127.0.0.1:1", True), ("https://[::1]:1", True), ("http://192.0.2.1:1", False)],
)
def test_loopback(url, is_one):
    assert is_loopback_url(url) == is_one


@pytest.mark.parametrize(
    ("listen", "called"),
    [
        (["127.0.0.1:5231"], []),
        (["192.0.2.1:5231", "192.0.2.1:6432"], ["http://192.0.2.1:5231", "http://192.0.2.1:6432"]),
        (["[fd00::1]:5231"], []),
    ],
)
def test_old_listeners_that_an_ai_without_an_agent_reaches(listen, called):
    settings = SimpleNamespace(interop=SimpleNamespace(listen=listen))
    assert Deploying._old_listeners(SimpleNamespace(settings=settings)) == called
