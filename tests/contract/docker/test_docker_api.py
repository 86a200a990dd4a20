"""The Engine client against the real daemon."""

import asyncio
import contextlib
import io
import tarfile
import uuid
from pathlib import Path

import pytest

from haechi.adapters.docker_api import DockerApi, gateway_of
from haechi.adapters.docker_errors import (
    EngineConflict,
    EngineFailed,
    EngineObjectNotFound,
    EngineTimedOut,
    EngineUnreachable,
    RegistryUnreachable,
)

SOCKET = "/var/run/docker.sock"
BASE = "haechi/python:3.11-slim"

pytestmark = [
    pytest.mark.integration,
    pytest.mark.docker,
    pytest.mark.skipif(not Path(SOCKET).exists(), reason="no Docker daemon here"),
]


@pytest.fixture
async def docker():
    api = DockerApi(SOCKET)
    await api.ping()
    return api


@pytest.fixture
async def name(docker):
    """A container name; whatever carries it is gone afterwards."""
    name = f"haechi-test-{uuid.uuid4().hex[:8]}"
    yield name
    await docker.remove_container(name, force=True)
    await docker.remove_network(name)
    await docker.remove_image(f"{name}:1", force=True)


@pytest.fixture
async def base(docker):
    if not await docker.has_image(BASE):
        pytest.skip(f"{BASE} was not made on this machine")
    return BASE


def tar_of(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


async def build(docker: DockerApi, tag: str, **files: bytes) -> list[dict]:
    async with docker.build({"version": "2", "t": tag}, tar_of(**files)) as lines:
        return [line async for line in lines]


def container(image: str, *command: str, **more: object) -> dict:
    return {"Image": image, "Cmd": list(command), "HostConfig": {"NetworkMode": "none"}, **more}


async def test_version_and_info(docker):
    assert (await docker.version())["Os"] == "linux"
    assert (await docker.info())["NCPU"] >= 1


async def test_a_socket_nobody_listens_on(tmp_path):
    with pytest.raises(EngineUnreachable) as caught:
        await DockerApi(str(tmp_path / "none.sock")).ping()
    assert caught.value.http_status == 503


async def test_a_daemon_that_says_nothing_is_given_up(tmp_path):
    async def silent(reader, writer):
        await reader.read()
        writer.close()

    path = str(tmp_path / "silent.sock")
    async with await asyncio.start_unix_server(silent, path):
        with pytest.raises(EngineTimedOut):
            await DockerApi(path).ping(timeout_s=0.05)


async def test_a_daemon_that_dies_in_the_middle_of_an_answer(tmp_path):
    async def dying(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 99\r\n\r\n{")
        writer.close()

    path = str(tmp_path / "dying.sock")
    async with await asyncio.start_unix_server(dying, path):
        with pytest.raises(EngineUnreachable):
            await DockerApi(path).version()


async def test_images_from_build_to_removal(docker, name):
    lines = await build(docker, f"{name}:1", Dockerfile=b"FROM scratch\nCOPY a /a\n", a=b"x")
    assert any(line.get("id") == "moby.image.id" for line in lines)
    assert (await docker.image(f"{name}:1"))["Os"] == "linux"
    await docker.tag(f"{name}:1", name, "2")
    await docker.remove_image(f"{name}:2")
    await docker.remove_image(f"{name}:2")
    with pytest.raises(EngineObjectNotFound):
        await docker.image(f"{name}:2")


async def test_a_failed_build_answers_200_with_an_error_line(docker, name):
    lines = await build(docker, f"{name}:1", Dockerfile=b"FROM scratch\nCOPY missing /a\n")
    assert any("error" in line for line in lines)


async def test_pull_and_push_say_that_the_registry_is_away(docker, name):
    with pytest.raises(RegistryUnreachable):
        await docker.pull("127.0.0.1:1/x:1")
    await build(docker, f"{name}:1", Dockerfile=b"FROM scratch\nCOPY a /a\n", a=b"x")
    await docker.tag(f"{name}:1", "127.0.0.1:1/x", "1")
    try:
        with pytest.raises(RegistryUnreachable):
            await docker.push("127.0.0.1:1/x:1")
    finally:
        await docker.remove_image("127.0.0.1:1/x:1")


async def test_life_of_a_container(docker, name, base):
    config = container(base, "sleep", "60", Labels={"haechi.test": name})
    made = await docker.create_container(name, config)
    with pytest.raises(EngineConflict):
        await docker.create_container(name, config)
    await docker.start_container(name)
    await docker.start_container(name)
    assert [c["Id"] for c in await docker.containers(labels=[f"haechi.test={name}"])] == [made]
    assert (await docker.container(name))["State"]["Running"]
    assert (await docker.container_stats(name))["memory_stats"]
    await docker.stop_container(name, grace_s=0)
    await docker.stop_container(name)
    assert await docker.wait_container(name, timeout_s=5) == 137
    await docker.remove_container(name)
    await docker.remove_container(name)
    await docker.stop_container(name)
    with pytest.raises(EngineObjectNotFound):
        await docker.container(name)


async def test_waiting_has_a_limit(docker, name, base):
    await docker.create_container(name, container(base, "sleep", "60"))
    await docker.start_container(name)
    with pytest.raises(EngineTimedOut):
        await docker.wait_container(name, timeout_s=0.2)


async def test_logs_keep_streams_and_order_and_follow_to_the_end(docker, name, base):
    script = "echo one; echo two >&2; sleep 0.3; printf three"
    await docker.create_container(name, container(base, "sh", "-c", script))
    await docker.start_container(name)
    followed = [line async for line in docker.follow_logs(name, retry_s=0.05)]
    # Between the two streams the Engine promises no order.
    assert sorted((line.stream, line.text) for line in followed) == [
        ("stderr", "two"),
        ("stdout", "one"),
        ("stdout", "three"),
    ]
    tail = [line.text async for line in docker.container_logs(name, tail=1)]
    assert tail == ["three"]


async def test_logs_of_a_terminal_container(docker, name, base):
    config = container(base, "sh", "-c", "echo one; echo two", Tty=True)
    await docker.create_container(name, config)
    await docker.start_container(name)
    await docker.wait_container(name, timeout_s=20)
    lines = [line async for line in docker.container_logs(name)]
    assert [line.text for line in lines] == ["one", "two"]
    assert all(line.at.endswith("Z") for line in lines)


async def test_events_tell_of_a_start(docker, name, base):
    await docker.create_container(name, container(base, "true"))
    seen = asyncio.Event()

    async def watch():
        events = docker.events({"container": [name], "event": ["start"]}, since_s=1)
        async with contextlib.aclosing(events):
            async for event in events:
                assert event["Actor"]["Attributes"]["name"] == name
                seen.set()
                return

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(watch())
        await docker.start_container(name)
        await seen.wait()


async def test_an_internal_bridge_is_made_once_and_has_a_gateway(docker, name):
    first = await docker.ensure_bridge(name, labels={"haechi.test": "1"})
    again = await docker.ensure_bridge(name)
    assert first["Id"] == again["Id"]
    assert first["Internal"]
    assert gateway_of(first).count(".") == 3
    assert first["Options"]["com.docker.network.bridge.enable_icc"] == "false"
    assert not first["EnableIPv6"]
    await docker.remove_network(name)
    await docker.remove_network(name)


async def test_a_kernel_that_cannot_keep_containers_apart_gets_its_bridge(
    docker, name, monkeypatch, caplog
):
    ask = docker._json

    async def without_br_netfilter(method, path, *args, **more):
        if "enable_icc" in str(more.get("payload")):
            message = (
                "cannot restrict inter-container communication: please ensure that br_netfilter "
                "kernel module is loaded"
            )
            raise EngineFailed(message=message)
        return await ask(method, path, *args, **more)

    monkeypatch.setattr(docker, "_json", without_br_netfilter)
    assert (await docker.ensure_bridge(name))["Internal"]
    assert "can reach each other" in caplog.text
    await docker.remove_network(name)
