"""Frames on the WebSocket between agent and server: msgpack `{t, …}` (CONTRACTS 5).

A server accepts the current protocol version and the one before it; unknown fields are ignored,
unknown frame types answered with silence, so that either side may be newer.
"""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from haechi.protocol.bounds import Id, Name, Number, Sentence
from haechi.protocol.desired import MAX_ADDRESSES, DesiredState, ObservedState
from haechi.protocol.results import MAX_BATCH, AgentResult
from haechi.protocol.samples import Sample

PROTOCOL: Final = 1
ACCEPTED: Final = (PROTOCOL, PROTOCOL - 1)
MAX_FRAME_BYTES: Final = 16 * 1024 * 1024
PING_S: Final = 1.0
MISSED_PINGS: Final = 3
MAX_SAMPLES: Final = 10_000


class Capacity(Struct, omit_defaults=True):
    """What the device is: its own limits, not those of a bigger machine around it."""

    cpu_cores: float
    memory_bytes: Number
    disk_bytes: Number
    platform: Name
    """OCI platform, e.g. `linux/amd64`."""
    os: Name = ""
    engine: Name = ""
    """`docker 20.10.24`, empty where no engine answers."""
    gpu: Name = ""


# --- agent → server


class Hello(Struct, tag_field="t", tag="hello", omit_defaults=True):
    protocol: Number
    agent_version: Name
    device_id: Id
    boot_id: Id
    wall_ms: Number
    monotonic_ms: Number
    queue_id: Id
    """Identity of the agent's queue file: a fresh file starts its sequence anew."""
    machine_id: Id = ""
    host_name: Name = ""
    capacity: Capacity | None = None
    desired_revision: Number = 0
    addresses: Annotated[list[Name], Meta(max_length=MAX_ADDRESSES)] = []


class Samples(Struct, tag_field="t", tag="samples"):
    rows: Annotated[list[Sample], Meta(max_length=MAX_SAMPLES)]
    backfill: bool = False


class Results(Struct, tag_field="t", tag="results", omit_defaults=True):
    """`rows[i]` has queue number `from_seq + i`; numbers rise without gaps within `queue_id`
    except where `lost` says how many rows before `from_seq` the size limit took."""

    queue_id: Id
    from_seq: Number
    rows: Annotated[list[AgentResult], Meta(max_length=MAX_BATCH)]
    lost: Number = 0


class State(Struct, tag_field="t", tag="state"):
    state: ObservedState


class Done(Struct, tag_field="t", tag="done", omit_defaults=True):
    """Answer to a command. `error` is `{code, data}` of an AppError; the last frame of a stream
    of `chunk`s as well as the only frame of a plain answer."""

    id: Id
    result: Any = None
    error: dict[str, Any] | None = None


class Chunk(Struct, tag_field="t", tag="chunk"):
    """A piece of a long answer (log lines, pull progress, a picture)."""

    id: Id
    data: Any


class Log(Struct, tag_field="t", tag="log"):
    level: Literal["info", "warning", "error"]
    at_ms: Number
    line: Sentence


class Pong(Struct, tag_field="t", tag="pong"):
    id: Number
    wall_ms: Number
    monotonic_ms: Number


# --- server → agent


class Welcome(Struct, tag_field="t", tag="welcome"):
    server_id: str
    wall_ms: int
    desired_revision: int


class Ack(Struct, tag_field="t", tag="ack"):
    """Results up to and including this queue number are committed."""

    queue_id: str
    results_through: int


class Desired(Struct, tag_field="t", tag="desired"):
    state: DesiredState


class Command(Struct, tag_field="t", tag="command"):
    """`deadline_s` counts from arrival: the device's clock may be wrong."""

    id: str
    verb: str
    args: dict[str, Any]
    deadline_s: float


class CancelCommand(Struct, tag_field="t", tag="cancel"):
    id: str


class Ping(Struct, tag_field="t", tag="ping"):
    id: int


class Refused(Struct, tag_field="t", tag="refused"):
    """Said before closing: why this agent may not come in (`{code, data}`)."""

    error: dict[str, Any]


FromAgent = Hello | Samples | Results | State | Done | Chunk | Log | Pong
FromServer = Welcome | Ack | Desired | Command | CancelCommand | Ping | Refused

_encoder = msgspec.msgpack.Encoder()
_from_agent: msgspec.msgpack.Decoder[FromAgent] = msgspec.msgpack.Decoder(FromAgent)
_from_server: msgspec.msgpack.Decoder[FromServer] = msgspec.msgpack.Decoder(FromServer)


def encode(frame: FromAgent | FromServer) -> bytes:
    return _encoder.encode(frame)


def decode_from_agent(data: bytes) -> FromAgent:
    """Raises msgspec.ValidationError or DecodeError on what is no frame."""
    return _from_agent.decode(data)


def decode_from_server(data: bytes) -> FromServer:
    return _from_server.decode(data)


class EnrolIn(Struct):
    """JSON body of `POST /agent/v1/enrol`."""

    token: str
    csr_pem: str
    machine_id: Id
    host_name: Name
    agent_version: Name


class RenewIn(Struct):
    """JSON body of `POST /agent/v1/renew`, called with the certificate in use."""

    csr_pem: str


class EnrolOut(Struct):
    device_id: str
    server_id: str
    certificate_pem: str
    ca_pem: str
