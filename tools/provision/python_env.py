"""uv, and with it the project's environment `.venv` from the locked requirements."""

import hashlib
import os
import shutil
import sys
from pathlib import Path

from provision import cache
from provision.process import StepFailed, run, succeeds

LOCKED_UV = Path(__file__).with_name("uv.requirements.txt")
LOCK = cache.CHECKOUT / "requirements.lock"
STAMP = cache.ENVIRONMENT / ".haechi-lock"
UV_NAMES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "cert": "SSL_CERT_FILE",
}
OFFLINE = "Check that `pip download uv` works on this machine, then run it again."


def pip_install(folder: Path | None = None) -> list[str | Path]:
    """`pip install` of the environment that holds uv: it obeys the user's own pip settings."""
    where = folder or cache.path("uv").parents[1]
    pip: list[str | Path] = [where / "bin" / "python", "-m", "pip", "install", "-q"]
    return [*pip, "--disable-pip-version-check", "--only-binary=:all:"]


def uv_ready(_options: frozenset[str]) -> bool:
    return succeeds([cache.path("uv"), "--version"])


def prepare_uv(_options: frozenset[str]) -> str:
    folder = cache.path("uv").parents[1]
    shutil.rmtree(folder, ignore_errors=True)  # a virtual environment cannot be moved into place
    try:
        run([sys.executable, "-m", "venv", folder], limit_s=120, remedy="Install python3-venv.")
        run(
            [*pip_install(folder), "--require-hashes", "-r", LOCKED_UV],
            limit_s=300,
            remedy=OFFLINE,
        )
    except StepFailed:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return f"uv {cache.UV_VERSION}"


def _wanted_stamp() -> str:
    """What the environment was made from: the lock, the project file and the interpreter."""
    digest = hashlib.sha256()
    for part in (LOCK, cache.CHECKOUT / "pyproject.toml"):
        digest.update(part.read_bytes())
    digest.update(f"{sys.version_info[:2]}".encode())
    return digest.hexdigest()


def environment_ready(_options: frozenset[str]) -> bool:
    if not STAMP.is_file() or STAMP.read_text() != _wanted_stamp():
        return False
    return succeeds([cache.path("python"), "-c", "import haechi, onnx, av"])


def prepare_environment(_options: frozenset[str]) -> str:
    uv = cache.path("uv")
    python = cache.path("python")
    remedy = "Remove the folder .venv and run it again; the lines above say what uv found."
    if not succeeds([python, "--version"]):
        run(
            [uv, "venv", "--quiet", "--python", sys.executable, cache.ENVIRONMENT],
            limit_s=60,
            remedy=remedy,
        )
    into: list[str | Path] = ["--quiet", "--python", python]
    sync: list[str | Path] = [uv, "pip", "sync", *into, "--require-hashes", LOCK]
    install: list[str | Path] = [uv, "pip", "install", *into, "--no-deps", "-e", cache.CHECKOUT]
    settings = _settings_for_uv()
    run(sync, limit_s=900, remedy=remedy, extra_env=settings)
    run(install, limit_s=120, remedy=remedy, extra_env=settings)
    STAMP.write_text(_wanted_stamp())
    return f"{len(list(cache.ENVIRONMENT.glob('lib/python*/site-packages/*.dist-info')))} packages"


def _settings_for_uv() -> dict[str, str]:
    """What the user told pip, said in uv's words where he has not told uv himself.

    Passed by environment: an index address may hold a password.
    """
    python = cache.path("uv").with_name("python")
    listed = run([python, "-m", "pip", "config", "list"], limit_s=30, remedy=OFFLINE)
    settings: dict[str, str] = {}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        name = UV_NAMES.get(key.rpartition(".")[2])
        if name and name not in os.environ:
            settings[name] = value.strip("'\"")
    return settings
