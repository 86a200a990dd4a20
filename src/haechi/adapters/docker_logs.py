"""Container logs as the Engine sends them: multiplexed frames, each one message with its time.

A frame is `stream(1) 000 length(4, big endian)` and its bytes; with `timestamps=1` each message
starts with RFC 3339 in nanoseconds. A message longer than the Engine's own limit comes in several
frames without a newline until the last. Terminal (tty) containers send plain bytes.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

MAX_LINE_BYTES: Final = 64 * 1024
_HEADER_BYTES: Final = 8

Stream = Literal["stdout", "stderr"]


@dataclass(frozen=True, slots=True)
class LogLine:
    stream: Stream
    at: str
    """RFC 3339 with nine decimals, UTC, as the Engine wrote it: it sorts as text."""
    text: str


async def decode_lines(chunks: AsyncIterator[bytes], *, tty: bool) -> AsyncIterator[LogLine]:
    if tty:
        async for raw in _split(chunks):
            at, text = _stamp(raw)
            yield LogLine("stdout", at, text)
        return
    open_lines: dict[Stream, tuple[str, bytearray]] = {}
    async for stream, frame in frames(chunks):
        stamp, space, body = frame.partition(b" ")
        if not space:
            stamp, body = b"", frame
        at, line = open_lines.get(stream, (stamp.decode("ascii", "replace"), bytearray()))
        line += body[: max(0, MAX_LINE_BYTES - len(line))]
        if body.endswith(b"\n") or len(line) >= MAX_LINE_BYTES:
            open_lines.pop(stream, None)
            yield LogLine(stream, at, line.decode("utf-8", "replace").rstrip("\r\n"))
        else:
            open_lines[stream] = (at, line)
    for stream, (at, line) in open_lines.items():
        yield LogLine(stream, at, line.decode("utf-8", "replace"))


async def frames(chunks: AsyncIterator[bytes]) -> AsyncIterator[tuple[Stream, bytes]]:
    """Undo the multiplexing; a frame cut off by the end of the stream is dropped."""
    buffer = bytearray()
    async for chunk in chunks:
        buffer += chunk
        while len(buffer) >= _HEADER_BYTES:
            end = _HEADER_BYTES + int.from_bytes(buffer[4:_HEADER_BYTES], "big")
            if len(buffer) < end:
                break
            yield "stderr" if buffer[0] == 2 else "stdout", bytes(buffer[_HEADER_BYTES:end])
            del buffer[:end]


def next_since(last: LogLine | None) -> str:
    """The `since` to go on from: inclusive, so the reader drops what is not later than `last`."""
    if last is None or not last.at:
        return ""
    whole, _, fraction = last.at.rstrip("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole + "+00:00").timestamp())
    return f"{seconds}.{fraction.ljust(9, '0')[:9]}"


async def _split(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    pending = b""
    async for chunk in chunks:
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            yield line
        if len(pending) > MAX_LINE_BYTES:
            yield pending
            pending = b""
    if pending:
        yield pending


def _stamp(raw: bytes) -> tuple[str, str]:
    at, _, text = raw.decode("utf-8", "replace").partition(" ")
    return at, text.rstrip("\r")
