"""What the host side needs from outside: hosts that run commands, and who knows how to log in.

Every call has a time limit. Whatever goes wrong on the way to a host is an error of `errors`;
`HostAway` ones may go away by themselves, the others need somebody. After a `HostAway` in the
middle of a command nobody knows whether it ran: only idempotent work may be repeated.
"""

import shlex
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple, Protocol

from haechi.core.access import Principal
from haechi.core.secrets import Secret

OnLine = Callable[[str], None]
"""One line of output without its end, as it comes; standard output and error alike."""
OnSent = Callable[[int, int], None]
"""Bytes there so far, bytes in all."""
Stdin = str | bytes | Secret | None


class HostName(NamedTuple):
    """How a host is called in logs and errors."""

    device_id: str
    name: str
    address: str


class HostKey(NamedTuple):
    public: str
    """As in known_hosts: `ssh-ed25519 AAAA…`, without a comment."""
    fingerprint: str
    """`SHA256:…`, as ssh-keygen shows it."""


class Target(NamedTuple):
    """How to reach and log in to a device's host."""

    device_id: str
    name: str
    addresses: tuple[str, ...]
    """In the order to try; one of them may be out of date."""
    port: int
    user: str
    password: Secret | None
    """For the login, and for sudo where it asks."""
    key: Secret | None
    """A private key in PEM or OpenSSH form, without passphrase."""
    host_key: str | None
    """The pinned one; None before the first contact."""


@dataclass(frozen=True, slots=True)
class Ran:
    """`stdout` and `stderr` are kept up to 4 MB each, undecodable bytes replaced."""

    status: int
    """The exit status; 128 + n where signal n ended it."""
    stdout: str = ""
    stderr: str = ""

    @property
    def last_line(self) -> str:
        """The most telling line of a failure: the last of stderr, else of stdout."""
        for text in (self.stderr, self.stdout):
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            if lines:
                return lines[-1]
        return ""


CARRY_S: Final = 12 * 3600.0
"""For a step that carries files, over a slow radio link too: each ends by itself where it does not
move."""


class UnixEnd(NamedTuple):
    """A unix socket on the host. `root` reaches it with root's rights where the login has none."""

    path: str
    root: bool = False


class TcpEnd(NamedTuple):
    """A TCP port as the host itself sees it."""

    host: str
    port: int


TunnelEnd = UnixEnd | TcpEnd


class Shell(Protocol):
    """One host that is logged in to. Calls may run beside each other; a connection that was lost is
    made anew by the next call.
    """

    @property
    def host(self) -> HostName: ...

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
        """Run a program. `argv` is shown and logged: secrets belong into `stdin`. `root`: by sudo
        unless the login is root's. `check`: raise CommandFailed unless it ends with 0. `stall_s`:
        raise HostStalled where that long nothing is printed. A command that runs into a time limit
        is ended on the host (SIGTERM, then its channel is closed).
        """

    async def read(self, path: str, *, root: bool = False, limit_bytes: int = 4_000_000) -> bytes:
        """A file's content. Raises FileMissing, FileTooLarge."""

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
        """Make or replace a file as a whole (temporary file, fsync, rename), its folders too. False
        where it had this content, mode and owner (`user:group`) already. `in_place`: a file that is
        there keeps its place, mode and owner, and gets the content once all of it has arrived; for
        those that cannot be renamed over. Raises HostDiskFull.
        """

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
        """Copy a file there, resuming what an earlier try left, and check its sha256 (hex) there.
        False where it was there already. It may take as long as it moves: raises HostStalled where
        nothing does for 30 s, and four minutes after the last of it was given, for what SSH's
        window holds is still to be carried then; HostDiskFull, TransferDamaged.
        """

    async def fetch(
        self,
        remote: str,
        local: Path,
        *,
        root: bool = True,
        on_sent: OnSent | None = None,
    ) -> None:
        """Copy a file from there, as `send` in time; `local` (0600) appears when its digest has
        been checked.
        """

    def tunnel(self, end: TunnelEnd) -> AbstractAsyncContextManager[Path]:
        """A local unix socket, in a folder of its own (0700), whose connections end at `end`."""


class Hosts(Protocol):
    def open(self, device_id: str) -> AbstractAsyncContextManager[Shell]:
        """Log in to a device's host. Tries again by itself for a short while; raises HostAway,
        LoginRefused, HostKeyUnknown, HostKeyChanged, NoAddress.
        """

    async def learn(
        self, device_id: str, *, by: Principal, fingerprint: str = "", replace: bool = False
    ) -> HostKey:
        """Pin the key that the host shows, on the operator's word: with `fingerprint`, only where
        it is that one (HostKeyChanged). A pinned one that differs is kept and HostKeyChanged
        raised unless `replace` says that the host was installed anew.
        """

    async def look(self, device_id: str) -> HostKey:
        """The key that the host shows now; nothing is pinned."""


class Directory(Protocol):
    """Who knows the hosts' logins (the inventory)."""

    async def target(self, device_id: str) -> Target:
        """Raises ObjectNotFound, NoAddress and the inventory's NoHostLogin."""

    async def pin(self, device_id: str, host_key: str, *, by: Principal) -> None: ...


Privilege = Literal["root", "sudo"]
"""How root's rights are had: logged in as root, or by sudo (with or without a password)."""


def bare_key(pinned: str | None) -> str:
    """`ssh-ed25519 AAAA…`: a host key without its comment, as keys are compared; empty for none."""
    return " ".join((pinned or "").split()[:2])


def shown(argv: Sequence[str]) -> str:
    """A command as a person would type it."""
    return shlex.join(argv)
