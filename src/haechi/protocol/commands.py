"""Commands the server gives an agent, and what each answers (the `command` frame's verbs).

Every verb is idempotent by deployment id or image digest: the same command sent again after a lost
answer does nothing twice and answers as the first would have. Every verb may be cancelled
(`cancel` frame); an answer that is still needed is asked for again with the same arguments. Errors
are `{code, data}` of an AppError of `haechi.protocol.problems`. Neither side may think of a command
as a promise that outlives the link: what must hold is in the desired state.
"""

from typing import Any, Final, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from haechi.protocol.assignments import Assignment
from haechi.protocol.desired import ContainerSpec, ContainerStatus

T = TypeVar("T")


class RegistryAccess(Struct, omit_defaults=True):
    """How the device pulls: images name the registry by `name`, reached at `address`.

    `password` is this device's pull credential; it must show up in no log and no process list.
    """

    name: str
    """Host (and port) as written in the image reference, e.g. `registry.haechi.internal`."""
    address: str
    """HOST:PORT where it answers now; may change with the site's network."""
    ca_pem: str = ""
    user: str = ""
    password: str = ""


# --- image.pull: streams PullProgress, answers PulledImage


class PullImage(Struct, omit_defaults=True):
    """Present already (same digest): answers at once, whether or not the registry is there."""

    image: str
    """`<registry name>/<repository>@sha256:…`"""
    registry: RegistryAccess | None = None


class PullProgress(Struct, omit_defaults=True):
    """At most about five a second. `total_bytes` is 0 while unknown."""

    done_bytes: int = 0
    total_bytes: int = 0
    text: str = ""


class PulledImage(Struct, omit_defaults=True):
    image_id: str
    size_bytes: int = 0
    platform: str = ""
    pulled: bool = True
    """False: it was there already."""


# --- image.check, image.remove


class CheckImage(Struct):
    image: str


class CheckedImage(Struct, omit_defaults=True):
    present: bool
    image_id: str = ""
    size_bytes: int = 0
    platform: str = ""


class RemoveImage(Struct):
    """Drop an image no container uses (small disks); absent or in use: `removed` is False."""

    image: str


class RemovedImage(Struct):
    removed: bool


# --- container.start


class StartContainer(Struct, omit_defaults=True):
    """Create (where absent) and start. A container of this deployment id with the same image that
    runs already is left alone. `token` is the deployment's plain token: it goes into the
    container's environment as HAECHI_TOKEN and, with the spec, into a 0600 file of the agent, so
    that a container lost by drift can be made again without the server. The image is there
    already (`image.pull`); where it is not: `agent.image_missing`, nothing started.

    Answers ContainerStatus, once the engine says started (not once the AI is ready).
    """

    spec: ContainerSpec
    token: str
    assignments: list[Assignment] = []
    """Handed to the AI from its first question on; later ones come in the desired state."""


# --- container.stop, container.remove


class StopContainer(Struct, omit_defaults=True):
    """SIGTERM, after `grace_s` SIGKILL. The container is kept (logs, and to be started again). The
    server has taken it out of `desired.deployments` before; a later desired state that lists it
    again starts it. Answers ContainerStatus (`absent` where there is none)."""

    deployment_id: str
    grace_s: float = 10.0


class RemoveContainer(Struct, omit_defaults=True):
    """Stop as above, take the last log lines, remove the container and its kept token. Answers
    RemovedContainer; `removed` is False where there was none."""

    deployment_id: str
    grace_s: float = 10.0
    keep_log_lines: int = 200


class LogLine(Struct, omit_defaults=True):
    at_ms: int
    text: str
    stream: Literal["stdout", "stderr"] = "stdout"


class RemovedContainer(Struct, omit_defaults=True):
    removed: bool
    log_tail: list[LogLine] = []
    last: ContainerStatus | None = None
    """What it was before it went."""


# --- container.status


class AskStatus(Struct, omit_defaults=True):
    """Empty: every container that haechi made on this device."""

    deployment_ids: list[str] = []


class Statuses(Struct):
    """One per deployment asked for (`absent` where there is none)."""

    containers: list[ContainerStatus]


# --- container.logs: streams LogLines, answers LogsEnded


class ReadLogs(Struct, omit_defaults=True):
    """Works on stopped containers too. `follow` ends with the container, the deadline or a
    cancel; slow readers lose the oldest lines and are told (`LogLines.lost`)."""

    deployment_id: str
    since_ms: int | None = None
    follow: bool = False
    tail: int | None = None


class LogLines(Struct, omit_defaults=True):
    lines: list[LogLine]
    lost: int = 0


class LogsEnded(Struct, omit_defaults=True):
    lines: int = 0
    state: str = ""
    """ContainerState at the end, `absent` where there is no such container."""


# --- media.still


class TakeStill(Struct, omit_defaults=True):
    """One JPEG of a camera this device pulls; `width` None: as it comes. `max_age_ms`: a picture
    so young may be answered from memory."""

    camera_id: str
    width: int | None = None
    max_age_ms: int = 1000


class Still(Struct, omit_defaults=True):
    jpeg: bytes
    captured_ms: int
    width: int = 0
    height: int = 0


# --- media.url


class AskCameraUrl(Struct):
    """For an AI that knows no assignments and that another engine starts: the address of its camera
    has to be known before."""

    deployment_id: str


class CameraUrl(Struct):
    """As HAECHI_CAMERA_URL; stays over restarts of agent and media."""

    url: str


# --- engine.info


class AskEngine(Struct):
    pass


class EngineInfo(Struct, omit_defaults=True):
    """What the device's engine is and has room for, within the device's own limits."""

    engine: str
    """`docker`"""
    version: str = ""
    platform: str = ""
    """OCI platform of the host, e.g. `linux/amd64`."""
    platforms: list[str] = []
    """All it can run (emulation counts); empty: only `platform`."""
    cpu_cores: float = 0.0
    memory_bytes: int = 0
    memory_available_bytes: int = 0
    disk_free_bytes: int = 0
    """Where images are kept."""
    gpu: str = ""


class Verb(NamedTuple):
    name: str
    args: type[Struct]
    result: type[Struct]
    chunk: type[Struct] | None = None
    deadline_s: float = 30.0
    """Usual deadline; the caller may give another."""


IMAGE_PULL: Final = Verb("image.pull", PullImage, PulledImage, PullProgress, 1800)
IMAGE_CHECK: Final = Verb("image.check", CheckImage, CheckedImage)
IMAGE_REMOVE: Final = Verb("image.remove", RemoveImage, RemovedImage, None, 60)
CONTAINER_START: Final = Verb("container.start", StartContainer, ContainerStatus, None, 60)
CONTAINER_STOP: Final = Verb("container.stop", StopContainer, ContainerStatus, None, 60)
CONTAINER_REMOVE: Final = Verb("container.remove", RemoveContainer, RemovedContainer, None, 60)
CONTAINER_STATUS: Final = Verb("container.status", AskStatus, Statuses)
CONTAINER_LOGS: Final = Verb("container.logs", ReadLogs, LogsEnded, LogLines, 86_400)
MEDIA_STILL: Final = Verb("media.still", TakeStill, Still, None, 15)
MEDIA_URL: Final = Verb("media.url", AskCameraUrl, CameraUrl)
ENGINE_INFO: Final = Verb("engine.info", AskEngine, EngineInfo)

VERBS: Final[dict[str, Verb]] = {
    verb.name: verb
    for verb in (
        IMAGE_PULL,
        IMAGE_CHECK,
        IMAGE_REMOVE,
        CONTAINER_START,
        CONTAINER_STOP,
        CONTAINER_REMOVE,
        CONTAINER_STATUS,
        CONTAINER_LOGS,
        MEDIA_STILL,
        MEDIA_URL,
        ENGINE_INFO,
    )
}


def args_of(verb: Verb, args: dict[str, Any]) -> Any:
    """Decode a command's arguments into `verb.args`; raises msgspec.ValidationError."""
    return msgspec.convert(args, verb.args)


def to_wire(value: Struct) -> Any:
    """A struct as the plain msgpack-able value that frames carry (bytes stay bytes)."""
    return msgspec.to_builtins(value, builtin_types=(bytes,))


def from_wire(value: Any, kind: type[T]) -> T:
    """The struct of an answer or a chunk; raises msgspec.ValidationError."""
    return msgspec.convert(value, kind)
