"""What `haechi package` does on a developer's machine: starter files, zips, local checks, builds.

The checks are the server's own (`domains.packages.inspection`); nothing here calls a server.
"""

import asyncio
import tempfile
import zipfile
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Final

import click

from haechi.adapters.build_context import is_ignored, read_rules
from haechi.domains.packages import extraction, names
from haechi.domains.packages.inspection import Inspection, Limits, inspect
from haechi.settings import PackagesSettings

SDK_FILE: Final = "haechi_sdk.py"
_DATE: Final = (1980, 1, 1, 0, 0, 0)
_LEFT_OUT: Final = frozenset(
    {
        *(".git", ".hg", ".svn", ".venv", "venv", "node_modules", "__pycache__", ".DS_Store"),
        *(".mypy_cache", ".ruff_cache", ".pytest_cache", ".idea", ".vscode"),
    }
)
_KEPT: Final = frozenset({"Dockerfile", "haechi.toml"})

_DOCKERFILE: Final = """\
FROM python:3.11-slim
ENV PYTHONUNBUFFERED=1
WORKDIR /app
COPY main.py haechi_sdk.py ./
USER 65534:65534
CMD ["python3", "main.py"]
"""
_MAIN: Final = '''\
"""Your AI: watch the cameras that haechi assigns, say what you see."""

import threading

from haechi_sdk import Haechi, detected

haechi = Haechi()
stops = {}


def watch(assignment, stop):
    """One camera. `assignment.url` is the stream; open it with OpenCV, PyAV or GStreamer."""
    while not stop.wait(1 / assignment.fps if assignment.fps else 1.0):
        # frame = ...; boxes are x, y, width, height as parts (0-1) of the picture.
        objects = [detected("person", 0.9, (0.1, 0.1, 0.2, 0.5))]
        haechi.result(assignment, objects=objects)


haechi.ready()  # the model is loaded: an older version may be replaced now
for change in haechi.assignments():  # ends on SIGTERM
    camera = change.assignment.camera_id
    if camera in stops:
        stops.pop(camera).set()
    if change.kind != "stopped" and change.assignment.mode != "standby":
        stops[camera] = threading.Event()
        threading.Thread(target=watch, args=(change.assignment, stops[camera]), daemon=True).start()
haechi.close()
'''
_MANIFEST: Final = """\
[package]
name = "{name}"
title_ko = "{name}"
title_en = "{name}"
description = ""
author = ""
classes = ["person"]

[needs]
camera = "many"     # many: asks haechi for its cameras; one: a container per camera; none
memory_mb = 256
# cpu = 0.5         # cores
# gpu = false
# internet = false  # the container reaches only haechi otherwise

[health]
ready = "sdk"       # sdk: haechi.ready(); result: first result; uptime: 10 s running
within_s = 60

[deploy]
strategy = "overlap"  # recreate: where memory, GPU or a device allow only one

[environment]
# THRESHOLD = "0.5"
"""


def init(folder: Path, name: str) -> list[Path]:
    """Write the starter; refuses to overwrite anything."""
    sdk = resources.files("haechi.sdk").joinpath("__init__.py").read_text(encoding="utf-8")
    files = {
        "Dockerfile": _DOCKERFILE,
        "main.py": _MAIN,
        "haechi.toml": _MANIFEST.format(name=name),
        SDK_FILE: sdk,
        ".dockerignore": "__pycache__\n*.pyc\n",
    }
    there = [file for file in files if (folder / file).exists()]
    if there:
        raise click.UsageError(f"{folder}: {', '.join(there)} exists already")
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        (folder / file).write_text(content, encoding="utf-8")
    return [folder / file for file in files]


def pack(folder: Path, target: Path) -> int:
    """Zip a folder, the same bytes for the same files; returns how many.

    What `.dockerignore` names stays out, as do caches and version control.
    """
    rules = read_rules(folder, "Dockerfile")
    count = 0
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in _walk(folder):
            inside = path.relative_to(folder).as_posix()
            if path.resolve() == target.resolve():
                continue
            if inside not in _KEPT and is_ignored(inside, rules):
                continue
            entry = zipfile.ZipInfo(inside, _DATE)
            entry.create_system = 3
            entry.compress_type = zipfile.ZIP_DEFLATED
            if path.is_symlink():
                entry.external_attr = 0o120777 << 16
                archive.writestr(entry, str(path.readlink()))
            elif path.is_file():
                runs = bool(path.stat().st_mode & 0o100)
                entry.external_attr = (0o100755 if runs else 0o100644) << 16
                with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as out:
                    while piece := source.read(1024 * 1024):
                        out.write(piece)
            else:
                raise click.UsageError(f"{path}: not a file, folder or link")
            count += 1
    return count


def _walk(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name in _LEFT_OUT or path.suffix == ".pyc":
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)
        else:
            yield path


def zip_of(path: Path, scratch: Path) -> Path:
    """The zip itself, or a fresh one of a folder."""
    if not path.is_dir():
        return path
    target = scratch / f"{path.resolve().name or 'package'}.zip"
    pack(path, target)
    return target


def look(zip_path: Path, *, version: str | None = None) -> Inspection:
    """The server's own check with its default limits; raises what the server would."""
    limits = _limits()
    if version is not None:
        names.version(version)
    return inspect(zip_path, limits)


def _limits() -> Limits:
    settings = PackagesSettings()
    return Limits(settings.max_files, settings.max_unpacked_bytes)


def build(zip_path: Path, *, tag: str, socket: str) -> str:
    """Build a zip with a Docker Engine of this machine; returns the image's id."""
    found = look(zip_path)
    with tempfile.TemporaryDirectory(prefix="haechi-build-") as scratch:
        target = Path(scratch) / "tree"
        extraction.extract(zip_path, target, _limits())
        return asyncio.run(_build(target, found, tag=tag, socket=socket))


async def _build(tree: Path, found: Inspection, *, tag: str, socket: str) -> str:
    from haechi.adapters.builder_docker import DockerBuilder
    from haechi.adapters.docker_api import DockerApi
    from haechi.core.clock import SystemClock
    from haechi.domains.builds.ports import Plan

    builder = DockerBuilder(DockerApi(socket), clock=SystemClock())
    engine = await builder.engine()
    context = tree / found.layout.context
    dockerfile = tree / found.layout.dockerfile
    plan = Plan(
        context_dir=context,
        dockerfile=dockerfile.relative_to(context).as_posix(),
        dockerfile_text=dockerfile.read_text(encoding="utf-8", errors="replace"),
        platform=engine.platform,
        tag=tag,
    )
    image = await builder.build(plan, lambda line: click.echo(line, err=True), lambda *_: None)
    return image.image_id
