"""What the REST face says of devices and cameras, with and without somebody who watches them."""

from datetime import UTC, datetime

from haechi.domains.inventory.model import Device, Gps
from haechi.domains.inventory.shapes import CameraEditIn, DeviceEditIn, DeviceOut

NOW = datetime(2026, 1, 2, tzinfo=UTC)


class Watching:
    def device_presence(self, device_id: str) -> str:
        return "silent"

    def device_last_seen_at(self, device_id: str) -> datetime:
        return NOW

    def camera_state(self, camera_id: str, device_id: str | None) -> str:
        return "ok"


def device() -> Device:
    unset = dict.fromkeys(Device.__slots__)
    facts = {
        "id": "dev-x",
        "name": "정문",
        "role": "edge",
        "type": 1,
        "description": "",
        "postal_address": "",
        "gps": Gps(37.5, 127.0),
        "supports_analysis": False,
        "has_ssh_password": True,
        "has_ssh_key": False,
        "capacity": {},
        "labels": {},
        "enrolment": "enrolled",
        "revision": 1,
        "created_at": NOW,
        "updated_at": NOW,
    }
    return Device(**{**unset, **facts})


def test_presence_comes_from_whoever_watches() -> None:
    alone = DeviceOut.of(device(), None, [])
    assert (alone.state, alone.enrolled, alone.last_seen_at) == ("new", True, None)
    watched = DeviceOut.of(device(), Watching(), ["0x01"])
    assert (watched.state, watched.aliases) == ("silent", ["0x01"])
    assert '"last_seen_at":"2026-01-02T00:00:00.000Z"' in watched.model_dump_json()


def test_an_edit_knows_what_was_sent_from_what_was_not() -> None:
    assert DeviceEditIn.model_validate_json("{}").fields() == {}
    sent = DeviceEditIn.model_validate_json('{"gps": null, "port": 80, "ssh_password": "x"}')
    fields = sent.fields()
    assert fields["gps"] is None
    assert fields["port"] == 80
    assert "x" not in repr(fields["ssh_password"])
    assert "geheim" not in repr(CameraEditIn.model_validate_json('{"password": "geheim"}'))
