"""A host on loopback: a real SSH server in this process, and haechi's hosts that know it."""

from contextlib import asynccontextmanager

import pytest

from haechi.adapters.ssh_asyncssh import AsyncsshHosts, Pace
from haechi.core.secrets import Secret
from haechi.domains.clusters.host.ports import Target
from haechi.testing.ssh import SshServer, ssh_server, wire_to

DEVICE = "dev-aaaaaaaaaaaaaaaa"


class Book:
    """The inventory's part: what is known of the only host."""

    def __init__(self, target: Target) -> None:
        self.known = target
        self.pinned_by = []

    async def target(self, device_id: str) -> Target:
        assert device_id == DEVICE
        return self.known

    async def pin(self, device_id, host_key, *, by):
        self.pinned_by.append(by)
        self.known = self.known._replace(host_key=host_key)

    def change(self, **fields):
        self.known = self.known._replace(**fields)


class Site:
    """`book` is what haechi knows, `server` what is there, `wire` what lies between."""

    def __init__(self, server: SshServer, wire, book: Book, hosts: AsyncsshHosts, folder) -> None:
        self.server = server
        self.wire = wire
        self.book = book
        self.hosts = hosts
        self.folder = folder

    def open(self):
        return self.hosts.open(DEVICE)


# Patient: these run beside others on busy machines.
PACE = Pace(dial_s=30, login_s=90, attempts=2, retry_s=0.05, keepalive_s=20, open_s=60)


@pytest.fixture
def site(tmp_path, request):
    @asynccontextmanager
    async def make(pace: Pace = PACE, **options):
        folder = tmp_path / "host"
        folder.mkdir(exist_ok=True)
        async with ssh_server(folder, **options) as server, wire_to(server.port) as wire:
            book = Book(
                Target(
                    device_id=DEVICE,
                    name="edge-1",
                    addresses=("127.0.0.1",),
                    port=wire.port,
                    user=server.user,
                    password=Secret(server.password),
                    key=None,
                    host_key=server.public_key,
                )
            )
            hosts = AsyncsshHosts(book, pace=pace)
            try:
                yield Site(server, wire, book, hosts, folder)
            finally:
                await hosts.close()

    return make
