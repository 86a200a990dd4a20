import io
import stat
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haechi.domains.packages.inspection import Limits, inspect
from haechi.errors import AppError
from haechi.testing import packages as zips

from .conftest import Look, Problems, codes

GOOD = {"Dockerfile": "FROM python:3.11-slim\nCMD true\n"}


@pytest.mark.parametrize(
    ("data", "context", "dockerfile"),
    [
        (zips.sleeping(), "", "Dockerfile"),
        (zips.posting(), "", "Dockerfile"),
        (zips.in_one_folder("my_package"), "my_package", "my_package/Dockerfile"),
        (zips.with_folder_in_copy("my_package"), "", "my_package/Dockerfile"),
        (zips.with_backslashes(), "pkg", "pkg/Dockerfile"),
        (zips.with_cp949_names(), "", "Dockerfile"),
        (zips.without_manifest(), "", "Dockerfile"),
    ],
    ids=["root", "sdk", "folder", "folder-in-copy", "backslashes", "cp949", "plain"],
)
def test_layouts_in_the_wild(look: Look, data: bytes, context: str, dockerfile: str) -> None:
    found = look(data)
    assert (found.layout.context, found.layout.dockerfile) == (context, dockerfile)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (zips.without_dockerfile(), "packages.no_dockerfile"),
        (zips.two_dockerfiles(), "packages.two_dockerfiles"),
        (zips.with_traversal(), "packages.traversal"),
        (zips.with_traversal("a\\..\\..\\b"), "packages.traversal"),
        (zips.with_absolute_path(), "packages.absolute_path"),
        (zips.with_traversal("C:\\windows\\x"), "packages.absolute_path"),
        (zips.with_traversal("\\\\server\\share"), "packages.absolute_path"),
        (zips.with_link(), "packages.link_out"),
        (zips.with_link("/etc/shadow"), "packages.link_out"),
        (zips.encrypted(), "packages.encrypted"),
        (zips.truncated(), "packages.truncated"),
        (zips.not_a_zip(), "packages.not_a_zip"),
        (b"", "packages.not_a_zip"),
        (zips.many_files(1001), "packages.too_many_files"),
        (zips.overlapping_bomb(20, 1024), "packages.overlapping"),
        (zips.bomb(32 * 1024**2), "packages.bomb"),
        (zips.zip_of({**GOOD, "a": "1", "a/b": "2"}), "packages.path_clash"),
        (zips.zip_of({**GOOD, "readme": "1", "README": "2"}), "packages.case_collision"),
        (zips.zip_of({**GOOD, "./x": "1", "x": "2"}), "packages.duplicate_entry"),
        (zips.zip_of({**GOOD, "가": "1", "\u1100\u1161": "2"}), "packages.duplicate_entry"),
        (zips.zip_of({**GOOD, "a\nb": "1"}), "packages.bad_path"),
        (zips.zip_of({**GOOD, "x" * 300: "1"}), "packages.bad_path"),
        (zips.zip_of({"Dockerfile": ""}), "packages.bad_dockerfile"),
        (zips.zip_of({"Dockerfile": "FORM x\n"}), "packages.bad_dockerfile"),
        (
            zips.zip_of({"Dockerfile": "FROM x\nCOPY no.py /\n"}),
            "packages.copy_source_missing",
        ),
        (zips.zip_of({**GOOD, "haechi.toml": "[package]\nnmae = 'x'\n"}), "packages.bad_manifest"),
    ],
)
def test_bad_zips(problems: Problems, data: bytes, expected: str) -> None:
    assert set(problems(data)) - {"packages.bad_dockerfile"} <= {expected}
    assert expected in problems(data)


def test_every_problem_is_named_at_once(problems: Problems) -> None:
    assert sorted(problems(zips.with_everything_wrong())) == [
        "packages.absolute_path",
        "packages.link_out",
        "packages.no_dockerfile",
        "packages.traversal",
    ]


def test_too_much_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(zips.zip_of({**GOOD, "data": b"x" * 5000}))
    with pytest.raises(AppError) as caught:
        inspect(path, Limits(max_files=10, max_unpacked_bytes=4000))
    assert codes(caught.value) == ["packages.too_much_unpacked"]


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
def test_special_files(problems: Problems, kind: int) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("Dockerfile", GOOD["Dockerfile"])
        entry = zipfile.ZipInfo("thing")
        entry.create_system = 3
        entry.external_attr = (kind | 0o644) << 16
        archive.writestr(entry, b"")
    assert problems(out.getvalue()) == ["packages.special_file"]


def linked(links: dict[str, str], files: dict[str, str] | None = None) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in {**GOOD, **(files or {})}.items():
            archive.writestr(name, content)
        for name, target in links.items():
            entry = zipfile.ZipInfo(name)
            entry.create_system = 3
            entry.external_attr = 0o120777 << 16
            archive.writestr(entry, target)
    return out.getvalue()


@pytest.mark.parametrize(
    "links",
    [
        {"l": "."} | {"m": "l/.."},
        {"a/l": "../.."},
        {"l": "m", "m": "l"},
        {"l": ""},
        {"deep/l": "..", "x": "deep/l/../.."},
    ],
)
def test_links_that_lead_out_by_way_of_others(problems: Problems, links: dict[str, str]) -> None:
    assert "packages.link_out" in problems(linked(links))


def test_nothing_may_lie_behind_a_link(problems: Problems) -> None:
    assert "packages.path_clash" in problems(linked({"l": "."}, {"l/x": "1"}))


def test_links_inside_the_tree_are_fine(look: Look) -> None:
    assert look(linked({"model": "data/v1", "data/latest": "v1"}, {"data/v1": "x"})).files == 2


def test_content_that_does_not_match_its_checksum(problems: Problems) -> None:
    data = zips.zip_of({**GOOD, "data": b"A" * 100}).replace(b"A" * 100, b"B" * 100)
    assert problems(data) == ["packages.damaged"]


def test_content_longer_than_declared(problems: Problems) -> None:
    data = zips.zip_of({**GOOD, "data": b"\0" * 5000}, compress=True)
    at = data.rfind(b"PK\x01\x02")
    lying = bytearray(data)
    lying[at + 24 : at + 28] = struct.pack("<L", 10)
    assert problems(bytes(lying)) == ["packages.damaged"]


def test_unknown_compression(problems: Problems) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x", b"x" * 100)
    assert "packages.unknown_compression" in problems(out.getvalue())


def test_mac_names_without_the_flag_are_utf8(look: Look) -> None:
    name = "모델.txt".encode()
    data = zips.zip_of({"Dockerfile": "FROM x\nCOPY 모델.txt /\n", "x" * len(name): "1"})
    assert look(data.replace(b"x" * len(name), name)).files == 2


def test_windows_names_are_cp949_first(look: Look) -> None:
    name = "가중치.bin".encode("cp949")
    data = bytearray(
        zips.zip_of({"Dockerfile": "FROM x\nCOPY 가중치.bin /\n", "x" * len(name): "1"})
    )
    at = data.find(b"PK\x01\x02")
    while at >= 0:
        data[at + 5] = 0
        at = data.find(b"PK\x01\x02", at + 4)
    assert look(bytes(data).replace(b"x" * len(name), name)).files == 2


def test_big_zips_are_zip64(look: Look) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in GOOD.items():
            with archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as file:
                file.write(content.encode())
    assert look(out.getvalue()).files == 1


def test_a_zip_behind_other_bytes(look: Look) -> None:
    assert look(b"#!/bin/sh\n" + zips.zip_of(dict(GOOD))).files == 1


def test_notes(look: Look) -> None:
    found = look(
        zips.zip_of(
            {
                "Dockerfile": "# syntax=docker/dockerfile:1\nFROM x\nEXPOSE 80 443\n",
                "k8s.yaml": "",
                ".DS_Store": "",
            }
        )
    )
    assert [note.code for note in found.notes] == [
        "exposes_ignored",
        "syntax_line",
        "junk_ignored",
        "yaml_ignored",
        "no_command",
    ]


def test_a_lookalike_is_hinted_at(look: Look) -> None:
    with pytest.raises(AppError) as caught:
        look(zips.zip_of({"dockerfile.txt": "FROM x"}))
    assert "dockerfile.txt" in str(caught.value)


@given(data=st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_answered(workshop: Path, data: bytes) -> None:
    path = workshop / "a.zip"
    for content in (data, b"PK\x03\x04" + data, data + b"PK\x05\x06" + bytes(18)):
        path.write_bytes(content)
        with pytest.raises(AppError):
            inspect(path, Limits(max_files=10, max_unpacked_bytes=10_000))


SLEEPING = zips.sleeping()


@given(position=st.integers(0, 700), value=st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_one_flipped_byte_is_answered(workshop: Path, position: int, value: int) -> None:
    data = bytearray(SLEEPING)
    data[-position % len(data)] = value
    path = workshop / "a.zip"
    path.write_bytes(bytes(data))
    try:
        found = inspect(path, Limits(max_files=10, max_unpacked_bytes=10_000_000))
    except AppError:
        return
    assert found.layout.dockerfile == "Dockerfile"


def test_names_longer_than_any_path_are_not_even_kept(look: Look, problems: Problems) -> None:
    assert look(zips.zip_of({**GOOD, "./" * 100 + "x": "1"})).files == 2
    assert problems(zips.zip_of({**GOOD, "./" * 3000 + "x": "1"})) == ["packages.bad_path"]
