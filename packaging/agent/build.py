#!/usr/bin/env python3
"""Make the agent's container image from the site's base image.

    packaging/agent/build.py [--base haechi/python:3.11-slim] [--tag haechi/agent:0.1.0]

Nothing is fetched during the image build: the wheels of the locked versions are installed into a
folder first, and go2rtc is taken from where `tools/setup.py` put it.
"""

# ruff: noqa: S603 - a script that runs programs

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "apsw",
    "av",
    "cffi",
    "click",
    "cryptography",
    "h11",
    "httptools",
    "msgspec",
    "pycparser",
    "websockets",
)
"""All that agent and media import; typing_extensions is left out on purpose (it costs memory)."""


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--base", default="haechi/python:3.11-slim")
    options.add_argument("--tag", default="haechi/agent:latest")
    options.add_argument("--python", default="3.11", help="Python version of the base image.")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="haechi-agent-image-") as folder:
        context = Path(folder)
        _site(context, chosen.python)
        _binary(context / "bin")
        shutil.copy(ROOT / "packaging/agent/Dockerfile", context)
        command = ["docker", "build", "--pull=false", "--network=none", "-t", chosen.tag]
        return subprocess.run(
            [*command, "--build-arg", f"BASE={chosen.base}", str(context)], check=False
        ).returncode


def _site(context: Path, python: str) -> None:
    lock = (ROOT / "requirements.lock").read_text()
    blocks = re.split(r"\n(?=[a-zA-Z0-9])", lock)
    wanted = [block for block in blocks if re.split(r"[=\[ ]", block)[0].lower() in PACKAGES]
    missing = set(PACKAGES) - {re.split(r"[=\[ ]", block)[0].lower() for block in wanted}
    if missing:
        sys.exit(f"requirements.lock lacks {', '.join(sorted(missing))}")
    requirements = context / "requirements.txt"
    requirements.write_text("\n".join(wanted) + "\n")
    site = context / "site"
    uv = ["uv", "pip", "install", "--target", str(site), "--python-version", python]
    subprocess.run([*uv, "--only-binary", ":all:", "--no-deps", "-r", requirements], check=True)
    requirements.unlink()
    shutil.copytree(
        ROOT / "src/haechi",
        site / "haechi",
        ignore=shutil.ignore_patterns(
            "__pycache__", "web", "interop", "domains", "migrations", "testing", "static"
        ),
    )
    for needless in [*site.glob("*/tests"), *site.glob("av/include")]:
        shutil.rmtree(needless)


def _binary(folder: Path) -> None:
    """go2rtc; without it media falls back to its own relay."""
    folder.mkdir()
    found = subprocess.run(
        [sys.executable, ROOT / "tools/setup.py", "--path", "go2rtc"],
        capture_output=True,
        text=True,
        check=False,
    )
    source = Path(found.stdout.strip())
    if found.returncode == 0 and source.is_file():
        shutil.copy(source, folder / "go2rtc")
        (folder / "go2rtc").chmod(0o755)
    else:
        sys.stderr.write("no go2rtc for this platform: media will use its own relay\n")
        (folder / ".keep").touch()


if __name__ == "__main__":
    sys.exit(main())
