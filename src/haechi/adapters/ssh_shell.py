"""`Shell` over a `Link`: commands, files, transfers, tunnels; each error names host and command."""

import asyncio
import codecs
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

from haechi.adapters import ssh_scripts as scripts
from haechi.adapters.ssh_link import Ended, Link
from haechi.adapters.ssh_tunnel import tunnel
from haechi.core.secrets import Secret
from haechi.domains.clusters.host.errors import FileMissing, FileTooLarge, TransferDamaged
from haechi.domains.clusters.host.failures import failure_of, named
from haechi.domains.clusters.host.ports import (
    HostName,
    OnLine,
    OnSent,
    Ran,
    Stdin,
    TunnelEnd,
)
from haechi.errors import AppError

KEPT_BYTES: Final = 4_000_000
_CHUNK: Final = 256 * 1024
_ANSWER_BYTES: Final = 4096
_LINE_LIMIT: Final = 64 * 1024
_FILE_S: Final = 60.0
_DIGEST_S: Final = 600.0


class AsyncsshShell:
    def __init__(self, link: Link) -> None:
        self._link = link

    @property
    def host(self) -> HostName:
        return self._link.host

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
        out, err = _Kept(on_line), _Kept(on_line)
        name = named(argv)
        ended = await self._link.execute(
            argv,
            what=name,
            root=root,
            stdin=as_bytes(stdin),
            on_stdout=out.take,
            on_stderr=err.take,
            timeout_s=timeout_s,
            stall_s=stall_s,
        )
        ran = Ran(ended.status, out.end(), err.end())
        if check and ran.status:
            raise failure_of(self.host.name, name, ran, timeout_s)
        return ran

    async def read(self, path: str, *, root: bool = False, limit_bytes: int = 4_000_000) -> bytes:
        content = _Head(limit_bytes + 1)
        ended, said = await self._script(
            f"read {path}",
            scripts.script(scripts.READ, path, limit_bytes + 1),
            root=root,
            on_stdout=content.take,
        )
        if ended.status == scripts.MISSING:
            raise FileMissing(host=self.host.name, path=path)
        self._check(f"read {path}", ended, said)
        if len(content.heard) > limit_bytes:
            raise FileTooLarge(host=self.host.name, path=path, limit_bytes=limit_bytes)
        return bytes(content.heard)

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
        data = as_bytes(content) or b""
        how = "yes" if in_place else "no"
        ended, said = await self._script(
            f"write {path}",
            scripts.script(scripts.WRITE, path, f"{mode:o}", owner, len(data), how),
            root=root,
            stdin=data,
        )
        if ended.status == scripts.SAME:
            return False
        self._check(f"write {path}", ended, said)
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
        what = f"send {remote}"
        digest = digest or await asyncio.to_thread(_digest_of, local, None)
        total = (await asyncio.to_thread(local.stat)).st_size
        place = PurePosixPath(remote)
        part = str(place.with_name(f".{place.name}.{digest[:16]}.part"))
        arguments = (remote, digest, f"{mode:o}", part)
        answer = _Head(_ANSWER_BYTES)
        ended, said = await self._script(
            what,
            scripts.script(scripts.BEGIN, *arguments),
            root=root,
            on_stdout=answer.take,
            timeout_s=_DIGEST_S,
        )
        if ended.status == scripts.SAME:
            if on_sent is not None:
                on_sent(total, total)
            return False
        self._check(what, ended, said)
        size, digest_there = self._size_and_digest(answer, remote)
        start = await _resume_at(local, total, size, digest_there)
        with await asyncio.to_thread(local.open, "rb") as file:
            ended, said = await self._script(
                what,
                scripts.script(scripts.APPEND, part, start),
                root=root,
                stdin=_pieces(file, start, total, on_sent),
                timeout_s=None,
                stall_s=self._link.pace.stall_s,
            )
        self._check(what, ended, said)
        ended, said = await self._script(
            what, scripts.script(scripts.FINISH, *arguments), root=root, timeout_s=_DIGEST_S
        )
        if ended.status == scripts.MISSING:
            raise TransferDamaged(host=self.host.name, path=remote)
        self._check(what, ended, said)
        return True

    async def fetch(
        self,
        remote: str,
        local: Path,
        *,
        root: bool = True,
        on_sent: OnSent | None = None,
    ) -> None:
        what = f"fetch {remote}"
        answer = _Head(_ANSWER_BYTES)
        ended, said = await self._script(
            what,
            scripts.script(scripts.FETCH, remote),
            root=root,
            on_stdout=answer.take,
            timeout_s=_DIGEST_S,
        )
        if ended.status == scripts.MISSING:
            raise FileMissing(host=self.host.name, path=remote)
        self._check(what, ended, said)
        size, digest = self._size_and_digest(answer, remote)
        part = local.with_name(f".{local.name}.part")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        descriptor = await asyncio.to_thread(os.open, part, flags, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                damaged = TransferDamaged(host=self.host.name, path=remote)
                taking = _Taking(file, size, on_sent, damaged)
                ended, said = await self._script(
                    what,
                    ["cat", "--", remote],
                    root=root,
                    on_stdout=taking.take,
                    timeout_s=None,
                    stall_s=self._link.pace.stall_s,
                )
            self._check(what, ended, said)
            if taking.digest() != digest:
                raise damaged
            await asyncio.to_thread(part.replace, local)
        finally:
            await asyncio.to_thread(part.unlink, missing_ok=True)

    def _size_and_digest(self, answer: "_Head", remote: str) -> tuple[int, str]:
        """What BEGIN and FETCH print; a host that says anything else has not got the file right."""
        words = answer.heard.decode(errors="replace").split()
        if len(words) < 2 or not words[0].isdecimal():
            raise TransferDamaged(host=self.host.name, path=remote)
        return int(words[0]), words[1].removeprefix("\\")

    def tunnel(self, end: TunnelEnd) -> AbstractAsyncContextManager[Path]:
        return tunnel(self._link, end)

    async def _script(
        self,
        what: str,
        argv: list[str],
        *,
        root: bool,
        stdin: bytes | AsyncIterator[bytes] | None = None,
        on_stdout: Callable[[bytes], None] | None = None,
        timeout_s: float | None = _FILE_S,
        stall_s: float | None = None,
    ) -> tuple[Ended, str]:
        """How it ended and what it said on standard error."""
        err = _Kept(None)
        ended = await self._link.execute(
            argv,
            what=what,
            root=root,
            stdin=stdin,
            on_stdout=on_stdout or _ignore,
            on_stderr=err.take,
            timeout_s=timeout_s,
            stall_s=stall_s,
        )
        return ended, err.end()

    def _check(self, what: str, ended: Ended, said: str) -> None:
        if ended.status:
            raise failure_of(self.host.name, what, Ran(ended.status, "", said), _FILE_S)


class _Head:
    """The beginning of what a host says: no more is kept, whatever it sends."""

    def __init__(self, limit_bytes: int) -> None:
        self.heard = bytearray()
        self._limit = limit_bytes

    def take(self, data: bytes) -> None:
        self.heard += data[: self._limit - len(self.heard)]


class _Kept:
    """Output as text, up to a limit, and line by line for whoever listens."""

    def __init__(self, on_line: OnLine | None) -> None:
        self._kept = bytearray()
        self._on_line = on_line
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._begun = ""

    def take(self, data: bytes) -> None:
        if len(self._kept) < KEPT_BYTES:
            self._kept += data[: KEPT_BYTES - len(self._kept)]
        if self._on_line is not None:
            *lines, begun = (self._begun + self._decoder.decode(data)).split("\n")
            for line in lines:
                self._on_line(line[:_LINE_LIMIT].rstrip("\r"))
            self._begun = begun[:_LINE_LIMIT]

    def end(self) -> str:
        if self._on_line is not None and self._begun:
            self._on_line(self._begun.rstrip("\r"))
            self._begun = ""
        return self._kept.decode(errors="replace")


class _Taking:
    """A file that arrives: written and digested piece by piece."""

    def __init__(
        self, file: BinaryIO, total: int, on_sent: OnSent | None, too_much: AppError
    ) -> None:
        self._file = file
        self._too_much = too_much
        self._total = total
        self._there = 0
        self._on_sent = on_sent
        self._digest = hashlib.sha256()

    def take(self, data: bytes) -> None:
        self._there += len(data)
        if self._there > self._total:
            raise self._too_much
        self._file.write(data)
        self._digest.update(data)
        if self._on_sent is not None:
            self._on_sent(self._there, self._total)

    def digest(self) -> str:
        return self._digest.hexdigest()


async def _resume_at(local: Path, total: int, there: int, digest: str) -> int:
    """How much of what is there already is the beginning of this file."""
    if not 0 < there <= total:
        return 0
    mine = await asyncio.to_thread(_digest_of, local, there)
    return there if mine == digest else 0


def _digest_of(path: Path, size: int | None) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        left = size
        while data := file.read(_CHUNK if left is None else min(_CHUNK, left)):
            digest.update(data)
            left = None if left is None else left - len(data)
    return digest.hexdigest()


async def _pieces(
    file: BinaryIO, start: int, total: int, on_sent: OnSent | None
) -> AsyncIterator[bytes]:
    await asyncio.to_thread(file.seek, start)
    there = start
    while data := await asyncio.to_thread(file.read, _CHUNK):
        yield data
        there += len(data)
        if on_sent is not None:
            on_sent(there, total)


def as_bytes(stdin: Stdin) -> bytes | None:
    if isinstance(stdin, Secret):
        return stdin.reveal().encode()
    if isinstance(stdin, str):
        return stdin.encode()
    return stdin


def _ignore(data: bytes) -> None:
    del data
