"""Other programs' words, as they were really said, and what they mean."""

import pytest

from haechi.media.faults import fault_of, masked


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("wrong user/pass", "wrong_password"),
        ("user/pass not provided", "wrong_password"),
        ("HTTPUnauthorizedError: Server returned 401 Unauthorized", "wrong_password"),
        ("wrong response on DESCRIBE", "not_found"),
        ("HTTPNotFoundError: Server returned 404 Not Found", "not_found"),
        ("codecs not matched: audio:PCMU => video:H264", "no_video"),
        ("InvalidDataError: Invalid data found when processing input", "no_video"),
        ("dial tcp 127.0.0.1:9: connect: connection refused", "unreachable"),
        ("dial tcp 127.0.0.1:554: i/o timeout", "unreachable"),
        ("ConnectionRefusedError: Connection refused", "unreachable"),
        ("ExitError: Immediate exit requested", "unreachable"),
        ("EOF", "unreachable"),
        ("", "unreachable"),
    ],
)
def test_what_is_wrong_is_told_apart(words, error):
    assert fault_of(words).error == error


def test_details_hold_no_address_and_no_password():
    fault = fault_of("401 Unauthorized: 'rtsp://root:pass@127.0.0.1/axis-media/media.amp'")
    assert fault.error == "wrong_password"
    assert "rtsp" not in fault.detail
    assert "pass" not in fault.detail


def test_log_lines_are_masked():
    assert masked("dial rtsp://u:p%40s@h/x failed") == "dial rtsp://***@h/x failed"
