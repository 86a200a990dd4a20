"""What the tests of faults share: the one error shape, and processes on folders of their own."""

import asyncio
import contextlib
import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from haechi.testing.processes import HAECHI, ServerProcess, environment

BASE = "haechi/python:3.11-slim"
FIELDS = {"type", "title", "status", "code", "detail", "remedy", "data", "request_id"}


def problem(answer, status, code):
    """The answer is this refusal, in the one shape; returns its document."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert set(found) >= FIELDS
    assert (found["status"], found["code"]) == (status, code), found
    check_texts(found)
    return found


def check_texts(found):
    """Words for a person: filled in, with what to do, nothing of the program's inside."""
    for key in ("detail", "remedy"):
        assert found[key], found
        assert "Traceback" not in found[key]
        assert not re.search(r"\{[a-z_]+\}", found[key]), found


def in_both_languages(call):
    """Ask twice; returns the problem in Korean and in English."""
    korean, english = call("ko"), call("en")
    assert re.search("[가-힣]", korean["detail"] + korean["remedy"])
    assert not re.search("[가-힣]", english["remedy"])
    for found in (korean, english):
        check_texts(found)
    return korean, english


def until(true, within_s=120.0):
    """Wait for a condition; returns what it gave."""
    deadline = time.monotonic() + within_s
    while not (found := true()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return found


def ended(client, operation_id, within_s=300.0):
    """The operation, once it has ended."""

    def over():
        operation = client.get(f"/operations/{operation_id}").raise_for_status().json()
        return operation if operation["state"] in {"succeeded", "failed", "cancelled"} else None

    return until(over, within_s)


@contextlib.contextmanager
def serving(folder, **settings):
    """A server process; its log holds no traceback at the end."""
    server = ServerProcess(folder, **settings)
    server.start()
    try:
        yield server
        assert not traceback_in(server.log)
    finally:
        server.kill()


@pytest.fixture(scope="module")
def server(tmp_path_factory, request):
    """A server for the tests of a module, with the module's SETTINGS."""
    settings = getattr(request.module, "SETTINGS", {})
    with serving(tmp_path_factory.mktemp("server"), **settings) as made:
        yield made


@pytest.fixture(scope="module")
def client(server):
    with server.client() as made:
        yield made


class Island:
    """A network namespace that has loopback only, and doors: ports of its loopback that lead to the
    same ports of the machine's. What runs in it can do nothing to the machine's own network.
    """

    def __init__(self):
        self._holder = subprocess.Popen(["unshare", "--net", "sleep", "1d"], start_new_session=True)
        here = Path("/proc/self/ns/net").readlink()
        until(lambda: self._namespace.readlink() != here)
        run(*self.inside, "ip", "link", "set", "lo", "up")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._doors = {}

    @property
    def _namespace(self):
        return Path(f"/proc/{self._holder.pid}/ns/net")

    @property
    def inside(self):
        """Before the words of a command that shall run in it."""
        return ["nsenter", f"--net={self._namespace}"]

    def open(self, port):
        with ThreadPoolExecutor(1) as elsewhere:  # the thread stays in the namespace and ends
            listener = elsewhere.submit(self._listen, port).result()
        door = Door(port)
        self._on_loop(door.open(listener))
        self._doors[port] = door

    def shut(self, port):
        """Nobody comes in, and who is in is cut off."""
        self._on_loop(self._doors.pop(port).shut())

    def close(self):
        for port in list(self._doors):
            self.shut(port)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._holder.kill()
        self._holder.wait()

    def _listen(self, port):
        libc = ctypes.CDLL(None, use_errno=True)
        with self._namespace.open() as namespace:
            assert libc.setns(namespace.fileno(), 0x40000000) == 0, os.strerror(ctypes.get_errno())
        return socket.create_server(("127.0.0.1", port))

    def _on_loop(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)


class Door:
    def __init__(self, port):
        self._port = port
        self._writers = set()

    async def open(self, listener):
        self._server = await asyncio.start_server(self._pass, sock=listener)

    async def shut(self):
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()

    async def _pass(self, reader, writer):
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, far_writer}
        self._writers |= both
        try:
            await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        finally:
            for one in both:
                one.transport.abort()
            self._writers -= both

    async def _pump(self, reader, writer):
        with contextlib.suppress(OSError):
            while piece := await reader.read(65536):
                writer.write(piece)
                await writer.drain()
            writer.write_eof() if writer.can_write_eof() else writer.close()


class OwnDocker:
    """A Docker daemon of the tests' own, on a small disk: it may be killed and filled up. It lives
    on an island: beside another daemon, `--bridge=none` would take docker0 away from it.
    """

    def __init__(self, folder, size_mb):
        self.folder = folder
        self.island = Island()
        self.disk = folder / "disk"
        self.socket = folder / "docker.sock"
        self.log_file = folder / "dockerd.log"
        self.process = None
        self.disk.mkdir(parents=True)
        run("mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(self.disk))

    def start(self):
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *self.island.inside,
                    "dockerd",
                    f"--host=unix://{self.socket}",
                    f"--data-root={self.disk / 'data'}",
                    f"--exec-root={self.folder / 'exec'}",
                    f"--pidfile={self.folder / 'docker.pid'}",
                    "--bridge=none",
                    "--iptables=false",
                    "--ip-masq=false",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until(self._answers, 60)

    def _answers(self):
        assert self.process.poll() is None, self.log_file.read_text()[-2000:]
        return self.socket.exists() and not self.cli("version", check=False).returncode

    def kill(self):
        """As a crash: it and the containerd that it started."""
        self.process.kill()
        self.process.wait()
        pid_file = self.folder / "exec" / "containerd" / "containerd.pid"
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            pid = int(pid_file.read_text())
            if str(self.folder) in Path(f"/proc/{pid}/cmdline").read_text():
                os.kill(pid, signal.SIGKILL)
            until(lambda: not Path(f"/proc/{pid}").exists())
        pid_file.unlink(missing_ok=True)  # its pid may be somebody's again

    def cli(self, *words, check=True):
        return run("docker", "-H", f"unix://{self.socket}", *words, check=check)

    def load(self, image):
        """Bring an image over from this machine's own Docker."""
        saved = self.folder / "image.tar"
        run("docker", "save", "-o", str(saved), image)
        self.cli("load", "-i", str(saved))
        saved.unlink()

    def free_mb(self):
        return shutil.disk_usage(self.disk).free / 1e6

    def close(self):
        if self.process is not None and self.process.poll() is None:
            for container in self.cli("ps", "-aq", check=False).stdout.split():
                self.cli("rm", "-f", container, check=False)
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
        run("umount", "-l", str(self.disk), check=False)
        self.island.close()


def traceback_in(log):
    """The first, with what was said before it; nothing where there is none."""
    at = log.find("Traceback")
    return log[max(0, at - 500) : at + 4000] if at >= 0 else ""


def run(*words, check=True, stdin=""):
    return subprocess.run(
        words, input=stdin, check=check, capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope="module")
def own_docker(tmp_path_factory):
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("needs root and dockerd")
    made = OwnDocker(tmp_path_factory.mktemp("docker"), size_mb=600)
    try:
        made.start()
        made.load(BASE)
        yield made
    finally:
        made.close()


class Agent:
    """`haechi agent` of one device, as it runs on a device; `inside` leads its process elsewhere."""

    def __init__(self, server, client, name, folder, *options, inside=()):
        self.name = name
        self.folder = folder
        self.log_file = folder.with_suffix(".log")
        self._inside = list(inside)
        self._options = options
        self._process = None
        self.id = client.post("/devices", json={"name": name}).raise_for_status().json()["id"]
        invitation = client.post(f"/devices/{self.id}/enrolment").raise_for_status().json()
        folder.mkdir(parents=True)
        self._call(
            "enrol",
            f"--server=127.0.0.1:{server.agents_port}",
            f"--token={invitation['token']}",
            f"--ca-fingerprint={invitation['ca_fingerprint']}",
        ).wait(60)

    def start(self):
        self._process = self._call("run", *self._options)

    def _call(self, verb, *options):
        with self.log_file.open("ab") as log:
            return subprocess.Popen(
                [*self._inside, *HAECHI, "agent", verb, f"--data-dir={self.folder}", *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(self.folder.parent / "home", go2rtc()),
                start_new_session=True,
            )

    @property
    def log(self):
        return self.log_file.read_text(errors="replace")

    def state(self, client):
        return client.get(f"/devices/{self.id}").json()["state"]

    def kill(self):
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)

    def stop(self):
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()


def go2rtc():
    """Where this checkout's relay lies; without it the agent's media takes its own."""
    setup = Path(__file__).parents[3] / "tools" / "setup.py"
    done = subprocess.run(
        [sys.executable, setup, "--path", "go2rtc"], capture_output=True, text=True, check=True
    )
    return {"HAECHI_GO2RTC": done.stdout.strip()}
