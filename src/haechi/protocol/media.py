"""Shapes between agent and media of one device: HTTP over a unix socket in media's data folder.

`PUT /v1/desired` takes the whole `MediaDesired` and is idempotent; `GET /v1/state` answers
`MediaState` (with `?wait=SECONDS&version=N` as soon as it differs from that version);
`GET /v1/stills/{camera_id}?width=&max_age_ms=` answers a JPEG whose time is in the header
`X-Captured-Ms`. JSON. Errors are `{"error": CODE, "detail": TEXT}`. The socket's folder is private
to the user that runs the device: whoever may open it may see camera passwords.
"""

from typing import Final, Literal

from msgspec import Struct, field

from haechi.protocol.assignments import Stream
from haechi.protocol.bounds import cut
from haechi.protocol.desired import StreamStatus

SOCKET_NAME: Final = "media.sock"
CAPTURED_HEADER: Final = "X-Captured-Ms"

Purpose = Literal["local", "export"]
StreamError = Literal["", "unreachable", "wrong_password", "not_found", "no_video"]


class MediaCamera(Struct, omit_defaults=True):
    """A camera that media may pull. `home`: it lives on this device and is kept an eye on; else it
    is a neighbour's export path, pulled only while somebody here watches."""

    camera_id: str
    main_url: str | None = None
    sub_url: str | None = None
    home: bool = True


class MediaPath(Struct):
    """An unguessable path under which a stream can be opened until it is taken away.

    `local`: by the AIs of this device, on its local addresses; `export`: by a neighbour's media.
    """

    token: str
    camera_id: str
    stream: Stream
    purpose: Purpose = "local"


class MediaDesired(Struct, omit_defaults=True):
    """Everything media has to do. A path taken out is cut at once, its viewers too."""

    cameras: list[MediaCamera] = []
    paths: list[MediaPath] = []
    local_hosts: list[str] = field(default_factory=lambda: ["127.0.0.1"])
    """Addresses for AIs: loopback and the gateway of the device's container network."""
    export_hosts: list[str] = []
    """Addresses for neighbours, e.g. `0.0.0.0`; empty: nothing is exported."""


class StreamState(Struct, omit_defaults=True):
    """One stream of one camera. `watched` False: nobody pulls it, so nothing is known of it now."""

    camera_id: str
    stream: Stream
    watched: bool = False
    online: bool = False
    error: StreamError = ""
    detail: str = ""
    codec: str = ""
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    viewers: int = 0
    last_frame_ms: int | None = None


class MediaState(Struct, omit_defaults=True):
    version: int = 0
    """Rises with each change worth telling (not with every frame)."""
    backend: str = ""
    """`go2rtc` | `pyav`"""
    running: bool = False
    scheme: str = "rtsp"
    """A path is opened as `{scheme}://{host}:{local_port or export_port}/{token}`."""
    local_port: int | None = None
    export_port: int | None = None
    streams: list[StreamState] = []


def path_url(state: MediaState, path: MediaPath, host: str) -> str:
    """How a client on the right side of `host` opens a path; "" while media cannot serve it."""
    port = state.local_port if path.purpose == "local" else state.export_port
    return f"{state.scheme}://{host}:{port}/{path.token}" if state.running and port else ""


def camera_statuses(state: MediaState) -> list[StreamStatus]:
    """One line per camera for the server: the best-known stream speaks for it."""
    best: dict[str, StreamState] = {}
    for one in state.streams:
        known = best.get(one.camera_id)
        if known is None or _knowledge(one) > _knowledge(known):
            best[one.camera_id] = one
    return [
        StreamStatus(
            camera_id=one.camera_id,
            online=one.online,
            error=one.error,
            detail=cut(one.detail),
            codec=one.codec[:255],
            width=one.width,
            height=one.height,
            fps=one.fps,
        )
        for one in best.values()
    ]


def _knowledge(one: StreamState) -> tuple[bool, bool, bool]:
    return (one.online, bool(one.error), one.stream == "main")
