"""Sealed files: they come back whole, or not at all."""

import io
import stat

import pytest

from haechi.core import sealed
from haechi.core.sealed import SealedFileDamaged

MIB = 1024**2


def sealed_file(tmp_path, content, owner="bkp-a"):
    key = sealed.new_key()
    path = tmp_path / "file"
    sealed.seal(io.BytesIO(content), path, key, owner)
    return path, key


def read(path, key, owner="bkp-a"):
    return b"".join(sealed.unseal(path, key, owner))


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 3 * MIB])
def test_content_comes_back(tmp_path, size):
    content = bytes(i % 251 for i in range(1024)) * (size // 1024) + b"x" * (size % 1024)
    path, key = sealed_file(tmp_path, content)
    assert read(path, key) == content
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]
    assert size < 16 or content[:64] not in path.read_bytes()


def test_nothing_is_readable_with_another_key_or_for_another_owner(tmp_path):
    path, key = sealed_file(tmp_path, b"secret")
    with pytest.raises(SealedFileDamaged):
        read(path, sealed.new_key())
    with pytest.raises(SealedFileDamaged):
        read(path, key, "bkp-b")


@pytest.mark.parametrize(
    "harm",
    [
        lambda content: content[:-1],
        lambda content: content[: len(sealed._MAGIC) + sealed._PIECE + sealed._TAG],
        lambda content: content + b"x",
        lambda content: b"",
        lambda content: b"x" + content[1:],
        lambda content: content[:100] + bytes([content[100] ^ 1]) + content[101:],
    ],
)
def test_harm_is_noticed(tmp_path, harm):
    path, key = sealed_file(tmp_path, b"y" * (2 * MIB + 5))
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(SealedFileDamaged):
        read(path, key)


def test_pieces_cannot_change_places(tmp_path):
    path, key = sealed_file(tmp_path, b"a" * MIB + b"b" * MIB + b"c")
    content = path.read_bytes()
    head, piece = len(sealed._MAGIC), sealed._PIECE + sealed._TAG
    first, second = content[head : head + piece], content[head + piece : head + 2 * piece]
    path.write_bytes(content[:head] + second + first + content[head + 2 * piece :])
    with pytest.raises(SealedFileDamaged):
        read(path, key)


def test_a_missing_file_is_damage(tmp_path):
    with pytest.raises(SealedFileDamaged):
        read(tmp_path / "none", sealed.new_key())


def test_a_failing_source_leaves_nothing(tmp_path):
    class Failing(io.RawIOBase):
        def read(self, size=-1):
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        sealed.seal(Failing(), tmp_path / "file", sealed.new_key(), "x")
    assert list(tmp_path.iterdir()) == []
