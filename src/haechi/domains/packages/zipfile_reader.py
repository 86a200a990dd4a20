"""Reads zips that nobody trusts: the central directory within bounds, then single entries.

The standard library's reader takes a directory of any size into memory, hides what a name really
was and lets entries share data. This one stops early and keeps everything that has to be judged.
It only reads: judging is `inspection`, writing is `extraction`.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

from haechi.domains.packages.names import printable
from haechi.domains.packages.problems import BadPath, Damaged, NotAZip, TooManyFiles, Truncated

_END: Final = struct.Struct("<4s4H2LH")
_END64_LOCATOR: Final = struct.Struct("<4sLQL")
_END64: Final = struct.Struct("<4sQ2H2L4Q")
_CENTRAL: Final = struct.Struct("<4s6H3L5H2L")
_LOCAL: Final = struct.Struct("<4s5H3L2H")
_MAX_COMMENT: Final = 65_535
_CHUNK: Final = 256 * 1024
MAX_NAME_BYTES: Final = 4096
"""As written in the zip: more than any good path, little enough to keep for every entry."""
STORED: Final = 0
DEFLATED: Final = 8
_WINDOWS: Final = frozenset({0, 10, 11, 14})
_UNIX: Final = frozenset({3, 19})


@dataclass(frozen=True, slots=True)
class Entry:
    raw_name: bytes
    utf8_flag: bool
    from_windows: bool
    encrypted: bool
    method: int
    crc: int
    packed_bytes: int
    size_bytes: int
    header_at: int
    mode: int
    """Unix mode with file type; 0 where the writer gave none."""
    ends_with_slash: bool


@dataclass(frozen=True, slots=True)
class _Directory:
    at: int
    size: int
    base: int
    """Bytes before the zip proper (a self-extractor): offsets count from here."""


class ZipReader:
    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("rb")
        self.size_bytes = path.stat().st_size
        self.directory_at = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def entries(self, *, limit: int) -> list[Entry]:
        """Raises NotAZip, Truncated, TooManyFiles, BadPath."""
        directory = self._find_directory()
        self.directory_at = directory.at
        self._file.seek(directory.at)
        left = directory.size
        found: list[Entry] = []
        while left > 0:
            header = self._file.read(_CENTRAL.size)
            if len(header) < _CENTRAL.size or header[:4] != b"PK\x01\x02":
                raise Truncated(reason="directory")
            lengths = struct.unpack_from("<3H", header, 28)
            variable = self._file.read(sum(lengths))
            if len(variable) < sum(lengths):
                raise Truncated(reason="directory")
            left -= len(header) + len(variable)
            if len(found) >= limit:
                raise TooManyFiles(limit=limit)
            found.append(_entry(header, variable, lengths[0], lengths[1], directory.base))
        if left < 0:
            raise Truncated(reason="directory")
        return found

    def _find_directory(self) -> _Directory:
        self._file.seek(0)
        starts = self._file.read(4)
        tail_at = max(0, self.size_bytes - _END.size - _MAX_COMMENT)
        self._file.seek(tail_at)
        tail = self._file.read()
        at = tail.rfind(b"PK\x05\x06")
        while at >= 0:
            if at + _END.size <= len(tail):
                comment_bytes = int.from_bytes(tail[at + 20 : at + 22], "little")
                if at + _END.size + comment_bytes == len(tail):
                    return self._directory(tail, at, tail_at)
            at = tail.rfind(b"PK\x05\x06", 0, at)
        if starts == b"PK\x03\x04":
            raise Truncated(reason="no directory")
        raise NotAZip

    def _directory(self, tail: bytes, at: int, tail_at: int) -> _Directory:
        _, disk, start_disk, _, _, size, offset, _ = _END.unpack_from(tail, at)
        if disk not in {0, 0xFFFF} or start_disk not in {0, 0xFFFF}:
            raise NotAZip
        end_at = tail_at + at
        if size == 0xFFFFFFFF or offset == 0xFFFFFFFF or disk == 0xFFFF:
            end_at, size, offset = self._end64(end_at)
        base = end_at - size - offset
        if base < 0 or offset < 0:
            raise Truncated(reason="directory")
        return _Directory(at=base + offset, size=size, base=base)

    def _end64(self, end_at: int) -> tuple[int, int, int]:
        locator_at = end_at - _END64_LOCATOR.size
        record_at = locator_at - _END64.size
        if record_at < 0:
            raise Truncated(reason="zip64")
        self._file.seek(record_at)
        record = self._file.read(_END64.size)
        locator = self._file.read(_END64_LOCATOR.size)
        if record[:4] != b"PK\x06\x06" or locator[:4] != b"PK\x06\x07":
            raise Truncated(reason="zip64")
        unpacked = _END64.unpack(record)
        return record_at, unpacked[8], unpacked[9]

    def data_at(self, entry: Entry) -> int:
        """Where the entry's data begins; raises Truncated where its header is none."""
        self._file.seek(entry.header_at)
        header = self._file.read(_LOCAL.size)
        if len(header) < _LOCAL.size or header[:4] != b"PK\x03\x04":
            raise Truncated(reason="entry header")
        name_bytes, extra_bytes = struct.unpack_from("<2H", header, 26)
        return entry.header_at + _LOCAL.size + int(name_bytes) + int(extra_bytes)

    def read(self, entry: Entry, path: str) -> Iterator[bytes]:
        """The content in pieces, never more than declared; raises Damaged at any difference."""
        produced = crc = 0
        inflate = zlib.decompressobj(-15) if entry.method == DEFLATED else None
        try:
            for piece in self._pieces(entry, path, inflate):
                produced += len(piece)
                if produced > entry.size_bytes:
                    raise Damaged(path=path)
                crc = zlib.crc32(piece, crc)
                yield piece
        except zlib.error as error:
            raise Damaged(path=path) from error
        incomplete = inflate is not None and not inflate.eof
        if incomplete or produced != entry.size_bytes or crc != entry.crc:
            raise Damaged(path=path)

    def _pieces(self, entry: Entry, path: str, inflate: Any) -> Iterator[bytes]:
        at, left = self.data_at(entry), entry.packed_bytes
        while left > 0:
            self._file.seek(at)
            packed = self._file.read(min(_CHUNK, left))
            if not packed:
                raise Damaged(path=path)
            at += len(packed)
            left -= len(packed)
            if inflate is None:
                yield packed
                continue
            full = True
            while packed or full:
                piece = inflate.decompress(packed, _CHUNK)
                yield piece
                if inflate.eof:
                    return
                # A full piece: zlib may hold more back though it has taken all of its input.
                packed, full = inflate.unconsumed_tail, len(piece) == _CHUNK

    def read_all(self, entry: Entry, path: str, *, limit: int) -> bytes:
        """A small file whole; raises Damaged where it is larger than `limit`."""
        if entry.size_bytes > limit:
            raise Damaged(path=path)
        return b"".join(self.read(entry, path))


def _entry(header: bytes, variable: bytes, name_bytes: int, extra_bytes: int, base: int) -> Entry:
    (_, made_by, _, flags, method, _, _, crc, packed, size, _, _, _, _, _, attributes, offset) = (
        _CENTRAL.unpack(header)
    )
    raw_name = variable[:name_bytes]
    extra = variable[name_bytes : name_bytes + extra_bytes]
    utf8_flag = bool(flags & 0x800)
    for kind, content in _extras(extra):
        if kind == 0x0001:
            size, packed, offset = _zip64(content, size, packed, offset)
        elif kind == 0x7075 and content[:1] == b"\x01":
            # Info-ZIP's UTF-8 name counts only if it belongs to the name beside it.
            belongs = int.from_bytes(content[1:5], "little") == zlib.crc32(raw_name)
            raw_name, utf8_flag = (content[5:], True) if belongs else (raw_name, utf8_flag)
    if len(raw_name) > MAX_NAME_BYTES:
        shown = printable(raw_name[:MAX_NAME_BYTES].decode("latin-1"))
        raise BadPath(path=shown, reason=f"> {MAX_NAME_BYTES} bytes")
    system = made_by >> 8
    mode = attributes >> 16 if system in _UNIX else 0
    return Entry(
        raw_name=raw_name,
        utf8_flag=utf8_flag,
        from_windows=system in _WINDOWS,
        encrypted=bool(flags & 0x2041),
        method=method,
        crc=crc,
        packed_bytes=packed,
        size_bytes=size,
        header_at=base + offset,
        mode=mode,
        ends_with_slash=raw_name.endswith((b"/", b"\\")),
    )


def _extras(extra: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        yield kind, extra[at + 4 : at + 4 + length]
        at += 4 + length


def _zip64(content: bytes, size: int, packed: int, offset: int) -> tuple[int, int, int]:
    numbers = [
        int.from_bytes(content[at : at + 8], "little") for at in range(0, len(content) - 7, 8)
    ]
    values = []
    for value in (size, packed, offset):
        if value == 0xFFFFFFFF:
            if not numbers:
                raise Truncated(reason="zip64")
            values.append(numbers.pop(0))
        else:
            values.append(value)
    return values[0], values[1], values[2]
