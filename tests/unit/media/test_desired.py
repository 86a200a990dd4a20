"""What follows from a desired state, and what is refused."""

from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haechi.media.desired import DesiredFile, Names, Refused, StreamKey, clean_url, plan
from haechi.protocol.media import MediaCamera, MediaDesired, MediaPath
from haechi.testing.cameras import Login, SimulatedCamera

MAIN, SUB = StreamKey("cam-a", "main"), StreamKey("cam-a", "sub")
A = MediaCamera("cam-a", "rtsp://u:p@127.0.0.1/main", "rtsp://u:p@127.0.0.1/sub")


def test_the_smaller_stream_of_a_camera_at_home_is_looked_after():
    only_main = MediaCamera("cam-b", "rtsp://127.0.0.1/main")
    neighbours = MediaCamera("cam-c", sub_url="rtsp://127.0.0.1:9/token", home=False)

    result = plan(MediaDesired([A, only_main, neighbours]))

    assert result.watched == {SUB, StreamKey("cam-b", "main")}
    assert set(result.sources) == {MAIN, SUB, *result.watched, StreamKey("cam-c", "sub")}


@pytest.mark.parametrize(
    "url",
    ["exec:ls", "file:///etc/passwd", "ffmpeg:x", "echo:y", "rtsp://", "rtsp://[::1", "", "gate"],
)
def test_only_addresses_of_cameras_are_taken(url):
    with pytest.raises(Refused):
        plan(MediaDesired([MediaCamera("cam-a", url or " ")]))


def test_a_refusal_holds_no_secret():
    with pytest.raises(Refused) as refused:
        plan(MediaDesired([MediaCamera("cam-a", "ftp://root:very-secret@127.0.0.1/x")]))
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("token", ["short", "with/slash-0123456789", "dots..0123456789", "ä" * 20])
def test_tokens_are_long_and_plain(token):
    with pytest.raises(Refused):
        plan(MediaDesired([A], [MediaPath(token, "cam-a", "main")]))


def test_a_token_stands_for_one_stream():
    twice = [MediaPath("0123456789abcdef", "cam-a", s) for s in ("main", "sub")]
    with pytest.raises(Refused):
        plan(MediaDesired([A], twice))


@given(st.text(min_size=1), st.text())
def test_credentials_survive_whatever_they_are(user, password):
    url = SimulatedCamera("gate", "127.0.0.1", 554, Login(user, password)).main_url

    cleaned = urlsplit(clean_url(url))

    assert unquote(cleaned.username or "") == user
    assert unquote(cleaned.password or "") == password
    assert (cleaned.hostname, cleaned.port) == ("127.0.0.1", 554)
    assert cleaned.path == "/axis-media/media.amp"
    assert clean_url(cleaned.geturl()) == cleaned.geturl()


def test_nothing_is_left_that_a_relay_takes_for_its_own_syntax():
    url = clean_url("rtsp://u:{input}@host/path{x}?a={b}#backchannel=1#media=audio")
    assert not set("{}#") & set(url)


def test_names_cannot_be_guessed_and_change_with_the_source():
    names = Names()
    first = names.of({MAIN: "rtsp://a/1", SUB: "rtsp://a/2"})
    same = names.of({MAIN: "rtsp://a/1", SUB: "rtsp://b/2"})

    assert same[MAIN] == first[MAIN]
    assert same[SUB] != first[SUB]
    assert Names().of({MAIN: "rtsp://a/1"})[MAIN] != first[MAIN]
    assert names.of({}) == {}


def test_the_document_is_kept_privately_and_a_broken_one_is_none(tmp_path):
    kept = DesiredFile(tmp_path)
    assert kept.read() is None
    desired = MediaDesired([A], [MediaPath("0123456789abcdef", "cam-a", "sub", "export")])
    kept.write(desired)

    assert kept.read() == desired
    [file] = tmp_path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text("{half")
    assert kept.read() is None
