"""One host: started like a machine, reached like a machine, broken like a machine.

`shell()` goes past the network (`lab.inside`), so that a test can look at what it has just cut off.
What is under test goes in by SSH like everybody else.
"""

import asyncio
import json
import shlex
import shutil
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from lab import engine
from lab.engine import LabError, Said
from lab.inside import AGAIN, Inside

UP_LIMIT_S = 120
ETCD = "/var/lib/etcd"
DISKS = ("/var/lib/containerd", "/var/lib/docker", "/var/lib/kubelet", ETCD)


@dataclass(frozen=True)
class Login:
    """How one may log in: `password` also answers sudo; without it sudo asks nothing."""

    user: str
    password: str | None = None
    key_file: Path | None = None


@dataclass
class Host:
    """A running host of a site. Made by `Site.host`."""

    name: str
    container: str
    network: str
    address: str
    nameserver: str
    keeper: Login
    robot: Login
    image: str
    hostname: str
    machine_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    cpus: float | None = None
    memory: str | None = None
    small_disks: dict[str, str] = field(default_factory=dict)
    seeds: dict[str, Path] = field(default_factory=dict)
    etcd_in_memory: bool = False
    """Its disk for etcd, which is flushed hundreds of times a minute, is memory of this machine: it
    stays when the host loses its power. Not where anything is measured.
    """
    _inside: Inside | None = field(default=None, repr=False, compare=False)

    async def create(self, *labels: str) -> None:
        """Lay it out without starting it. Its disks are anonymous volumes and go with it."""
        disks = [f"--volume={path}" for path in DISKS if path not in self.small_disks]
        if self.etcd_in_memory:
            folder = engine.memory_of(self.container)
            folder.mkdir(mode=0o700, parents=True)
            disks = [f"--volume={folder}:{ETCD}" if one.endswith(ETCD) else one for one in disks]
        disks += [f"--tmpfs={path}:exec,size={size}" for path, size in self.small_disks.items()]
        limits = [] if self.cpus is None else [f"--cpus={self.cpus}"]
        if self.memory is not None:
            limits += [f"--memory={self.memory}"]
        try:
            await engine.podman(
                *("create", "--name", self.container, "--hostname", self.hostname),
                *(f"--label={label}" for label in labels),
                *("--privileged", "--cgroupns=private", "--systemd=false", "--restart=no"),
                *("-e", "container=podman", "-e", f"container_uuid={uuid.UUID(self.machine_id)}"),
                *("--stop-signal", "SIGRTMIN+3", "--stop-timeout", "20"),
                # As a fresh machine has it; what is set in /etc/sysctl.d comes back at each start.
                *("--sysctl", "net.ipv4.ip_forward=0"),
                *("--network", self.network, "--ip", self.address, "--no-hosts", "--dns", "none"),
                *("--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp:exec"),
                *disks,
                *limits,
                self.image,
            )
        except LabError:
            shutil.rmtree(engine.memory_of(self.container), ignore_errors=True)
            raise
        for path, seed in self.seeds.items():
            await self._seed(path, seed)

    async def _seed(self, path: str, seed: Path) -> None:
        """Fill a disk from another without copying: what containerd has stored never changes."""
        target = await self.disk(path)
        await engine.run(["cp", "-a", "--link", f"{seed}/.", target], timeout_s=120)
        # Databases are written to, so each host has its own.
        for database in seed.rglob("*.db"):
            own = target / database.relative_to(seed)
            own.unlink()
            await engine.run(["cp", "-a", database, own])

    async def disk(self, path: str) -> Path:
        """Where the machine has the volume mounted at `path` in the host."""
        said = await engine.podman("inspect", "--format", "{{json .Mounts}}", self.container)
        for mount in json.loads(said.out):
            if mount["Destination"] == path:
                return Path(mount["Source"])
        raise LabError(f"{self.name} has no disk at {path}")

    async def prepare(self, authorized_key: str) -> None:
        """Give it its name, its users' passwords and key: what an installer would have asked."""
        passwords = "".join(
            f"{login.user}:{login.password}\n"
            for login in (self.keeper, self.robot)
            if login.password
        )
        # As distributions hash it, each sudo of the keeper would cost as much as what it runs.
        await self.shell("chpasswd -c SHA512 -s 1000", stdin=passwords.encode())
        home = f"/home/{self.robot.user}/.ssh"
        await self.shell(
            f"printf '127.0.0.1 localhost\\n127.0.1.1 %s\\n' {self.hostname} > /etc/hosts\n"
            f"echo nameserver {self.nameserver} > /etc/resolv.conf\n"
            f"install -d -m 700 -o {self.robot.user} -g {self.robot.user} {home}\n"
            f"install -m 600 -o {self.robot.user} /dev/stdin {home}/authorized_keys",
            stdin=authorized_key.encode(),
        )

    # --- power ---

    async def start(self) -> None:
        """Switch it on; returns when it takes SSH connections."""
        await engine.podman("start", self.container)
        await self.await_ssh()

    async def stop(self) -> None:
        """Shut down in order, as by its power button."""
        await engine.podman("stop", self.container, timeout_s=120)

    async def kill(self) -> None:
        """Take its power away: nothing is written, nobody is told."""
        said = await engine.podman("kill", "--signal", "KILL", self.container, check=False)
        # On a busy machine podman gives up looking for the end that it has brought about.
        if said.status and "timed out waiting for file" not in said.err:
            raise LabError(f"{self.name} was not ended: {said.err.strip()}")
        await engine.podman("wait", self.container)

    async def reboot(self) -> None:
        await self.stop()
        await self.start()

    async def pause(self) -> None:
        """Freeze it: its connections stay open, nobody answers (half-open)."""
        await engine.podman("pause", self.container)

    async def resume(self) -> None:
        await engine.podman("unpause", self.container)

    async def running(self) -> bool:
        said = await engine.podman("inspect", "--format", "{{.State.Status}}", self.container)
        return said.out.strip() == "running"

    # --- looking at it, past the network ---

    async def shell(
        self, script: str, *, stdin: bytes = b"", timeout_s: float = 60, user: str = "root"
    ) -> str:
        """Run a shell script in the host; its output without the last line break.

        A script that ends with another code than 0 is a `LabError` with what it said.
        """
        said = await self.tries(script, stdin=stdin, timeout_s=timeout_s, user=user)
        if said.status:
            words = (said.err.strip() or said.out.strip())[-2000:]
            raise LabError(f"{self.name}: code {said.status} from {script[:200]!r}: {words}")
        return said.out.rstrip("\n")

    async def tries(
        self, script: str, *, stdin: bytes = b"", timeout_s: float = 60, user: str = "root"
    ) -> Said:
        """The same, whatever the code is; of one that is off it is 125."""
        return await self._run("sh", "-euc", script, stdin=stdin, timeout_s=timeout_s, user=user)

    async def _run(
        self, *words: str, stdin: bytes = b"", timeout_s: float, user: str = "root"
    ) -> Said:
        try:
            inside = await self._entered()
        except LabError as error:
            return Said(125, "", str(error))
        argv = inside.argv(*words, user=user)
        return await engine.run(argv, stdin=stdin, timeout_s=timeout_s, check=False)

    async def holds(self, script: str) -> bool:
        """Does the script end with code 0?"""
        return (await self.tries(script)).status == 0

    async def until(self, script: str, what: str, timeout_s: float = 120) -> None:
        """Ask until the script ends with code 0. Raises LabError naming what did not come true.

        Asked in the host itself, and again from here where it went off meanwhile.
        """
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + timeout_s
        words = ""
        while (left_s := ends_s - loop.time()) > 0:
            limit = ("timeout", "--kill-after=5", f"{left_s:.1f}")
            said = await self._run(*limit, "sh", "-c", AGAIN, "sh", script, timeout_s=left_s + 30)
            if said.status == 0:
                return
            words = said.err.strip()[-500:]
            await asyncio.sleep(0.2)
        raise LabError(f"{self.name}: not after {timeout_s:.0f} s: {what}. {words}")

    async def journal(self, unit: str | None = None, lines: int = 200) -> str:
        chosen = f"-u {shlex.quote(unit)}" if unit else ""
        return await self.shell(f"journalctl --no-pager -o short-iso -n {lines} {chosen}")

    async def host_key(self) -> str:
        """Its public SSH host key, as it stands in a known_hosts file after the name."""
        key = await self.shell("cat /etc/ssh/ssh_host_ed25519_key.pub")
        return " ".join(key.split()[:2])

    # --- its place on the network, from outside ---

    async def pid(self) -> int:
        """The process of its init, as the machine counts."""
        return (await self._entered()).pid

    async def _entered(self) -> Inside:
        """Raises LabError if it is off."""
        if self._inside is None or not self._inside.there:
            said = await engine.podman("inspect", "--format", "{{.State.Pid}}", self.container)
            try:
                self._inside = Inside.of(int(said.out) or -1)
            except OSError as error:
                raise LabError(f"{self.name} is off") from error
        return self._inside

    async def on_its_network(self, *argv: str, stdin: bytes = b"", check: bool = True) -> Said:
        """Run a program of this machine inside the host's network namespace."""
        pid = await self.pid()
        return await engine.run(
            ["nsenter", "--target", str(pid), "--net", *argv], stdin=stdin, check=check
        )

    async def await_ssh(self, timeout_s: float = UP_LIMIT_S) -> None:
        """Until its sshd greets. Raises LabError with its journal's last lines."""
        try:
            async with asyncio.timeout(timeout_s):
                while not await self.greets():
                    await asyncio.sleep(0.05)
        except TimeoutError as e:
            journal = await self.tries("journalctl --no-pager -n 30")
            raise LabError(f"{self.name} took no SSH in {timeout_s:.0f} s: {journal.out}") from e

    async def greets(self, within_s: float = 2) -> bool:
        """Does its sshd answer right now?"""
        try:
            async with asyncio.timeout(within_s):
                reader, writer = await asyncio.open_connection(self.address, 22)
                try:
                    return (await reader.readline()).startswith(b"SSH-")
                finally:
                    writer.close()
        except OSError:  # refused, no route, or TimeoutError
            return False
