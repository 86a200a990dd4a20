"""What media has to do, as the agent said it last, and what follows from it.

Kept on disk (0600, for it holds camera passwords) so that video comes back after a reboot before
the agent has said anything. Inner names of streams carry a random part that is new in each process:
nobody can guess them, even on the device itself.
"""

import os
import secrets
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import msgspec

from haechi.protocol.assignments import Stream
from haechi.protocol.media import MediaDesired, MediaPath

SCHEMES: Final = frozenset({"rtsp", "rtsps", "http"})
_TOKEN_MIN: Final = 16
_TOKEN_CHARACTERS: Final = frozenset(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
)


class StreamKey(NamedTuple):
    camera_id: str
    stream: Stream


class Refused(Exception):
    """The desired state cannot be carried out as it is; the text holds no secret."""


class Plan(NamedTuple):
    """The desired state by what each part of media needs."""

    sources: dict[StreamKey, str]
    paths: dict[str, MediaPath]
    watched: frozenset[StreamKey]
    """Streams that are looked after all the time: the smallest of each camera that lives here."""
    local_hosts: frozenset[str]
    export_hosts: frozenset[str]


def plan(desired: MediaDesired) -> Plan:
    """Check the document and say what follows from it; `Refused` where it makes no sense."""
    sources: dict[StreamKey, str] = {}
    watched: set[StreamKey] = set()
    for camera in desired.cameras:
        if camera.main_url:
            sources[StreamKey(camera.camera_id, "main")] = clean_url(camera.main_url)
        if camera.sub_url:
            sources[StreamKey(camera.camera_id, "sub")] = clean_url(camera.sub_url)
        if camera.home and (camera.sub_url or camera.main_url):
            watched.add(StreamKey(camera.camera_id, "sub" if camera.sub_url else "main"))
    paths: dict[str, MediaPath] = {}
    for path in desired.paths:
        if len(path.token) < _TOKEN_MIN or not _TOKEN_CHARACTERS.issuperset(path.token):
            raise Refused(f"a path token has to be {_TOKEN_MIN} or more letters and digits")
        if path.token in paths:
            raise Refused("two paths have the same token")
        paths[path.token] = path
    return Plan(
        sources,
        paths,
        frozenset(watched),
        frozenset(desired.local_hosts),
        frozenset(desired.export_hosts),
    )


def clean_url(url: str) -> str:
    """A source address in the one form that every relay understands: credentials escaped exactly
    once, no fragment, nothing that a relay would take for its own syntax."""
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname, parts.port
    except ValueError as e:
        raise Refused("a camera address is not a URL") from e
    if parts.scheme not in SCHEMES or not host:
        raise Refused("a camera address has to begin with rtsp://")
    where = f"[{host}]" if ":" in host else host
    if port:
        where += f":{port}"
    if parts.username is not None:
        login = quote(unquote(parts.username), safe="")
        if parts.password is not None:
            login += ":" + quote(unquote(parts.password), safe="")
        where = f"{login}@{where}"
    path = quote(parts.path, safe="/%:=,;&+~@!$'()*")
    query = quote(parts.query, safe="/%:=,;&+~@!$'()*?")
    return urlunsplit((parts.scheme, where, path, query, ""))


class Names:
    """Inner names of streams: stable while the process lives and the source stays the same."""

    def __init__(self) -> None:
        self._names: dict[StreamKey, tuple[str, str]] = {}

    def of(self, sources: dict[StreamKey, str]) -> dict[StreamKey, str]:
        """A changed source gets a new name, so that nobody goes on watching the old one."""
        for key in self._names.keys() - sources.keys():
            del self._names[key]
        for key, url in sources.items():
            if self._names.get(key, ("", ""))[1] != url:
                name = f"{key.camera_id}-{key.stream}-{secrets.token_hex(12)}"
                self._names[key] = (name, url)
        return {key: name for key, (name, _url) in self._names.items()}


class DesiredFile:
    """`desired.json` in media's folder, replaced atomically."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "desired.json"

    def read(self) -> MediaDesired | None:
        """The last document; None where there is none or it cannot be read any more."""
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=MediaDesired)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def write(self, desired: MediaDesired) -> None:
        write_private(self._file, msgspec.json.encode(desired))


def write_private(file: Path, content: bytes) -> None:
    """Replace a file that only this user may read, so that a power cut leaves old or new."""
    scratch = file.with_name(f".{file.name}.new")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    scratch.replace(file)
