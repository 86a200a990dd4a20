"""Packages of the Linux distribution. Tested on Debian 12; written for Ubuntu 24.04, untested."""

import importlib.util
import shutil
from collections.abc import Iterable, Mapping

from provision.process import StepFailed, as_root, run

NEEDED = {
    "docker.io": "container engine that builds and runs the AI packages",
    "docker-registry": "the site's image registry, run as a child of the server",
    "mmdebstrap": "makes the base image where no public registry can be reached",
    "ca-certificates": "to trust package registries",
    "python3-gi": "camera simulator",
    "gir1.2-gst-rtsp-server-1.0": "camera simulator",
    "fonts-nanum": "Korean text in browser tests",
}
BROWSER = {"chromium": "browser tests"}
APT = ["apt-get", "-o", "DPkg::Lock::Timeout=300"]
OFFLINE = "Check that this machine reaches its Debian mirror (`apt-get update`), then run it again."


def wanted(options: frozenset[str]) -> dict[str, str]:
    packages = dict(NEEDED)
    if importlib.util.find_spec("ensurepip") is None:
        packages["python3-venv"] = "Python environments"
    if "browser" in options:
        packages |= BROWSER
    if not _is_debian():
        packages["debian-archive-keyring"] = "to check what the base image is made of"
    return packages


def _is_debian() -> bool:
    with open("/etc/os-release") as handle:  # noqa: PTH123 - a fixed system file
        return any(line.strip() == "ID=debian" for line in handle)


def installed(package: str) -> bool:
    try:
        status = run(["dpkg-query", "-W", "-f", "${Status}", package], limit_s=30, remedy="")
    except StepFailed:
        return False
    return status.strip() == "install ok installed"


def missing(options: frozenset[str]) -> list[str]:
    return absent(wanted(options))


def absent(packages: Iterable[str]) -> list[str]:
    """Those of the packages that are not installed."""
    if shutil.which("apt-get") is None:
        raise StepFailed(
            "this is not a Debian or Ubuntu machine (no apt-get)",
            "Install these with your own package manager, then use --only with the other steps: "
            + ", ".join(packages),
        )
    return [package for package in packages if not installed(package)]


def ready(options: frozenset[str]) -> bool:
    return not missing(options)


def prepare(options: frozenset[str]) -> str:
    packages = missing(options)
    install(packages, wanted(options))
    return f"installed {len(packages)} packages"


def install(packages: list[str], reasons: Mapping[str, str]) -> None:
    """Install them without a question, saying what each is for."""
    for package in packages:
        print(f"      {package}: {reasons[package]}", flush=True)
    if not all(_known(package) for package in packages):
        run(as_root([*APT, "update", "-q"]), limit_s=300, remedy=OFFLINE)
    argv = as_root(
        [
            "env",
            "DEBIAN_FRONTEND=noninteractive",
            *APT,
            "install",
            "-yq",
            "--no-install-recommends",
            "-o",
            "Dpkg::Options::=--force-confold",
            *packages,
        ]
    )
    try:
        run(argv, limit_s=900, remedy=OFFLINE)
    except StepFailed:
        # Old lists name files that the mirror has dropped; a broken unpack needs a second look.
        run(as_root([*APT, "update", "-q"]), limit_s=300, remedy=OFFLINE)
        run(as_root(["dpkg", "--configure", "-a"]), limit_s=300, remedy=OFFLINE)
        run([*argv, "-f"], limit_s=900, remedy=OFFLINE)


def _known(package: str) -> bool:
    """Does apt have a candidate? Fresh machines have empty lists."""
    return "Candidate: (none)" not in (text := _policy(package)) and "Candidate:" in text


def _policy(package: str) -> str:
    return run(["apt-cache", "policy", package], limit_s=30, remedy=OFFLINE)
