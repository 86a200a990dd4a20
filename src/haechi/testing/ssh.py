"""An SSH server in this process, on loopback, that runs commands for real; and a wire to cut.

For contract tests of whatever speaks SSH. Its `sudo` is a small program that asks as the real one
does, because a test machine may have none: the lab has the real one.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import asyncssh

from haechi.core.tasks import TaskGroup, Tasks

Sudo = Literal["free", "asks", "refuses", "absent"]

_SUDO = """#!/usr/bin/env python3
# sudo -S -p PROMPT -- COMMAND…: reads a password byte by byte, as the real one does.
import os, sys

def line():
    got = b""
    while (one := os.read(0, 1)) not in (b"", b"\\n"):
        got += one
    return got.decode()

prompt, command, how = sys.argv[3], sys.argv[5:], os.environ["FAKE_SUDO"]
say = lambda text: os.write(2, text.encode())
if how == "refuses":
    say(prompt), line(), say("tester is not in the sudoers file.\\n"), sys.exit(1)
if how == "asks":
    say("We trust you have received the usual lecture.\\n")
    for _ in range(3):
        say(prompt)
        if line() == os.environ["FAKE_SUDO_PASSWORD"]:
            break
        say("Sorry, try again.\\n")
    else:
        sys.exit(1)
os.environ["FAKE_ROOT"] = "1"
os.execvp(command[0], command)
"""


@dataclass
class SshServer:
    """`user` logs in by `password` or by a key of `authorized`."""

    folder: Path
    user: str = "tester"
    password: str = "correct horse"  # noqa: S105 - what a test logs in with
    authorized: list[str] = field(default_factory=list)
    sudo: Sudo = "free"
    host_key: asyncssh.SSHKey = field(
        default_factory=lambda: asyncssh.generate_private_key("ssh-ed25519")
    )
    address: str = "127.0.0.1"
    port: int = 0
    logins: int = 0
    commands: list[str] = field(default_factory=list)
    """What was sent, as it was sent."""
    _acceptor: asyncssh.SSHAcceptor | None = None
    _connections: list[asyncssh.SSHServerConnection] = field(default_factory=list)
    _children: set[asyncio.subprocess.Process] = field(default_factory=set)
    _running: set["asyncio.Task[None]"] = field(default_factory=set)

    @property
    def public_key(self) -> str:
        return " ".join(self.host_key.export_public_key().decode().split()[:2])

    async def start(self) -> None:
        programs = self.folder / "bin"
        await asyncio.to_thread(programs.mkdir, exist_ok=True)
        if self.sudo != "absent":
            await asyncio.to_thread(_install, programs / "sudo")
        self._acceptor = await asyncssh.listen(
            self.address,
            self.port,
            server_factory=lambda: _Door(self),
            server_host_keys=[self.host_key],
            process_factory=self._run,
            encoding=None,
            config=None,
        )
        self.port = self._acceptor.get_port()

    async def stop(self) -> None:
        """Cuts every connection and ends what runs."""
        acceptor, self._acceptor = self._acceptor, None
        if acceptor is not None:
            acceptor.close()
            self.cut()
            await acceptor.wait_closed()
            for child in self._children:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
            await asyncio.gather(*self._running, return_exceptions=True)

    def cut(self) -> None:
        """End every connection without a word."""
        for connection in self._connections:
            connection.abort()
        self._connections.clear()

    def entered(self, connection: asyncssh.SSHServerConnection) -> None:
        self._connections.append(connection)

    async def _run(self, process: "asyncssh.SSHServerProcess[bytes]") -> None:
        command = process.command or ""
        self.commands.append(command)
        environment = {
            "PATH": f"{self.folder / 'bin'}:{'/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin'}",
            "HOME": str(self.folder),
            "FAKE_SUDO": self.sudo,
            "FAKE_SUDO_PASSWORD": self.password,
        }
        child = await asyncio.create_subprocess_exec(
            "/bin/sh",
            "-c",
            command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            cwd=self.folder,
            start_new_session=True,
        )
        self._children.add(child)
        work = asyncio.get_running_loop().create_task(self._serve(process, child))
        self._running.add(work)
        work.add_done_callback(self._running.discard)
        await asyncio.shield(work)

    async def _serve(
        self, process: "asyncssh.SSHServerProcess[bytes]", child: asyncio.subprocess.Process
    ) -> None:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        with contextlib.suppress(asyncssh.Error, OSError):
            async with TaskGroup() as group:
                feeding = group.create_task(_feed(process.stdin, child.stdin))
                outputs = [
                    group.create_task(_copy(child.stdout, process.stdout)),
                    group.create_task(_copy(child.stderr, process.stderr)),
                ]
                await asyncio.gather(*outputs)
                feeding.cancel()
            status = await child.wait()
            process.exit(status if status >= 0 else 128 - status)
        await child.wait()
        self._children.discard(child)
        # Its pipes are at their end; without this their transport would outlive the loop.
        child._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001


async def _feed(source: "asyncssh.SSHReader[bytes]", sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncssh.Error, OSError):
        while data := await source.read(64 * 1024):
            sink.write(data)
            await sink.drain()
    sink.close()


async def _copy(source: asyncio.StreamReader, sink: "asyncssh.SSHWriter[bytes]") -> None:
    try:
        while data := await source.read(64 * 1024):
            sink.write(data)
            await sink.drain()
    except (asyncssh.Error, OSError):
        # Whoever listened is gone; the program goes on, as under sshd.
        while await source.read(64 * 1024):
            pass


class _Door(asyncssh.SSHServer):
    def __init__(self, server: SshServer) -> None:
        self._server = server

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._server.entered(conn)

    def begin_auth(self, username: str) -> bool:
        del username
        return True

    def password_auth_supported(self) -> bool:
        return bool(self._server.password)

    def validate_password(self, username: str, password: str) -> bool:
        return username == self._server.user and password == self._server.password

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        shown = " ".join(key.export_public_key().decode().split()[:2])
        return username == self._server.user and shown in self._server.authorized

    def auth_completed(self) -> None:
        self._server.logins += 1

    def connection_requested(self, *_: object) -> bool:
        return True

    def unix_connection_requested(self, dest_path: str) -> bool:
        del dest_path
        return True


def _install(path: Path) -> None:
    path.write_text(_SUDO)
    path.chmod(0o755)
    os.sync()


@dataclass
class Wire:
    """A TCP proxy on loopback: what it carries can be held back or cut."""

    target_port: int
    port: int = 0
    carried_bytes: int = 0
    flowing: asyncio.Event = field(default_factory=asyncio.Event)
    cut_after_bytes: int | None = None
    """Cut everything once so many bytes went to the target."""
    bytes_per_s: float | None = None
    """How fast it is to the target, as a bad radio link."""
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: Tasks = field(default_factory=lambda: Tasks("wire"))

    def hold(self) -> None:
        """Both ends stay connected and hear nothing of each other."""
        self.flowing.clear()

    def release(self) -> None:
        self.flowing.set()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _ = self._tasks.spawn("connection", self._join(reader, writer))

    async def close(self) -> None:
        self.release()
        self.cut()
        await self._tasks.close()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mine = {writer}
        self._writers |= mine
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
            mine.add(far_writer)
            self._writers |= mine
            async with TaskGroup() as group:
                group.create_task(self._carry(reader, far_writer, counted=True))
                group.create_task(self._carry(far_reader, writer, counted=False))
        except OSError:
            return  # nobody listens there: the connection is cut
        finally:
            for one in mine:
                one.transport.abort()
            self._writers -= mine

    async def _carry(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, counted: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(32 * 1024):
                await self.flowing.wait()
                if counted:
                    self.carried_bytes += len(data)
                    if (
                        self.cut_after_bytes is not None
                        and self.carried_bytes > self.cut_after_bytes
                    ):
                        self.cut_after_bytes = None
                        self.cut()
                        return
                if counted and self.bytes_per_s is not None:
                    await asyncio.sleep(len(data) / self.bytes_per_s)
                sink.write(data)
                await sink.drain()
            sink.close()


@contextlib.asynccontextmanager
async def wire_to(port: int) -> AsyncIterator[Wire]:
    wire = Wire(port)
    wire.flowing.set()
    server = await asyncio.start_server(wire.enter, "127.0.0.1", 0)
    wire.port = server.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        server.close()
        await wire.close()
        await server.wait_closed()


@contextlib.asynccontextmanager
async def ssh_server(folder: Path, **options: object) -> AsyncIterator[SshServer]:
    server = SshServer(folder, **options)  # type: ignore[arg-type]
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
