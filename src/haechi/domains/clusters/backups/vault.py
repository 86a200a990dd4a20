"""Where backups lie: encrypted files in the data folder, each with a key of its own.

In clear they exist only while one is taken or brought back, in a file that only the server's user
can read, and that is gone afterwards (after a crash: at the next start).
"""

import asyncio
import hashlib
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from haechi.core import sealed
from haechi.core.secrets import Keyring
from haechi.domains.clusters.backups.model import BackupIncomplete
from haechi.domains.clusters.backups.store import BackupRow

_CLEAR: str = ".clear"


class Kept(NamedTuple):
    size_bytes: int
    sha256: str
    file_key: bytes
    """Encrypted by the keyring."""


class Vault:
    def __init__(self, folder: Path, keyring: Keyring) -> None:
        self._folder = folder
        self._keyring = keyring

    def path(self, backup_id: str) -> Path:
        return self._folder / f"{backup_id}.sealed"

    def clear_path(self, name: str) -> Path:
        """For the content in clear; whoever makes it removes it."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return self._folder / f"{name}{_CLEAR}"

    async def keep(self, backup_id: str, clear: Path) -> Kept:
        """Encrypt it and remove it in clear."""
        return await asyncio.to_thread(self._keep, backup_id, clear)

    def _keep(self, backup_id: str, clear: Path) -> Kept:
        key = sealed.new_key()
        target = self.path(backup_id)
        with clear.open("rb") as source:
            sealed.seal(source, target, key, backup_id)
        clear.unlink()
        with target.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = target.stat().st_size
        return Kept(size, digest, self._keyring.encrypt(key, f"{backup_id}:file_key"))

    def read(self, row: BackupRow) -> Iterator[bytes]:
        """The archive (tar.gz), piece by piece. Raises SealedFileDamaged."""
        key = self._keyring.decrypt(row.file_key, f"{row.id}:file_key")
        return sealed.unseal(self.path(row.id), key, row.id)

    async def take_out(self, row: BackupRow, name: str, target: Path) -> None:
        """One file of the archive, in clear (0600). Raises BackupIncomplete, SealedFileDamaged."""
        await asyncio.to_thread(self._take_out, row, name, target)

    def _take_out(self, row: BackupRow, name: str, target: Path) -> None:
        archive = self.clear_path(f"{row.id}-{hashlib.sha256(name.encode()).hexdigest()[:8]}")
        try:
            self._write(row, archive)
            with tarfile.open(archive, "r:gz") as tar:
                _extract(tar, row.id, name, target)
        finally:
            archive.unlink(missing_ok=True)

    async def texts(self, row: BackupRow, names: list[str]) -> dict[str, bytes]:
        """Small files of the archive: name → content, those that are there."""
        return await asyncio.to_thread(self._texts, row, names)

    def _texts(self, row: BackupRow, names: list[str]) -> dict[str, bytes]:
        archive = self.clear_path(f"{row.id}-texts")
        found: dict[str, bytes] = {}
        try:
            self._write(row, archive)
            with tarfile.open(archive, "r:gz") as tar:
                for entry in tar:
                    file = tar.extractfile(entry) if entry.name in names else None
                    if file is not None:
                        found[entry.name] = file.read()
        finally:
            archive.unlink(missing_ok=True)
        return found

    def _write(self, row: BackupRow, target: Path) -> None:
        target.touch(mode=0o600)
        with target.open("wb") as file:
            for piece in self.read(row):
                file.write(piece)

    async def forget(self, backup_ids: list[str]) -> None:
        for backup_id in backup_ids:
            await asyncio.to_thread(self.path(backup_id).unlink, missing_ok=True)

    async def sweep(self, known: set[str]) -> None:
        """At start: what an interrupted work left in clear or half written, or nobody knows."""
        await asyncio.to_thread(self._sweep, known)

    def _sweep(self, known: set[str]) -> None:
        if not self._folder.is_dir():
            return
        for path in self._folder.iterdir():
            kept = path.suffix == ".sealed" and path.stem in known
            if path.is_file() and not kept:
                path.unlink()


def _extract(tar: tarfile.TarFile, backup_id: str, name: str, target: Path) -> None:
    """Read by name, never unpacked by path: what stands in the archive decides nothing here."""
    try:
        file = tar.extractfile(name)
    except KeyError:
        file = None
    if file is None:
        raise BackupIncomplete(id=backup_id, path=name)
    target.touch(mode=0o600)
    with target.open("wb") as out:
        while piece := file.read(1024**2):
            out.write(piece)
