"""Builds where everything around them fails: Dockerfiles, the Docker daemon, the registry, the
disk, the server itself. The daemon is the tests' own.
"""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
from pathlib import Path

import pytest

from haechi.testing import packages
from haechi.testing.processes import PASSWORD, command

from .conftest import BASE, check_texts, ended, in_both_languages, problem, run, serving, until

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def server(own_docker, tmp_path_factory):
    settings = {
        "builds.docker_socket": own_docker.socket,
        "builds.network": "none",
        "builds.timeout_s": 20,
        "packages.min_free_bytes": 0,
    }
    with serving(tmp_path_factory.mktemp("server"), **settings) as made:
        own_docker.island.open(made.push_port)
        with made.client() as client:
            mapping = {"source": packages.BASE, "target": BASE}
            client.put("/base-images", json=mapping).raise_for_status()
        yield made


@pytest.fixture
def client(server):
    """Anew for each test: servers are restarted here."""
    with server.client() as made:
        yield made


def start(client, name, data, version="1"):
    """Upload and begin to build; returns the operation's id."""
    params = {"filename": f"{name}.zip", "version": version, "name": name}
    client.post("/packages/upload", params=params, content=data).raise_for_status()
    answer = client.post(f"/packages/{name}/versions/{version}/build")
    assert answer.status_code == 202, answer.text
    return answer.json()["operation_id"]


def failed(client, operation_id, code):
    """It ended with this error, told in both languages; the folder of the build is gone."""
    operation = ended(client, operation_id)
    assert operation["state"] == "failed", operation
    assert operation["error"]["code"] == code, operation["error"]

    def call(language):
        headers = {"Accept-Language": language}
        return client.get(f"/operations/{operation_id}", headers=headers).json()["error"]

    return in_both_languages(call)


def left_behind(server):
    return [path.name for path in (server.data_dir / "builds").iterdir()]


def has_begun(client, operation_id):
    """A step of the Dockerfile runs: it has said so."""
    until(lambda: "has begun" in client.get(f"/operations/{operation_id}/log").text)


def slow(name, seconds=4):
    """No other package's layers fit; what it says is not in the log before it runs."""
    run_line = f'RUN echo {name} has "be"gun; sleep {seconds}'
    lines = [f"FROM {packages.BASE}", run_line, 'CMD ["true"]', ""]
    return packages.zip_of({"Dockerfile": "\n".join(lines)})


def test_a_dockerfile_that_fails(server, client):
    operation_id = start(client, "fails", packages.failing_build())
    korean, english = failed(client, operation_id, "builds.failed")
    assert "libfoo" in str(english["data"]["lines"])
    assert "빌드" in korean["detail"]
    assert "no such library: libfoo" in client.get(f"/operations/{operation_id}/log").text
    versions = client.get("/packages/fails/versions").json()["items"]
    assert [version["build_state"] for version in versions] == ["failed"]
    assert left_behind(server) == []


def test_the_command_line_ends_with_5_where_a_build_fails(server, client, tmp_path):
    file = tmp_path / "bad.zip"
    file.write_bytes(packages.failing_build())
    login = (f"--url={server.url}", "login", "admin", "--password-stdin")
    assert command(*login, home=tmp_path, stdin=PASSWORD).returncode == 0
    push = ("package", "push", str(file), "--version=1", "--name=by-cli", "--build")
    done = command(*push, home=tmp_path)
    assert done.returncode == 5, done.stderr
    assert "libfoo" in done.stderr
    assert "→" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_dockerfile_that_runs_for_ever(tmp_path, own_docker):
    """Its limit is a setting."""
    settings = {"builds.docker_socket": own_docker.socket, "builds.network": "none"}
    with serving(tmp_path, **settings, builds__timeout_s=3) as server, server.client() as client:
        # Nothing is pushed here, so the daemon needs no way to the registry.
        mapping = {"source": packages.BASE, "target": BASE}
        client.put("/base-images", json=mapping).raise_for_status()
        operation_id = start(client, "endless", packages.endless_build())
        _, english = failed(client, operation_id, "builds.timed_out")
        assert "sleep 3600" in english["detail"]
        assert left_behind(server) == []
    until(lambda: not _runs("sleep 3600", own_docker))


def _runs(words, docker):
    """Does a process with this command line run in that daemon's cgroups?"""
    found = subprocess.run(
        ["pgrep", "-f", "-x", words], capture_output=True, text=True, check=False
    )
    for pid in found.stdout.split():
        with contextlib.suppress(OSError):
            if str(docker.folder) in Path(f"/proc/{pid}/mountinfo").read_text():
                return True
    return False


def test_a_base_image_that_is_not_there_is_named_with_how_to_map_it(server, client):
    image = "registry.invalid/vision/cuda:12.1"
    operation_id = start(client, "missing", packages.missing_base(image))
    korean, english = failed(client, operation_id, "builds.base_image_missing")
    for found in (korean, english):
        assert image in found["detail"]
        assert "haechi baseimage map" in found["remedy"]
        assert image.rpartition(":")[0] in found["remedy"]
    mapping = {"source": image, "target": BASE}
    client.put("/base-images", json=mapping).raise_for_status()
    again = client.post("/packages/missing/versions/1/build").json()["operation_id"]
    assert ended(client, again)["state"] == "succeeded"


def test_a_disk_that_fills_up_while_it_is_built(server, client, own_docker):
    lines = [
        f"FROM {packages.BASE}",
        "RUN dd if=/dev/zero of=/fill bs=1M count=2000",
        'CMD ["true"]',
        "",
    ]
    data = packages.zip_of({"Dockerfile": "\n".join(lines)})
    operation_id = start(client, "fills", data)
    _, english = failed(client, operation_id, "core.disk_full")
    assert "docker" in english["detail"]
    until(lambda: own_docker.free_mb() > 100)
    operation_id = start(client, "fills", slow("fills", 0), "2")
    assert ended(client, operation_id)["state"] == "succeeded"


def test_a_disk_that_fills_up_while_it_is_unpacked(server, client):
    """The folder of builds is a disk of 3 MB; the zip is small and what is in it is not."""
    folder = server.data_dir / "builds"
    files = {"Dockerfile": f"FROM {packages.BASE}\n", "zeros": bytes(8_000_000)}
    run("mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder))
    try:
        operation_id = start(client, "large", packages.zip_of(files, compress=True))
        failed(client, operation_id, "core.disk_full")
        assert left_behind(server) == []
    finally:
        run("umount", "-l", str(folder))
    again = client.post("/packages/large/versions/1/build").json()["operation_id"]
    assert ended(client, again)["state"] == "succeeded"


def test_the_daemon_goes_and_comes_back(server, client, own_docker):
    operation_id = start(client, "daemon", slow("daemon", 3))
    has_begun(client, operation_id)
    own_docker.kill()
    try:
        until(lambda: "engine." in client.get(f"/operations/{operation_id}/log").text)
        assert client.get(f"/operations/{operation_id}").json()["state"] == "running"
    finally:
        own_docker.start()
    assert ended(client, operation_id)["state"] == "succeeded"


def test_the_registry_is_killed_and_comes_back(server, client):
    operation_id = start(client, "registry", slow("registry", 2))
    has_begun(client, operation_id)
    kill_registry(server)
    operation = ended(client, operation_id)
    assert operation["state"] == "succeeded", operation["error"]
    until(lambda: client.get("/registry").json()["running"])


def kill_registry(server):
    for role in ("pull", "push"):
        pid = int((server.data_dir / "registry" / f"{role}.pid").read_text())
        assert str(server.data_dir).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
        os.kill(pid, signal.SIGKILL)


def test_one_build_of_a_version_at_a_time(server, client):
    operation_id = start(client, "busy", slow("busy", 3))
    has_begun(client, operation_id)
    answer = client.post("/packages/busy/versions/1/build")
    found = problem(answer, 409, "core.busy")
    assert operation_id in found["detail"]
    deleting = client.delete("/packages/busy")
    assert deleting.status_code == 409, deleting.text
    problem(deleting, 409, deleting.json()["code"])
    client.post(f"/operations/{operation_id}/cancel").raise_for_status()
    assert ended(client, operation_id)["state"] == "cancelled"
    problem(client.post(f"/operations/{operation_id}/cancel"), 409, "operations.already_ended")
    assert left_behind(server) == []


def test_told_to_stop_in_the_middle_it_goes_on_at_the_next_start(server, client):
    """SIGTERM ends the server in order, whatever runs; the build is finished by the next."""
    operation_id = start(client, "stopped", slow("stopped", 4))
    has_begun(client, operation_id)
    assert server.terminate() == 0
    assert "Traceback" not in server.log
    server.start()
    with server.client() as again:
        assert ended(again, operation_id)["state"] == "succeeded"


def test_begun_by_an_older_release_it_is_finished_by_this_one(server, client):
    """Other names of steps, a step that is no more, another release, more in its memory."""
    operation_id = start(client, "older", slow("older", 4))
    has_begun(client, operation_id)
    server.kill()
    with contextlib.closing(sqlite3.connect(server.data_dir / "control.db")) as db:
        (done, ctx) = db.execute(
            "SELECT done, ctx FROM operations WHERE id = ?", (operation_id,)
        ).fetchone()
        assert json.loads(done) == ["check", "unpack", "resolve"]
        old_ctx = {**json.loads(ctx), "of_an_older_release": {"a": [1]}}
        db.execute(
            "UPDATE operations SET done = ?, step = ?, release = ?, ctx = ? WHERE id = ?",
            (
                json.dumps(["check", "fetch_zip", "lint"]),
                "compile",
                "0.0.1",
                json.dumps(old_ctx),
                operation_id,
            ),
        )
        db.commit()
    server.start()
    with server.client() as again:
        operation = ended(again, operation_id)
        assert operation["state"] == "succeeded", operation["error"]
        builds = again.get("/builds", params={"package_id": operation["subject"]}).json()["items"]
        assert [b["state"] for b in builds if b["operation_id"] == operation_id] in (
            [],
            ["succeeded"],
        )
    assert left_behind(server) == []


def test_of_a_kind_that_no_release_here_knows_it_is_left_alone(server, client):
    """One begun by a newer release, before somebody went back to this one."""
    operation_id = start(client, "newer", slow("newer", 4))
    has_begun(client, operation_id)
    server.kill()
    with contextlib.closing(sqlite3.connect(server.data_dir / "control.db")) as db:
        row = (operation_id,)
        db.execute("UPDATE operations SET kind = 'from_the_future' WHERE id = ?", row)
        db.commit()
    server.start()
    with server.client() as again:
        shown = again.get(f"/operations/{operation_id}").json()
        assert shown["state"] == "running"
        assert any(o["id"] == operation_id for o in again.get("/operations").json()["items"])
        again.post(f"/operations/{operation_id}/cancel")
        assert again.get("/health").status_code == 200


def test_no_word_of_a_failure_is_left_without_remedy(client):
    """Whatever failed in this file."""
    items = client.get("/operations", params={"state": "failed", "limit": 100}).json()["items"]
    assert len(items) >= 4
    for operation in items:
        check_texts(operation["error"])
