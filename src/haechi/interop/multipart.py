"""multipart/form-data, streamed: the file goes to disk in pieces, small fields stay in memory.

Only as much of RFC 7578 as upload forms use; a body that is not well formed is Refusal 0010.
"""

import hashlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from haechi.interop.codes import Refusal

MAX_FIELD_BYTES: Final = 8 * 1024
MAX_FIELDS: Final = 32
MAX_HEADER_BYTES: Final = 8 * 1024
_BOUNDARY: Final = re.compile(r'boundary=(?:"([^"]{1,200})"|([^\s;"]{1,70}))', re.IGNORECASE)
_NAME: Final = re.compile(rb';\s*name="([^"]*)"', re.IGNORECASE)
_FILE_NAME: Final = re.compile(rb';\s*filename="([^"]*)"', re.IGNORECASE)


@dataclass(slots=True)
class Form:
    fields: dict[str, str] = field(default_factory=dict)
    file_name: str = ""
    size_bytes: int = 0
    sha256: str = ""
    has_file: bool = False


class Reader:
    """Feeds a body through; the part named `file` is written to `target`."""

    def __init__(self, content_type: str, target: Path, *, max_file_bytes: int) -> None:
        found = _BOUNDARY.search(content_type)
        if found is None:
            raise _bad("boundary")
        self._mark = b"--" + (found[1] or found[2]).encode("latin-1", "replace")
        self._target = target
        self._max_file_bytes = max_file_bytes
        self._buffer = bytearray()
        self._form = Form()
        self._digest = hashlib.sha256()
        self._file: IO[bytes] | None = None
        self._field: tuple[str, bytearray] | None = None
        self._state = "start"

    async def read(self, pieces: AsyncIterator[bytes]) -> Form:
        """Raises Refusal 0010, 0016 (too large)."""
        try:
            async for piece in pieces:
                self._buffer += piece
                while self._step():
                    pass
            if self._state != "end":
                raise _bad("cut off")
        finally:
            if self._file is not None:
                self._file.close()
        self._form.sha256 = self._digest.hexdigest()
        return self._form

    def _step(self) -> bool:
        """One step of parsing; False where more of the body is needed."""
        if self._state == "start":
            return self._first_mark()
        if self._state == "headers":
            return self._headers()
        if self._state == "content":
            return self._content()
        self._buffer.clear()
        return False

    def _first_mark(self) -> bool:
        at = self._buffer.find(self._mark)
        if at < 0:
            if len(self._buffer) > MAX_HEADER_BYTES:
                raise _bad("no boundary")
            return False
        return self._after_mark(at + len(self._mark))

    def _after_mark(self, at: int) -> bool:
        """What follows a boundary: `--` ends the form, a line break begins a part."""
        if len(self._buffer) < at + 2:
            return False
        end = bytes(self._buffer[at : at + 2])
        if end == b"--":
            self._state = "end"
        elif end == b"\r\n":
            self._state = "headers"
        else:
            raise _bad("boundary")
        del self._buffer[: at + 2]
        return True

    def _headers(self) -> bool:
        at = self._buffer.find(b"\r\n\r\n")
        if at < 0:
            if len(self._buffer) > MAX_HEADER_BYTES:
                raise _bad("part headers")
            return False
        headers = bytes(self._buffer[:at])
        del self._buffer[: at + 4]
        name = _NAME.search(headers)
        if name is None:
            raise _bad("part without a name")
        text = _decode(name[1])
        file_name = _FILE_NAME.search(headers)
        if text == "file" or file_name is not None:
            self._begin_file(_decode(file_name[1]) if file_name else "")
        else:
            if len(self._form.fields) >= MAX_FIELDS:
                raise _bad("too many fields")
            self._field = (text, bytearray())
        self._state = "content"
        return True

    def _begin_file(self, file_name: str) -> None:
        if self._form.has_file:
            raise _bad("more than one file")
        self._form.has_file = True
        self._form.file_name = re.split(r"[\\/]", file_name)[-1]
        self._file = self._target.open("xb")

    def _content(self) -> bool:
        end = self._buffer.find(b"\r\n" + self._mark)
        if end >= 0:
            if len(self._buffer) < end + len(self._mark) + 4:
                return False
            self._take(bytes(self._buffer[:end]))
            self._end_part()
            del self._buffer[:end]
            return self._after_mark(len(self._mark) + 2)
        keep = len(self._mark) + 4
        ready = len(self._buffer) - keep
        if ready > 0:
            self._take(bytes(self._buffer[:ready]))
            del self._buffer[:ready]
        return False

    def _take(self, data: bytes) -> None:
        if self._field is not None:
            self._field[1].extend(data)
            if len(self._field[1]) > MAX_FIELD_BYTES:
                raise Refusal("0016", "필드가 너무 깁니다.", "A form field is too long.")
            return
        self._form.size_bytes += len(data)
        if self._form.size_bytes > self._max_file_bytes:
            raise Refusal("0016", "파일이 너무 큽니다.", "The file is too large.")
        self._digest.update(data)
        assert self._file is not None
        self._file.write(data)

    def _end_part(self) -> None:
        if self._field is not None:
            name, value = self._field
            self._form.fields[name] = _decode(bytes(value))
            self._field = None
        elif self._file is not None:
            self._file.close()
            self._file = None


def _decode(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise _bad("not UTF-8") from error


def _bad(reason: str) -> Refusal:
    return Refusal(
        "0010",
        f"multipart 본문을 읽을 수 없습니다 ({reason}).",
        f"The multipart body is not readable ({reason}).",
    )
