"""The little RTSP that the gate understands: what a client asks for, request by request. Pure.

Clients send requests and, between them, interleaved binary (receiver reports). Only playing is
allowed: a client that could ANNOUNCE would put its own picture in a camera's place. The path's
first segment is the token; the rest of a request is handed on with the inner name in its place.
"""

import re
from typing import Final, NamedTuple

METHODS: Final = frozenset(
    {b"OPTIONS", b"DESCRIBE", b"SETUP", b"PLAY", b"PAUSE", b"TEARDOWN", b"GET_PARAMETER"}
)
HEAD_LIMIT_BYTES: Final = 8192
BODY_LIMIT_BYTES: Final = 4096
_REQUEST_LINE: Final = re.compile(rb"([A-Z_]+) (\S+) RTSP/1\.0\r\n")
_URL: Final = re.compile(rb"(rtsps?://[^/\s]+/)([A-Za-z0-9_-]+)(?:\?[^\s/]*)?((?:/\S*)?)")
_LENGTH: Final = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_SEQUENCE: Final = re.compile(rb"\r\ncseq:\s*(\d+)", re.IGNORECASE)


class NotAllowed(Exception):
    """What the client sent is no RTSP or nothing that a viewer may do."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Request(NamedTuple):
    method: bytes
    token: str
    head: bytes
    """Everything up to and with the empty line."""
    body_bytes: int
    sequence: bytes

    def check(self, token: str) -> None:
        """A session stays with the token that it began with."""
        if self.token not in {token, ""}:
            raise NotAllowed(404, "Not Found")

    def under(self, inner: str) -> bytes:
        """The head with the token replaced; whatever the client asked beside it is left out."""
        line, _, rest = self.head.partition(b"\r\n")
        method, url, version = line.split(b" ")
        match = _URL.fullmatch(url)
        if match:
            url = match[1] + inner.encode() + match[3]
        return b" ".join((method, url, version)) + b"\r\n" + rest


def parse(head: bytes) -> Request:
    """A request's head; `NotAllowed` where it must not reach the relay."""
    line = _REQUEST_LINE.match(head)
    if line is None:
        raise NotAllowed(400, "Bad Request")
    method, url = line[1], line[2]
    if method not in METHODS:
        raise NotAllowed(405, "Method Not Allowed")
    match = _URL.fullmatch(url)
    if match is None and not (method == b"OPTIONS" and url == b"*"):
        raise NotAllowed(404, "Not Found")
    length = _LENGTH.search(head)
    body_bytes = int(length[1]) if length else 0
    if body_bytes > BODY_LIMIT_BYTES:
        raise NotAllowed(413, "Request Entity Too Large")
    sequence = _SEQUENCE.search(head)
    token = match[2].decode() if match else ""
    return Request(method, token, head, body_bytes, sequence[1] if sequence else b"0")


def answer(status: int, reason: str, sequence: bytes = b"0") -> bytes:
    return b"RTSP/1.0 %d %s\r\nCSeq: %s\r\n\r\n" % (status, reason.encode(), sequence)
