"""Decoding of the Engine's log frames, however the bytes are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haechi.adapters.docker_calls import json_lines
from haechi.adapters.docker_logs import LogLine, decode_lines, next_since

AT = "2026-11-24T15:00:00.123456789Z"


def frame(stream: int, text: str) -> bytes:
    body = f"{AT} {text}".encode()
    return bytes([stream, 0, 0, 0]) + len(body).to_bytes(4, "big") + body


async def cut(data: bytes, size: int):
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize("size", [1, 3, 7, 64, 4096])
async def test_frames_cut_anywhere(size):
    data = frame(1, "하나\n") + frame(2, "two\r\n") + frame(1, "long ") + frame(1, "line\n")
    lines = [line async for line in decode_lines(cut(data, size), tty=False)]
    assert lines == [
        LogLine("stdout", AT, "하나"),
        LogLine("stderr", AT, "two"),
        LogLine("stdout", AT, "long line"),
    ]


async def test_a_frame_cut_off_by_the_end_is_dropped_but_an_open_line_is_kept():
    data = frame(1, "no newline") + frame(1, "lost\n")[:-4]
    lines = [line.text async for line in decode_lines(cut(data, 10), tty=False)]
    assert lines == ["no newline"]


def test_resuming_starts_at_the_last_line_to_the_nanosecond():
    assert next_since(None) == ""
    assert next_since(LogLine("stdout", "1970-01-01T00:00:01.5Z", "")) == "1.500000000"
    assert next_since(LogLine("stdout", AT, "")).endswith(".123456789")


@given(size=st.integers(1, 40), separator=st.sampled_from(["\n", "\r\n", ""]))
async def test_json_lines_cut_anywhere(size, separator):
    data = separator.join(['{"a": "한글\\n"}', '{"b": {"c": 2}}', '{"d": []}']).encode()
    values = [value async for value in json_lines(cut(data, size))]
    expected = [{"a": "한글\n"}, {"b": {"c": 2}}, {"d": []}]
    # Without separators an object is only known to be whole at a newline or at the end.
    assert values == (expected if separator else [])
