"""The site registry as two supervised children over one storage: one for pulls, one for pushes.

A registry's password file knows no rights, so a device's credential would also push and delete.
Therefore devices get a process that is read-only; the other, on its own port, takes the server's
pushes and deletions, and is the one that stops while garbage is collected: pulls go on meanwhile.

Children die with the server (PDEATHSIG). One that a `kill -9` at the wrong moment left is found by
its pid file, checked by its command line, and ended. Output goes to `registry.log`.
"""

import asyncio
import contextlib
import ctypes
import functools
import logging
import os
import secrets
import shutil
import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import bcrypt

from haechi.core.clock import Clock
from haechi.core.secrets import Secret
from haechi.core.tasks import Tasks
from haechi.domains.builds.model import RegistryDown, RegistryFailed, RegistryProgramMissing
from haechi.domains.builds.ports import Login, OnText
from haechi.errors import AppError

log = logging.getLogger(__name__)

Role = Literal["pull", "push"]
START_TIMEOUT_S: Final = 15.0
STOP_TIMEOUT_S: Final = 10.0
COLLECT_TIMEOUT_S: Final = 3600.0
LOG_LIMIT_BYTES: Final = 8 * 1024 * 1024
PUSH_USER: Final = "haechi"
# The passwords are 256 random bits, so the hash need not be slow; every request pays for it.
BCRYPT_ROUNDS: Final = 4
_PR_SET_PDEATHSIG: Final = 1
_RESTART_S: Final = 1.0
_RENEW_S: Final = 6 * 3600.0
_TRIM_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class TlsFiles:
    certificate: Path
    key: Path


def hash_password(password: Secret) -> str:
    """As the registry's password file wants it."""
    salt = bcrypt.gensalt(rounds=BCRYPT_ROUNDS)
    return bcrypt.hashpw(password.reveal().encode(), salt).decode()


class RegistryChildren:
    """`directory` is DATA/registry; `tls` gives the files to serve with, anew at each start."""

    def __init__(
        self,
        *,
        binary: str,
        directory: Path,
        pull_listen: str,
        push_listen: str,
        tls: Callable[[], TlsFiles],
        clock: Clock,
    ) -> None:
        self._binary = binary
        self._directory = directory
        self._listen: dict[Role, str] = {"pull": pull_listen, "push": push_listen}
        self._tls = tls
        self._clock = clock
        self._children: dict[Role, asyncio.subprocess.Process] = {}
        self._tasks = Tasks("registry")
        self._served: dict[Role, bytes] = {}
        self._closing = False
        self._lock = asyncio.Lock()
        self.push_login = Login(PUSH_USER, Secret(secrets.token_urlsafe(32)))
        """Made anew at each start of the server, kept in memory only; good at both doors."""
        self._own_line = f"{PUSH_USER}:{hash_password(self.push_login.password)}\n"
        self._pull_logins: dict[str, str] = {}

    @property
    def running(self) -> bool:
        return "pull" in self._children

    @property
    def read_only(self) -> bool:
        return "push" not in self._children

    def data_dir(self) -> Path:
        return self._directory / "data"

    async def start(self) -> None:
        """Start both and wait until they listen; what does not start is tried again for ever.

        Raises RegistryProgramMissing, or what kept one from starting at the first try.
        """
        if shutil.which(self._binary) is None:
            raise RegistryProgramMissing(binary=self._binary)
        self._closing = False
        await asyncio.to_thread(self._prepare)
        failures: list[AppError] = []
        roles: tuple[Role, ...] = ("pull", "push")
        for role in roles:
            try:
                await self._spawn(role)
            except AppError as error:
                failures.append(error)
            keep = functools.partial(self._keep, role)
            self._tasks.forever(f"keep-{role}", keep, retry_s=_RESTART_S)
        self._tasks.forever("renew", self._renew_forever)
        self._tasks.forever("trim-log", self._trim_forever)
        if failures:
            raise failures[0]

    async def close(self) -> None:
        self._closing = True
        await self._tasks.close()
        await asyncio.gather(*(self._stop(role) for role in list(self._children)))

    async def write_logins(self, pull: Mapping[str, str]) -> None:
        """Read again by the running registry at its next request: no restart."""
        self._pull_logins = dict(pull)
        await asyncio.to_thread(self._write_pull_logins)

    async def collect_garbage(self, log: OnText) -> None:
        async with self._lock:
            try:
                await self._stop("push")
                await self._collect(log)
            finally:
                if not self._closing:
                    await self._spawn("push")

    async def _collect(self, log: OnText) -> None:
        process = await asyncio.create_subprocess_exec(
            self._binary,
            "garbage-collect",
            str(self._config("push")),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            preexec_fn=_die_with_parent(),
            env=_environment(),
        )
        assert process.stdout is not None
        last = ""
        try:
            async with asyncio.timeout(COLLECT_TIMEOUT_S):
                async for raw in process.stdout:
                    line = raw.decode("utf-8", "replace").strip()
                    if "eligible for deletion" in line or "level=error" in line:
                        log(line[:300])
                    last = line or last
                code = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if code != 0:
            raise RegistryFailed(reason=last[:300])

    async def _keep(self, role: Role) -> None:
        """Wait for the child's end and start it again, unless it was meant."""
        while True:
            child = self._children.get(role)
            if child is not None:
                code = await child.wait()
                if self._children.get(role) is child:
                    self._children.pop(role, None)
                    words = await asyncio.to_thread(self._last_words)
                    log.warning(
                        "registry (%s) ended with code %s; starting it again: %s", role, code, words
                    )
            await self._clock.sleep(_RESTART_S)
            async with self._lock:
                if role not in self._children and not self._closing:
                    await self._spawn(role)

    def trim_log(self) -> None:
        """Copy away what is too long and empty it in place: the children hold it open."""
        path = self._log_file()
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size > LOG_LIMIT_BYTES:
                shutil.copyfile(path, path.with_suffix(".log.1"))
                os.truncate(path, 0)

    async def _trim_forever(self) -> None:
        while True:
            await self._clock.sleep(_TRIM_S)
            await asyncio.to_thread(self.trim_log)

    async def _renew_forever(self) -> None:
        while True:
            await self._clock.sleep(_RENEW_S)
            await self.renew_certificate()

    async def renew_certificate(self) -> bool:
        """Serve with the newest certificate: a child reads it only when it starts."""
        tls = await asyncio.to_thread(self._tls)
        content = await asyncio.to_thread(tls.certificate.read_bytes)
        stale = [role for role in self._children if self._served.get(role) != content]
        for role in stale:
            async with self._lock:
                await self._stop(role)
                await self._spawn(role)
        return bool(stale)

    async def _spawn(self, role: Role) -> None:
        await asyncio.to_thread(self._configure, role)
        await asyncio.to_thread(_end_stale, self._pid_file(role), self._config(role))
        _refuse_taken(self._listen[role])
        with self._log_file().open("ab") as output:
            child = await asyncio.create_subprocess_exec(
                self._binary,
                "serve",
                str(self._config(role)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=_die_with_parent(),
                env=_environment(),
            )
        self._pid_file(role).write_text(f"{child.pid}\n")
        try:
            await self._wait_listening(role, child)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            raise
        self._children[role] = child

    async def _wait_listening(self, role: Role, child: asyncio.subprocess.Process) -> None:
        host, _, port = self._listen[role].rpartition(":")
        address = "127.0.0.1" if host in {"", "0.0.0.0", "[::]"} else host.strip("[]")  # noqa: S104
        deadline = self._clock.monotonic() + START_TIMEOUT_S
        while True:
            if child.returncode is not None:
                raise RegistryFailed(reason=await asyncio.to_thread(self._last_words))
            try:
                async with asyncio.timeout(2):
                    _, writer = await asyncio.open_connection(address, int(port))
            except (OSError, TimeoutError):
                if self._clock.monotonic() > deadline:
                    raise RegistryDown(
                        reason=f"{self._listen[role]}: no answer after {START_TIMEOUT_S} s"
                    ) from None
                await self._clock.sleep(0.05)
            else:
                writer.transport.abort()
                # Somebody else's server on that port would answer as well.
                if child.returncode is None:
                    return

    async def _stop(self, role: Role) -> None:
        child = self._children.pop(role, None)
        if child is None or child.returncode is not None:
            return
        child.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await child.wait()
        except TimeoutError:
            child.kill()
            await child.wait()
        self._pid_file(role).unlink(missing_ok=True)

    def _prepare(self) -> None:
        # Collecting garbage of a registry that holds nothing yet fails without these folders.
        for name in ("repositories", "blobs"):
            (self.data_dir() / "docker/registry/v2" / name).mkdir(parents=True, exist_ok=True)
        self._directory.chmod(0o700)
        self.trim_log()
        self._write_pull_logins()
        _write(self._directory / "push.htpasswd", self._own_line)

    def _write_pull_logins(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        lines = [f"{name}:{hashed}\n" for name, hashed in sorted(self._pull_logins.items())]
        _write(self._directory / "pull.htpasswd", "".join([self._own_line, *lines]))

    def _configure(self, role: Role) -> None:
        tls = self._tls()
        self._served[role] = tls.certificate.read_bytes()
        read_only = "true" if role == "pull" else "false"
        # No blob cache: it would be wrong after a garbage collection and between the two.
        config = f"""\
version: 0.1
log: {{level: warn, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {_quoted(self.data_dir())}}}
  delete: {{enabled: {"false" if role == "pull" else "true"}}}
  maintenance:
    readonly: {{enabled: {read_only}}}
    uploadpurging: {{enabled: {"false" if role == "pull" else "true"}, age: 24h, interval: 6h,
      dryrun: false}}
http:
  addr: {self._listen[role]}
  secret: {secrets.token_hex(32)}
  tls: {{certificate: {_quoted(tls.certificate)}, key: {_quoted(tls.key)}}}
auth:
  htpasswd: {{realm: haechi, path: {_quoted(self._directory / f"{role}.htpasswd")}}}
"""
        _write(self._config(role), config)

    def _config(self, role: Role) -> Path:
        return self._directory / f"{role}.yml"

    def _pid_file(self, role: Role) -> Path:
        return self._directory / f"{role}.pid"

    def _log_file(self) -> Path:
        return self._directory / "registry.log"

    def _last_words(self) -> str:
        lines = self._log_file().read_text("utf-8", "replace")[-4000:].splitlines()
        telling = [line for line in lines if "panic:" in line or "fatal" in line]
        return (telling or lines or ["it ended at once"])[-1][:300]


def _quoted(path: Path) -> str:
    return '"' + str(path.resolve()).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _environment() -> dict[str, str]:
    """Nothing of the server's own environment: REGISTRY_* would overrule the configuration."""
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "OTEL_TRACES_EXPORTER": "none"}


def _write(path: Path, content: str) -> None:
    """Replace it as a whole, readable by the owner only."""
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content)
    temporary.rename(path)


def _die_with_parent() -> Callable[[], None]:
    """For the child, before exec: the kernel ends it when the server dies in any way."""
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def arrange() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return arrange


def _refuse_taken(listen: str) -> None:
    """Raises RegistryDown where another program has the port: it would answer in our place."""
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, int(port)))
    except OSError as error:
        raise RegistryDown(reason=f"{listen}: {error.strerror or error}") from error


def _end_stale(pid_file: Path, config: Path) -> None:
    """End the child of a server that is no more; a pid that is another program's is let be."""
    try:
        pid = int(pid_file.read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return
    if str(config).encode() in words:
        log.warning("ending a registry (pid %s) that an earlier server left", pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            _wait_gone(pid)
    pid_file.unlink(missing_ok=True)


def _wait_gone(pid: int) -> None:
    """Its port is free once it is gone; it is nobody's child here, so it can only be watched."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return
    import select

    try:
        select.select([descriptor], [], [], STOP_TIMEOUT_S)
    finally:
        os.close(descriptor)
