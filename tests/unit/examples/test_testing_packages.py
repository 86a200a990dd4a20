"""The zips that other tests lean on are what they say they are."""

from __future__ import annotations

import io
import zipfile

import pytest

from haechi.testing import packages


def names(data: bytes) -> list[str]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return archive.namelist()


@pytest.mark.parametrize(
    "make",
    [
        packages.posting,
        packages.sleeping,
        packages.without_manifest,
        packages.crashing,
        packages.crashing_monitoring,
        packages.never_ready,
        packages.failing_build,
        packages.endless_build,
        packages.missing_base,
        packages.with_syntax_line,
    ],
)
def test_loadable_and_the_same_each_time(make):
    data = make()
    assert data == make()
    assert "Dockerfile" in names(data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        for name in archive.namelist():
            if name.endswith(".py"):
                compile(archive.read(name), name, "exec")


def test_versions_differ():
    assert packages.posting(version="1") != packages.posting(version="2")


def test_bad_names_stay_bad():
    assert "../../etc/cron.d/evil" in names(packages.with_traversal())
    assert "/etc/cron.d/evil" in names(packages.with_absolute_path())
    assert b"pkg\\Dockerfile" in packages.with_backslashes()
    assert "한글이름.txt".encode("cp949") in packages.with_cp949_names()
    with zipfile.ZipFile(io.BytesIO(packages.with_link())) as archive:
        assert archive.getinfo("secrets.txt").external_attr >> 28 == 0o12


def test_bombs_are_small_outside_and_big_inside():
    data = packages.bomb(16 * 1024**2)
    assert len(data) < 50_000
    overlapping = packages.overlapping_bomb(copies=100, unpacked_bytes=16 * 1024**2)
    with zipfile.ZipFile(io.BytesIO(overlapping)) as archive:
        assert sum(entry.file_size for entry in archive.infolist()) > 1.5 * 1024**3
    assert len(overlapping) < 100_000


def test_broken_ones_are_broken():
    for data in (packages.truncated(), packages.not_a_zip()):
        with pytest.raises(zipfile.BadZipFile):
            names(data)
    with zipfile.ZipFile(io.BytesIO(packages.encrypted())) as archive, pytest.raises(RuntimeError):
        archive.read("main.py")
