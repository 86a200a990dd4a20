"""The data folder: everything an agent remembers, one process at a time.

    invitation.json       laid here by whoever installs the agent; used up at the first start
    agent.lock            held while an agent runs (flock; a killed agent leaves none behind)
    device.json           who this is and where the server is
    identity.pem          private key and certificate in one file, so that renewal is one rename
    ca.pem                the site CA
    queue.db              results not yet acknowledged and samples kept while cut off (outbox.py)
    desired.json          the newest desired state, without camera addresses or passwords
    registry.json         this device's pull access (0600)
    containers/dep-….json spec and token of each container, to make it again without the server
    paths.json            the media path tokens handed to AIs
    media/                the media process's own folder and socket

Files are 0600 and replaced atomically: written beside, fsynced, renamed, folder fsynced.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from haechi.agent.errors import AlreadyRunning, NotEnrolled

T = TypeVar("T")


class Device(Struct, omit_defaults=True):
    """`device.json`."""

    device_id: str
    server_id: str
    server: str
    """HOST:PORT of the agents listener."""
    not_before_ms: int = 0
    not_after_ms: int = 0
    """Of the certificate; renewed at half-life."""
    seen_wall_ms: int = 0
    """Newest wall time a server has told: a clock before it is certainly wrong."""


class Invitation(Struct, omit_defaults=True):
    """`invitation.json`: what `haechi agent enrol` is told otherwise."""

    server: str
    token: str
    ca_fingerprint: str


class Home:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.invitation_file = root / "invitation.json"
        self.device_file = root / "device.json"
        self.identity_file = root / "identity.pem"
        self.ca_file = root / "ca.pem"
        self.queue_file = root / "queue.db"
        self.desired_file = root / "desired.json"
        self.registry_file = root / "registry.json"
        self.paths_file = root / "paths.json"
        self.containers = root / "containers"
        self.media = root / "media"

    def prepare(self) -> None:
        for folder in (self.root, self.containers, self.media):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)

    def device(self) -> Device:
        device = read_json(self.device_file, Device)
        if device is None:
            raise NotEnrolled(data_dir=str(self.root))
        return device

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """One agent per folder. The lock dies with the process, however it dies."""
        descriptor = os.open(self.root / "agent.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise AlreadyRunning(data_dir=str(self.root)) from error
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
            yield
        finally:
            os.close(descriptor)


def write_file(path: Path, data: bytes) -> None:
    """Replace a file so that after a crash it holds the old or the new content, whole."""
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync_folder(path.parent)


def remove_file(path: Path) -> None:
    path.unlink(missing_ok=True)
    _sync_folder(path.parent)


def write_json(path: Path, value: Struct | dict[str, str]) -> None:
    write_file(path, msgspec.json.encode(value))


def read_json(path: Path, kind: type[T]) -> T | None:
    """None where there is no such file, or where it does not hold a `kind` (kept as `.bad`)."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.MsgspecError:
        path.replace(path.with_name(path.name + ".bad"))
        return None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
