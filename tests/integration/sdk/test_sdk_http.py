"""The SDK against a real HTTP intake: delivery, absence, refusals, assignments, SIGTERM."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import textwrap
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import haechi.sdk
from haechi.sdk import Haechi, detected

pytestmark = pytest.mark.integration


class Intake:
    """A small agent intake. `mode` decides what a POST of results gets."""

    def __init__(self, port: int = 0) -> None:
        self.rows: list[dict] = []
        self.tokens: set[str | None] = set()
        self.ready = threading.Event()
        self.arrived = threading.Condition()
        self.assignments: queue.Queue[dict] = queue.Queue()
        self.mode = "ok"
        intake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_args) -> None:
                pass

            def answer(self, status: int, document: object = None, **headers: str) -> None:
                body = b"" if document is None else json.dumps(document).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self) -> None:
                try:
                    self.answer(200, intake.assignments.get(timeout=0.3))
                except queue.Empty:
                    self.answer(204)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                intake.tokens.add(self.headers["Authorization"])
                if self.path == "/v1/ready":
                    intake.ready.set()
                    self.answer(204)
                elif intake.mode == "busy":
                    self.answer(503, {}, Retry_After="0.05")
                elif intake.mode == "picky" and any(r.get("class") == "bad" for r in body):
                    self.answer(422, {"detail": "bad row"})
                else:
                    with intake.arrived:
                        intake.rows.extend(body)
                        intake.arrived.notify_all()
                    self.answer(200, {"accepted": len(body), "refused": []})

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def wait_for_rows(self, count: int) -> list[dict]:
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.rows) >= count, 90), self.rows
            return list(self.rows)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def intake():
    intake = Intake()
    yield intake
    intake.close()


def test_results_and_ready_arrive_with_the_token(intake):
    with Haechi(intake.url, "secret", handle_sigterm=False) as haechi:
        haechi.ready()
        for _ in range(1200):
            haechi.result("cam-1", objects=[detected("person", 0.9, (0, 0, 0.1, 0.1))])
        assert haechi.flush(15)
        assert haechi.sent == 1200
    assert intake.ready.is_set()
    assert intake.tokens == {"Bearer secret"}
    assert [row["seq"] for row in intake.rows] == list(range(1, 1201))


def test_rows_said_while_the_agent_is_away_arrive_when_it_is_back():
    first = Intake()
    port = first.port
    first.close()
    with Haechi(f"http://127.0.0.1:{port}", "t", handle_sigterm=False) as haechi:
        for _ in range(5):
            haechi.heartbeat()
        assert not haechi.flush(0.3)
        back = Intake(port)
        rows = back.wait_for_rows(5)
        back.close()
    assert [row["seq"] for row in rows] == [1, 2, 3, 4, 5]


def test_a_full_buffer_drops_the_oldest_and_says_how_many(intake):
    intake.mode = "busy"
    with Haechi(intake.url, "t", buffer_bytes=2000, handle_sigterm=False) as haechi:
        for _ in range(100):
            haechi.heartbeat()
        assert haechi.dropped > 0
        intake.mode = "ok"
        assert haechi.flush(15)
        haechi.heartbeat()
        assert haechi.flush(15)
        dropped = haechi.dropped
    told = sum(row.get("attributes", {}).get("haechi_dropped", 0) for row in intake.rows)
    assert told == dropped
    assert len(intake.rows) == 101 - dropped


def test_one_refused_row_does_not_hold_up_the_others(intake):
    intake.mode = "busy"
    with Haechi(intake.url, "t", handle_sigterm=False) as haechi:
        for number in range(21):
            if number == 13:
                haechi.result("cam-1", name="bad", prob=0.5)
            else:
                haechi.heartbeat("cam-1")
        intake.mode = "picky"
        assert haechi.flush(15)
        assert (haechi.sent, haechi.refused) == (20, 1)
    assert [row["seq"] for row in intake.rows] == [n for n in range(1, 22) if n != 14]


def test_assignments_start_change_and_stop(intake):
    def wanted(revision: int, *rows: dict) -> None:
        intake.assignments.put({"revision": revision, "assignments": list(rows)})

    one = {"id": "asg-1", "camera_id": "cam-1", "url": "rtsp://a", "fps": 5, "epoch": 1, "x": 1}
    two = {"id": "asg-2", "camera_id": "cam-2", "url": "rtsp://b", "fps": 5, "epoch": 1}
    with Haechi(intake.url, "t", handle_sigterm=False) as haechi:
        changes = haechi.assignments()
        wanted(1, one, two)
        assert [(c.kind, c.assignment.camera_id) for c in (next(changes), next(changes))] == [
            ("started", "cam-1"),
            ("started", "cam-2"),
        ]
        wanted(2, {**one, "fps": 15}, {**one, "epoch": 0, "fps": 1}, two)
        change = next(changes)
        assert (change.kind, change.assignment.fps, change.reconnect) == ("changed", 15, False)
        wanted(3, {**two, "url": "rtsp://c"})
        assert next(changes).kind == "stopped"
        change = next(changes)
        assert (change.kind, change.reconnect) == ("changed", True)
        haechi.close()
        assert list(changes) == []


def test_without_an_agent_the_environment_names_camera_and_receiver(intake, monkeypatch):
    monkeypatch.delenv("HAECHI_AGENT_URL", raising=False)
    monkeypatch.setenv("HAECHI_RESULTS_URL", f"{intake.url}/api/v1/results")
    monkeypatch.setenv("HAECHI_CAMERA_URL", "rtsp://127.0.0.1/x")
    with Haechi(handle_sigterm=False) as haechi:
        change = next(haechi.assignments())
        assert change.assignment.url == "rtsp://127.0.0.1/x"
        haechi.result(change.assignment)
        (row,) = intake.wait_for_rows(1)
    assert "camera_id" not in row
    assert "assignment_id" not in row


@pytest.mark.parametrize("ending", ["polite", "deaf"])
def test_sigterm_ends_the_program_and_loses_nothing(intake, ending, tmp_path: Path):
    loop = {
        "polite": "for change in haechi.assignments(): pass",
        "deaf": "import time\nwhile True: time.sleep(0.05)",
    }[ending]
    program = tmp_path / "ai.py"
    program.write_text(
        textwrap.dedent("""
        import importlib.util, os, sys
        spec = importlib.util.spec_from_file_location("haechi_sdk", sys.argv[1])
        sdk = importlib.util.module_from_spec(spec)
        sys.modules["haechi_sdk"] = sdk
        spec.loader.exec_module(sdk)
        haechi = sdk.Haechi(grace_s=1.0)
        for _ in range(50): haechi.heartbeat()
        haechi.ready()
        """)
        + loop
    )
    environment = {**os.environ, "HAECHI_AGENT_URL": intake.url, "HAECHI_TOKEN": "t"}
    process = subprocess.Popen([sys.executable, program, haechi.sdk.__file__], env=environment)
    assert intake.ready.wait(15)
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0
    assert len(intake.rows) == 50


def test_a_request_is_one_write_on_the_socket() -> None:
    """Two packets would wake the agent twice for each result."""

    class Counting:
        def __init__(self, sock) -> None:
            self.sock = sock
            self.writes: list[bytes] = []

        def sendall(self, data: bytes) -> None:
            self.writes.append(data)
            self.sock.sendall(data)

        def __getattr__(self, name: str):
            return getattr(self.sock, name)

    intake = Intake()
    link = haechi.sdk._Link("token")
    try:
        url = f"{intake.url}/v1/results"
        assert link.request("POST", url, b"[]")[0] == 200
        counting = link._connection.sock = Counting(link._connection.sock)
        assert link.request("POST", url, b'[{"seq":1}]')[0] == 200
        assert intake.rows == [{"seq": 1}]
        assert [data.endswith(b'\r\n\r\n[{"seq":1}]') for data in counting.writes] == [True]
    finally:
        link.close()
        intake.close()
