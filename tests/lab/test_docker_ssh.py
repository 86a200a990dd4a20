"""Docker hosts without an agent: a whole server deploys to them over SSH, results come by HTTP.

One host and one server for all scenes.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from lab import faults
from lab.host import Login

from .docks import CRASH, LIMIT_S, SCRIPT, Dock, docked, names, zip_of

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory) -> AsyncIterator[Dock]:
    async with docked(tmp_path_factory.mktemp("docker-ssh") / "data", tls="off") as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def dock(shared: Dock) -> AsyncIterator[Dock]:
    yield shared
    await shared.clear()


async def test_three_kinds_of_login(dock: Dock):
    """By password with a sudo that asks, by key with one that does not, and a member of the group
    `docker` without any sudo, once somebody has wired the registry. First: nobody has yet.
    """
    await dock.host.shell(
        "useradd -m -G docker docker-only\n"
        "install -d -m 700 -o docker-only ~docker-only/.ssh\n"
        "cp ~robot/.ssh/authorized_keys ~docker-only/.ssh/\n"
        "chown docker-only ~docker-only/.ssh/authorized_keys"
    )
    member = Login("docker-only", key_file=dock.host.robot.key_file)
    await dock.upload("1", zip_of("1"))

    before = await dock.device("member", dock.host, member)
    refused = await dock.deploy("1", before)
    assert refused.state == "failed"
    (child,) = refused.ctx["result"]["devices"]
    assert child["error"]["code"] == "docker_host.registry_not_wired", child
    assert child["error"]["data"]["host"] == "member"

    for name, login in (("keeper", dock.host.keeper), ("robot", dock.host.robot)):
        device = await dock.device(name, dock.host, login)
        ended = await dock.deploy("1", device)
        assert ended.state == "succeeded", ended.error
        await dock.until_more_results((await dock.running(device))["id"])
    # Without root's rights nobody can keep an AI from calling others: it has to be allowed to.
    refused = await dock.deploy("1", before)
    (child,) = refused.ctx["result"]["devices"]
    assert child["error"]["code"] == "docker_host.not_fenced", child
    await dock.upload("open", zip_of("open", internet=True))
    ended = await dock.deploy("open", before, allow=["internet"])
    assert ended.state == "succeeded", ended.error
    await dock.until_more_results((await dock.running(before))["id"])
    assert len(await names(dock.host)) == 3
    # No password in anybody's list of processes or in the host's log of logins.
    secret = dock.host.keeper.password
    assert secret not in await dock.host.shell("ps axww -o args")
    assert secret not in await dock.host.journal(lines=2000)


async def test_deploy_switch_roll_back_read_and_remove(dock: Dock):
    device = await dock.device("gate", dock.host, dock.host.robot)
    for version, script in (("1", SCRIPT), ("2", SCRIPT), ("3", CRASH)):
        await dock.upload(version, zip_of(version, script))
    first = await dock.deploy("1", device)
    assert first.state == "succeeded", first.error
    one = await dock.running(device)
    assert one["engine"] == "docker-ssh"
    # `ready = "result"`: it was proven by what it posted to this server.
    await dock.until_more_results(one["id"])
    (row, *_) = (
        await dock.server.client.get("/results", params={"deployment_id": one["id"]})
    ).json()["items"]
    assert (row["device_id"], row["package_name"], row["version"]) == (device, "ticker", "1")

    second = await dock.deploy("2", device)
    assert second.state == "succeeded", second.error
    two = await dock.running(device)
    assert await names(dock.host) == [two["name"]]

    failed = await dock.deploy("3", device)
    assert failed.state == "failed"
    (child,) = failed.ctx["result"]["devices"]
    assert child["state"] == "failed"
    assert (await dock.running(device))["id"] == two["id"]
    assert await names(dock.host) == [two["name"]]
    lines = await dock.server.client.get(f"/deployments/{two['id']}/logs")
    assert "version 2 is running" in lines.text

    back = await dock.ended(await dock.server.client.post(f"/deployments/{two['id']}/rollback"))
    assert back.state == "succeeded", back.error
    three = await dock.running(device)
    assert three["version"] == "1"
    gone = await dock.ended(await dock.server.client.delete(f"/deployments/{three['id']}"))
    assert gone.ctx["result"]["outcome"] == "removed"
    assert await names(dock.host) == []


async def test_what_vanished_comes_back_and_a_host_that_was_off_goes_on(dock: Dock):
    device = await dock.device("barn", dock.host, dock.host.keeper)
    await dock.upload("1", zip_of("1"))
    assert (await dock.deploy("1", device)).state == "succeeded"
    one = await dock.running(device)
    await dock.host.shell(f"docker rm -f {one['name']}")
    async with asyncio.timeout(LIMIT_S):
        while await names(dock.host) != [one["name"]]:
            await asyncio.sleep(0.5)
    await dock.until_more_results(one["id"])

    await dock.host.kill()
    await dock.upload("2", zip_of("2"))
    removing = await dock.server.client.delete(f"/deployments/{one['id']}")
    removed = await dock.ended(removing)
    assert removed.ctx["result"]["outcome"] == "pending"
    await dock.host.start()
    # It went up again by Docker itself; now that it can be reached, it is taken away.
    async with asyncio.timeout(LIMIT_S):
        while (await dock.server.client.get(f"/deployments/{one['id']}")).json()["state"] != "gone":
            await asyncio.sleep(0.5)
    assert await names(dock.host) == []


async def test_a_host_without_power_is_shown_dead_and_why_until_it_is_back(dock: Dock):
    device = await dock.device("pier", dock.host, dock.host.robot)
    await dock.until_presence(device, "ok", "connected")
    await dock.host.kill()
    await dock.until_presence(device, "dead", "unreachable")
    await dock.host.start()
    await dock.until_presence(device, "ok", "connected")
    await faults.refuse_ssh(dock.host)
    try:
        await dock.until_presence(device, "dead", "sshd_dead")
    finally:
        await faults.accept_ssh(dock.host)
    await dock.until_presence(device, "ok", "connected")


async def test_an_ai_goes_on_over_a_reboot_of_its_host(dock: Dock):
    device = await dock.device("mast", dock.host, dock.host.robot)
    await dock.upload("1", zip_of("1"))
    assert (await dock.deploy("1", device)).state == "succeeded"
    one = await dock.running(device)
    await dock.host.kill()
    await dock.host.start()
    await dock.until_more_results(one["id"])
    shown = await dock.server.client.get(f"/deployments/{one['id']}")
    assert shown.json()["state"] == "running"
