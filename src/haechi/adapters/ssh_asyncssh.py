"""`Hosts` over asyncssh: one connection a host, shared by all who use it, pinned host keys.

sshd allows few logins and few sessions at a time, so a connection is kept while somebody uses it
and a while after.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator

import asyncssh

from haechi.adapters import ssh_errors
from haechi.adapters.ssh_link import Link
from haechi.adapters.ssh_login import Pace, dial, fingerprint_of, host_key_algs, public_of
from haechi.adapters.ssh_shell import AsyncsshShell
from haechi.core.access import Principal
from haechi.core.clock import Clock, SystemClock
from haechi.core.tasks import Tasks
from haechi.domains.clusters.host.errors import HostAway, HostKeyChanged, HostNotSsh
from haechi.domains.clusters.host.ports import Directory, HostKey, Shell, Target

__all__ = ["AsyncsshHosts", "Pace"]


class AsyncsshHosts:
    """`owner` marks the commands of this server on hosts, so that those that a lost connection (or
    a crash) left behind are ended by the next one: the same after a restart of the same server.
    """

    def __init__(
        self,
        directory: Directory,
        *,
        owner: str = "",
        pace: Pace | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._directory = directory
        self._owner = owner or secrets.token_hex(6)
        self._pace = pace or Pace()
        self._clock = clock or SystemClock()
        self._links: dict[str, Link] = {}
        self._retired: set[Link] = set()
        self._idle: dict[str, asyncio.TimerHandle] = {}
        self._tasks = Tasks("ssh")

    @contextlib.asynccontextmanager
    async def open(self, device_id: str) -> AsyncIterator[Shell]:
        link = self._link(await self._directory.target(device_id))
        link.users += 1
        try:
            await link.connection()
            yield AsyncsshShell(link)
        finally:
            link.users -= 1
            self._left(link)

    def _link(self, target: Target) -> Link:
        """The link for this login; one for an older login goes as soon as nobody uses it."""
        device_id = target.device_id
        timer = self._idle.pop(device_id, None)
        if timer is not None:
            timer.cancel()
        link = self._links.get(device_id)
        if link is not None and link.target == target:
            return link
        if link is not None:
            self._retired.add(link)
            self._left(link)
        link = self._links[device_id] = Link(target, self._owner, self._pace, self._clock)
        link.live_markers = lambda: self._live(device_id)
        return link

    def _live(self, device_id: str) -> list[str]:
        links = [self._links.get(device_id), *self._retired]
        return [one.marker for one in links if one is not None and one.marker]

    def _left(self, link: Link) -> None:
        if link.users:
            return
        if link in self._retired:
            self._retired.discard(link)
            self._close_later(link)
            return
        device_id = link.target.device_id
        if self._links.get(device_id) is link and device_id not in self._idle:
            loop = asyncio.get_running_loop()
            self._idle[device_id] = loop.call_later(self._pace.idle_s, self._drop, link)

    def _drop(self, link: Link) -> None:
        device_id = link.target.device_id
        self._idle.pop(device_id, None)
        if self._links.get(device_id) is link and not link.users:
            del self._links[device_id]
            self._close_later(link)

    def _close_later(self, link: Link) -> None:
        _ = self._tasks.spawn("close", link.close())

    async def close(self) -> None:
        for timer in self._idle.values():
            timer.cancel()
        self._idle.clear()
        links = [*self._links.values(), *self._retired]
        self._links.clear()
        self._retired.clear()
        await asyncio.gather(*(link.close() for link in links))
        await self._tasks.close()

    async def look(self, device_id: str) -> HostKey:
        return await self._look(await self._directory.target(device_id))

    async def learn(
        self, device_id: str, *, by: Principal, fingerprint: str = "", replace: bool = False
    ) -> HostKey:
        target = await self._directory.target(device_id)
        key = await self._look(target)
        pinned = fingerprint_of(target.host_key) if target.host_key else ""
        wanted = {fingerprint, "" if replace else pinned} - {"", key.fingerprint}
        if wanted:
            raise HostKeyChanged(
                host=target.name,
                address=target.addresses[0],
                expected=", ".join(wanted),
                fingerprint=key.fingerprint,
            )
        if pinned != key.fingerprint:
            await self._directory.pin(device_id, key.public, by=by)
        return key

    async def _look(self, target: Target) -> HostKey:
        """At the entered address: the operator compares what is there."""
        address = target.addresses[0]
        for attempt in range(1, self._pace.attempts + 1):
            try:
                return await self._shown_key(target, address)
            except HostAway:
                if attempt == self._pace.attempts:
                    raise
            await self._clock.sleep(self._pace.retry_s * 2 ** (attempt - 1))
        raise AssertionError("no attempt was made")

    async def _shown_key(self, target: Target, address: str) -> HostKey:
        pace = self._pace
        try:
            dialled = await dial(address, target.port, pace.dial_s)
        except (OSError, TimeoutError) as error:
            raise ssh_errors.at_login(error, target, address, pace.dial_s) from error
        with dialled:
            try:
                async with asyncio.timeout(pace.login_s):
                    key = await asyncssh.get_server_host_key(
                        address,
                        target.port,
                        sock=dialled,
                        config=None,
                        server_host_key_algs=host_key_algs(target.host_key),
                    )
            except (asyncssh.Error, OSError, TimeoutError) as error:
                raise ssh_errors.at_login(error, target, address, pace.login_s) from error
        if key is None:
            raise HostNotSsh(host=target.name, address=address, port=target.port, reason="no key")
        return HostKey(public_of(key), key.get_fingerprint())
