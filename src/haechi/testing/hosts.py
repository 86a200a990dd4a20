"""Hosts in memory: scripted answers to commands, files, faults; for tests of whatever uses a Shell.

    hosts = FakeHosts()
    host = hosts.add("dev-a", name="master")
    host.on("kubeadm init", stdout="…")
    host.on("systemctl is-active", status=3, times=1)
    host.fail("kubeadm join", HostConnectionLost(host="master", address="…", what="…", reason="…"))

A command that nobody scripted is an AssertionError, unless the host is `lenient`. A rule matches
the beginning of the command line (or what its function says); the newest matching rule wins.
"""

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from haechi.core.access import Principal
from haechi.core.secrets import Secret
from haechi.domains.clusters.host.errors import (
    FileMissing,
    FileTooLarge,
    HostKeyChanged,
    HostUnreachable,
    TransferDamaged,
)
from haechi.domains.clusters.host.failures import failure_of, named
from haechi.domains.clusters.host.ports import (
    HostKey,
    HostName,
    OnLine,
    OnSent,
    Ran,
    Stdin,
    TunnelEnd,
    UnixEnd,
    shown,
)
from haechi.errors import AppError, ObjectNotFound


@dataclass(frozen=True, slots=True)
class Call:
    """`command` is the argv as a person would type it."""

    command: str
    root: bool
    stdin: str


@dataclass
class Rule:
    match: str | Callable[[str], bool]
    ran: Ran
    error: AppError | None = None
    times: int | None = None
    """How often it still answers; None: for ever."""
    do: Callable[[Call], Ran | None] | None = None
    """What happens on the host then; its Ran, where it gives one, is the answer."""
    hold: asyncio.Event | None = None
    """The command waits for it before it acts."""

    def fits(self, command: str) -> bool:
        if self.times == 0:
            return False
        return (
            command.startswith(self.match) if isinstance(self.match, str) else self.match(command)
        )


@dataclass
class FakeFile:
    content: bytes
    mode: int = 0o644
    owner: str = ""


@dataclass
class FakeShell:
    host: HostName
    lenient: bool = False
    """Commands that nobody scripted succeed and print nothing."""
    rules: list[Rule] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    files: dict[str, FakeFile] = field(default_factory=dict)
    away: AppError | None = None
    """Every call raises it: the host is off."""
    held: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while a command waits for its rule's `hold`."""

    def on(
        self,
        match: str | Callable[[str], bool],
        stdout: str = "",
        *,
        stderr: str = "",
        status: int = 0,
        times: int | None = None,
        do: Callable[[Call], Ran | None] | None = None,
        hold: asyncio.Event | None = None,
    ) -> None:
        """Answer commands that begin with `match` (as typed)."""
        self.rules.append(Rule(match, Ran(status, stdout, stderr), None, times, do, hold))

    def fail(
        self, match: str | Callable[[str], bool], error: AppError, *, times: int | None = 1
    ) -> None:
        """Raise `error` for the next `times` commands that begin with `match`."""
        self.rules.append(Rule(match, Ran(0), error, times))

    def commands(self) -> list[str]:
        return [call.command for call in self.calls]

    def text(self, path: str) -> str:
        """A file's content; KeyError where there is none."""
        return self.files[path].content.decode()

    def put(self, path: str, content: str, mode: int = 0o644) -> None:
        self.files[path] = FakeFile(content.encode(), mode)

    async def run(
        self,
        argv: Sequence[str],
        *,
        root: bool = False,
        stdin: Stdin = None,
        timeout_s: float = 60,
        check: bool = True,
        on_line: OnLine | None = None,
        stall_s: float | None = None,
    ) -> Ran:
        del stall_s
        call = Call(shown(argv), root, _bytes(stdin).decode(errors="replace"))
        ran = await self._answer(call)
        if on_line is not None:
            for line in [*ran.stdout.splitlines(), *ran.stderr.splitlines()]:
                on_line(line)
        if check and ran.status:
            raise failure_of(self.host.name, named(argv), ran, timeout_s)
        return ran

    async def _answer(self, call: Call) -> Ran:
        self._reach()
        self.calls.append(call)
        rule = next((one for one in reversed(self.rules) if one.fits(call.command)), None)
        if rule is None:
            assert self.lenient, f"nobody scripted {call.command!r} on {self.host.name}"
            return Ran(0)
        if rule.times is not None:
            rule.times -= 1
        if rule.hold is not None and not rule.hold.is_set():
            self.held.set()
            await rule.hold.wait()
        if rule.error is not None:
            raise rule.error
        done = rule.do(call) if rule.do is not None else None
        return rule.ran if done is None else done

    async def read(self, path: str, *, root: bool = False, limit_bytes: int = 4_000_000) -> bytes:
        del root
        self._reach()
        if path not in self.files:
            raise FileMissing(host=self.host.name, path=path)
        content = self.files[path].content
        if len(content) > limit_bytes:
            raise FileTooLarge(host=self.host.name, path=path, limit_bytes=limit_bytes)
        return content

    async def write(
        self,
        path: str,
        content: Stdin,
        *,
        mode: int = 0o644,
        root: bool = True,
        owner: str = "",
        in_place: bool = False,
    ) -> bool:
        del root
        self._reach()
        there = self.files.get(path)
        file = FakeFile(_bytes(content), mode, owner)
        if there is not None:
            if in_place:
                file = FakeFile(file.content, there.mode, there.owner)
            same = (there.content, there.mode) == (file.content, file.mode)
            if same and owner in {"", there.owner}:
                return False
        self.files[path] = file
        return True

    async def send(
        self,
        local: Path,
        remote: str,
        *,
        mode: int = 0o644,
        root: bool = True,
        digest: str = "",
        on_sent: OnSent | None = None,
    ) -> bool:
        del root
        self._reach()
        content = await asyncio.to_thread(local.read_bytes)
        if digest and hashlib.sha256(content).hexdigest() != digest:
            raise TransferDamaged(host=self.host.name, path=remote)
        there = self.files.get(remote)
        changed = there is None or there.content != content
        self.files[remote] = FakeFile(content, mode)
        if on_sent is not None:
            on_sent(len(content), len(content))
        return changed

    async def fetch(
        self,
        remote: str,
        local: Path,
        *,
        root: bool = True,
        on_sent: OnSent | None = None,
    ) -> None:
        content = await self.read(remote, root=root, limit_bytes=1 << 40)
        await asyncio.to_thread(local.write_bytes, content)
        await asyncio.to_thread(local.chmod, 0o600)
        if on_sent is not None:
            on_sent(len(content), len(content))

    @asynccontextmanager
    async def tunnel(self, end: TunnelEnd) -> AsyncIterator[Path]:
        """A path in a folder of its own; nobody listens there, but it says where it leads."""
        self._reach()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "socket"
            path.write_text(end.path if isinstance(end, UnixEnd) else end.host)
            yield path

    def _reach(self) -> None:
        if self.away is not None:
            raise self.away


@dataclass
class FakeHosts:
    hosts: dict[str, FakeShell] = field(default_factory=dict)
    keys: dict[str, HostKey] = field(default_factory=dict)
    """What each host shows; made up where nobody says."""
    pinned: dict[str, HostKey] = field(default_factory=dict)
    opened: list[str] = field(default_factory=list)

    def add(self, device_id: str, *, name: str = "", lenient: bool = False) -> FakeShell:
        address = f"192.0.2.{len(self.hosts) + 1}"
        shell = FakeShell(HostName(device_id, name or device_id, address), lenient)
        self.hosts[device_id] = shell
        return shell

    def turn_off(self, device_id: str) -> None:
        host = self.hosts[device_id].host
        self.hosts[device_id].away = HostUnreachable(
            host=host.name, address=host.address, reason="No route to host"
        )

    def turn_on(self, device_id: str) -> None:
        self.hosts[device_id].away = None

    @asynccontextmanager
    async def open(self, device_id: str) -> AsyncIterator[FakeShell]:
        shell = self._shell(device_id)
        self.opened.append(device_id)
        if shell.away is not None:
            raise shell.away
        yield shell

    async def look(self, device_id: str) -> HostKey:
        shell = self._shell(device_id)
        if shell.away is not None:
            raise shell.away
        made_up = HostKey(f"ssh-ed25519 {device_id}", f"SHA256:{device_id}")
        return self.keys.setdefault(device_id, made_up)

    async def learn(
        self, device_id: str, *, by: Principal, fingerprint: str = "", replace: bool = False
    ) -> HostKey:
        del by
        shown_key = await self.look(device_id)
        known = self.pinned.get(device_id)
        expected = fingerprint or (known.fingerprint if known and not replace else "")
        if expected and expected != shown_key.fingerprint:
            host = self.hosts[device_id].host
            raise HostKeyChanged(
                host=host.name,
                address=host.address,
                expected=expected,
                fingerprint=shown_key.fingerprint,
            )
        self.pinned[device_id] = shown_key
        return shown_key

    def _shell(self, device_id: str) -> FakeShell:
        if device_id not in self.hosts:
            raise ObjectNotFound(kind="device", id=device_id)
        return self.hosts[device_id]


def _bytes(stdin: Stdin) -> bytes:
    if isinstance(stdin, Secret):
        return stdin.reveal().encode()
    if isinstance(stdin, str):
        return stdin.encode()
    return stdin or b""
