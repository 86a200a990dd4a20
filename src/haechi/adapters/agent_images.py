"""The agent's image as archives that go to hosts: from this machine's Docker, or from a file.

An archive is named by the image's id, so a host that has it needs nothing, and a new image is a new
name. Made once and kept; older ones go.
"""

import asyncio
import gzip
import hashlib
import json
import os
import tarfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Final

from haechi.adapters.docker_api import DockerApi
from haechi.adapters.docker_states import platform_of
from haechi.domains.clusters.agent.errors import NoAgentImage
from haechi.domains.clusters.agent.ports import AgentImage
from haechi.errors import AppError

REPOSITORY: Final = "haechi.internal/agent"
"""Under a name of its own: no registry is ever asked for it."""
IDLE_S: Final = 300.0
_CHUNK: Final = 1 << 20


class DockerAgentImages:
    """`image` is its name in the Docker at hand; `archive` a file instead of it, in which `{arch}`
    stands for amd64 or arm64."""

    def __init__(
        self,
        docker: DockerApi,
        *,
        image: Callable[[], str],
        archive: Callable[[], Path | None],
        folder: Path,
    ) -> None:
        self._docker = docker
        self._image = image
        self._archive = archive
        self._folder = folder
        self._making = asyncio.Lock()

    async def image(self, platform: str) -> AgentImage:
        given = self._archive()
        async with self._making:
            if given is not None:
                return await asyncio.to_thread(_read, _path_of(given, platform), platform)
            return await self._from_docker(platform)

    async def known(self, platform: str) -> bool:
        given = self._archive()
        if given is not None:
            return await asyncio.to_thread(_path_of(given, platform).is_file)
        try:
            found = await self._docker.image(self._image())
        except AppError:
            return False
        return platform_of(found).startswith(platform)

    async def _from_docker(self, platform: str) -> AgentImage:
        name = self._image()
        try:
            found = await self._docker.image(name)
        except AppError as error:
            raise NoAgentImage(platform=platform, reason=str(error)[:200]) from error
        if not platform_of(found).startswith(platform):
            raise NoAgentImage(platform=platform, reason=f"{name} is for {platform_of(found)}")
        short = str(found["Id"]).removeprefix("sha256:")[:12]
        path = self._folder / f"agent-{short}.tar.gz"
        if not path.exists():
            await self._docker.tag(name, REPOSITORY, short)
            await self._save(f"{REPOSITORY}:{short}", path)
        return await asyncio.to_thread(_read, path, platform)

    async def _save(self, reference: str, path: Path) -> None:
        """`docker save`, gzipped, whole or not at all."""
        await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)
        temporary = path.with_suffix(".new")
        try:
            with temporary.open("wb") as raw, gzip.open(raw, "wb", compresslevel=1) as packed:
                target = f"/images/{reference}/get"
                async with self._docker.stream("GET", target, head_timeout_s=IDLE_S) as answer:
                    async for chunk in answer.chunks(idle_timeout_s=IDLE_S):
                        await asyncio.to_thread(packed.write, chunk)
            await asyncio.to_thread(_keep, temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def _path_of(given: Path, platform: str) -> Path:
    return Path(str(given).replace("{arch}", platform.rpartition("/")[2]))


def _keep(temporary: Path, path: Path) -> None:
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    for old in path.parent.glob("agent-*.tar.gz"):
        if old != path:
            old.unlink(missing_ok=True)


def _read(path: Path, platform: str) -> AgentImage:
    try:
        state = path.stat()
    except OSError as error:
        raise NoAgentImage(platform=platform, reason=f"{path.name}: {error}"[:200]) from error
    return _read_once(path, platform, (state.st_ino, state.st_mtime_ns, state.st_size))


@lru_cache(maxsize=4)
def _read_once(path: Path, platform: str, _state: tuple[int, int, int]) -> AgentImage:
    """What an archive holds, and its digest. All of it is unpacked for that, which takes seconds:
    not again for each host, but where the file is another one.
    """
    try:
        with path.open("rb") as file:
            digest = _digest(file)
        with tarfile.open(path, "r:*") as tar:
            member = tar.extractfile("manifest.json")
            listed: list[dict[str, Any]] = json.load(member) if member else []
            reference = str((listed[0].get("RepoTags") or [""])[0]) if listed else ""
            config = tar.extractfile(str(listed[0]["Config"])) if listed else None
            found = platform_of(_titled(json.load(config))) if config else ""
    except (OSError, tarfile.TarError, KeyError, ValueError) as error:
        reason = f"{path.name}: {error}"[:200]
        raise NoAgentImage(platform=platform, reason=reason) from error
    if not reference:
        raise NoAgentImage(platform=platform, reason=f"{path.name} names no image")
    if not found.startswith(platform):
        raise NoAgentImage(platform=platform, reason=f"{path.name} is for {found}")
    return AgentImage(
        reference=reference, archive=path, sha256=digest, size_bytes=path.stat().st_size
    )


def _titled(config: dict[str, Any]) -> dict[str, Any]:
    """An image's own config, with the names that the Engine's inspection uses."""
    return {"Os": config.get("os"), "Architecture": config.get("architecture")}


def _digest(file: BinaryIO) -> str:
    found = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        found.update(chunk)
    return found.hexdigest()
