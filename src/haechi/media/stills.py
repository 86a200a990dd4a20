"""A key picture as JPEG: decoded alone, scaled, encoded. Pure but for the codecs; runs in a thread.

A key picture stands by itself, so a still costs one decoded picture and no waiting for a decoder
that runs along.
"""

from fractions import Fraction
from typing import Any, Final, NamedTuple

import av

QUALITY: Final = 4
"""Quantizer of the JPEG encoder: 2 is best, 31 worst."""
WIDTH_MIN: Final = 16
WIDTH_MAX: Final = 7680


class KeyPicture(NamedTuple):
    """One compressed key picture with what a decoder needs to know before it."""

    codec: str
    extradata: bytes
    data: bytes
    captured_ms: int


class Picture(NamedTuple):
    jpeg: bytes
    width: int
    height: int
    captured_ms: int


class NotDecodable(Exception):
    """The key picture is broken: wait for the next one."""


def to_jpeg(key: KeyPicture, width: int | None = None) -> Picture:
    """Decode and encode; `width` None keeps the size, the height follows the picture's shape."""
    try:
        frame = _decoded(key)
        target_width, target_height = _size(frame.width, frame.height, width)
        encoder: Any = av.CodecContext.create("mjpeg", "w")
        encoder.width, encoder.height = target_width, target_height
        encoder.pix_fmt = "yuvj420p"
        encoder.time_base = Fraction(1, 25)
        encoder.qmin = encoder.qmax = QUALITY
        picture = frame.reformat(
            width=target_width, height=target_height, format="yuvj420p", dst_color_range="JPEG"
        )
        picture.pts = 0
        packets = [*encoder.encode(picture), *encoder.encode(None)]
    except av.error.FFmpegError as e:
        raise NotDecodable(str(e)) from e
    jpeg = b"".join(bytes(packet) for packet in packets)
    return Picture(jpeg, target_width, target_height, key.captured_ms)


def _decoded(key: KeyPicture) -> Any:
    decoder: Any = av.CodecContext.create(key.codec, "r")
    decoder.thread_count = 1
    if key.extradata:
        decoder.extradata = key.extradata
    frames = [*decoder.decode(av.Packet(key.data)), *decoder.decode(None)]
    if not frames:
        raise NotDecodable("the key picture gave no frame")
    return frames[0]


def _size(width: int, height: int, wanted: int | None) -> tuple[int, int]:
    """Even numbers, never larger than the picture itself."""
    if wanted is None or wanted >= width:
        return width - width % 2, height - height % 2
    return wanted - wanted % 2, max(2, round(height * wanted / width / 2) * 2)
