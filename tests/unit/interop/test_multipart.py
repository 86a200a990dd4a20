"""Upload forms, in whatever pieces they come."""

import hashlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from haechi.interop.codes import Refusal
from haechi.interop.multipart import Reader

TYPE = "multipart/form-data; boundary=XyZ"


def form(content=b"PK content", *, version="1", end=b"--XyZ--\r\n", name='name="file"'):
    return (
        b"--XyZ\r\n"
        b'Content-Disposition: form-data; name="version"\r\n\r\n' + version.encode() + b"\r\n"
        b"--XyZ\r\nContent-Disposition: form-data; "
        + name.encode()
        + b'; filename="C:\\zips\\a.zip"\r\nContent-Type: application/zip\r\n\r\n'
        + content
        + b"\r\n"
        + end
    )


async def pieces(data, size):
    for at in range(0, len(data), size):
        yield data[at : at + size]


async def read(data, target, *, size=7, limit=1000, content_type=TYPE):
    reader = Reader(content_type, target, max_file_bytes=limit)
    return await reader.read(pieces(data, size))


@pytest.mark.parametrize("size", [1, 2, 5, 64, 100_000])
async def test_file_and_fields(tmp_path, size):
    content = bytes(range(256)) + b"\r\n--Xy\r\n--XyY\r\n"
    found = await read(form(content), tmp_path / "f", size=size)
    assert (tmp_path / "f").read_bytes() == content
    assert found.fields == {"version": "1"}
    assert (found.file_name, found.size_bytes) == ("a.zip", len(content))
    assert found.sha256 == hashlib.sha256(content).hexdigest()


async def test_a_quoted_boundary_and_a_preamble(tmp_path):
    data = b"preamble\r\n" + form()
    found = await read(data, tmp_path / "f", content_type='multipart/form-data; boundary="XyZ"')
    assert found.has_file


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "0010"),
        (form()[:-20], "0010"),
        (form(end=b""), "0010"),
        (b"--XyZ\r\nContent-Type: text/plain\r\n\r\nx\r\n--XyZ--\r\n", "0010"),
        (form(b"x" * 2000), "0016"),
        (form(version="v" * 10_000), "0016"),
        (b"--XyZxx", "0010"),
        (b"x" * 20_000, "0010"),
        (form(end=b"--XyZ\r\n" + form()[7:]), "0010"),
    ],
)
async def test_what_is_wrong_is_refused(tmp_path, data, code):
    with pytest.raises(Refusal) as caught:
        await read(data, tmp_path / "f")
    assert caught.value.code == code


async def test_no_boundary(tmp_path):
    with pytest.raises(Refusal):
        Reader("multipart/form-data", tmp_path / "f", max_file_bytes=1)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=60,
)
@given(content=st.binary(max_size=400), size=st.integers(1, 50))
async def test_any_content_comes_through(tmp_path, content, size):
    target = tmp_path / "f"
    target.unlink(missing_ok=True)
    found = await read(form(content), target, size=size)
    if b"\r\n--XyZ" not in content:
        assert target.read_bytes() == content
        assert found.size_bytes == len(content)
