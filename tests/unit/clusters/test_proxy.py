"""The proxy on a node: what is written and run, and that nothing is done twice."""

import pytest

from haechi.domains.clusters.proxy import (
    CONFIG_PATH,
    STAMP_PATH,
    UNIT,
    UNIT_PATH,
    install_proxy,
    proxy_config,
    remove_proxy,
)
from haechi.errors import AppError
from haechi.testing.hosts import FakeHosts

CLUSTER = "clu-aaaaaaaaaaaaaaaa"
NAME = f"api.{CLUSTER}.haechi.internal"


@pytest.fixture
def shell():
    host = FakeHosts().add("dev-a", name="master", lenient=True)
    host.put("/etc/hosts", "127.0.0.1 localhost\n")
    host.on("systemctl is-active", status=3)
    return host


def verbs(shell):
    return [command for command in shell.commands() if command.startswith("systemctl")]


async def test_it_is_installed_once(shell):
    assert await install_proxy(shell, CLUSTER, ["192.168.0.9"])
    assert shell.text(CONFIG_PATH) == proxy_config(["192.168.0.9"])
    assert f"127.0.0.1 {NAME} # haechi\n" in shell.text("/etc/hosts")
    assert verbs(shell) == [
        "systemctl daemon-reload",
        f"systemctl enable --no-reload {UNIT}",
        f"systemctl restart {UNIT}",
    ]
    shell.on("systemctl is-active")
    shell.calls.clear()
    assert not await install_proxy(shell, CLUSTER, ["192.168.0.9"])
    assert verbs(shell) == [f"systemctl is-active --quiet {UNIT}"]
    assert all(call.root for call in shell.calls)


async def test_a_new_control_plane_is_taken_up_without_a_restart(shell):
    await install_proxy(shell, CLUSTER, ["192.168.0.9"])
    shell.on("systemctl is-active")
    shell.calls.clear()
    assert await install_proxy(shell, CLUSTER, ["192.168.0.9", "192.168.0.10"])
    assert verbs(shell)[-1] == f"systemctl reload-or-restart {UNIT}"


async def test_one_that_stands_still_is_started_again(shell):
    await install_proxy(shell, CLUSTER, ["192.168.0.9"])
    shell.calls.clear()
    assert await install_proxy(shell, CLUSTER, ["192.168.0.9"])
    assert verbs(shell)[-1] == f"systemctl reload-or-restart {UNIT}"


async def test_an_interrupted_install_is_finished_by_the_next(shell):
    from haechi.domains.clusters.host.errors import HostConnectionLost

    lost = HostConnectionLost(host="master", address="", what="systemctl", reason="")
    shell.fail("systemctl restart", lost)
    with pytest.raises(AppError):
        await install_proxy(shell, CLUSTER, ["192.168.0.9"])
    shell.on("systemctl is-active")
    shell.calls.clear()
    assert await install_proxy(shell, CLUSTER, ["192.168.0.9"])
    assert verbs(shell)[-1] == f"systemctl reload-or-restart {UNIT}"


async def test_nothing_is_left_of_it(shell):
    await install_proxy(shell, CLUSTER, ["192.168.0.9"])
    shell.calls.clear()
    await remove_proxy(shell, CLUSTER)
    assert shell.text("/etc/hosts") == "127.0.0.1 localhost\n"
    removed = next(command for command in shell.commands() if command.startswith("rm "))
    assert all(path in removed for path in (UNIT_PATH, CONFIG_PATH, STAMP_PATH))
    assert f"systemctl disable --now {UNIT}" in verbs(shell)
