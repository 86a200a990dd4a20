"""A real server process, real HTTP: uploads that go well, break off, do not fit, or are killed."""

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx2
import pytest

from haechi.testing import packages as zips

from .conftest import Server

pytestmark = pytest.mark.integration


def until(condition: Callable[[], bool], *, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


def more_than(server: Server, count: int) -> bool:
    return len(server.files()) > count


def test_upload_list_download_delete(server: Server) -> None:
    data = zips.posting("person-detector")
    answer = server.upload(data, "0.01v")
    assert answer.status_code == 201
    made = answer.json()
    assert answer.headers["location"] == f"/api/v1/packages/{made['package_id']}/versions/0.01v"
    assert (made["package_name"], made["build_state"]) == ("person-detector", "none")
    assert server.upload(data, "0.01v").status_code == 200
    conflict = server.upload(zips.posting("person-detector", version="x"), "0.01v")
    assert (conflict.status_code, conflict.json()["code"]) == (409, "packages.version_exists")
    replaced = server.upload(zips.posting("person-detector", version="x"), "0.01v", replace=True)
    assert (replaced.status_code, replaced.json()["revision"]) == (200, 2)
    path = "/packages/person-detector/versions/0.01v"
    assert len(server.http.get(f"{path}/revisions").json()["items"]) == 2
    assert server.http.get(f"{path}/zip", params={"revision": 1}).content == data
    part = server.http.get(f"{path}/zip", params={"revision": 1}, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, data[10:20])
    package = server.http.get("/packages/person-detector")
    edit = {"title_ko": "사람 검출"}
    assert server.http.patch("/packages/person-detector", json=edit).status_code == 428
    edited = server.http.patch(
        "/packages/person-detector", json=edit, headers={"If-Match": package.headers["etag"]}
    )
    assert edited.json()["title_ko"] == "사람 검출"
    stale = server.http.patch(
        "/packages/person-detector", json=edit, headers={"If-Match": package.headers["etag"]}
    )
    assert stale.status_code == 412
    known = server.http.get(path).headers["etag"]
    for description, status in (("first", 200), ("second, who knew nothing of the first", 412)):
        answer = server.http.patch(
            path, json={"description": description}, headers={"If-Match": known}
        )
        assert answer.status_code == status, answer.text
    assert server.http.get(path).json()["description"] == "first"
    assert server.http.delete(path).status_code == 204
    assert server.http.get(path).status_code == 404
    assert server.http.delete("/packages/person-detector").status_code == 204
    assert server.files() == []


@pytest.mark.parametrize(
    ("data", "codes"),
    [
        (zips.not_a_zip(), {"packages.not_a_zip"}),
        (zips.bomb(64 * 1024**2), {"packages.bomb"}),
        (
            zips.with_everything_wrong(),
            {
                "packages.absolute_path",
                "packages.link_out",
                "packages.no_dockerfile",
                "packages.traversal",
            },
        ),
    ],
)
def test_refusals_list_every_problem_in_the_callers_language(
    server: Server, data: bytes, codes: set[str]
) -> None:
    for language, word in (("ko", "니다"), ("en", " ")):
        answer = server.http.post(
            "/packages/upload",
            params={"filename": "a.zip", "version": "1"},
            content=data,
            headers={"Accept-Language": language},
        )
        assert answer.status_code == 422
        problems = answer.json()["data"]["problems"]
        assert {problem["code"] for problem in problems} == codes
        assert word in answer.json()["detail"] + problems[0]["detail"]
    assert server.files() == []


def test_too_large_is_refused_at_once_and_as_it_comes(serve: Callable[..., Server]) -> None:
    server = serve(max_upload_bytes=100_000)
    answer = server.upload(bytes(100_001))
    assert (answer.status_code, answer.json()["code"]) == (413, "packages.too_large")

    def pieces() -> Iterator[bytes]:
        for _ in range(200):
            yield bytes(1000)

    answer = server.upload(pieces())
    assert (answer.status_code, answer.json()["code"]) == (413, "packages.too_large")
    assert server.files() == []


def begin_upload(server: Server, *, announced: int, sent: bytes) -> socket.socket:
    host, _, port = server.url.removeprefix("http://").partition(":")
    connection = socket.create_connection((host, int(port)), timeout=60)
    head = (
        "POST /api/v1/packages/upload?filename=a.zip&version=1 HTTP/1.1\r\n"
        f"Host: {host}\r\nContent-Length: {announced}\r\n\r\n"
    )
    connection.sendall(head.encode() + sent)
    return connection


def test_an_aborted_upload_leaves_nothing(server: Server) -> None:
    connection = begin_upload(server, announced=10_000_000, sent=bytes(2_000_000))
    until(lambda: len(server.files()) == 1)
    connection.close()
    until(lambda: server.files() == [])
    assert server.http.get("/packages").json()["items"] == []
    assert "Traceback" not in server.log.read_text()


def test_kill_9_in_the_middle_leaves_nothing_after_the_next_start(server: Server) -> None:
    kept = server.upload(zips.sleeping(), "kept").json()["zip_sha256"]
    connection = begin_upload(server, announced=10_000_000, sent=bytes(2_000_000))
    until(lambda: len(server.files()) == 2)
    server.kill()
    connection.close()
    assert len(server.files()) == 2
    server.start()
    assert server.files() == [f"sha256/{kept[:2]}/{kept}.zip"]
    versions = server.http.get("/packages/sleeper/versions").json()["items"]
    assert [version["version"] for version in versions] == ["kept"]
    assert server.upload(zips.sleeping(), "kept").status_code == 200


def test_kill_9_at_any_moment_leaves_a_whole_version_or_none(server: Server) -> None:
    """The process is killed while uploads run; whatever is visible afterwards is complete."""
    sizes = {}
    for attempt in range(4):
        stop = threading.Event()

        def send(attempt: int = attempt, stop: threading.Event = stop) -> None:
            number = 0
            while not stop.is_set():
                data = zips.zip_of(
                    {"Dockerfile": "FROM a\nCMD x\n", "data": os.urandom(200_000), "n": str(number)}
                )
                version = f"{attempt}.{number}"
                sizes[version] = len(data)
                try:
                    server.upload(data, version, name="shooting")
                except httpx2.TransportError:
                    return
                number += 1

        sender = threading.Thread(target=send)
        sender.start()
        until(partial(more_than, server, attempt * 2 + 1))
        server.kill()
        stop.set()
        sender.join(timeout=60)
        server.start()
        versions = server.http.get("/packages/shooting/versions", params={"limit": 1000}).json()
        digests = set()
        for version in versions["items"]:
            zip_bytes = server.http.get(
                f"/packages/shooting/versions/{version['version']}/zip"
            ).content
            assert len(zip_bytes) == sizes[version["version"]] == version["size_bytes"]
            digests.add(version["zip_sha256"])
        assert {Path(file).stem for file in server.files()} == digests


def test_two_clients_at_once(server: Server) -> None:
    codes = []

    def send(data: bytes) -> None:
        codes.append(server.upload(data).status_code)

    contents = [zips.sleeping(version=str(number % 2)) for number in range(6)]
    threads = [threading.Thread(target=send, args=(data,)) for data in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert sorted(codes) == [200, 200, 201, 409, 409, 409]
    assert len(server.files()) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)],
            check=False,
            capture_output=True,
        ).returncode
    )
    if not mounted:
        pytest.skip("no small file system can be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_is_an_answer_and_leaves_nothing(
    serve: Callable[..., Server], tmp_path: Path, small_disk: Path
) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    (data_dir / "packages").symlink_to(small_disk)
    server = serve(data_dir)
    assert server.upload(zips.sleeping(), "fits").status_code == 201

    def pieces() -> Iterator[bytes]:
        """No announced length: the disk really fills up."""
        for _ in range(600):
            yield bytes(10_000)

    answer = server.upload(pieces(), "2")
    assert (answer.status_code, answer.json()["code"]) == (507, "core.disk_full")
    announced = server.upload(bytes(6_000_000), "3")
    assert announced.status_code == 507
    assert not list((small_disk / "incoming").iterdir())
    assert server.upload(zips.sleeping(version="4"), "4").status_code == 201


def test_unpacking_onto_a_full_disk_leaves_nothing(small_disk: Path, tmp_path: Path) -> None:
    from haechi.domains.packages import extraction
    from haechi.domains.packages.inspection import Limits
    from haechi.errors import DiskFull

    source = tmp_path / "a.zip"
    source.write_bytes(
        zips.zip_of({"Dockerfile": "FROM a\n", "x": os.urandom(3_000_000), "y": bytes(3_000_000)})
    )
    with pytest.raises(DiskFull):
        extraction.extract(source, small_disk / "tree", Limits(100, 10**9))
    assert list(small_disk.iterdir()) == []
