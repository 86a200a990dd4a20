"""What the SDK refuses at once, and the row it makes; no network."""

from __future__ import annotations

import ast
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

import haechi.sdk as sdk
from haechi.sdk import Assignment, Haechi, InvalidResult, StreamClock, detected


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch):
    for name in ("HAECHI_AGENT_URL", "HAECHI_RESULTS_URL", "HAECHI_CAMERA_URL", "HAECHI_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with Haechi(handle_sigterm=False) as haechi:
        yield haechi


def printed_rows(capsys: pytest.CaptureFixture[str]) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_row_carries_everything_of_the_contract(client, capsys):
    assignment = Assignment(id="asg-1", camera_id="cam-1", url="rtsp://x", epoch=7)
    seq = client.result(
        assignment,
        objects=[detected("person", 0.93456, (0.1, 0.2, 0.05, 0.2), track="t1")],
        name="rain",
        prob=1,
        captured_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        took_ms=24.4321,
        attributes={"lux": 3.5, "night": True},
    )
    assert client.flush()
    (row,) = printed_rows(capsys)
    assert seq == 1
    assert row == {
        "instance": client.instance,
        "seq": 1,
        "assignment_id": "asg-1",
        "epoch": 7,
        "camera_id": "cam-1",
        "captured_at": "2026-01-02T03:04:05.678Z",
        "class": "rain",
        "class_prob": 1.0,
        "objects": [
            {
                "box": [0.1, 0.2, 0.05, 0.2],
                "class": "person",
                "class_prob": 0.9346,
                "track": "t1",
            }
        ],
        "took_ms": 24.432,
        "attributes": {"lux": 3.5, "night": True},
    }


def test_a_heartbeat_is_an_empty_row(client, capsys):
    client.heartbeat()
    assert client.flush()
    (row,) = printed_rows(capsys)
    assert row["objects"] == []
    assert "class" not in row
    assert "camera_id" not in row
    assert row["captured_at"].endswith("Z")


@pytest.mark.parametrize(
    ("what", "arguments"),
    [
        ("prob above one", {"name": "x", "prob": 1.7}),
        ("nan", {"name": "x", "prob": float("nan")}),
        ("prob without name", {"prob": 0.5}),
        (
            "box outside",
            {"objects": [{"class": "a", "class_prob": 0.5, "box": [0.9, 0, 0.2, 0.1]}]},
        ),
        (
            "negative width",
            {"objects": [{"class": "a", "class_prob": 0.5, "box": [0, 0, -1, 0.1]}]},
        ),
        ("three numbers", {"objects": [{"class": "a", "class_prob": 0.5, "box": [0, 0, 1]}]}),
        ("no class", {"objects": [{"class_prob": 0.5, "box": [0, 0, 1, 1]}]}),
        ("naive time", {"captured_at": datetime(2026, 1, 1)}),
        ("nested attributes", {"attributes": {"a": {"b": 1}}}),
        ("infinite attribute", {"attributes": {"a": float("inf")}}),
        ("long attributes", {"attributes": {"a": "x" * 5000}}),
        ("infinite time", {"took_ms": float("inf")}),
    ],
)
def test_what_haechi_would_refuse_is_refused_where_it_is_said(client, what, arguments):
    with pytest.raises(InvalidResult):
        client.result(**arguments)
    assert client.pending == 0


def test_a_box_a_little_outside_is_cut_to_the_frame():
    assert detected("a", 0.5, (-0.005, 0.5, 0.5, 0.505))["box"] == [0.0, 0.5, 0.495, 0.5]


def test_stream_clock_ignores_late_frames_and_follows_a_restart():
    clock = StreamClock()
    assert clock.captured_at(0.0, 1000.0) == 1000.0
    assert clock.captured_at(1.0, 1000.9) == pytest.approx(1000.9)  # a faster frame is nearer truth
    assert clock.captured_at(2.0, 1003.4) == pytest.approx(1001.9, abs=0.01)  # 1.5 s late
    assert clock.captured_at(0.0, 1010.0) == 1010.0  # the camera came back


def test_the_file_stands_alone_and_parses_on_old_pythons():
    source = Path(sdk.__file__).read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 8))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported <= set(sys.stdlib_module_names)
    assert [p.name for p in Path(sdk.__file__).parent.glob("*.py")] == ["__init__.py"]
