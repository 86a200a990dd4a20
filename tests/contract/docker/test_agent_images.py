"""The agent's image as archives, from a real Docker and from a file."""

import io
import os
import tarfile
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from haechi.adapters.agent_images import REPOSITORY, DockerAgentImages
from haechi.adapters.docker_api import DockerApi
from haechi.domains.clusters.agent.errors import NoAgentImage

SOCKET = "/var/run/docker.sock"
pytestmark = [
    pytest.mark.integration,
    pytest.mark.docker,
    pytest.mark.skipif(not Path(SOCKET).exists(), reason="no Docker daemon here"),
]


def context(content: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, text in (("Dockerfile", "FROM scratch\nCOPY file /file\n"), ("file", content)):
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


class Image:
    def __init__(self, docker: DockerApi) -> None:
        self.docker = docker
        self.name = f"haechi-test/agent-{uuid.uuid4().hex[:8]}:1"
        self.ids: list[str] = []

    async def make(self, content: str) -> None:
        async with self.docker.build({"version": "2", "t": self.name}, context(content)) as lines:
            async for line in lines:
                assert "error" not in line, line
        self.ids.append(str((await self.docker.image(self.name))["Id"]))


@pytest.fixture
async def image() -> AsyncIterator[Image]:
    docker = DockerApi(SOCKET)
    made = Image(docker)
    await made.make(uuid.uuid4().hex)
    yield made
    for one in made.ids:
        await docker.remove_image(one, force=True)


def images_of(image: Image, folder: Path, archive: Path | None = None) -> DockerAgentImages:
    return DockerAgentImages(
        image.docker, image=lambda: image.name, archive=lambda: archive, folder=folder
    )


async def test_an_image_becomes_an_archive_named_by_its_id(image, tmp_path):
    images = images_of(image, tmp_path)
    platform = "linux/amd64"
    assert await images.known(platform)
    first = await images.image(platform)
    short = image.ids[0].removeprefix("sha256:")[:12]
    assert first.reference == f"{REPOSITORY}:{short}"
    assert first.size_bytes == first.archive.stat().st_size
    written = first.archive.stat().st_mtime_ns
    again = await images.image(platform)
    assert again == first
    assert first.archive.stat().st_mtime_ns == written

    await image.make(uuid.uuid4().hex)
    second = await images.image(platform)
    assert second.reference != first.reference
    assert list(tmp_path.iterdir()) == [second.archive]


async def test_an_archive_may_come_from_elsewhere(image, tmp_path):
    made = await images_of(image, tmp_path).image("linux/amd64")
    carried = tmp_path / "carried-amd64.tar.gz"
    carried.write_bytes(made.archive.read_bytes())
    images = images_of(image, tmp_path, tmp_path / "carried-{arch}.tar.gz")
    assert await images.known("linux/amd64")
    found = await images.image("linux/amd64")
    assert (found.reference, found.sha256) == (made.reference, made.sha256)
    assert found.archive == carried
    assert not await images.known("linux/arm64")

    # It is not unpacked for each host anew, but where it is another file.
    seen = carried.stat()
    carried.write_bytes(bytes(seen.st_size))
    os.utime(carried, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert await images.image("linux/amd64") == found
    await image.make(uuid.uuid4().hex)
    newer = await images_of(image, tmp_path).image("linux/amd64")
    newer.archive.replace(carried)
    assert (await images.image("linux/amd64")).sha256 == newer.sha256


async def test_what_is_no_agent_is_said(image, tmp_path):
    images = images_of(image, tmp_path)
    assert not await images.known("linux/arm64")
    with pytest.raises(NoAgentImage):
        await images.image("linux/arm64")
    image.name = "haechi-test/never-made:1"
    assert not await images.known("linux/amd64")
    with pytest.raises(NoAgentImage):
        await images.image("linux/amd64")
    broken = tmp_path / "broken.tar.gz"
    broken.write_bytes(b"not an archive")
    with pytest.raises(NoAgentImage) as caught:
        await images_of(image, tmp_path, broken).image("linux/amd64")
    assert "broken.tar.gz" in caught.value.data["reason"]
