"""Desired state: the whole document an agent makes true, and what it reports back (CONTRACTS 5).

The server owns it and raises `revision` on every change; the agent keeps it on disk and carries on
from it after a reboot without the server. Parts that the agent of a later release needs are added
as new optional fields.
"""

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct, field

from haechi.protocol.assignments import Assignment, Stream
from haechi.protocol.bounds import Id, Name, Number, Sentence

MAX_CONTAINERS: Final = 1024
MAX_ASSIGNMENTS: Final = 4096
MAX_STREAMS: Final = 1024
MAX_ADDRESSES: Final = 256

NODE_AGENT_ADDRESS: Final = "169.254.84.30"
"""Where pods of a cluster's node reach the agent of that node: on every node the same link-local
address, so that it stays when the node's own address changes."""
NODE_AGENT_URL: Final = f"http://{NODE_AGENT_ADDRESS}:8430"

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
    pod_networks: list[str] = []
    """Of the cluster that this device is a node of: where its pods call from (CIDR)."""
    workloads: list[ContainerSpec] = []
    """AIs on this device that another engine runs (pods): the agent serves them – results, cameras,
    samples – and starts or stops none of them."""
    stopping: list[str] = []
    """Deployments whose containers must go: kept apart so that nothing is removed by omission."""


ContainerState = Literal[
    "absent", "pulling", "starting", "running", "exited", "restarting", "failed"
]


class ContainerStatus(Struct, omit_defaults=True):
    """What the agent sees of one container."""

    deployment_id: Id
    state: ContainerState
    container_id: Name = ""
    image: Sentence = ""
    started_ms: Number | None = None
    ready_ms: Number | None = None
    """When the AI said `ready()`."""
    first_result_ms: Number | None = None
    last_result_ms: Number | None = None
    results: Number = 0
    restarts: Number = 0
    exit_code: Number | None = None
    oom_killed: bool = False
    error: Sentence = ""


class StreamStatus(Struct, omit_defaults=True):
    """What media sees of one camera."""

    camera_id: Id
    online: bool
    error: Name = ""
    """`` | unreachable | wrong_password | not_found | no_video"""
    detail: Sentence = ""
    codec: Name = ""
    width: Number | None = None
    height: Number | None = None
    fps: float | None = None


class MediaStatus(Struct, omit_defaults=True):
    running: bool = False
    backend: Name = ""
    rtsp_port: Number | None = None
    streams: Annotated[list[StreamStatus], Meta(max_length=MAX_STREAMS)] = []


class ObservedState(Struct, omit_defaults=True):
    """The agent's report (`state` frame): whole, sent on change and at reconnect."""

    revision: Number
    """The desired revision it has applied."""
    deployments: Annotated[list[ContainerStatus], Meta(max_length=MAX_CONTAINERS)] = []
    assignments: Annotated[list[Id], Meta(max_length=MAX_ASSIGNMENTS)] = []
    """Ids handed to AIs."""
    media: MediaStatus = field(default_factory=MediaStatus)
    addresses: Annotated[list[Name], Meta(max_length=MAX_ADDRESSES)] = []
