"""`haechi serve` where something is wrong from the start: said in words, with an exit code, and
nothing of what is there already is touched.
"""

import logging
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys

import pytest
from click.testing import CliRunner

from haechi.cli.main import main
from haechi.testing.processes import ServerProcess, command
from haechi.web.server import CannotListen, Listener, Servers

from .conftest import serving, until


@pytest.fixture(scope="module")
def used(tmp_path_factory):
    """The data folder of a server that ran and was stopped in order."""
    server = ServerProcess(tmp_path_factory.mktemp("used"))
    server.start()
    assert server.terminate() == 0
    assert "Traceback" not in server.log
    return server.data_dir


def refused(server, code, exit_code, *flags):
    """It ends by itself, says why and what to do, and shows no traceback; returns its words."""
    server.spawn(*flags)
    assert server.process.wait(60) == exit_code, server.log
    said = server.log
    assert f"[{code}]" in said, said
    assert "✗" in said
    assert "→" in said
    assert "Traceback" not in said
    return said


@pytest.fixture
def serve_here(tmp_path, monkeypatch):
    """`haechi serve` in this process, which is quicker: for what ends before it is ready."""
    mask, handlers = os.umask(0o022), logging.root.handlers[:]
    monkeypatch.setenv("LANG", "C.UTF-8")
    ports = ["--listen=127.0.0.1:0", "--agents-listen=127.0.0.1:0", "--registry-listen=127.0.0.1:0"]

    def serve(code, exit_code, *flags):
        arguments = ["serve", *ports, f"--data-dir={tmp_path / 'data'}", *flags]
        ended = CliRunner().invoke(main, arguments)
        assert ended.exit_code == exit_code, ended.output
        assert f"[{code}]" in ended.output
        assert "→" in ended.output
        assert "Traceback" not in ended.output
        return ended.output

    yield serve
    os.umask(mask)
    logging.root.handlers[:] = handlers


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--listen=nonsense"], "server.listen"),
        (["--agents-listen=127.0.0.1:99999"], "agents.listen"),
        (["--registry-listen=nonsense"], "registry.listen"),
    ],
)
def test_addresses_that_are_none(serve_here, tmp_path, flags, named):
    assert named in serve_here("settings.invalid", 2, *flags)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"[server\nx", "haechi.toml"),
        (b"\xff\xfe\x00", "haechi.toml"),
        (b"listen = 1\n", "listen"),
        (b"[builds]\ntimeout_s = -1\n[servers]\na = 1\n", "builds.timeout_s"),
        (b"[builds]\ntimeouts = 3\n", "builds.timeouts"),
    ],
)
def test_a_file_of_settings_that_cannot_be_used(serve_here, tmp_path, content, named):
    file = tmp_path / "haechi.toml"
    file.write_bytes(content)
    assert named in serve_here("settings.invalid", 2, f"--config={file}")


def test_wrong_settings_are_told_as_json_and_in_korean(tmp_path):
    given = {"HAECHI_BUILDS__TIMEOUT_S": "soon", "HAECHI_LANGUAGE": "ko"}
    plain = command("serve", home=tmp_path, given=given)
    assert plain.returncode == 2
    assert "설정" in plain.stderr
    asked = command("--json", "serve", home=tmp_path, given=given)
    assert asked.returncode == 2
    assert '"code": "settings.invalid"' in asked.stderr
    assert "builds.timeout_s" in asked.stderr


@pytest.mark.parametrize("flag", ["--listen", "--agents-listen"])
def test_ports_that_are_taken(serve_here, flag):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert address in serve_here("web.cannot_listen", 5, f"{flag}={address}")


async def test_a_port_that_is_taken_between_binding_and_listening():
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        servers = Servers([Listener(None, address)], stopping=lambda: None)
        taken.listen()
        with pytest.raises(CannotListen) as caught:
            await servers.run()
    servers.close()
    assert caught.value.data["address"] == address


def test_a_taken_port_of_the_registry_is_named_and_taken_up_when_free(tmp_path):
    server = ServerProcess(tmp_path)
    address = server.flags[-1].rpartition("=")[2]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(address.rpartition(":")[2])))
        taken.listen()
        server.start()
        try:
            assert f"{address}: Address already in use" in server.log
            with server.client() as client:
                assert client.get("/registry").json()["running"] is False
                taken.close()
                until(lambda: client.get("/registry").json()["running"])
        finally:
            server.kill()
    assert "Traceback" not in server.log


def test_two_servers_on_one_folder(tmp_path):
    with serving(tmp_path / "first") as first:
        second = ServerProcess(tmp_path / "second")
        second.data_dir = first.data_dir
        said = refused(second, "core.data_dir_in_use", 4, f"--data-dir={first.data_dir}")
        assert str(first.process.pid) in said
        with first.client() as client:
            assert client.get("/devices").status_code == 200


def test_a_folder_that_cannot_be_one(serve_here, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    serve_here("core.data_dir_unusable", 5, f"--data-dir={tmp_path / 'file' / 'data'}")


@pytest.mark.parametrize(
    ("file", "content", "code", "exit_code"),
    [
        ("keyring", b"", "core.keyring_damaged", 5),
        ("keyring", b"%%%garbage", "core.keyring_damaged", 5),
        ("keyring", b"AAAA\n", "core.keyring_damaged", 5),
        ("keyring", None, "core.keyring_damaged", 5),
        ("keyring", b"A" * 43 + b"=\n", "core.site_ca_damaged", 5),
        ("pki/ca.key", b"garbage", "core.site_ca_damaged", 5),
        ("pki/ca.pem", b"garbage", "core.site_ca_damaged", 5),
        ("pki/ca.pem", None, "core.site_ca_damaged", 5),
        ("control.db", b"garbage" * 1000, "core.database_damaged", 5),
        ("telemetry.db", b"garbage" * 1000, "core.telemetry_broken", 4),
    ],
)
def test_files_that_are_damaged_or_gone(used, serve_here, tmp_path, file, content, code, exit_code):
    """Refused before anything is made anew in their place."""
    shutil.copytree(used, tmp_path / "data")
    place = tmp_path / "data" / file
    if content is None:
        place.unlink()
    else:
        place.write_bytes(content)
    serve_here(code, exit_code)
    assert (place.read_bytes() if place.exists() else None) == content


def test_with_its_files_put_back_it_starts_again(used, tmp_path):
    server = ServerProcess(tmp_path)
    shutil.copytree(used, server.data_dir)
    key = server.data_dir / "keyring"
    good = key.read_bytes()
    key.unlink()
    refused(server, "core.keyring_damaged", 5)
    key.write_bytes(good)
    server.start()
    assert server.terminate() == 0


def test_a_database_of_a_newer_release(used, serve_here, tmp_path):
    shutil.copytree(used, tmp_path / "data")
    db = sqlite3.connect(tmp_path / "data" / "control.db")
    db.execute("UPDATE alembic_version SET version_num = 'from-the-future'")
    db.commit()
    db.close()
    serve_here("core.database_newer", 4)


def test_without_the_registry_program_all_but_builds_works(tmp_path):
    with serving(tmp_path, registry__binary="/nowhere/docker-registry") as server:
        assert "builds.registry_program_missing" in server.log
        with server.client() as client:
            assert client.get("/devices").status_code == 200
            assert client.get("/registry").json()["running"] is False


STOP_THRICE = """
import asyncio, os, signal, sys
from haechi.web.server import StopSignals

async def main():
    with StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        while not signals.count:
            await asyncio.sleep(0.01)
        called = asyncio.Event()
        signals.then(called.set)
        await called.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        while signals.count < 2:
            await asyncio.sleep(0.01)
        print("still closing", flush=True)
        if sys.argv[1] == "thrice":
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.mark.parametrize(("times", "code"), [("twice", 0), ("thrice", 128 + 15)])
def test_a_second_signal_waits_and_a_third_does_not(times, code):
    done = subprocess.run(
        [sys.executable, "-c", STOP_THRICE, times],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "still closing\n"
    assert done.returncode == code, done.stderr


def test_two_signals_are_an_orderly_end(tmp_path):
    """Whoever presses Ctrl-C twice does not take the second half of closing away."""
    with serving(tmp_path) as server:
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(120) == 0
        assert "Traceback" not in server.log


def test_told_to_stop_while_it_starts(tmp_path):
    """SIGTERM at any moment is an orderly end."""
    server = ServerProcess(tmp_path)
    server.spawn()
    until(lambda: "first start" in server.log)
    assert server.terminate() == 0
    assert "Traceback" not in server.log
