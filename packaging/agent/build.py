#!/usr/bin/env python3
"""Make the agent's container image from the site's base image.

    packaging/agent/build.py [--base haechi/python:3.11-slim] [--tag haechi/agent:0.1.0]

Nothing is fetched during the image build: the wheels of the locked versions are installed into a
folder first, go2rtc is taken from where `tools/setup.py` put it, and iptables from the packages of
this machine's distribution, which the base image is of.
"""

# ruff: noqa: S603, S607 - a script that runs programs of this machine

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
FIREWALL = (
    "iptables",
    "libip4tc2",
    "libip6tc2",
    "libmnl0",
    "libnetfilter-conntrack3",
    "libnfnetlink0",
    "libnftnl11",
    "libxtables12",
)
"""Debian packages of `iptables`, for the fence; Python's base image has none of them."""


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
        _firewall(context / "firewall")
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
    uv = [
        shutil.which("uv") or _prepared("uv"),
        "pip",
        "install",
        "--target",
        str(site),
        "--python-version",
        python,
    ]
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


def _prepared(name: str) -> str:
    """Where `tools/setup.py` put something; "" where it did not."""
    found = subprocess.run(
        [sys.executable, ROOT / "tools/setup.py", "--path", name],
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() if found.returncode == 0 else ""


def _binary(folder: Path) -> None:
    """go2rtc; without it media falls back to its own relay."""
    folder.mkdir()
    source = Path(_prepared("go2rtc"))
    if source.is_file():
        shutil.copy(source, folder / "go2rtc")
        (folder / "go2rtc").chmod(0o755)
    else:
        sys.stderr.write("no go2rtc for this platform: media will use its own relay\n")
        (folder / ".keep").touch()


def _firewall(folder: Path) -> None:
    """The program iptables and its libraries: without it no fence, and no redirects of old
    addresses."""
    folder.mkdir()
    with tempfile.TemporaryDirectory(prefix="haechi-agent-debs-") as scratch:
        Path(scratch).chmod(0o755)
        got = subprocess.run(
            ["apt-get", "download", *FIREWALL],
            cwd=scratch,
            capture_output=True,
            text=True,
            check=False,
        )
        packages = sorted(Path(scratch).glob("*.deb"))
        if got.returncode != 0 or len(packages) != len(FIREWALL):
            sys.stderr.write(
                "no iptables, so AIs will reach others, and no old addresses lead to the agent: "
                f"{got.stderr[-300:]}\n"
            )
            (folder / ".keep").touch()
            return
        for package in packages:
            subprocess.run(["dpkg-deb", "--extract", package, folder], check=True)
    # In the image these are links into /usr, which must stay.
    for name in ("bin", "sbin", "lib"):
        old = folder / name
        if old.is_dir():
            shutil.copytree(old, folder / "usr" / name, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(old)
    for needless in ("usr/share", "etc"):
        shutil.rmtree(folder / needless, ignore_errors=True)
    # What the distribution's alternatives would do.
    for name in ("iptables", "iptables-restore"):
        program = folder / "usr/sbin" / name
        program.unlink(missing_ok=True)
        program.symlink_to("xtables-nft-multi")


if __name__ == "__main__":
    sys.exit(main())
