"""What a link makes of bytes that are no frame of this release."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from haechi.domains.agents.link import BadFrame, Bucket, decode_frame
from haechi.protocol.desired import (
    MAX_ADDRESSES,
    MAX_ASSIGNMENTS,
    MAX_CONTAINERS,
    MAX_STREAMS,
    ContainerStatus,
    MediaStatus,
    ObservedState,
    StreamStatus,
)
from haechi.protocol.frames import (
    MAX_SAMPLES,
    Capacity,
    Hello,
    Log,
    Pong,
    Results,
    Samples,
    State,
    encode,
)
from haechi.protocol.results import MAX_BATCH, AgentResult, DetectedObject, Result
from haechi.protocol.samples import ContainerSample, Sample


def test_known_frame():
    assert decode_frame(encode(Pong(1, 2, 3))) == Pong(1, 2, 3)


def test_newer_frame_type_is_ignored():
    assert decode_frame(msgspec.msgpack.encode({"t": "hologram", "x": 1})) is None


def test_unknown_field_is_ignored():
    data = {"t": "pong", "id": 1, "wall_ms": 2, "monotonic_ms": 3, "extra": True}
    assert decode_frame(msgspec.msgpack.encode(data)) == Pong(1, 2, 3)


@pytest.mark.parametrize(
    "value", [{"t": "pong"}, {"t": "pong", "id": "x", "wall_ms": 1, "monotonic_ms": 1}, [1], 7, {}]
)
def test_wrong_shape_is_bad(value):
    with pytest.raises(BadFrame):
        decode_frame(msgspec.msgpack.encode(value))


@given(st.binary(max_size=300))
def test_arbitrary_bytes_never_raise_anything_else(data):
    with contextlib.suppress(BadFrame):
        decode_frame(data)


def test_bucket_refills():
    bucket = Bucket(per_s=10, burst=5, now_s=0)
    assert all(bucket.take(1, 0) for _ in range(5))
    assert not bucket.take(1, 0)
    assert bucket.take(5, 0.5)
    assert not bucket.take(1, 0.5)


def hello(**more):
    known = {
        "protocol": 1,
        "agent_version": "1",
        "device_id": "dev-1",
        "boot_id": "b",
        "wall_ms": 1,
        "monotonic_ms": 1,
        "queue_id": "q",
    }
    return Hello(**{**known, **more})


def sample(**more):
    known = {
        "boot_id": "b",
        "seq": 1,
        "at_ms": 1,
        "monotonic_ms": 1,
        "cpu_ratio": 0.1,
        "memory_used_bytes": 1,
        "memory_total_bytes": 2,
        "disk_free_bytes": 3,
    }
    return Sample(**{**known, **more})


def state(**more):
    return State(ObservedState(revision=1, **more))


def row(**more):
    known = {"received_ms": 1, "monotonic_ms": 1, "boot_id": "b", "deployment_id": "dep-1"}
    return AgentResult(**{"result": Result(), **known, **more})


def status(**more):
    return ContainerStatus(**{"deployment_id": "dep-1", "state": "running", **more})


def stream(**more):
    return StreamStatus(**{"camera_id": "cam-1", "online": True, **more})


LONG = "x" * 5000


@pytest.mark.parametrize(
    "frame",
    [
        hello(agent_version=LONG),
        hello(boot_id=LONG),
        hello(queue_id=LONG),
        hello(machine_id=LONG),
        hello(host_name=LONG),
        hello(addresses=[LONG]),
        hello(addresses=["10.0.0.1"] * (MAX_ADDRESSES + 1)),
        hello(wall_ms=2**63),
        hello(capacity=Capacity(1, 1, 1, LONG)),
        hello(capacity=Capacity(1, 1, 1, "linux/amd64", engine=LONG)),
        hello(capacity=Capacity(1, 1, 1, "linux/amd64", gpu=LONG)),
        state(addresses=["10.0.0.1"] * (MAX_ADDRESSES + 1)),
        state(assignments=["asg-1"] * (MAX_ASSIGNMENTS + 1)),
        state(assignments=[LONG]),
        state(deployments=[status()] * (MAX_CONTAINERS + 1)),
        state(deployments=[status(error=LONG)]),
        state(deployments=[status(container_id=LONG)]),
        state(media=MediaStatus(streams=[stream()] * (MAX_STREAMS + 1))),
        state(media=MediaStatus(streams=[stream(detail=LONG)])),
        state(media=MediaStatus(backend=LONG)),
        Samples([sample()] * (MAX_SAMPLES + 1)),
        Samples([sample(boot_id=LONG)]),
        Samples([sample(cpu_per_core=[0.1] * 1025)]),
        Samples([sample(containers=[ContainerSample("dep-1", 0.1, 1)] * 1025)]),
        Samples([sample(containers=[ContainerSample(LONG, 0.1, 1)])]),
        Samples([sample(seq=2**63)]),
        Results("q", 1, [row()] * (MAX_BATCH + 1)),
        Results(LONG, 1, [row()]),
        Results("q", 2**63, [row()]),
        Results("q", 1, [row(deployment_id=LONG)]),
        Results("q", 1, [row(boot_id=LONG)]),
        Results("q", 1, [row(received_ms=2**63)]),
        Results("q", 1, [row(result=Result(camera_id=LONG))]),
        Results(
            "q",
            1,
            [row(result=Result(objects=[DetectedObject((0, 0, 1, 1), "a", 0.5, track=LONG)]))],
        ),
        Log("error", 1, LONG),
    ],
    ids=lambda frame: type(frame).__name__,
)
def test_nothing_an_agent_says_is_without_bounds(frame):
    with pytest.raises(BadFrame):
        decode_frame(encode(frame))


def test_what_fills_the_bounds_is_taken():
    frame = state(
        addresses=["10.0.0.1"] * MAX_ADDRESSES,
        deployments=[status(error="x" * 2000)] * MAX_CONTAINERS,
    )
    assert decode_frame(encode(frame)) == frame
    assert decode_frame(encode(hello(host_name="x" * 255))) == hello(host_name="x" * 255)
