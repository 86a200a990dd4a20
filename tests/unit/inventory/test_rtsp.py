import pytest
from hypothesis import given
from hypothesis import strategies as st

from haechi.domains.inventory import rtsp
from haechi.domains.inventory.model import BadCameraUrl


def test_login_is_split_off() -> None:
    parsed = rtsp.parse("rtsp://root:p%40ss@192.0.2.61:8554/axis-media/media.amp?camera=1")
    assert parsed == (
        "rtsp://192.0.2.61:8554/axis-media/media.amp?camera=1",
        "root",
        "p@ss",
    )


@pytest.mark.parametrize(
    ("raw", "login", "password"),
    [
        ("rtsp://root:p@ss@192.0.2.61/x", "root", "p@ss"),
        ("rtsp://a:b:c@192.0.2.61/x", "a", "b:c"),
        ("rtsp://root@192.0.2.61/x", "root", None),
        ("RTSPS://관리자:비밀@cam-1.local/x", "관리자", "비밀"),
        ("rtsp://u:100%@192.0.2.61/x", "u", "100%"),
        ("rtsp://192.0.2.61/x@y", None, None),
        ("rtsp://u:p@[2001:db8::1]:554/x", "u", "p"),
    ],
)
def test_odd_logins(raw: str, login: str | None, password: str | None) -> None:
    parsed = rtsp.parse(raw)
    assert (parsed.login, parsed.password) == (login, password)
    assert "비밀" not in parsed.url


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "http://192.0.2.61/x",
        "rtsp://",
        "rtsp:///x",
        "rtsp://192.0.2.61:0/x",
        "rtsp://192.0.2.61:70000/x",
        "rtsp://192.0.2.61/a b",
        "rtsp://192.0.2.61/a\r\nHost: b",
        "rtsp://root:pa#ss@192.0.2.61/x",
        "rtsp://root:pa/ss@192.0.2.61/x",
        "file:///etc/passwd",
        "rtsp://192.0.2.61/" + "x" * 2000,
        "rtsp://-host/x",
        "rtsp://a\ud800/x",
    ],
)
def test_refused_without_repeating_the_login(raw: str) -> None:
    with pytest.raises(BadCameraUrl) as caught:
        rtsp.parse(raw)
    assert "root" not in str(caught.value.data)


def test_secrets_in_the_query_are_not_shown() -> None:
    parsed = rtsp.parse("rtsp://192.0.2.61/s?user=admin&password=geheim&channel=1")
    assert parsed.shown == "rtsp://192.0.2.61/s?user=admin&password=***&channel=1"
    assert parsed.hides_something


@given(login=st.text(min_size=1, max_size=20), password=st.text(max_size=20))
def test_every_login_survives_the_way_there_and_back(login: str, password: str) -> None:
    whole = rtsp.with_login("rtsp://192.0.2.61/x", login, password)
    assert rtsp.parse(whole) == ("rtsp://192.0.2.61/x", login, password)


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        parsed = rtsp.parse("rtsp://" + text)
    except BadCameraUrl:
        return
    assert "@" not in parsed.url.split("/")[2]


@pytest.mark.parametrize(
    "path",
    [
        "/user=admin&password=hunter2&channel=1&stream=0.sdp?real_stream",
        "/user=admin_password=hunter2_channel=1_stream=0.sdp",
        "/live?user=admin&pwd=hunter2",
        "/cam/password=hunter2/main",
    ],
)
def test_no_password_is_shown_wherever_it_stands(path: str) -> None:
    parsed = rtsp.parse(f"rtsp://192.0.2.61{path}")
    assert "hunter2" not in parsed.shown
    assert "hunter2" in parsed.url
    assert parsed.hides_something
