"""One login on one host, kept and made anew: where connections are tried again, and nowhere else.

`Link.execute` runs one program over it, byte by byte: sudo's questions, time limits, stalls, an end
on the host for whatever is given up here. `ssh_shell` makes the verbs of the port out of it.
"""

import asyncio
import contextlib
import logging
import secrets
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import asyncssh

from haechi.adapters import ssh_errors
from haechi.adapters.ssh_command import Preamble, Start, Word, ending, new_word, settling
from haechi.adapters.ssh_login import Pace, log_in
from haechi.core.clock import Clock
from haechi.core.tasks import TaskGroup
from haechi.domains.clusters.host.errors import (
    HostAway,
    HostConnectionLost,
    HostKeyChanged,
    HostStalled,
    HostTimedOut,
    SudoAsks,
    SudoRefused,
    short,
)
from haechi.domains.clusters.host.ports import HostName, Target

log = logging.getLogger(__name__)

OnBytes = Callable[[bytes], None]
Source = AsyncIterator[bytes]

_CHUNK: Final = 256 * 1024
_UNDER_WAY: Final = 8
"""Pieces (`_CHUNK`) that SSH's window takes at once: the last of them are still to be carried when
all have been given."""
_SESSIONS: Final = 8
"""sshd's own MaxSessions is 10 unless somebody lowered it; the rest is for ending commands."""
_SLACK_S: Final = 15.0
"""How much later than the host's own `timeout` a command is given up here."""
_END_S: Final = 10.0
_SIGNALLED: Final = 128


@dataclass(frozen=True, slots=True)
class Ended:
    status: int
    """128 + n where signal n ended it."""


class Link:
    """Made for one target; a changed login is another link."""

    def __init__(self, target: Target, owner: str, pace: Pace, clock: Clock) -> None:
        self.target = target
        self.users = 0
        self.pace = pace
        self._owner = owner
        self._clock = clock
        self._connection: asyncssh.SSHClientConnection | None = None
        self._marker = ""
        self._settled = False
        self._connecting = asyncio.Lock()
        self._sessions = asyncio.Semaphore(_SESSIONS)
        self.address = target.addresses[0]
        self.live_markers: Callable[[], list[str]] = lambda: [self._marker]

    @property
    def host(self) -> HostName:
        return HostName(self.target.device_id, self.target.name, self.address)

    @property
    def marker(self) -> str:
        return self._marker

    async def connection(self) -> asyncssh.SSHClientConnection:
        """The one that is there, or a new one. Raises what `Hosts.open` says."""
        async with self._connecting:
            if self._connection is None or self._connection.is_closed():
                self._marker = f"{self._owner}.{secrets.token_hex(6)}"
                self._settled = False
                self._connection = await self._connect()
            return self._connection

    async def _connect(self) -> asyncssh.SSHClientConnection:
        for attempt in range(1, self.pace.attempts + 1):
            try:
                return await self._try_addresses()
            except HostAway as error:
                if attempt == self.pace.attempts:
                    raise
                log.info("%s; attempt %d", error, attempt)
            await self._clock.sleep(self.pace.retry_s * 2 ** (attempt - 1))
        raise AssertionError("no attempt was made")

    async def _try_addresses(self) -> asyncssh.SSHClientConnection:
        """The first address at which the pinned host answers. The entered one's error counts."""
        first: HostAway | HostKeyChanged | None = None
        for address in self.target.addresses:
            try:
                connection = await log_in(self.target, address, self.pace)
            except (HostAway, HostKeyChanged) as error:
                first = first or error
                continue
            self.address = address
            return connection
        raise first or AssertionError("a target has an address")

    async def execute(
        self,
        argv: Sequence[str],
        *,
        what: str,
        root: bool,
        stdin: bytes | Source | None,
        on_stdout: OnBytes,
        on_stderr: OnBytes,
        timeout_s: float | None,
        stall_s: float | None = None,
    ) -> Ended:
        """Run a program to its end. `what` names it in errors. After `timeout_s` the host ends it
        (status 124). Raises HostAway, SudoAsks, SudoRefused.
        """
        connection = await self.connection()
        if root:
            await self._settle(connection)
        return await self._execute(
            connection,
            _Job(argv, what, root, stdin, on_stdout, on_stderr, timeout_s, stall_s),
        )

    async def _settle(self, connection: asyncssh.SSHClientConnection) -> None:
        """Once a connection: end what an earlier one of this owner left running."""
        if self._settled:
            return
        self._settled = True
        heard = bytearray()
        argv = settling(self._owner, self.live_markers())
        job = _Job(argv, "settle", True, None, heard.extend, lambda _: None, 30, None)
        await self._execute(connection, job)
        if heard:
            pids = heard.decode(errors="replace").split()
            log.warning("host %s: ended %s of a lost connection", self.host.name, ", ".join(pids))

    async def _execute(self, connection: asyncssh.SSHClientConnection, job: "_Job") -> Ended:
        async with self._session(job.what):
            return await self._execute_now(connection, job)

    async def _execute_now(self, connection: asyncssh.SSHClientConnection, job: "_Job") -> Ended:
        privilege = "sudo" if job.root and self.target.user != "root" else None
        start = Start.of(
            job.argv,
            privilege="sudo" if privilege else None,
            timeout_s=job.timeout_s,
            marker=self._marker,
            ready=new_word(),
            ask=new_word(),
        )
        run = _Run(self, job, start)
        process = await self._begin(connection, start, job.what)
        try:
            return await run.to_the_end(process)
        except BaseException:
            if run.preamble.pid is not None and not connection.is_closed():
                await self._end(connection, run.preamble.pid, root=job.root)
            raise
        finally:
            process.close()

    @contextlib.asynccontextmanager
    async def _session(self, what: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self.pace.queue_s):
                await self._sessions.acquire()
        except TimeoutError as error:
            raise HostTimedOut(
                host=self.host.name,
                address=self.address,
                timeout_s=self.pace.queue_s,
                what=f"{what}: all {_SESSIONS} sessions are in use",
            ) from error
        try:
            yield
        finally:
            self._sessions.release()

    async def _begin(
        self, connection: asyncssh.SSHClientConnection, start: Start, what: str
    ) -> "asyncssh.SSHClientProcess[bytes]":
        try:
            async with asyncio.timeout(self.pace.open_s):
                return await connection.create_process(start.line, encoding=None)
        except TimeoutError as error:
            raise HostTimedOut(
                host=self.host.name, address=self.address, timeout_s=self.pace.open_s, what=what
            ) from error
        except (asyncssh.Error, OSError) as error:
            raise ssh_errors.in_command(error, self.host, what) from error

    async def _end(self, connection: asyncssh.SSHClientConnection, pid: int, *, root: bool) -> None:
        """As far as it can be done: the host's own `timeout` ends it in any case. Waits for no
        turn: what is to be ended may be what holds them all.
        """
        job = _Job(ending(pid), "kill", root, None, _drop, _drop, _END_S, None)
        with contextlib.suppress(HostAway, SudoAsks, SudoRefused, TimeoutError):
            async with asyncio.timeout(_END_S):
                await self._execute_now(connection, job)

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5):
                    await connection.wait_closed()


@dataclass(frozen=True, slots=True)
class _Job:
    argv: Sequence[str]
    what: str
    root: bool
    stdin: bytes | Source | None
    on_stdout: OnBytes
    on_stderr: OnBytes
    timeout_s: float | None
    stall_s: float | None


class _Run:
    """One program while it runs."""

    def __init__(self, link: Link, job: _Job, start: Start) -> None:
        self._link = link
        self._job = job
        self.preamble = Preamble(start)
        self._ready = asyncio.Event()
        self._asked = 0
        self._stall: asyncio.Timeout | None = None
        self._moved_s = 0.0

    async def to_the_end(self, process: "asyncssh.SSHClientProcess[bytes]") -> Ended:
        job, host = self._job, self._link.host
        limit_s = None if job.timeout_s is None else job.timeout_s + _SLACK_S
        loop = asyncio.get_running_loop()
        self._moved_s = loop.time()
        try:
            async with asyncio.timeout(limit_s), asyncio.timeout(job.stall_s) as self._stall:
                await self._talk(process)
        except TimeoutError as error:
            stalled = self._stall is not None and self._stall.expired()
            if stalled:
                still_s = round(loop.time() - self._moved_s)
                raise HostStalled(
                    host=host.name, address=host.address, what=job.what, stall_s=still_s
                ) from error
            raise HostTimedOut(
                host=host.name, address=host.address, what=job.what, timeout_s=limit_s
            ) from error
        except (asyncssh.Error, OSError) as error:
            raise ssh_errors.in_command(error, host, job.what) from error
        return self._ended(process)

    async def _talk(self, process: "asyncssh.SSHClientProcess[bytes]") -> None:
        try:
            async with TaskGroup() as tasks:
                tasks.create_task(self._hear_out(process))
                tasks.create_task(self._hear_err(process))
                feeding = tasks.create_task(self._feed(process))
                await process.wait_closed()
                # The program may end without having read all of its input.
                feeding.cancel()
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None

    async def _hear_out(self, process: "asyncssh.SSHClientProcess[bytes]") -> None:
        while data := await process.stdout.read(_CHUNK):
            self._moved()
            self._job.on_stdout(data)

    async def _hear_err(self, process: "asyncssh.SSHClientProcess[bytes]") -> None:
        while data := await process.stderr.read(_CHUNK):
            self._moved()
            if self._ready.is_set():
                self._job.on_stderr(data)
                continue
            match self.preamble.hear(data):
                case Word.ASKED:
                    self._answer(process)
                case Word.READY:
                    self._ready.set()
                    if self.preamble.rest:
                        self._job.on_stderr(self.preamble.rest)

    def _answer(self, process: "asyncssh.SSHClientProcess[bytes]") -> None:
        target = self._link.target
        self._asked += 1
        if target.password is None:
            raise SudoAsks(host=target.name, user=target.user)
        if self._asked > 1:
            raise SudoRefused(host=target.name, user=target.user, message="wrong password")
        process.stdin.write(target.password.reveal().encode() + b"\n")

    async def _feed(self, process: "asyncssh.SSHClientProcess[bytes]") -> None:
        await self._ready.wait()
        stdin = self._job.stdin
        # A program that stops reading early is judged by its status and its words.
        with contextlib.suppress(BrokenPipeError):
            if isinstance(stdin, bytes):
                for at in range(0, len(stdin), _CHUNK):
                    await self._pour(process, stdin[at : at + _CHUNK])
            elif stdin is not None:
                async for data in stdin:
                    await self._pour(process, data)
                self._moved(_UNDER_WAY)
            process.stdin.write_eof()

    async def _pour(self, process: "asyncssh.SSHClientProcess[bytes]", data: bytes) -> None:
        process.stdin.write(data)
        await process.stdin.drain()
        self._moved()

    def _moved(self, pieces: int = 1) -> None:
        """From now on there is time for so many pieces; what was given before is not taken back."""
        if self._stall is None or self._job.stall_s is None or self._stall.expired():
            return
        self._moved_s = asyncio.get_running_loop().time()
        until_s = self._moved_s + self._job.stall_s * pieces
        self._stall.reschedule(max(until_s, self._stall.when() or 0.0))

    def _ended(self, process: "asyncssh.SSHClientProcess[bytes]") -> Ended:
        target, host = self._link.target, self._link.host
        status, signalled = process.exit_status, process.exit_signal
        if status is None and signalled is None:
            raise HostConnectionLost(
                host=host.name, address=host.address, what=self._job.what, reason="channel closed"
            )
        if self.preamble.pid is None and self._job.root and target.user != "root":
            lines = self.preamble.heard.decode(errors="replace").splitlines()
            words = [line for line in lines if line.strip()]
            message = short(words[-1]) if words else f"status {status}"
            raise SudoRefused(host=target.name, user=target.user, message=message)
        if signalled is not None:
            return Ended(_SIGNALLED + _number_of(signalled[0]))
        return Ended(status if status is not None and status >= 0 else _SIGNALLED)


def _number_of(signal_name: str) -> int:
    try:
        return int(signal.Signals["SIG" + signal_name])
    except KeyError:
        return 0


def _drop(data: bytes) -> None:
    del data
