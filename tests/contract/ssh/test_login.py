"""Reaching and logging in to a host: every way it can go wrong has its own words."""

import asyncio
import dataclasses
import socket

import asyncssh
import pytest

from haechi.adapters.ssh_asyncssh import Pace
from haechi.core.access import SYSTEM
from haechi.core.secrets import Secret
from haechi.domains.clusters.host.errors import (
    HostConnectionLost,
    HostKeyChanged,
    HostKeyUnknown,
    HostNotSsh,
    HostRefused,
    HostTimedOut,
    HostUnreachable,
    LoginRefused,
    PrivateKeyUnusable,
)
from haechi.testing.waiting import eventually

from .conftest import DEVICE, PACE


def new_key():
    return asyncssh.generate_private_key("ssh-ed25519")


async def test_by_password_and_by_key(site):
    key = new_key()
    public = " ".join(key.export_public_key().decode().split()[:2])
    async with site(authorized=[public]) as it:
        async with it.open() as shell:
            assert (await shell.run(["echo", "a b"])).stdout == "a b\n"
        private = Secret(key.export_private_key().decode())
        it.book.change(password=None, key=private)
        async with it.open() as shell:
            assert (await shell.run(["echo", "c"])).stdout == "c\n"
        assert it.server.logins == 2


async def test_one_login_serves_all_who_use_the_host(site):
    async with site() as it:

        async def say(word):
            async with it.open() as shell:
                return (await shell.run(["echo", word])).stdout

        assert await asyncio.gather(*(say(f"{n}") for n in range(20))) == [
            f"{n}\n" for n in range(20)
        ]
        assert it.server.logins == 1


async def test_an_idle_connection_is_closed(site):
    async with site(dataclasses.replace(PACE, idle_s=0.01)) as it:
        async with it.open() as shell:
            await shell.run(["true"])
        await eventually(lambda: not it.hosts._links, 60)
        async with it.open() as shell:
            await shell.run(["true"])
        assert it.server.logins == 2


async def test_wrong_password_is_said_at_once(site):
    async with site() as it:
        it.book.change(password=Secret("wrong"))
        with pytest.raises(LoginRefused) as caught:
            async with it.open():
                pass
        assert caught.value.data["host"] == "edge-1" and caught.value.data["method"] == "password"
        assert "wrong" not in repr(caught.value.problem("en"))


async def test_an_unusable_private_key(site):
    async with site() as it:
        it.book.change(key=Secret("-----BEGIN nonsense"))
        with pytest.raises(PrivateKeyUnusable):
            async with it.open():
                pass


async def test_nobody_listens(site):
    async with site() as it:
        await it.server.stop()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            it.book.change(port=free.getsockname()[1])
            with pytest.raises(HostRefused) as caught:
                async with it.open():
                    pass
    assert caught.value.http_status == 503


async def test_a_name_that_nobody_knows(site):
    async with site() as it:
        it.book.change(addresses=("no-such-host.invalid",))
        with pytest.raises(HostUnreachable):
            async with it.open():
                pass


async def test_something_else_listens_there(site):
    async def greet(reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    async with site() as it, await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        it.book.change(port=server.sockets[0].getsockname()[1])
        with pytest.raises((HostNotSsh, HostUnreachable)) as caught:
            async with it.open():
                pass
    assert caught.value.data["host"] == "edge-1"


async def test_a_host_that_accepts_and_says_nothing(site):
    pace = dataclasses.replace(PACE, login_s=0.5, attempts=1)
    async with site(pace) as it:
        it.wire.hold()
        with pytest.raises(HostTimedOut):
            async with it.open():
                pass


async def test_the_first_contact_needs_the_operators_word(site):
    async with site() as it:
        it.book.change(host_key=None)
        with pytest.raises(HostKeyUnknown) as caught:
            async with it.open():
                pass
        shown = await it.hosts.look(DEVICE)
        assert caught.value.data["fingerprint"] == shown.fingerprint
        assert it.book.known.host_key is None and it.server.logins == 0

        with pytest.raises(HostKeyChanged):
            await it.hosts.learn(DEVICE, by=SYSTEM, fingerprint="SHA256:other")
        assert await it.hosts.learn(DEVICE, by=SYSTEM, fingerprint=shown.fingerprint) == shown
        async with it.open() as shell:
            await shell.run(["true"])
        assert it.book.pinned_by == [SYSTEM]


async def test_a_changed_host_key_is_refused_with_both_fingerprints(site):
    async with site() as it:
        old = it.server.host_key.get_fingerprint()
        await it.server.stop()
        it.server.host_key = new_key()
        await it.server.start()
        new = it.server.host_key.get_fingerprint()
        with pytest.raises(HostKeyChanged) as caught:
            async with it.open():
                pass
        text = caught.value.problem("en")["detail"]
        assert old in text and new in text and caught.value.code == "clusters.host_key_changed"
        assert it.server.logins == 0, "no password went to a stranger"

        with pytest.raises(HostKeyChanged):
            await it.hosts.learn(DEVICE, by=SYSTEM)
        await it.hosts.learn(DEVICE, by=SYSTEM, replace=True)
        async with it.open() as shell:
            await shell.run(["true"])


async def test_another_kind_of_host_key_is_a_changed_one(site):
    async with site() as it:
        await it.server.stop()
        it.server.host_key = asyncssh.generate_private_key("ecdsa-sha2-nistp256")
        await it.server.start()
        with pytest.raises(HostKeyChanged):
            async with it.open():
                pass


async def test_the_address_last_seen_is_tried_when_the_entered_one_is_not_it(site):
    async with site() as it:
        it.book.change(addresses=("no-such-host.invalid", "127.0.0.1"))
        async with it.open() as shell:
            assert shell.host.address == "127.0.0.1"


async def test_a_lost_connection_is_made_anew_by_the_next_call(site):
    async with site() as it, it.open() as shell:
        await shell.run(["true"])
        it.server.cut()
        await eventually(it.hosts._links[DEVICE]._connection.is_closed, 60)
        assert (await shell.run(["echo", "again"])).stdout == "again\n"
        assert it.server.logins == 2


async def test_a_host_that_comes_back_is_waited_for(site):
    async with site(dataclasses.replace(PACE, attempts=100, retry_s=0.05)) as it:
        it.hosts._clock = Short()
        await it.server.stop()

        async def use():
            async with it.open() as shell:
                return (await shell.run(["echo", "back"])).stdout

        async def come_back():
            await eventually(lambda: it.hosts._clock.slept >= 2, 60)
            await it.server.start()

        said, _ = await asyncio.gather(use(), come_back())
        assert said == "back\n"


class Short:
    """Sleeps no longer than a moment, however long it is asked to."""

    slept = 0

    async def sleep(self, seconds):
        self.slept += 1
        await asyncio.sleep(min(seconds, 0.05))


async def test_a_frozen_host_is_found_by_keepalives(site):
    pace = Pace(keepalive_s=0.2, keepalive_count=3, login_s=90, attempts=1)
    async with site(pace) as it, it.open() as shell:
        await shell.run(["true"])
        it.wire.hold()
        with pytest.raises(HostConnectionLost) as caught:
            await shell.run(["sleep", "600"], timeout_s=600)
        assert "sleep 600" in caught.value.data["what"]


async def test_a_changed_login_is_used_from_the_next_opening_on(site):
    async with site() as it:
        async with it.open() as shell:
            await shell.run(["true"])
        it.server.password = "new one"
        it.book.change(password=Secret("new one"))
        async with it.open() as shell:
            await shell.run(["true"])
        assert it.server.logins == 2
