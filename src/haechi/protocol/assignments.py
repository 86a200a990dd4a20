"""Assignment: a camera handed to a deployment (CONTRACTS 6). A move is a new one, not a restart."""

from typing import Literal

from msgspec import Struct

Mode = Literal["watch", "focus", "precise", "standby"]
Stream = Literal["main", "sub"]


class Assignment(Struct, omit_defaults=True):
    """Highest epoch of a camera (and package) wins; equal epochs: the lower device id.

    `url` is filled in by the agent from its own media (a path with a token, valid on this device
    only); the server leaves it empty.
    """

    id: str
    camera_id: str
    deployment_id: str
    mode: Mode
    fps: float
    stream: Stream
    epoch: int
    url: str = ""
    until: str | None = None
    reason: dict[str, str] = {}


class AssignmentList(Struct):
    """What `GET /v1/assignments` answers to an AI: its whole list at a revision."""

    revision: int
    assignments: list[Assignment]
