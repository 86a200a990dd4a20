"""Golden files: tests/golden/package_dockerfile/<case>.json holds a Dockerfile and what is read from it."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haechi.domains.packages import dockerfile, layout

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


GROWING = "ARG A0=aaaaaaaaaa\n" + "".join(f"ARG A{n + 1}=$A{n}$A{n}\n" for n in range(60))


@pytest.mark.parametrize(
    "text",
    [
        GROWING + "FROM $A60\n",
        "FROM a\n" + GROWING.replace("ARG", "ENV") + "COPY $A60 /\n",
        "FROM a\nRUN " + "1" * 200_000,
        "FROM a\nARG x=" + "${A:-" * 40_000,
        "FROM a\nEXPOSE " + "${A:-" * 40_000,
        "# note=x" + " " * 200_000 + "y\nFROM a\n",
    ],
    ids=["arg", "env", "digits", "nested", "expose", "directive"],
)
def test_what_would_never_end_is_left_unresolved(text: str) -> None:
    found = dockerfile.parse(text)
    assert [image.resolved for image in found.images if image.reference != "a"] in ([], [False])
    assert not found.faults


def test_only_so_many_patterns_are_looked_for() -> None:
    patterns = " ".join(f"x{n}*" for n in range(layout.MAX_PATTERNS + 50))
    copies = dockerfile.parse(f"FROM a\nCOPY {patterns} /\n").copies
    files = [f"folder/{n}" for n in range(100)]
    folder, missing = layout.find_context("Dockerfile", copies, files)
    assert (folder, len(missing)) == ("", layout.MAX_PATTERNS)
