"""The example detector as it is shipped, run natively on real footage and a live stream."""

from __future__ import annotations

import json
import os
import queue
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections import Counter
from contextlib import suppress
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import pytest

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.integration


def prepared(name: str) -> Path:
    found = subprocess.run(
        [sys.executable, ROOT / "tools" / "setup.py", "--path", name],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout.strip()
    if not Path(found).exists():
        pytest.skip(f"{name} is not prepared: run make setup")
    return Path(found)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("detector")
    subprocess.run(
        [
            *(sys.executable, ROOT / "examples" / "pack.py", "person-detector"),
            *("--weights", prepared("detector"), "-o", folder / "p.zip"),
        ],
        check=True,
        timeout=60,
    )
    with zipfile.ZipFile(folder / "p.zip") as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture
def detector_module(unpacked: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(unpacked))
    import nanodet

    return nanodet


def test_it_finds_the_people(unpacked: Path, detector_module):
    model = detector_module.NanoDet(unpacked / "nanodet.onnx")
    side = detector_module.SIDE_PX
    with av.open(str(prepared("footage"))) as source:
        frames = [f for n, f in enumerate(source.decode(video=0)) if n % 100 == 50]
    seen = [model.detect(f.reformat(side, side, "rgb24").to_ndarray()) for f in frames]
    people = [sum(one.name == "person" for one in found) for found in seen]
    assert len(people) == 8
    assert sum(count >= 3 for count in people) >= 6, people
    assert max(people) <= 12, people
    assert {one.name for found in seen for one in found} <= {"person", "car", "truck", "bus"}
    for found in seen:
        for one in found:
            x, y, w, h = one.box
            assert 0 <= x <= 1
            assert 0 <= y <= 1
            assert w > 0
            assert h > 0
            assert x + w <= 1.0001
            assert y + h <= 1.0001
            if one.name == "person":
                assert h < 0.5
                assert w < 0.3


class Camera:
    """Plays the footage as MPEG-TS over TCP at its own pace, to one client after the other."""

    def __init__(self, footage: Path) -> None:
        self._footage = footage
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"tcp://127.0.0.1:{self._socket.getsockname()[1]}"
        self.clients = 0
        self.connection: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                self.connection, _ = self._socket.accept()
            except OSError:
                return
            self.clients += 1
            # The client left in the middle: writing, and closing the muxer after it, both fail.
            with suppress(OSError, av.FFmpegError, ValueError), self.connection:
                with self.connection.makefile("wb") as out:
                    self._play(out)

    def _play(self, out) -> None:
        with av.open(str(self._footage)) as source, av.open(out, "w", format="mpegts") as target:
            video = target.add_stream("mpeg2video", rate=10)
            video.width, video.height, video.pix_fmt = 768, 576, "yuv420p"
            video.codec_context.gop_size = 5
            started = time.monotonic()
            for number, frame in enumerate(source.decode(video=0)):
                wait_s = started + number / 10 - time.monotonic()
                if wait_s > 0:
                    time.sleep(wait_s)
                picture = frame.reformat(format="yuv420p")
                picture.pts, picture.time_base = number, Fraction(1, 10)
                target.mux(video.encode(picture))
                out.flush()

    def drop(self) -> None:
        assert self.connection is not None
        self.connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._socket.close()
        if self.connection is not None:
            with suppress(OSError):
                self.drop()
        self._thread.join(5)


class Agent:
    """Just enough of the device-local intake."""

    def __init__(self) -> None:
        self.rows: list[dict] = []
        self.ready = threading.Event()
        self.arrived = threading.Condition()
        self.assignments: queue.Queue[dict] = queue.Queue()
        agent = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_args) -> None:
                pass

            def answer(self, status: int, document: object = None) -> None:
                body = b"" if document is None else json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self) -> None:
                try:
                    self.answer(200, agent.assignments.get(timeout=1))
                except queue.Empty:
                    self.answer(204)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path == "/v1/ready":
                    agent.ready.set()
                    self.answer(204)
                    return
                with agent.arrived:
                    agent.rows.extend(body)
                    agent.arrived.notify_all()
                self.answer(200, {"accepted": len(body), "refused": []})

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def assign(self, revision: int, *rows: dict) -> None:
        self.assignments.put({"revision": revision, "assignments": list(rows)})

    def wait_for(self, what, limit_s: float = 40) -> None:
        with self.arrived:
            assert self.arrived.wait_for(what, limit_s), self.rows[-3:]


@pytest.fixture
def agent():
    agent = Agent()
    yield agent
    agent.server.shutdown()
    agent.server.server_close()


@pytest.fixture
def detector(unpacked: Path, agent: Agent):
    environment = {**os.environ, "HAECHI_AGENT_URL": agent.url, "HAECHI_TOKEN": "t"}
    process = subprocess.Popen([sys.executable, "main.py"], cwd=unpacked, env=environment)
    yield process
    process.terminate()
    assert process.wait(15) == 0


def test_it_watches_two_cameras_and_survives_a_lost_stream(agent: Agent, detector, unpacked):
    cameras = [Camera(prepared("footage")) for _ in range(2)]
    rows = [
        {"id": f"asg-{n}", "camera_id": f"cam-{n}", "url": c.url, "fps": 3, "epoch": 1}
        for n, c in enumerate(cameras)
    ]
    try:
        agent.assign(1, *rows)
        assert agent.ready.wait(40)

        def per_camera() -> Counter:
            return Counter(row.get("camera_id") for row in agent.rows)

        agent.wait_for(lambda: min(per_camera()["cam-0"], per_camera()["cam-1"]) >= 6)
        with_people = [r for r in agent.rows if any(o["class"] == "person" for o in r["objects"])]
        assert len(with_people) > len(agent.rows) / 2
        assert all(row["took_ms"] > 0 for row in with_people)
        assert {row["assignment_id"] for row in with_people} == {"asg-0", "asg-1"}
        times = [row["captured_at"] for row in agent.rows if row.get("camera_id") == "cam-0"]
        assert times == sorted(times)

        cameras[0].drop()
        agent.wait_for(lambda: cameras[0].clients == 2)
        known = per_camera()["cam-0"]
        agent.wait_for(lambda: per_camera()["cam-0"] >= known + 3)

        agent.assign(2, rows[1])
        known = per_camera()["cam-1"]
        agent.wait_for(lambda: per_camera()["cam-1"] >= known + 6)
        last = [row.get("camera_id") for row in agent.rows[-3:]]
        assert last == ["cam-1"] * 3
    finally:
        agent.assign(3)
        for camera in cameras:
            camera.close()


def test_without_a_camera_it_is_ready_and_gives_signs_of_life(agent: Agent, detector):
    agent.assign(1)
    assert agent.ready.wait(40)
    agent.wait_for(lambda: len(agent.rows) >= 1)
    assert agent.rows[0]["attributes"] == {"heartbeat": True, "cameras": 0}
    assert "camera_id" not in agent.rows[0]


def test_monitoring_reports_each_second_and_ends_when_its_receiver_is_away():
    bodies: queue.Queue[dict] = queue.Queue()

    class Receiver(BaseHTTPRequestHandler):
        def log_message(self, *_args) -> None:
            pass

        def do_POST(self) -> None:
            bodies.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    environment = {
        **os.environ,
        "HAECHI_USAGE_URL": f"http://127.0.0.1:{server.server_address[1]}/usage",
        "HAECHI_EID": "dev-x",
        "MONITORING_EVERY_S": "0.1",
    }
    script = ROOT / "examples" / "packages" / "monitoring" / "monitoring.py"
    process = subprocess.Popen([sys.executable, script], env=environment)
    try:
        for _ in range(3):
            body = bodies.get(timeout=60)
            assert body["did"] == "dev-x"
            assert 0 <= body["cpu"] <= 100
            assert 0 < body["memory"] <= 100
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert process.wait(15) == 1
