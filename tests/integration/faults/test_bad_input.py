"""Bad input at the API of a real server: one error shape, in words, and nothing left behind."""

import contextlib
import json
import math
import socket
import sqlite3

import httpx2
import pytest
from websockets.sync.client import connect

from haechi.testing import packages
from haechi.testing.processes import PASSWORD, command

from .conftest import check_texts, in_both_languages, problem, until

SETTINGS = {"packages.max_upload_bytes": 1_500_000, "packages.max_unpacked_bytes": 32 * 1024**2}

BAD_ZIPS = {
    "not a zip": (packages.not_a_zip(), {"packages.not_a_zip"}),
    "empty": (b"", {"packages.not_a_zip"}),
    "truncated": (packages.truncated(), {"packages.truncated"}),
    "no Dockerfile": (packages.without_dockerfile(), {"packages.no_dockerfile"}),
    "two Dockerfiles": (packages.two_dockerfiles(), {"packages.two_dockerfiles"}),
    "absolute path": (packages.with_absolute_path(), {"packages.absolute_path"}),
    "traversal": (packages.with_traversal(), {"packages.traversal"}),
    "link out": (packages.with_link(), {"packages.link_out"}),
    "bomb": (packages.bomb(64 * 1024**2), {"packages.bomb", "packages.too_much_unpacked"}),
    "overlapping": (packages.overlapping_bomb(20, 1024**2), {"packages.overlapping"}),
    "encrypted": (packages.encrypted(), {"packages.encrypted"}),
    "all at once": (
        packages.with_everything_wrong(),
        {
            "packages.absolute_path",
            "packages.link_out",
            "packages.no_dockerfile",
            "packages.traversal",
        },
    ),
}


@pytest.fixture(scope="module", autouse=True)
def nothing_outside(server):
    """No refused zip wrote beside the data folder either."""
    yield
    assert {path.name for path in server.folder.iterdir()} <= {
        "data",
        "server.log",
        "home",
        "docker",
    }


def kept(server):
    """Everything of packages: files, and rows of every table that could hold some."""
    files = sorted(
        str(path) for path in (server.data_dir / "packages").rglob("*") if path.is_file()
    )
    with contextlib.closing(
        sqlite3.connect(f"file:{server.data_dir / 'control.db'}?mode=ro", uri=True)
    ) as db:
        tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        counts = {
            table: db.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0]
            for table in tables
            if table not in {"sessions", "settings"}
        }
    return files, counts


def upload(client, data, version="1", **params):
    given = {"filename": "a.zip", "version": version, **params}
    return client.post("/packages/upload", params=given, content=data)


@pytest.mark.parametrize("name", BAD_ZIPS)
def test_a_bad_zip_is_refused_and_leaves_nothing(server, client, name):
    data, codes = BAD_ZIPS[name]
    before = kept(server)

    def call(language):
        return client.post(
            "/packages/upload",
            params={"filename": "a.zip", "version": "1"},
            content=data,
            headers={"Accept-Language": language},
        ).json()

    for found in in_both_languages(call):
        assert found["status"] == 422
        parts = found["data"].get("problems", [found])
        assert {part["code"] for part in parts} == codes
        for part in parts:
            check_texts(part)
    assert kept(server) == before


def test_a_bad_zip_by_the_command_line(server, client, tmp_path):
    file = tmp_path / "bad.zip"
    file.write_bytes(packages.with_everything_wrong())
    log_in(server, tmp_path)
    before = kept(server)
    plain = command("package", "push", str(file), "--version=1", home=tmp_path)
    assert plain.returncode == 2, plain.stderr
    for word in ("../outside.py", "/etc/absolute", "shadow", "Dockerfile"):
        assert word in plain.stderr
    assert kept(server) == before


def log_in(server, home, *more):
    done = command(
        f"--url={server.url}",
        "login",
        "admin",
        "--password-stdin",
        *more,
        home=home,
        stdin=PASSWORD + "\n",
    )
    assert done.returncode == 0, done.stderr


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    "files",
    [
        {"Dockerfile": f"FROM a\nCOPY {DEEP}\nCMD {DEEP}\n"},
        {"Dockerfile": "FROM a\n", "haechi.toml": f"a = {DEEP}"},
        {"Dockerfile": "FROM a\n", "haechi.toml": b"\xff\xfe"},
        {"Dockerfile": b"FROM a\n" + bytes(1000)},
        {"Dockerfile": "FROM " + "$" * 100_000 + "\n"},
        {"Dockerfile": "\\\n" * 100_000},
        {"Dockerfile": "FROM a\nRUN " + "<<A " * 10_000 + "\n"},
    ],
)
def test_files_of_a_package_that_would_break_a_parser(client, files):
    answer = upload(client, packages.zip_of(files), name="breaks")
    assert answer.status_code in {200, 201, 409, 422}, answer.text
    assert "unexpected" not in answer.text


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"x": ' + DEEP[:60_000].encode(), b'{"token": "\xff"}', b"x" * 3_000_000]
)
@pytest.mark.parametrize("path", ["enrol", "renew"])
def test_the_agents_door(server, path, body):
    """Open to anybody who reaches the port."""
    url = f"https://127.0.0.1:{server.agents_port}/agent/v1/{path}"
    with httpx2.Client(verify=False, timeout=20, trust_env=False) as anybody:
        answer = anybody.post(url, content=body)
    assert 400 <= answer.status_code < 500, answer.text
    problem(answer, answer.status_code, answer.json()["code"])


@pytest.mark.parametrize(
    "text",
    ["", "{", "5", DEEP, '{"x": ' + DEEP, '{"subscribe": ' + DEEP, '{"subscribe": ["nonsense:x"]}'],
)
def test_a_stream_outlives_messages_that_are_none(server, client, text):
    headers = {"Authorization": f"Bearer {client.cookies['haechi_session']}"}
    url = f"ws://{server.listen}/api/v1/stream"
    with connect(url, additional_headers=headers, proxy=None) as stream:
        stream.send(text)
        check_texts(json.loads(stream.recv(timeout=60))["error"])
        stream.send('{"subscribe": ["operations"]}')
        assert json.loads(stream.recv(timeout=60))["subscribed"] == ["operations"]


@pytest.mark.parametrize("version", ["", ".1", "-1", "a b", "가", "x" * 129, "1/2", "a:b", "1\n"])
def test_a_version_that_is_no_tag(server, client, version):
    before = kept(server)
    answer = upload(client, packages.sleeping(), version)
    assert answer.json()["code"] in {"packages.bad_version", "core.bad_request"}
    problem(answer, 422, answer.json()["code"])
    assert kept(server) == before


def test_a_zip_over_the_limit_is_refused_announced_or_not(server, client):
    before = kept(server)
    found = problem(upload(client, bytes(1_500_001)), 413, "packages.too_large")
    assert "1500000" in json.dumps(found["data"])
    problem(upload(client, (bytes(10_000) for _ in range(200))), 413, "packages.too_large")
    assert kept(server) == before


def test_a_body_of_gigabytes_is_refused_before_it_is_sent(server, client):
    """The answer comes after the headers: nobody waits for 3 GB to cross the radio."""
    token = client.post("/tokens", json={"name": "big"}).json()["secret"]
    host, _, port = server.listen.partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        head = (
            "POST /api/v1/packages/upload?filename=a.zip&version=1 HTTP/1.1\r\n"
            f"Host: {host}\r\nAuthorization: Bearer {token}\r\nContent-Length: 3000000000\r\n\r\n"
        )
        connection.sendall(head.encode())
        assert b" 413 " in connection.recv(4096)


def test_korean_windows_names_are_kept(server, client):
    answer = upload(client, packages.with_cp949_names(), "1", name="cp949")
    assert answer.status_code == 201, answer.text


def test_the_same_version_twice(server, client):
    first = upload(client, packages.sleeping("twice"))
    assert first.status_code == 201
    before = kept(server)
    again = upload(client, packages.sleeping("twice"))
    assert again.status_code == 200
    assert again.json()["id"] == first.json()["id"]
    found = problem(
        upload(client, packages.sleeping("twice", version="other")), 409, "packages.version_exists"
    )
    assert "1" in found["detail"]
    assert kept(server) == before


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("/devices", {"name": "Nuc One"}, "inventory.duplicate_name"),
        ("/cameras", {"name": "정문", "url": "rtsp://127.0.0.1/x"}, "inventory.duplicate_name"),
        ("/groups", {"name": "all", "device_ids": []}, "inventory.duplicate_name"),
        (
            "/users",
            {"name": "kim", "password": "a-long-password-1", "role": "viewer"},
            "auth.user_name_taken",
        ),
    ],
)
def test_names_that_are_taken(client, path, body, code):
    made = client.post(path, json=body)
    assert made.status_code == 201, made.text
    for name in (body["name"], f" {body['name'].upper()} "):
        answer = client.post(path, json={**body, "name": name})
        if answer.status_code == 422 and name.startswith(" "):
            continue  # a name with spaces around it may be refused as such
        assert answer.status_code == 409, answer.text
        found = problem(answer, 409, code)
        assert body["name"].upper() in found["detail"].upper()
    assert len([r for r in client.get(path).json()["items"] if r["name"] == body["name"]]) == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/x",
        "rtsp://",
        "rtsp://127.0.0.1:99999/x",
        "rtsp://a:b@/x",
        "file:///etc/passwd",
        "-rtsp://127.0.0.1/x",
        "rtsp://" + "a" * 5000,
    ],
)
def test_addresses_of_cameras_that_are_none(client, url):
    answer = client.post("/cameras", json={"name": "bad address", "url": url})
    assert answer.status_code == 422, answer.text
    problem(answer, 422, answer.json()["code"])


BAD_BODIES = {
    "nothing": b"",
    "no JSON": b"{",
    "no UTF-8": b'{"name": "\xff\xfe"}',
    "half a character": b'{"name": "\\ud800"}',
    "a null byte": b'{"name": "a\\u0000b"}',
    "NaN": b'{"name": NaN}',
    "a list": b"[]",
    "a number beyond all": b'{"name": "x", "port": 1' + b"0" * 400 + b"}",
    "deep": b'{"name": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "unknown field": b'{"name": "x", "nmae": "y"}',
    "the same field twice, wrong": b'{"name": "x", "name": 5}',
    "10 MB": b'{"name": "' + b"x" * 10_000_000 + b'"}',
}


@pytest.mark.parametrize("path", ["/devices", "/inventory/import", "/deployments", "/session"])
@pytest.mark.parametrize("name", BAD_BODIES)
def test_bodies_that_cannot_be_used(server, client, path, name):
    answer = client.post(
        path, content=BAD_BODIES[name], headers={"Content-Type": "application/json"}
    )
    assert 400 <= answer.status_code < 500, answer.text
    problem(answer, answer.status_code, answer.json()["code"])
    assert len(answer.content) < 20_000


def row(**fields):
    return {"class": "01", "class_prob": 0.5, **fields}


BAD_ROWS = {
    "class_prob 1.7": row(class_prob=1.7),
    "class_prob NaN": row(class_prob=math.nan),
    "class_prob infinite": row(class_prob=math.inf),
    "class alone": {"class": "01"},
    "box outside": row(objects=[{"box": [0.9, 0.1, 0.2, 0.2], "class": "p", "class_prob": 0.5}]),
    "box negative": row(objects=[{"box": [0.1, 0.1, -0.2, 0.2], "class": "p", "class_prob": 0.5}]),
    "box NaN": row(objects=[{"box": [math.nan, 0, 0.2, 0.2], "class": "p", "class_prob": 0.5}]),
    "box of three": row(objects=[{"box": [0, 0, 0.2], "class": "p", "class_prob": 0.5}]),
    "attributes too large": row(attributes={"a": "x" * 5000}),
    "nested attributes": row(attributes={"a": {"b": 1}}),
    "seq negative": row(instance="i", seq=-1),
    "no object": 5,
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_result_is_refused_by_its_index_and_the_rest_kept(client, name):
    body = json.dumps([row(), BAD_ROWS[name], row()])
    answer = client.post("/results", content=body)
    assert answer.status_code == 200, answer.text
    outcome = answer.json()
    assert outcome["accepted"] == 2
    assert [refused["index"] for refused in outcome["refused"]] == [1]
    alone = client.post("/results", content=json.dumps(BAD_ROWS[name]))
    problem(alone, 422, alone.json()["code"])


@pytest.mark.parametrize("clock", [None, "", "yesterday", "0000-00-00", "9999-12-31T23:59:59Z"])
def test_a_result_without_a_usable_clock_is_kept(client, clock):
    given = {} if clock is None else {"captured_at": clock}
    answer = client.post("/results", json=row(**given))
    assert (answer.status_code, answer.json().get("accepted")) == (200, 1), answer.text
    newest = client.get("/results", params={"limit": 1000}).json()["items"]
    assert any(found["captured_at_is_arrival"] for found in newest)


def test_identities_that_a_body_claims_are_shown_and_not_believed(client):
    claimed = {"device_id": "dev-aaaaaaaaaaaaaaaa", "deployment_id": "dep-a", "instance": "claims"}
    answer = client.post("/results", json=row(**claimed, seq=1))
    assert (answer.status_code, answer.json()["accepted"]) == (200, 1)
    items = client.get("/results", params={"limit": 1000}).json()["items"]
    found = next(item for item in items if item["instance"] == "claims")
    assert found["device_id"] != claimed["device_id"]
    assert found["claimed"]["device_id"] == claimed["device_id"]
    assert found["claimed"]["deployment_id"] == "dep-a"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[" + b"0," * 5_500_000 + b"0]", 413),
        (b'[{"class": "' + b"x" * 9_000_000 + b'", "class_prob": 1}]', 422),
        (json.dumps([row()] * 1001).encode(), 413),
        (b"[" * 200_000, 400),
        (b"", 400),
        (b"\xff", 400),
    ],
)
def test_bodies_that_are_no_results(client, body, status):
    answer = client.post("/results", content=body)
    assert answer.status_code == status, answer.text[:500]
    problem(answer, status, answer.json()["code"])
    assert len(answer.content) < 20_000


def test_endless_chunks_are_cut_off(client):
    answer = client.post("/results", content=(bytes(1_000_000) for _ in range(30)))
    problem(answer, 413, "results.body_too_large")


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /api/v1/devices HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
        b"POST /api/v1/devices HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
        b"GET /api/v1/%00%ff/../..//devices HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_what_is_no_request_ends_its_own_connection_only(server, client, head):
    host, _, port = server.listen.partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(head)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                answer += piece
    assert b" 500 " not in answer[:20]
    assert b"Traceback" not in answer
    assert client.get("/health").status_code == 200


def test_no_password_is_in_any_answer_or_log(server, client):
    url = "rtsp://root:geheim-4711@127.0.0.1/x"
    client.post("/cameras", json={"name": "secretive", "url": url})
    for body in (
        {"name": "secretive", "url": url},
        {"name": 5, "url": url},
        {"url": url, "x": url},
    ):
        answer = client.post("/cameras", json=body)
        assert answer.status_code in {409, 422}
        assert "geheim-4711" not in answer.text
    wrong = client.post("/session", json={"name": "admin", "password": "geheim-4711"})
    problem(wrong, 401, "auth.wrong_credentials")
    assert "geheim-4711" not in wrong.text
    until(lambda: "geheim-4711" not in server.log)
