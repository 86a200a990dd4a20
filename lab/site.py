"""A site: one network (its "Wi-Fi") and the hosts on it. Several at a time do not meet."""

import asyncio
import ipaddress
import os
import secrets
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lab import engine, images, names
from lab.engine import LabError
from lab.host import Host, Login


class Site:
    """`async with Site() as site: host = await site.host("nuc-1")`.

    Hosts of a site reach each other and the machine (at `gateway`), the machine reaches them;
    nothing leads further, unless `internet`: then packages of the distribution can be had.
    """

    etcd_in_memory = False
    """Of hosts that are added from now on (`Host.etcd_in_memory`)."""

    def __init__(
        self, name: str | None = None, *, internet: bool = False, owner: str | None = None
    ) -> None:
        self.name = names.valid(name or f"t{secrets.token_hex(3)}")
        self.internet = internet
        self.owner = owner or names.this_process()
        self.network = names.network(self.owner, self.name)
        self.hosts: dict[str, Host] = {}
        self.password = secrets.token_urlsafe(12)
        self._subnet: ipaddress.IPv4Network | None = None
        self._folder: Path | None = None

    @property
    def subnet(self) -> ipaddress.IPv4Network:
        if self._subnet is None:
            raise LabError(f"site {self.name} is not up")
        return self._subnet

    @property
    def gateway(self) -> str:
        """The machine's address on this site: where a registry or a server of the test listens."""
        return str(self.subnet[1])

    @property
    def key_file(self) -> Path:
        """The private key (OpenSSH, no passphrase) that `robot` accepts on every host."""
        if self._folder is None:
            raise LabError(f"site {self.name} is not up")
        return self._folder / "key"

    async def __aenter__(self) -> Self:
        try:
            await self.up()
        except BaseException:
            await asyncio.shield(self.down())
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # To the end also when the test was cancelled: what stays here costs everyone after it.
        await asyncio.shield(self.down())

    async def up(self, folder: Path | None = None) -> None:
        """Make the network and the key. `folder`: where the key goes (default: a temporary one)."""
        await engine.sweep()
        self._folder = folder or Path(tempfile.mkdtemp(prefix=f"{names.PREFIX}-"))
        if not self.key_file.exists():
            await engine.run(
                [
                    "ssh-keygen",
                    "-q",
                    "-t",
                    "ed25519",
                    "-N",
                    "",
                    "-C",
                    self.name,
                    "-f",
                    self.key_file,
                ]
            )
        self._subnet = await self._make_network()
        if not self.internet:
            await engine.fence(self.network, str(self.subnet))

    async def _make_network(self) -> ipaddress.IPv4Network:
        """Take a subnet nobody has; podman's own lock decides between two who want the same."""
        for subnet in names.subnets(start=os.getpid() * 7 + secrets.randbelow(7)):
            said = await engine.podman(
                *("network", "create", "--disable-dns", "--subnet", str(subnet)),
                *(f"--label={label}" for label in self._labels()),
                self.network,
                check=False,
            )
            if said.status == 0:
                return subnet
            if "already used" not in said.err and "already being used" not in said.err:
                raise LabError(f"no network for site {self.name}: {said.err.strip()}")
        raise LabError(f"all of {names.SUBNETS} is taken; `make lab-clean` removes what was left")

    def _thing(self, kind: str, name: str) -> engine.Thing:
        return engine.Thing(kind, name, self.owner, self.name, "", "")

    def _labels(self, host: str = "") -> list[str]:
        labels = [f"{names.LABEL}=1", f"{names.OWNER}={self.owner}", f"{names.SITE}={self.name}"]
        return [*labels, f"{names.HOST}={host}"] if host else labels

    def free_address(self) -> str:
        """An address on this site that no host of it has."""
        taken = {host.address for host in self.hosts.values()}
        for number in range(names.FIRST_HOST, 255):
            if (address := str(self.subnet[number])) not in taken:
                return address
        raise LabError(f"site {self.name} has no address left")

    async def host(
        self,
        name: str | None = None,
        *,
        image: str | None = None,
        hostname: str | None = None,
        machine_id: str | None = None,
        address: str | None = None,
        cpus: float | None = None,
        memory: str | None = None,
        small_disks: dict[str, str] | None = None,
        seeds: dict[str, Path] | None = None,
        start: bool = True,
    ) -> Host:
        """Add a host and switch it on. Several at once: `site.add(4)`, or gather these.

        `image`: a reference of `lab.images` (default bare). `memory`: as podman takes it ("2g").
        `small_disks`: path to size ("64m"), a disk that is soon full. `machine_id`: 32 hex digits.
        """
        name = names.valid(name or f"host-{len(self.hosts) + 1}")
        if name in self.hosts:
            raise LabError(f"site {self.name} has a host {name} already")
        image = image or images.bare()
        host = Host(
            name=name,
            container=names.container(self.owner, self.name, name),
            network=self.network,
            address=address or self.free_address(),
            nameserver=self.gateway if not self.internet else _nameserver(),
            keeper=Login("keeper", password=self.password),
            robot=Login("robot", key_file=self.key_file),
            image=image,
            hostname=hostname or name,
            cpus=cpus,
            memory=memory,
            small_disks=small_disks or {},
            seeds=seeds or {},
            etcd_in_memory=self.etcd_in_memory,
        )
        if machine_id:
            host.machine_id = machine_id
        self.hosts[name] = host  # before the first await: its name and address are taken
        await images.need(image)
        await host.create(*self._labels(name))
        if start:
            await self.first_start(host)
        return host

    async def first_start(self, host: Host) -> None:
        await engine.podman("start", host.container)
        engine.give_weight()
        await host.prepare(self.key_file.with_suffix(".pub").read_text())
        await host.await_ssh()

    async def add(self, count: int, **settings: Any) -> list[Host]:
        """So many hosts of one kind, started together."""
        first = len(self.hosts) + 1
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self.host(f"host-{number}", **settings))
                for number in range(first, first + count)
            ]
        return [task.result() for task in tasks]

    async def down(self) -> None:
        """Remove all of it, whatever state it is in."""
        if self._folder is None:  # somebody else made it
            mine = [
                thing
                for thing in await engine.things()
                if thing.owner == self.owner and thing.site == self.name
            ]
        else:
            mine = [self._thing("host", one.container) for one in self.hosts.values()]
            mine += [self._thing(kind, self.network) for kind in ("fence", "network")]
        await engine.remove(mine)
        self.hosts.clear()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def _nameserver() -> str:
    """The one this machine asks. On an island nobody listens at the gateway: refused at once."""
    for line in Path("/etc/resolv.conf").read_text().splitlines():
        word, _, address = line.partition(" ")
        if word == "nameserver" and not address.startswith("127."):
            return address.strip()
    raise LabError("this machine has no nameserver that another host could ask")
