"""BuildKit's trace as lines for people.

With `version=2` the Engine sends `moby.buildkit.trace` lines: base64 of a protobuf StatusResponse
(vertexes = 1, statuses = 2, logs = 3). Decoding its few fields by hand spares a protobuf library.
Knows nothing of what is built.
"""

import base64
import binascii
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

_ORDER: Final = re.compile(r"^\[(?:\S+ )?(\d+)/(\d+)\] ")
_KEPT_LINES: Final = 20
_LINE_LIMIT: Final = 4000
_ANSI: Final = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


@dataclass(slots=True)
class _Step:
    number: int
    name: str
    started_s: float | None = None
    ended: bool = False
    error: str = ""
    open_line: str = ""
    kept: deque[str] = field(default_factory=lambda: deque(maxlen=_KEPT_LINES))


class Trace:
    """Feed it every line of a build's answer; it gives log lines and remembers what failed."""

    def __init__(self) -> None:
        self._steps: dict[str, _Step] = {}
        self._transfers: set[str] = set()
        self.image_id = ""
        self.error = ""
        """The Engine's own words for why the build ended."""

    @property
    def ratio(self) -> float:
        """How many of the known Dockerfile steps are done, 0-1."""
        steps = [step for step in self._steps.values() if _ORDER.match(step.name)]
        return sum(step.ended for step in steps) / len(steps) if steps else 0.0

    @property
    def current(self) -> str:
        """The step that failed, or else the last one that began."""
        failed = [step for step in self._steps.values() if step.error]
        started = [step for step in self._steps.values() if step.started_s is not None]
        chosen = failed or [step for step in started if not step.ended] or started
        return chosen[-1].name if chosen else ""

    @property
    def last_lines(self) -> list[str]:
        """What the failed step said last."""
        failed = [step for step in self._steps.values() if step.error]
        return list(failed[-1].kept) if failed else []

    def feed(self, line: dict[str, Any]) -> list[str]:
        if line.get("error"):
            detail = line.get("errorDetail")
            message = detail.get("message") if isinstance(detail, dict) else None
            self.error = str(message or line["error"])
            return []
        aux = line.get("aux")
        if isinstance(aux, dict) and "ID" in aux:
            self.image_id = str(aux["ID"])
            return []
        if line.get("id") == "moby.buildkit.trace" and isinstance(aux, str):
            try:
                return list(self._decode(base64.b64decode(aux)))
            except (binascii.Error, IndexError, ValueError):
                return []
        if isinstance(line.get("stream"), str):
            return [text for text in line["stream"].splitlines() if text.strip()]
        return []

    def _decode(self, data: bytes) -> Iterator[str]:
        for number, value in _fields(data):
            if number == 1:
                yield from self._vertex(dict(_fields(_bytes(value))))
            elif number == 2:
                yield from self._status(dict(_fields(_bytes(value))))
            elif number == 3:
                yield from self._log(dict(_fields(_bytes(value))))

    def _vertex(self, vertex: dict[int, int | bytes]) -> Iterator[str]:
        digest, name = _text(vertex.get(1)), _text(vertex.get(3))
        step = self._steps.get(digest)
        if step is None:
            step = self._steps[digest] = _Step(len(self._steps) + 1, name)
        if 5 in vertex and step.started_s is None:
            step.started_s = _seconds(vertex[5])
            yield f"#{step.number} {step.name}"
        error = _text(vertex.get(7))
        if 6 in vertex and not step.ended:
            step.ended = True
            if step.open_line:
                yield f"#{step.number} {step.open_line}"
                step.open_line = ""
            if error:
                step.error = error
                yield f"#{step.number} ERROR: {error}"
            elif vertex.get(4):
                yield f"#{step.number} CACHED"
            else:
                took_s = _seconds(vertex[6]) - (step.started_s or 0)
                yield f"#{step.number} DONE {max(0.0, took_s):.1f}s"

    def _status(self, status: dict[int, int | bytes]) -> Iterator[str]:
        """Only the end of a layer transfer is worth a line."""
        name, step = _text(status.get(1)), self._steps.get(_text(status.get(2)))
        if step is None or 7 not in status or name in self._transfers:
            return
        self._transfers.add(name)
        total = status.get(5, 0)
        size = f" {total / 1e6:.1f} MB" if isinstance(total, int) and total else ""
        yield f"#{step.number} {name}{size} done"

    def _log(self, log: dict[int, int | bytes]) -> Iterator[str]:
        step = self._steps.get(_text(log.get(1)))
        if step is None:
            return
        # A carriage return rewrites the line on a terminal: what it ended as is what counts.
        *lines, step.open_line = (step.open_line + _text(log.get(4))).split("\n")
        for raw in lines:
            text = _ANSI.sub("", raw.rstrip("\r").rpartition("\r")[2])[:_LINE_LIMIT]
            step.kept.append(text)
            yield f"#{step.number} {text}"
        step.open_line = step.open_line.rpartition("\r")[2][:_LINE_LIMIT]


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) of a protobuf message; only the two wire types that occur here."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
        elif kind == 2:
            length, at = _varint(data, at)
            yield key >> 3, data[at : at + length]
            at += length
        elif kind in {1, 5}:
            at += 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _bytes(value: int | bytes) -> bytes:
    return value if isinstance(value, bytes) else b""


def _text(value: int | bytes | None) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def _seconds(value: int | bytes) -> float:
    stamp = dict(_fields(_bytes(value)))
    seconds, nanos = stamp.get(1, 0), stamp.get(2, 0)
    return (seconds if isinstance(seconds, int) else 0) + (
        nanos / 1e9 if isinstance(nanos, int) else 0
    )
