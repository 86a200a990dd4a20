"""Zips on disk, by content: `sha256/ab/<digest>.zip`, and uploads that are still coming in.

A file appears under its digest by one rename after everything was checked and synced; what a crash
leaves in `incoming/` is swept at the next start. Blocking parts run in threads.
"""

import asyncio
import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from haechi.core.ids import new_id
from haechi.domains.packages.problems import Incomplete, TooLarge
from haechi.errors import DiskFull

_BUFFER_BYTES: Final = 1024 * 1024
_FREE_CHECK_BYTES: Final = 16 * 1024 * 1024
FreeBytes = Callable[[Path], int]


def free_bytes(path: Path) -> int:
    return shutil.disk_usage(path).free


@dataclass(frozen=True, slots=True)
class Received:
    path: Path
    sha256: str
    size_bytes: int


class ZipFiles:
    def __init__(
        self, folder: Path, *, max_bytes: int, min_free_bytes: int, free: FreeBytes = free_bytes
    ) -> None:
        self.folder = folder
        self._incoming = folder / "incoming"
        self._max_bytes = max_bytes
        self._min_free_bytes = min_free_bytes
        self._free = free

    def prepare(self) -> None:
        """Make the folders and sweep what a crash left."""
        self._incoming.mkdir(parents=True, exist_ok=True)
        for left in self._incoming.iterdir():
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)

    def sweep(self, wanted: set[str]) -> list[str]:
        """Delete zips that no version knows; returns their digests."""
        gone = []
        for path in (self.folder / "sha256").glob("*/*.zip"):
            if path.stem not in wanted:
                path.unlink(missing_ok=True)
                gone.append(path.stem)
        return gone

    def path_of(self, sha256: str) -> Path:
        return self.folder / "sha256" / sha256[:2] / f"{sha256}.zip"

    def check_room(self, wanted_bytes: int, place: Path | None = None) -> None:
        """Raises DiskFull where `wanted_bytes` more would leave less than the reserve."""
        free = self._free(place or self.folder)
        if free - wanted_bytes < self._min_free_bytes:
            raise DiskFull(
                where="packages",
                free_bytes=free,
                needed_bytes=wanted_bytes,
                reserve_bytes=self._min_free_bytes,
            )

    @contextlib.asynccontextmanager
    async def receive(
        self, pieces: AsyncIterator[bytes], *, expected_bytes: int | None
    ) -> AsyncIterator[Received]:
        """Write a stream to a temporary file that is gone when the block is left.

        Raises TooLarge, DiskFull, Incomplete.
        """
        if expected_bytes is not None and expected_bytes > self._max_bytes:
            raise TooLarge(limit_bytes=self._max_bytes)
        self.check_room(expected_bytes or 0)
        path = self._incoming / f"{new_id('request')}.part"
        try:
            with _disk_full_is_an_answer():
                received = await self._write(path, pieces)
            if expected_bytes is not None and received.size_bytes != expected_bytes:
                raise Incomplete(expected_bytes=expected_bytes, received_bytes=received.size_bytes)
            yield received
        finally:
            path.unlink(missing_ok=True)

    async def _write(self, path: Path, pieces: AsyncIterator[bytes]) -> Received:
        digest = hashlib.sha256()
        size = checked = 0
        buffer = bytearray()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            async for piece in pieces:
                size += len(piece)
                if size > self._max_bytes:
                    raise TooLarge(limit_bytes=self._max_bytes)
                buffer += piece
                if len(buffer) >= _BUFFER_BYTES:
                    await asyncio.to_thread(_append, file, digest.update, bytes(buffer))
                    buffer.clear()
                if size - checked >= _FREE_CHECK_BYTES:
                    self.check_room(0)
                    checked = size
            await asyncio.to_thread(_append, file, digest.update, bytes(buffer))
            await asyncio.to_thread(os.fsync, file.fileno())
        return Received(path, digest.hexdigest(), size)

    async def keep(self, received: Received) -> None:
        """Put it under its digest, durably; a file that is there already is the same one."""
        with _disk_full_is_an_answer():
            await asyncio.to_thread(self._keep, received)

    def _keep(self, received: Received) -> None:
        place = self.path_of(received.sha256)
        if place.exists() and place.stat().st_size == received.size_bytes:
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        received.path.replace(place)
        place.chmod(0o440)
        for folder in (place.parent, place.parent.parent):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def delete(self, sha256: str) -> None:
        self.path_of(sha256).unlink(missing_ok=True)


def _append(file: BinaryIO, update: Callable[[bytes], None], content: bytes) -> None:
    update(content)
    view = memoryview(content)
    while view:
        view = view[file.write(view) :]


@contextlib.contextmanager
def _disk_full_is_an_answer() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise DiskFull(where="packages") from error
        raise
