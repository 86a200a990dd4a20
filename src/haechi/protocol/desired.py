"""Desired state: the whole document an agent makes true, and what it reports back (CONTRACTS 5).

The server owns it and raises `revision` on every change; the agent keeps it on disk and carries on
from it after a reboot without the server. Parts that the agent of a later release needs are added
as new optional fields.
"""

from typing import Literal

from msgspec import Struct, field

from haechi.protocol.assignments import Assignment, Stream

RestartPolicy = Literal["always", "on-failure", "no"]


class ContainerSpec(Struct, omit_defaults=True):
    """One AI container, engine-neutral. The image is pinned by digest.

    `environment` carries the HAECHI_* variables except HAECHI_AGENT_URL, HAECHI_RESULTS_URL,
    HAECHI_USAGE_URL and HAECHI_CAMERA_URL, which only the agent can know. `token_digest` is the
    SHA-256 of the deployment's token by which the agent knows the caller.
    """

    deployment_id: str
    package_id: str
    version_id: str
    name: str
    """DNS label, unique on the device: `<package>-<deployment suffix>`."""
    image: str
    """`registry.haechi.internal/<repository>@sha256:…`"""
    environment: dict[str, str] = {}
    token_digest: str = ""
    cpu_limit: float | None = None
    """Cores."""
    memory_limit_bytes: int | None = None
    pids_limit: int = 256
    gpu: bool = False
    internet: bool = False
    privileged: bool = False
    restart: RestartPolicy = "always"
    stop_grace_s: float = 10.0
    camera: Literal["none", "one", "many"] = "many"
    camera_id: str | None = None
    """For an AI that knows no assignments: its camera, handed over as HAECHI_CAMERA_URL."""


class CameraSource(Struct, omit_defaults=True):
    """A camera that lives on this device; the URLs carry credentials and go to media only."""

    camera_id: str
    main_url: str
    sub_url: str | None = None


class Export(Struct):
    """A camera of this device that a neighbour may pull, under an unguessable path."""

    camera_id: str
    stream: Stream
    path: str


class Relay(Struct):
    """A camera of a neighbour that this device pulls and re-streams to its own AIs."""

    camera_id: str
    stream: Stream
    url: str
    """`rtsp://<neighbour's media>/<export path>`; holds no camera password."""


class Peer(Struct):
    device_id: str
    addresses: list[str]


class Redirect(Struct):
    """An old fixed address: what AIs of this device send there goes to its intake."""

    address: str
    """IPv4."""
    port: int


class DesiredState(Struct, omit_defaults=True):
    revision: int
    deployments: list[ContainerSpec] = []
    """Containers that must run. `deployments is None` is never sent: an engine that is not this
    device's own Docker (a cluster) simply leaves the list empty."""
    assignments: list[Assignment] = []
    cameras: list[CameraSource] = []
    exports: list[Export] = []
    relays: list[Relay] = []
    peers: list[Peer] = []
    policies: list[dict[str, str]] = []
    redirects: list[Redirect] = []
    stopping: list[str] = []
    """Deployments whose containers must go: kept apart so that nothing is removed by omission."""


ContainerState = Literal[
    "absent", "pulling", "starting", "running", "exited", "restarting", "failed"
]


class ContainerStatus(Struct, omit_defaults=True):
    """What the agent sees of one container."""

    deployment_id: str
    state: ContainerState
    container_id: str = ""
    image: str = ""
    started_ms: int | None = None
    ready_ms: int | None = None
    """When the AI said `ready()`."""
    first_result_ms: int | None = None
    last_result_ms: int | None = None
    results: int = 0
    restarts: int = 0
    exit_code: int | None = None
    oom_killed: bool = False
    error: str = ""


class StreamStatus(Struct, omit_defaults=True):
    """What media sees of one camera."""

    camera_id: str
    online: bool
    error: str = ""
    """`` | unreachable | wrong_password | not_found | no_video"""
    detail: str = ""
    codec: str = ""
    width: int | None = None
    height: int | None = None
    fps: float | None = None


class MediaStatus(Struct, omit_defaults=True):
    running: bool = False
    backend: str = ""
    rtsp_port: int | None = None
    streams: list[StreamStatus] = []


class ObservedState(Struct, omit_defaults=True):
    """The agent's report (`state` frame): whole, sent on change and at reconnect."""

    revision: int
    """The desired revision it has applied."""
    deployments: list[ContainerStatus] = []
    assignments: list[str] = []
    """Ids handed to AIs."""
    media: MediaStatus = field(default_factory=MediaStatus)
    addresses: list[str] = []
