"""`kill -9` of the server in the middle of a build; base images stored ahead."""

import asyncio
import subprocess
import sys
import textwrap
import time
import uuid
from pathlib import Path

from haechi.core.access import SYSTEM
from haechi.core.operations import State
from haechi.domains.builds import base_store

from .conftest import free_port, open_site, remove_images

ROOT = Path(__file__).parents[3]


async def running(words: str) -> bool:
    found = await asyncio.to_thread(
        subprocess.run, ["pgrep", "-f", "-x", words], capture_output=True, check=False
    )
    return found.returncode == 0


async def until(condition, timeout_s=30):
    async with asyncio.timeout(timeout_s):
        while not await condition():
            await asyncio.sleep(0.05)


async def test_a_build_killed_in_the_middle_is_finished_by_the_next_server(tmp_path, base):
    ports = (free_port(), free_port())
    seconds = f"3.{uuid.uuid4().int % 10**6:06d}"
    dockerfile = (
        f"FROM {base} AS one\nRUN sleep {seconds}; echo done > /x\n"
        "FROM scratch\nCOPY --from=one /x /x\n"
    )
    folder = tmp_path / "data"
    program = textwrap.dedent(
        f"""
        import asyncio, pathlib, sys
        sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "src")!r}]
        from tests.integration.builds.conftest import open_site

        async def main():
            async with open_site(pathlib.Path({str(folder)!r}), {ports!r}) as site:
                version = await site.upload({{"Dockerfile": {dockerfile!r}}}, "t-resume")
                operation = await site.builds.build_version(version.id)
                print(operation.id, version.id, flush=True)
                await asyncio.sleep(600)

        asyncio.run(main())
        """
    )
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(30):
        operation_id, version_id = (await server.stdout.readline()).decode().split()
    await until(lambda: running(f"sleep {seconds}"))
    server.kill()
    await server.wait()

    async def swept():
        return not await running(f"sleep {seconds}")

    await until(swept)
    stray = folder / "builds" / "op-aaaaaaaaaaaaaaaa"
    stray.mkdir()
    async with open_site(folder, ports) as site:
        assert not stray.exists()
        ended = await site.operations.wait(operation_id)
        assert ended.state is State.SUCCEEDED, site.log(ended)
        assert ended.attempts == 2
        build = await site.builds.image_of(version_id, "linux/amd64")
        assert build is not None
        assert len((await site.builds.find(version_id=version_id)).items) == 1
        assert not any((folder / "builds").iterdir())
        await remove_images(site.docker)


async def test_a_mapped_base_is_stored_ahead_and_mounted_by_the_build(site, base):
    _, operation = await site.builds.map_base_image("python:3.11-slim", base, by=SYSTEM)
    stored = await site.operations.wait(operation.id)
    assert stored.state is State.SUCCEEDED, site.log(stored)
    assert await site.parts.client.tags(base_store.REPOSITORY) == [base_store.tag_of(base)]
    dockerfile = f"FROM python:3.11-slim\nRUN echo {uuid.uuid4()} > /x\n"
    version = await site.upload({"Dockerfile": dockerfile}, "t-ahead")
    started = time.monotonic()
    ended = await site.build(version)
    print(f"build and push on a stored base: {time.monotonic() - started:.2f} s")
    assert ended.state is State.SUCCEEDED, site.log(ended)
    collected = await site.operations.wait((await site.registry.collect()).id)
    assert collected.state is State.SUCCEEDED
    assert await site.parts.client.tags(base_store.REPOSITORY) == [base_store.tag_of(base)]


async def test_mapping_to_an_image_that_is_not_there_is_told(site):
    _, operation = await site.builds.map_base_image("x:1", "nowhere.invalid/y:1", by=SYSTEM)
    ended = await site.operations.wait(operation.id)
    assert ended.error["code"] == "builds.base_target_missing"
