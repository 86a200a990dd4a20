"""Media against real cameras: one pull, tokens that open and cut, honest states, stills."""

import asyncio
import os
import secrets
from pathlib import Path

import pytest
from tests.integration.media.conftest import viewer

from haechi.protocol.media import MediaCamera, MediaDesired, MediaPath, path_url
from haechi.testing.cameras import Login, SimulatedCamera, simulated_cameras

pytestmark = pytest.mark.integration
HOST = "127.0.0.1"
AWKWARD = Login("root", "p@ss:w/rd ü#%&+ $x {input} ?")


def camera(source: SimulatedCamera, camera_id: str = "cam-gate") -> MediaCamera:
    return MediaCamera(camera_id, main_url=source.main_url, sub_url=source.sub_url)


def path(stream: str = "main", purpose: str = "local", camera_id: str = "cam-gate") -> MediaPath:
    return MediaPath(secrets.token_urlsafe(24), camera_id, stream, purpose)


async def test_many_watch_and_the_camera_sees_one_pull(media):
    async with simulated_cameras("gate", login=AWKWARD) as cameras:
        one, two = path(), path()
        state = await media.put(MediaDesired([camera(cameras["gate"])], [one, two]))
        async with (
            viewer(path_url(state, one, HOST)) as first,
            viewer(path_url(state, two, HOST)) as second,
            viewer(path_url(state, two, HOST)) as third,
        ):
            for watching in (first, second, third):
                assert await watching.sees_pictures()
            seen = await media.until_stream("cam-gate", "main", viewers=3, online=True)

        assert (seen.codec, seen.width, seen.height) == ("h264", 640, 480)
        simulator = cameras.process("gate")
        assert simulator.pulls["gate", "main"] == 1
        assert simulator.pulls["gate", "sub"] == 1
        await media.until_stream("cam-gate", "main", viewers=0)


async def test_a_camera_at_home_is_looked_after_without_viewers(media):
    async with simulated_cameras("gate") as cameras:
        await media.put(MediaDesired([camera(cameras["gate"])]))

        seen = await media.until_stream("cam-gate", "sub", online=True)
        assert (seen.codec, seen.width, seen.height) == ("h264", 320, 240)
        assert not (await media.until_stream("cam-gate", "main")).watched
        assert cameras.process("gate").pulls["gate", "main"] == 0


async def test_a_token_opens_one_door_and_is_cut_when_taken_away(media):
    async with simulated_cameras("gate") as cameras:
        local, export = path("sub"), path("sub", "export")
        desired = MediaDesired([camera(cameras["gate"])], [local, export], [HOST], [HOST])
        state = await media.put(desired)
        assert state.local_port != state.export_port
        wrong_door = f"{state.scheme}://{HOST}:{state.export_port}/{local.token}"
        guessed = f"{state.scheme}://{HOST}:{state.local_port}/{secrets.token_urlsafe(24)}"
        for refused in (wrong_door, guessed):
            async with viewer(refused) as nobody:
                assert not await nobody.sees_pictures()

        async with (
            viewer(path_url(state, local, HOST)) as kept,
            viewer(path_url(state, export, HOST)) as cut,
        ):
            assert await kept.sees_pictures()
            assert await cut.sees_pictures()
            desired.paths.remove(export)
            state = await media.put(desired)
            await cut.is_cut()
            assert await kept.sees_pictures()
        async with viewer(path_url(state, export, HOST)) as again:
            assert not await again.sees_pictures()


async def test_why_a_camera_does_not_play_is_said(media):
    async with simulated_cameras("gate", login=AWKWARD) as cameras:
        gate = cameras["gate"]
        await media.put(
            MediaDesired(
                [
                    MediaCamera("cam-login", gate.url("main", Login("root", "guess"))),
                    MediaCamera("cam-path", gate.main_url.replace("media.amp", "nothing.amp")),
                    MediaCamera("cam-gone", "rtsp://root:hidden@127.0.0.1:9/axis-media/media.amp"),
                ]
            )
        )

        await media.until_stream("cam-login", "main", error="wrong_password", online=False)
        await media.until_stream("cam-path", "main", error="not_found")
        gone = await media.until_stream("cam-gone", "main", error="unreachable")
        assert "hidden" not in gone.detail


async def test_a_camera_that_goes_and_comes_back(media):
    async with simulated_cameras("gate") as cameras:
        watched = path("sub")
        state = await media.put(MediaDesired([camera(cameras["gate"])], [watched]))
        await media.until_stream("cam-gate", "sub", online=True)
        url = path_url(state, watched, HOST)
        async with viewer(url) as watching:
            assert await watching.sees_pictures()
            await cameras.stop("gate")
            await watching.is_cut()
        await media.until_stream("cam-gate", "sub", online=False, error="unreachable")

        await cameras.restart("gate")

        await media.until_stream("cam-gate", "sub", online=True, error="")
        async with viewer(url) as watching:
            assert await watching.sees_pictures()


async def test_stills_come_in_the_wanted_size_and_are_fresh(media):
    async with simulated_cameras("gate") as cameras:
        await media.put(MediaDesired([camera(cameras["gate"])]))
        await media.until_stream("cam-gate", "sub", online=True)

        small = await media.http.get("/v1/stills/cam-gate?width=160")
        large = await media.http.get("/v1/stills/cam-gate")

        for answer, size in ((small, "160x120"), (large, "640x480")):
            assert answer.status_code == 200, answer.text
            assert answer.headers["content-type"] == "image/jpeg"
            assert answer.headers["x-size"] == size
            assert answer.content[:2] == b"\xff\xd8"
        first = int(large.headers["x-captured-ms"])
        later = await media.http.get("/v1/stills/cam-gate?max_age_ms=0")
        assert int(later.headers["x-captured-ms"]) > first
        assert cameras.process("gate").pulls_ever["gate", "main"] == 1

        await cameras.stop("gate")
        await media.until_stream("cam-gate", "sub", online=False, error="unreachable")
        none = await media.http.get("/v1/stills/cam-gate?width=160")
        assert (none.status_code, none.json()["error"]) == (503, "unreachable")
        unknown = await media.http.get("/v1/stills/cam-other")
        assert (unknown.status_code, unknown.json()["error"]) == (503, "not_found")


async def test_it_goes_on_by_itself_after_kill_and_keeps_its_addresses(media):
    async with simulated_cameras("gate") as cameras:
        watched = path("sub")
        before = await media.put(MediaDesired([camera(cameras["gate"])], [watched]))
        await media.until_stream("cam-gate", "sub", online=True)
        await media.kill()
        await cameras.process("gate").wait_for_pulls("gate", "sub", 0)

        await media.start()

        after = await media.until(lambda s: s.running and s.local_port is not None)
        assert path_url(after, watched, HOST) == path_url(before, watched, HOST)
        async with viewer(path_url(after, watched, HOST)) as watching:
            assert await watching.sees_pictures()


async def test_a_neighbour_pulls_an_export_and_serves_it_to_its_own(start_media, backend):
    here = await start_media("here")
    there = await start_media("there", "go2rtc")
    async with simulated_cameras("gate") as cameras:
        export = path("sub", "export")
        state = await here.put(MediaDesired([camera(cameras["gate"])], [export], [HOST], [HOST]))
        local = path("sub")
        relayed = MediaCamera("cam-gate", sub_url=path_url(state, export, HOST), home=False)
        their = await there.put(MediaDesired([relayed], [local]))
        idle = await there.until_stream("cam-gate", "sub")
        assert not idle.watched
        assert (await here.until_stream("cam-gate", "sub", online=True)).viewers == 0

        async with (
            viewer(path_url(their, local, HOST)) as one,
            viewer(path_url(their, local, HOST)) as two,
        ):
            assert await one.sees_pictures()
            assert await two.sees_pictures()
            await there.until_stream("cam-gate", "sub", online=True, viewers=2)
            assert (await here.until_stream("cam-gate", "sub", viewers=1)).online
        await here.until_stream("cam-gate", "sub", viewers=0)
        assert cameras.process("gate").pulls["gate", "sub"] == 1


async def test_no_password_is_seen_anywhere(media):
    login = Login("root", "very-secret-pass")
    async with simulated_cameras("gate", login=login) as cameras:
        gate = cameras["gate"]
        wrong = MediaCamera("cam-wrong", gate.url("main", Login("root", "other-secret-pass")))
        await media.put(MediaDesired([camera(gate), wrong], [path("sub")]))
        await media.until_stream("cam-gate", "sub", online=True)
        await media.until_stream("cam-wrong", "main", error="wrong_password")

        shown = [(await media.http.get("/v1/state")).text, media.log.read_text()]
        for process in Path("/proc").glob("[0-9]*"):
            try:
                shown.append((process / "cmdline").read_text(errors="replace"))
                if _parent(process) == media.pid or int(process.name) == media.pid:
                    shown.append((process / "environ").read_text(errors="replace"))
            except OSError:
                continue
        assert not [text for text in shown if "secret-pass" in text]
        holders = [f.name for f in media.folder.iterdir() if f.is_file() and _holds(f)]
        assert holders == ["desired.json"]
        assert (media.folder / "desired.json").stat().st_mode & 0o077 == 0
        assert media.folder.stat().st_mode & 0o077 == 0


def _parent(process: Path) -> int:
    return int((process / "stat").read_text().rpartition(")")[2].split()[1])


def _holds(file: Path) -> bool:
    return b"secret-pass" in file.read_bytes()


async def test_nonsense_is_refused_and_changes_nothing(media):
    async with simulated_cameras("gate") as cameras:
        await media.put(MediaDesired([camera(cameras["gate"])]))
        for body in (
            b"{",
            b'{"cameras": [{"camera_id": 3}]}',
            b'{"cameras": [{"camera_id": "cam-x", "main_url": "exec:ls"}]}',
            b'{"cameras": [{"camera_id": "cam-x", "main_url": "file:///etc/passwd"}]}',
            b'{"paths": [{"token": "short", "camera_id": "cam-x", "stream": "sub"}]}',
        ):
            answer = await media.http.put("/v1/desired", content=body)
            assert answer.status_code == 422, answer.text
        assert {s.camera_id for s in (await media.state()).streams} == {"cam-gate"}


@pytest.mark.parametrize("backend", ["go2rtc"], indirect=True)
async def test_nobody_can_put_his_own_picture_in_a_cameras_place(media):
    async with simulated_cameras("gate") as cameras:
        watched = path("sub")
        state = await media.put(MediaDesired([camera(cameras["gate"])], [watched]))
        for method in ("ANNOUNCE", "RECORD", "SET_PARAMETER"):
            reader, writer = await asyncio.open_connection(HOST, state.local_port)
            url = path_url(state, watched, HOST)
            writer.write(f"{method} {url} RTSP/1.0\r\nCSeq: 1\r\n\r\n".encode())
            assert (await reader.readline()).startswith(b"RTSP/1.0 405")
            writer.close()


@pytest.mark.parametrize("backend", ["go2rtc"], indirect=True)
async def test_the_relay_is_started_anew_when_it_dies(media):
    async with simulated_cameras("gate") as cameras:
        await media.put(MediaDesired([camera(cameras["gate"])]))
        await media.until_stream("cam-gate", "sub", online=True)
        [child] = [p for p in Path("/proc").glob("[0-9]*") if _is_child(p, media.pid)]
        os.kill(int(child.name), 9)

        await media.until_stream("cam-gate", "sub", online=False)
        await media.until_stream("cam-gate", "sub", online=True)


async def test_doors_open_and_close_with_their_addresses(media):
    async with simulated_cameras("gate") as cameras:
        watched = path("sub")
        desired = MediaDesired([camera(cameras["gate"])], [watched], [HOST, "127.0.0.77"])
        state = await media.put(desired)
        async with viewer(path_url(state, watched, "127.0.0.77")) as watching:
            assert await watching.sees_pictures()
        desired.local_hosts = [HOST]
        state = await media.put(desired)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.77", state.local_port)


IN_CONTAINER = """
import socket, sys
host, port, token = sys.argv[1:]
s = socket.create_connection((host, int(port)), 10)
s.sendall(f"DESCRIBE rtsp://{host}:{port}/{token} RTSP/1.0\\r\\nCSeq: 1\\r\\n\\r\\n".encode())
print(s.makefile("rb").readline())
"""


@pytest.mark.docker
@pytest.mark.parametrize("backend", ["go2rtc"], indirect=True)
async def test_a_container_reaches_its_stream_at_a_gateway_that_came_later(media):
    """The container network is made after media was told about it."""
    network = f"haechi-test-{secrets.token_hex(4)}"
    subnet = f"10.213.{secrets.randbelow(250)}"
    async with simulated_cameras("gate") as cameras:
        watched = path("sub")
        gateway = f"{subnet}.1"
        state = await media.put(MediaDesired([camera(cameras["gate"])], [watched], [HOST, gateway]))
        await docker("network", "create", "--internal", f"--subnet={subnet}.0/24", network)
        try:
            async with asyncio.timeout(20):
                while True:
                    try:
                        _, writer = await asyncio.open_connection(gateway, state.local_port)
                    except OSError:
                        await asyncio.sleep(0.1)
                        continue
                    writer.close()
                    break
            said = await docker(
                "run", "--rm", f"--network={network}", "--cap-drop=ALL", "haechi/python:3.11-slim",
                "python3", "-c", IN_CONTAINER, gateway, str(state.local_port), watched.token,
            )  # fmt: skip
        finally:
            await docker("network", "rm", network)
        assert "RTSP/1.0 200" in said


async def docker(*words: str) -> str:
    process = await asyncio.create_subprocess_exec(
        "docker", *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, out.decode()
    return out.decode()


def _is_child(process: Path, parent: int) -> bool:
    try:
        return _parent(process) == parent
    except OSError:
        return False
