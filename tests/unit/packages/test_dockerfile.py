"""Golden files: tests/golden/package_dockerfile/<case>.json holds a Dockerfile and what is read from it."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haechi.domains.packages import dockerfile

GOLDEN = Path(__file__).parents[2] / "golden" / "package_dockerfile"


@pytest.mark.parametrize("case", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_golden(case: Path) -> None:
    expected = json.loads(case.read_text("utf-8"))
    found = dockerfile.parse("\n".join(expected["dockerfile"]))
    assert found.as_json() == expected["facts"]
    assert [{"line": c.line, "sources": c.sources} for c in found.copies] == expected["copies"]
    assert [f"{fault.line}: {fault.reason}" for fault in found.faults] == expected["faults"]


def test_build_args_win_over_defaults() -> None:
    found = dockerfile.parse("ARG BASE=a\nFROM $BASE\n", {"BASE": "b"})
    assert [image.reference for image in found.images] == ["b"]


@pytest.mark.parametrize(
    ("raw", "first"),
    [
        (b"\xef\xbb\xbfFROM a\r\nCMD x\r\n", "a"),
        ("# 한글 주석\nFROM b\n".encode("cp949"), "b"),
        (b"\xff\xfe\nFROM c\n", "c"),
    ],
)
def test_encodings(raw: bytes, first: str) -> None:
    found = dockerfile.parse(dockerfile.decode(raw))
    assert [image.reference for image in found.images] == [first]


@given(st.text(alphabet="FROM RUNCOPY<<EOF\\\n$\"'{}[]#= abAS:-\t\u0000가", max_size=200))
def test_any_text_is_read(text: str) -> None:
    dockerfile.parse(text)
