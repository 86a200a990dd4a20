"""Result: one frame looked at by one AI on one camera (CONTRACTS 2)."""

import math
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from haechi.protocol.bounds import Id, Number

MAX_BATCH: Final = 1000
MAX_ATTRIBUTES_BYTES: Final = 4096
BOX_TOLERANCE: Final = 0.01
_LOW: Final = -BOX_TOLERANCE
_HIGH: Final = 1 + BOX_TOLERANCE

ShortText = Annotated[str, Meta(min_length=1, max_length=128)]
Track = Annotated[str, Meta(max_length=128)] | Annotated[int, Meta(ge=-(2**62), le=2**62)]
Probability = Annotated[float, Meta(ge=0, le=1)]


class DetectedObject(
    Struct, omit_defaults=True, rename={"class_": "class"}, forbid_unknown_fields=True
):
    """`box` is [x, y, w, h], normalised 0-1, origin top left."""

    box: tuple[float, float, float, float]
    class_: ShortText
    class_prob: Probability
    track: Track | None = None


class Result(Struct, omit_defaults=True, rename={"class_": "class"}):
    """As an AI or an agent sends it. Neither class nor objects: "looked, saw nothing".

    Unknown fields are ignored (older and newer SDKs); identities in `claimed` are only shown.
    """

    instance: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    seq: Annotated[int, Meta(ge=0, le=2**62)] | None = None
    camera_id: Annotated[str, Meta(max_length=64)] | None = None
    assignment_id: Annotated[str, Meta(max_length=64)] | None = None
    epoch: Annotated[int, Meta(ge=0, le=2**62)] | None = None
    captured_at: Annotated[str, Meta(max_length=40)] | None = None
    class_: ShortText | None = None
    class_prob: Probability | None = None
    objects: Annotated[list[DetectedObject], Meta(max_length=500)] = []
    took_ms: Annotated[float, Meta(ge=0, le=3.6e6)] | None = None
    attributes: dict[str, str | int | float | bool | None] = {}
    claimed: dict[str, str] = {}


class AgentResult(Struct, omit_defaults=True):
    """A row of the agent's queue on its way to the server: the result plus what the agent knows.

    `received_ms` is the agent's wall clock; with `boot_id` and `monotonic_ms` the server maps it
    where the clock was wrong (CONTRACTS 3).
    """

    result: Result
    deployment_id: Id
    received_ms: Number
    monotonic_ms: Number
    boot_id: Id
    captured_ms: Number | None = None
    """`captured_at` parsed; None where the AI gave none or nonsense (then arrival counts)."""


def problem_of(result: Result) -> str | None:
    """What is wrong with a decoded result beyond its types, in English; None where it is good."""
    if (result.class_ is None) != (result.class_prob is None):
        return "class and class_prob belong together"
    for found in result.objects:
        x, y, w, h = found.box
        # Asked of every object: what is not finite is not within either.
        if not (
            w >= 0 and h >= 0 and x >= _LOW and y >= _LOW and x + w <= _HIGH and y + h <= _HIGH
        ):
            index = result.objects.index(found)
            finite = all(map(math.isfinite, found.box))
            fault = "lies outside the frame" if finite else "is not finite"
            return f"objects[{index}].box {fault}"
    return _problem_of_attributes(result) if result.attributes else None


def _problem_of_attributes(result: Result) -> str | None:
    for key, value in result.attributes.items():
        if isinstance(value, float) and not math.isfinite(value):
            return f"attributes.{key} is not finite"
    if len(msgspec.json.encode(result.attributes)) > MAX_ATTRIBUTES_BYTES:
        return f"attributes are larger than {MAX_ATTRIBUTES_BYTES} bytes"
    return None


def is_empty(result: Result) -> bool:
    """True for "looked, saw nothing"."""
    return result.class_ is None and not result.objects
