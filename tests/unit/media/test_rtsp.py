"""The gate's RTSP: what passes, what does not, and that only the token is exchanged."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haechi.media import rtsp

TOKEN = "Zk3-abcdefghijklmnop_9"


def head(method: str, url: str, *lines: str) -> bytes:
    return "\r\n".join([f"{method} {url} RTSP/1.0", "CSeq: 7", *lines, "", ""]).encode()


def test_the_token_is_replaced_and_everything_else_is_kept():
    request = rtsp.parse(
        head("SETUP", f"rtsp://10.0.0.1:8554/{TOKEN}/trackID=0", "Transport: RTP/AVP/TCP")
    )

    assert (request.method, request.token, request.sequence) == (b"SETUP", TOKEN, b"7")
    assert request.under("cam-a-main-123") == head(
        "SETUP", "rtsp://10.0.0.1:8554/cam-a-main-123/trackID=0", "Transport: RTP/AVP/TCP"
    )


def test_what_a_client_asks_beside_the_path_is_left_out():
    request = rtsp.parse(head("DESCRIBE", f"rtsp://host/{TOKEN}?video=all&backchannel=1"))
    assert b"rtsp://host/inner RTSP/1.0" in request.under("inner")


@pytest.mark.parametrize("method", ["ANNOUNCE", "RECORD", "REDIRECT", "SET_PARAMETER", "GET"])
def test_only_playing_is_allowed(method):
    with pytest.raises(rtsp.NotAllowed) as refused:
        rtsp.parse(head(method, f"rtsp://host/{TOKEN}"))
    assert refused.value.status == 405


@pytest.mark.parametrize(
    "url", ["rtsp://host/", "rtsp://host", "*", "http://host/x", "rtsp://host/a%2Fb", "/token"]
)
def test_a_request_needs_a_path(url):
    with pytest.raises(rtsp.NotAllowed):
        rtsp.parse(head("DESCRIBE", url))


def test_options_for_the_server_itself_need_none():
    assert rtsp.parse(head("OPTIONS", "*")).token == ""


def test_large_bodies_are_refused_before_they_are_read():
    with pytest.raises(rtsp.NotAllowed) as refused:
        rtsp.parse(head("GET_PARAMETER", f"rtsp://host/{TOKEN}", "Content-Length: 5000"))
    assert refused.value.status == 413


def test_a_session_stays_with_its_token():
    request = rtsp.parse(head("PLAY", f"rtsp://host/{TOKEN}"))
    request.check(TOKEN)
    with pytest.raises(rtsp.NotAllowed):
        request.check("another-token-entirely")


@given(st.binary(max_size=300))
def test_any_bytes_are_a_request_or_refused(data):
    try:
        request = rtsp.parse(data + b"\r\n\r\n")
    except rtsp.NotAllowed:
        return
    assert request.method in rtsp.METHODS
