"""A Docker daemon that answers: the one that runs, or one started here."""

import http.client
import os
import socket
import subprocess
import time
from pathlib import Path

from provision import cache
from provision.process import StepFailed, as_root, run, succeeds

SOCKET = Path("/var/run/docker.sock")
START_LIMIT_S = 60
PID_FILES = {
    Path("/var/run/docker.pid"): "dockerd",
    Path("/var/run/docker/containerd/containerd.pid"): "containerd",
}


class _OverSocket(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(SOCKET))


def _ping() -> bool:
    connection = _OverSocket("docker", timeout=5)
    try:
        connection.request("GET", "/_ping")
        return connection.getresponse().status == 200
    finally:
        connection.close()


def ready(_options: frozenset[str]) -> bool:
    try:
        return _ping()
    except PermissionError as e:
        raise StepFailed(
            f"your user may not use {SOCKET}",
            "Run this as root, or `sudo usermod -aG docker $USER` and log in again.",
        ) from e
    except OSError:
        return False


def prepare(options: frozenset[str]) -> str:
    if Path("/run/systemd/system").is_dir():
        run(
            as_root(["systemctl", "start", "docker"]),
            limit_s=90,
            remedy="`journalctl -u docker` says why it does not start.",
        )
        _wait(options, None, "`journalctl -u docker` says why it does not answer.")
        return "started by systemd"
    _forget_dead_daemons()
    log = cache.path("docker-log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        child = subprocess.Popen(
            as_root(["dockerd"]),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    cache.path("docker-pid").write_text(f"{child.pid}\n")
    _wait(options, child, f"Its own words are in {log}.")
    return f"dockerd started in the background (process {child.pid}, log {log})"


def _wait(options: frozenset[str], child: "subprocess.Popen[bytes] | None", remedy: str) -> None:
    until = time.monotonic() + START_LIMIT_S
    while not ready(options):
        if child is not None and child.poll() is not None:
            tail = cache.path("docker-log").read_text(errors="replace")[-2000:]
            raise StepFailed(f"dockerd ended with code {child.returncode}", remedy, tail)
        if time.monotonic() > until:
            raise StepFailed(f"the Docker daemon did not answer in {START_LIMIT_S} s", remedy)
        time.sleep(0.2)


def _forget_dead_daemons() -> None:
    """Without a clean shutdown the pid files stay, and another process may have that number now."""
    for file, program in PID_FILES.items():
        try:
            name = Path(f"/proc/{int(file.read_text())}/comm").read_text().strip()
        except (OSError, ValueError):
            name = ""
        if name != program and file.exists():
            if os.access(file.parent, os.W_OK):
                file.unlink()
            else:
                run(as_root(["rm", "-f", file]), limit_s=10, remedy="")


def has_image(reference: str, revision: str) -> bool:
    label = '{{index .Config.Labels "haechi.revision"}}'
    if not succeeds(["docker", "image", "inspect", reference]):
        return False
    found = run(["docker", "image", "inspect", "-f", label, reference], limit_s=30, remedy="")
    return found.strip() == revision
