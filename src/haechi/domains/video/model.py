"""A still, and why there is none."""

from dataclasses import dataclass
from datetime import datetime

from haechi.errors import Conflict, Text, Upstream


@dataclass(frozen=True, slots=True)
class Still:
    camera_id: str
    jpeg: bytes
    captured_at: datetime
    """By the device's clock."""


class CameraWithoutDevice(Conflict):
    code = "video.camera_without_device"
    detail = Text(
        "카메라 '{name}'에 연결된 장치가 없어 영상을 가져올 수 없습니다.",
        "No device has the camera '{name}', so nobody can fetch its picture.",
    )
    remedy = Text("카메라를 장치에 연결하세요.", "Give the camera to a device.")


class CameraUnreachable(Upstream):
    code = "video.camera_unreachable"
    title = Text("카메라에 연결할 수 없음", "Camera unreachable")
    detail = Text(
        "장치가 카메라 '{name}'에 연결하지 못했습니다: {reason}",
        "The device cannot reach the camera '{name}': {reason}",
    )
    remedy = Text(
        "카메라의 전원과 네트워크, 등록된 주소와 포트를 확인하세요.",
        "Check the camera's power and network, and the address and port entered for it.",
    )


class CameraWrongPassword(Upstream):
    code = "video.camera_wrong_password"
    title = Text("카메라 로그인 실패", "Camera refuses the login")
    detail = Text(
        "카메라 '{name}'이(가) 등록된 사용자 이름이나 비밀번호를 거부했습니다.",
        "The camera '{name}' refuses the user name or password entered for it.",
    )
    remedy = Text(
        "카메라의 사용자 이름과 비밀번호를 다시 입력하세요.",
        "Enter the camera's user name and password again.",
    )


class CameraStreamNotFound(Upstream):
    code = "video.camera_stream_not_found"
    title = Text("카메라 스트림 없음", "No such camera stream")
    detail = Text(
        "카메라 '{name}'에 등록된 RTSP 경로의 스트림이 없습니다.",
        "The camera '{name}' has no stream under the RTSP path entered for it.",
    )
    remedy = Text(
        "카메라 설명서에서 RTSP 경로를 확인해 주소를 고치세요.",
        "Look the RTSP path up in the camera's manual and correct the address.",
    )


class CameraWithoutPicture(Upstream):
    code = "video.camera_without_picture"
    title = Text("카메라 영상 없음", "Camera sends no picture")
    detail = Text(
        "카메라 '{name}'에 연결되었지만 영상을 받지 못했습니다: {reason}",
        "The camera '{name}' answers but sends no usable picture: {reason}",
    )
    remedy = Text(
        "카메라의 영상 형식이 H.264인지 확인하고 카메라를 다시 시작하세요.",
        "Check that the camera sends H.264, and restart the camera.",
    )
