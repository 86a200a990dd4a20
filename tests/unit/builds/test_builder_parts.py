"""Context tar, ignore rules, trace decoding, limits, trust: the builder's parts without an engine."""

import base64
import io
import os
import tarfile

import pytest

from haechi.adapters.build_context import is_ignored, read_rules, stream_context
from haechi.adapters.build_limits import limit_build_steps
from haechi.adapters.docker_buildkit import Trace
from haechi.adapters.docker_errors import (
    EngineFailed,
    ImageNotFound,
    RegistryDenied,
    RegistryUnreachable,
    from_transfer,
)
from haechi.adapters.docker_trust import unwire_docker_host, wire_docker_host
from haechi.errors import DiskFull


async def tar_of(folder, text="FROM scratch\n"):
    pieces = [piece async for piece in stream_context(folder, "Dockerfile", text)]
    return b"".join(pieces)


async def test_the_context_is_the_same_bytes_for_the_same_files(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/b.sh").write_text("#!/bin/sh\n")
    (tmp_path / "sub/b.sh").chmod(0o711)
    (tmp_path / "큰 파일.bin").write_bytes(os.urandom(700_000))
    (tmp_path / "Dockerfile").write_text("FROM other\n")
    (tmp_path / "link").symlink_to("sub/b.sh")
    first = await tar_of(tmp_path)
    os.utime(tmp_path / "sub/b.sh", (1, 1))
    assert await tar_of(tmp_path) == first
    with tarfile.open(fileobj=io.BytesIO(first)) as archive:
        entries = {entry.name: entry for entry in archive}
        assert set(entries) == {"Dockerfile", "sub", "sub/b.sh", "큰 파일.bin", "link"}
        assert archive.extractfile("Dockerfile").read() == b"FROM scratch\n"
        assert entries["sub/b.sh"].mode == 0o755
        assert entries["link"].linkname == "sub/b.sh"
        assert {entry.uid for entry in entries.values()} == {0}
        assert entries["큰 파일.bin"].size == 700_000


@pytest.mark.parametrize(
    ("rules", "ignored", "kept"),
    [
        ("*.pyc", ["a.pyc"], ["b/a.pyc", "a.py"]),
        ("**/*.pyc", ["a.pyc", "b/c/a.pyc"], ["a.py"]),
        ("node_modules", ["node_modules", "node_modules/a/b"], ["x/node_modules"]),
        ("/a/b/", ["a/b", "a/b/c"], ["b"]),
        ("*\n!keep", ["a"], ["keep"]),
        ("docs/*\n!docs/a.md\n# no\n", ["docs/b"], ["docs/a.md", "# no"]),
        ("a?[bc]", ["axb", "ayc"], ["axd", "a/b"]),
        ("**", ["a", "a/b"], [".dockerignore"]),
        ("a/**/b", ["a/b", "a/x/b", "a/x/y/b/c"], ["ab", "a/xb"]),
        ("*a*b", ["ab", "xaxb", "aab/c"], ["a/b", "ba"]),
        ("[^a-c]x\n[z-a]\n[[]\n[a-]-", ["dx", "[", "--", "a-"], ["ax", "m", "b-"]),
        ("**a" * 60 + "**b", [], ["a" * 250, "a/" * 100]),
        ("*a" * 60 + "*b", [], ["a" * 250]),
    ],
)
def test_dockerignore(tmp_path, rules, ignored, kept):
    (tmp_path / ".dockerignore").write_text(rules)
    read = read_rules(tmp_path, "Dockerfile")
    assert [path for path in ignored if not is_ignored(path, read)] == []
    assert [path for path in kept if is_ignored(path, read)] == []


def test_a_huge_dockerignore_is_read_only_in_part(tmp_path):
    with (tmp_path / ".dockerignore").open("wb") as file:
        file.truncate(1 << 40)
    assert len(read_rules(tmp_path, "Dockerfile")) <= 1


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def vertex(digest: str, name: str, *, started=0, completed=0, error="", cached=0) -> bytes:
    body = field(1, digest.encode()) + field(3, name.encode())
    body += field(4, cached) if cached else b""
    body += field(5, field(1, started)) if started else b""
    body += field(6, field(1, completed)) if completed else b""
    body += field(7, error.encode()) if error else b""
    return field(1, body)


def said(digest: str, text: str) -> bytes:
    return field(3, field(1, digest.encode()) + field(4, text.encode()))


def line(*parts: bytes) -> dict:
    return {"id": "moby.buildkit.trace", "aux": base64.b64encode(b"".join(parts)).decode()}


def test_a_trace_reads_like_dockers_plain_output():
    trace = Trace()
    lines = trace.feed(line(vertex("a", "[1/2] FROM x", started=10, completed=10, cached=1)))
    lines += trace.feed(line(vertex("b", "[2/2] RUN y", started=10)))
    assert trace.ratio == 0.5
    assert trace.current == "[2/2] RUN y"
    lines += trace.feed(line(said("b", "하나\nold\rnew\n\x1b[31mred\x1b[0m\nopen ")))
    lines += trace.feed(line(said("b", "line"), vertex("b", "[2/2] RUN y", completed=13)))
    assert lines == [
        "#1 [1/2] FROM x",
        "#1 CACHED",
        "#2 [2/2] RUN y",
        "#2 하나",
        "#2 new",
        "#2 red",
        "#2 open line",
        "#2 DONE 3.0s",
    ]
    trace.feed({"id": "moby.image.id", "aux": {"ID": "sha256:1"}})
    assert trace.image_id == "sha256:1"


def test_a_failed_trace_knows_the_step_and_its_last_words():
    trace = Trace()
    many = "".join(f"{number}\n" for number in range(100))
    trace.feed(line(vertex("b", "[2/2] RUN y", started=1), said("b", many)))
    trace.feed(line(vertex("b", "[2/2] RUN y", completed=2, error="exit code: 1")))
    trace.feed({"error": "short", "errorDetail": {"message": "long"}})
    assert trace.error == "long"
    assert trace.current == "[2/2] RUN y"
    assert trace.last_lines[-1] == "99"
    assert len(trace.last_lines) == 20


@pytest.mark.parametrize("aux", ["!", "AAAA", "CgE=", "//////////8="])
def test_a_broken_trace_is_only_lost(aux):
    assert Trace().feed({"id": "moby.buildkit.trace", "aux": aux}) == []


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("manifest for x:1 not found: manifest unknown: manifest unknown", ImageNotFound),
        (
            "pull access denied for x, repository does not exist or may require 'docker login'",
            ImageNotFound,
        ),
        ("no matching manifest for linux/arm64 in the manifest list entries", ImageNotFound),
        (
            'Get "https://r/v2/": dial tcp 127.0.0.1:1: connect: connection refused',
            RegistryUnreachable,
        ),
        ('Get "https://r/v2/": dial tcp: lookup r: no such host', RegistryUnreachable),
        ('Head "https://r/v2/x/blobs/y": EOF', RegistryUnreachable),
        ("received unexpected HTTP status: 502 Bad Gateway", RegistryUnreachable),
        ("unauthorized: authentication required", RegistryDenied),
        ("no basic auth credentials", RegistryDenied),
        ("write /var/lib/docker/tmp/x: no space left on device", DiskFull),
        ("something else", EngineFailed),
    ],
)
def test_words_of_the_engine(message, error):
    assert type(from_transfer("x:1", message)) is error


def test_the_reason_is_found_and_shown_behind_a_long_address():
    """As dockerd says it of a registry that goes down in the middle of a push."""
    address = "https://push.registry.example:5000/v2/x/blobs/uploads/1?_state=" + "A" * 600
    error = from_transfer("x:1", f'Put "{address}": EOF')
    assert type(error) is RegistryUnreachable
    assert str(error.data["message"]).endswith('": EOF')


def test_the_reason_is_not_read_from_the_images_name():
    image = "registry.example:5000/no-access-denied:1"
    error = from_transfer(
        image,
        'Head "https://registry.example:5000/v2/no-access-denied/x": dial tcp 192.0.2.1:5000: i/o timeout',
    )
    assert type(error) is RegistryUnreachable
    error = from_transfer(image, f"pushing {image}: received unexpected HTTP status: 502")
    assert type(error) is RegistryUnreachable


@pytest.mark.parametrize("version", [1, 2])
def test_limits_are_set_on_either_kind_of_control_group(tmp_path, version):
    if version == 1:
        for name in ("memory", "pids", "cpu"):
            (tmp_path / name).mkdir()
    else:
        (tmp_path / "cgroup.controllers").write_text("memory pids cpu")
        (tmp_path / "docker").mkdir()
    missing = limit_build_steps(memory_bytes=1000, cpu_cores=1.5, root=tmp_path)
    assert missing == []
    found = "".join(path.read_text() for path in sorted(tmp_path.rglob("docker/buildkit/*")))
    assert "1000" in found
    assert "150000" in found


def test_limits_that_cannot_be_set_are_named(tmp_path):
    found = limit_build_steps(memory_bytes=1, cpu_cores=1, root=tmp_path / "none")
    assert sorted(found) == ["cpu", "memory", "pids"]


def test_wiring_a_docker_host_is_idempotent_and_can_be_undone(tmp_path):
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n10.9.9.9 other.test # mine\n")
    wiring = {
        "config_home": tmp_path / "docker",
        "hosts_file": hosts,
        "name": "registry.haechi.internal",
        "port": 8425,
    }
    assert wire_docker_host(**wiring, address="172.17.0.1", ca_pem="PEM")
    assert not wire_docker_host(**wiring, address="172.17.0.1", ca_pem="PEM")
    ca = tmp_path / "docker/certs.d/registry.haechi.internal:8425/ca.crt"
    assert ca.read_text() == "PEM"
    assert wire_docker_host(**wiring, address="127.0.0.1", ca_pem="other")
    assert ca.read_text() == "PEM"
    assert hosts.read_text().count("# haechi") == 1
    assert hosts.read_text().startswith("127.0.0.1 registry.haechi.internal")
    unwire_docker_host(**wiring)
    unwire_docker_host(**wiring)
    assert hosts.read_text() == "127.0.0.1 localhost\n10.9.9.9 other.test # mine\n"
    assert not ca.parent.exists()


@pytest.mark.parametrize(
    ("name", "address"),
    [("a b", "127.0.0.1"), ("x\n1.1.1.1 y", "127.0.0.1"), ("x", "evil host"), ("x", "1.2.3")],
)
def test_wiring_takes_no_odd_names(tmp_path, name, address):
    with pytest.raises(ValueError, match=r"not a registry|does not appear"):
        wire_docker_host(
            config_home=tmp_path,
            hosts_file=tmp_path / "hosts",
            name=name,
            port=1,
            address=address,
            ca_pem="",
        )
