"""The relay and the registry of the lab: what they do to those who use them."""

import asyncio
import socket

import asyncssh
import pytest

from lab import Host, Site, images
from lab.registry import registry
from lab.relay import Relay, relay

LIMIT_S = 120


def through(way: Relay, host: Host):
    return asyncssh.connect(
        way.address,
        way.port,
        username=host.robot.user,
        client_keys=[str(host.robot.key_file)],
        known_hosts=None,
        connect_timeout=LIMIT_S,
        login_timeout=LIMIT_S,
    )


async def test_a_stalled_way_keeps_what_was_said_until_it_flows_again(bare_host):
    async with relay(bare_host.address) as way, through(way, bare_host) as ssh:
        way.stall()
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(ssh.run("id -un"))
            done, _ = await asyncio.wait({asked}, timeout=1)
            assert not done

            way.go()

        assert asked.result().stdout.strip() == "robot"


async def test_a_cut_way_ends_sessions_and_takes_new_ones(bare_host):
    async with relay(bare_host.address) as way:
        async with through(way, bare_host) as ssh:
            running = await ssh.create_process("sleep 600")
            assert way.connections == 1
            way.cut()
            async with asyncio.timeout(LIMIT_S):
                await ssh.wait_closed()
            assert running.exit_status is None
        assert await bare_host.greets(within_s=LIMIT_S)
        async with through(way, bare_host) as ssh:
            assert (await ssh.run("id -un")).stdout.strip() == "robot"


async def test_a_slow_way_makes_each_answer_wait(bare_host):
    async with relay(bare_host.address) as way, through(way, bare_host) as ssh:
        way.delay_s = 0.3
        began = asyncio.get_running_loop().time()
        await ssh.run("true")
        assert asyncio.get_running_loop().time() - began >= 0.6


async def test_a_way_to_nowhere_is_closed_at_once(bare_host):
    async with relay(bare_host.address, 1) as way:
        with pytest.raises((asyncssh.Error, OSError)):
            await through(way, bare_host)


async def test_a_registry_on_the_sites_network_serves_its_hosts(site: Site, bare_host: Host):
    ask = (
        "python3 -c 'import urllib.request, sys;"
        " print(urllib.request.urlopen(sys.argv[1], timeout=30).read().decode())' http://{}/v2/{}"
    )
    await images.build()
    async with registry(site) as shelf:
        await shelf.put(images.bare(), "edge/host:1")
        assert '"1"' in await bare_host.shell(ask.format(shelf.name, "edge/host/tags/list"))
        port = shelf.port

    assert not await bare_host.holds(ask.format(f"{site.gateway}:{port}", ""))
    async with registry(site, port=port) as again:
        assert again.port == port
        assert await bare_host.shell(ask.format(again.name, "")) == "{}"
    with socket.create_server((site.gateway, port), reuse_port=True):
        pass  # its port is free again
