"""The shapes between agent and media, as the agent uses them."""

from haechi.protocol.media import MediaPath, MediaState, StreamState, camera_statuses, path_url

STATE = MediaState(running=True, local_port=8001, export_port=8002)
LOCAL = MediaPath("0123456789abcdef", "cam-a", "sub")
EXPORT = MediaPath("fedcba9876543210", "cam-a", "sub", "export")


def test_a_path_is_opened_through_its_own_door():
    assert path_url(STATE, LOCAL, "172.18.0.1") == "rtsp://172.18.0.1:8001/0123456789abcdef"
    assert path_url(STATE, EXPORT, "127.0.0.1") == "rtsp://127.0.0.1:8002/fedcba9876543210"


def test_without_a_relay_or_a_door_there_is_no_address():
    assert path_url(MediaState(local_port=8001), LOCAL, "127.0.0.1") == ""
    assert path_url(MediaState(running=True), EXPORT, "127.0.0.1") == ""


def test_the_best_known_stream_speaks_for_a_camera():
    state = MediaState(
        streams=[
            StreamState("cam-a", "main"),
            StreamState("cam-a", "sub", watched=True, online=True, width=320),
            StreamState("cam-b", "main", watched=True, error="wrong_password"),
            StreamState("cam-b", "sub"),
        ]
    )
    a, b = camera_statuses(state)
    assert (a.camera_id, a.online, a.width) == ("cam-a", True, 320)
    assert (b.camera_id, b.online, b.error) == ("cam-b", False, "wrong_password")
