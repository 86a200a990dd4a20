"""What a link makes of bytes that are no frame of this release."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from haechi.domains.agents.link import BadFrame, Bucket, decode_frame
from haechi.protocol.frames import Pong, encode


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
