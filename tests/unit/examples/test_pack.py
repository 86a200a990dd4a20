"""examples/pack.py: the zip is complete, and the same input gives the same bytes."""

from __future__ import annotations

import importlib.util
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
spec = importlib.util.spec_from_file_location("examples_pack", ROOT / "examples" / "pack.py")
packing = importlib.util.module_from_spec(spec)
spec.loader.exec_module(packing)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "w.onnx"
    path.write_bytes(b"weights")
    return path


def test_the_same_files_give_the_same_bytes(tmp_path, weights):
    digests = [
        packing.pack("person-detector", tmp_path / f"{n}.zip", weights=weights) for n in range(2)
    ]
    assert digests[0] == digests[1]


def test_the_detector_carries_sdk_and_weights_and_everything_its_dockerfile_copies(
    tmp_path, weights
):
    out = tmp_path / "p.zip"
    packing.pack("person-detector", out, weights=weights)
    with zipfile.ZipFile(out) as archive:
        names = set(archive.namelist())
        dockerfile = archive.read("Dockerfile").decode()
        assert archive.read("nanodet.onnx") == b"weights"
        assert b"class Haechi" in archive.read("haechi_sdk.py")
    copied = [
        w for line in dockerfile.splitlines() if line.startswith("COPY") for w in line.split()
    ]
    assert {w for w in copied if "." in w and not w.startswith(".")} <= names


def test_a_changed_setting_is_another_package(tmp_path, weights):
    first = packing.pack("person-detector", tmp_path / "1.zip", weights=weights)
    second = packing.pack(
        "person-detector",
        tmp_path / "2.zip",
        weights=weights,
        environment={"DETECTOR_THRESHOLD": "0.5"},
    )
    assert first != second
    with zipfile.ZipFile(tmp_path / "2.zip") as archive:
        manifest = tomllib.loads(archive.read("haechi.toml").decode())
    assert manifest["environment"]["DETECTOR_THRESHOLD"] == "0.5"


def test_an_unknown_setting_or_missing_weights_is_said(tmp_path, weights):
    with pytest.raises(SystemExit, match="--weights"):
        packing.pack("person-detector", tmp_path / "x.zip")
    with pytest.raises(SystemExit, match="NO_SUCH"):
        packing.pack("monitoring", tmp_path / "x.zip", environment={"NO_SUCH": "1"})
    with pytest.raises(SystemExit, match="there are"):
        packing.pack("nothing", tmp_path / "x.zip")
