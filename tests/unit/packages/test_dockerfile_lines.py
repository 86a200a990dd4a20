"""How lines become instructions, by BuildKit's rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haechi.domains.packages.dockerfile_lines import (
    Directives,
    directives,
    instructions,
    possible_syntax,
)


def read(text: str) -> list[tuple[str, str]]:
    lines = text.split("\n")
    return [(part.name, part.rest) for part in instructions(lines, directives(lines).escape)]


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("# escape=`", Directives("`")),
        ("#ESCAPE = `", Directives("`")),
        ("# escape=x", Directives()),
        ("# syntax=a/b:1\n# escape=`", Directives("`", "a/b:1")),
        ("# check=skip=all\n# escape=`", Directives("`")),
        ("# a comment\n# escape=`", Directives()),
        ("# note=x\n# escape=`", Directives()),
        ("\n# escape=`", Directives()),
        ("FROM a\n# escape=`", Directives()),
        ("// escape=`", Directives()),
    ],
)
def test_directives_are_the_block_at_the_top(head: str, expected: Directives) -> None:
    assert directives(head.split("\n")) == expected


def test_a_syntax_line_is_found_wherever_some_buildkit_would() -> None:
    text = "#!/usr/bin/x\n# note\n\n// syntax=a\n# SYNTAX = b\nFROM x\n# syntax=c"
    assert list(possible_syntax(text.split("\n"))) == [(3, "a"), (4, "b")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("run a \\\n  b", [("RUN", "a   b")]),
        ("COPY a\\\nb /c", [("COPY", "ab /c")]),
        ("RUN a \\ \t\n b", [("RUN", "a  b")]),
        ("RUN a \\\r\n b\r", [("RUN", "a  b")]),
        ("RUN a \\\n# note\n\n  # note\n b", [("RUN", "a  b")]),
        ("RUN a \\", [("RUN", "a")]),
        ("RUN a \\\n\n", [("RUN", "a")]),
        ("\\\n\n", []),
        ("\\\nFROM a", [("FROM", "a")]),
        ("RUN a \\\\\nUSER b", [("RUN", "a \\\\"), ("USER", "b")]),
        ("# escape=`\nRUN a `\n b \\\nUSER c", [("RUN", "a  b \\"), ("USER", "c")]),
        ("  # note\n\tFROM\ta  AS b", [("FROM", "a  AS b")]),
        ("WORKDIR", [("WORKDIR", "")]),
    ],
)
def test_lines_are_joined(text: str, expected: list[tuple[str, str]]) -> None:
    assert read(text) == expected


@pytest.mark.parametrize(
    ("head", "body", "heredocs"),
    [
        ("RUN <<EOF", "USER x\nEOF", ("<<EOF",)),
        ("RUN 3<<EOF cat", "USER x\nEOF", ("3<<EOF",)),
        ("RUN <<-EOF", "USER x\n\t\tEOF", ("<<-EOF",)),
        ("RUN <<'EOF'", "USER x\nEOF", ("<<'EOF'",)),
        ("RUN <<'E F'", "USER x\nE F", ("<<'E F'",)),
        ("COPY <<a <<b /", "USER x\na\nUSER y\nb", ("<<a", "<<b")),
        ("RUN a \\\n  <<EOF", "USER x\nEOF", ("<<EOF",)),
        ("ONBUILD RUN <<EOF", "USER x\nEOF", ("<<EOF",)),
        ("RUN <<EOF\r", "USER x\r\nEOF\r", ("<<EOF",)),
        ("RUN cat <<EOF>/x", "USER x\nEOF\nEOF>/x", ("<<EOF>/x",)),
    ],
)
def test_heredocs_hold_no_instructions(head: str, body: str, heredocs: tuple[str, ...]) -> None:
    lines = f"{head}\n{body}\nUSER last".split("\n")
    first, last = instructions(lines, "\\")
    assert (first.heredocs, first.unended) == (heredocs, "")
    assert first.head_last == head.count("\n")
    assert first.last == len(lines) - 2
    assert (last.name, last.rest) == ("USER", "last")


@pytest.mark.parametrize(
    "head",
    [
        'RUN echo "a <<EOF b"',
        "RUN echo 'a <<EOF b'",
        "RUN cat <<<EOF",
        "RUN echo it's <<EOF",
        "RUN echo 1<<",
        "RUN echo \\\\<<EOF",
        "CMD cat <<EOF",
        "ENV A=<<EOF",
        "ONBUILD CMD <<EOF",
    ],
)
def test_what_only_looks_like_a_heredoc(head: str) -> None:
    names = [part.name for part in instructions([head, "USER x", "EOF"], "\\")]
    assert names == [head.split()[0], "USER", "EOF"]


def test_a_heredoc_without_an_end_takes_the_rest() -> None:
    (only,) = instructions(["RUN <<EOF", "USER x", " EOF"], "\\")
    assert (only.unended, only.last) == ("EOF", 2)


@given(st.text(alphabet="RUNCOPY<<EOF\\\n\r$\"'-#= `ab\t", max_size=200))
def test_every_line_belongs_to_one_instruction_at_most(text: str) -> None:
    lines = text.split("\n")
    end = -1
    for part in instructions(lines, "\\"):
        assert end < part.first <= part.head_last <= part.last < len(lines)
        assert part.name
        end = part.last


@pytest.mark.parametrize(
    "line",
    [
        "RUN " + "1" * 200_000,
        "RUN <<a'" + "\\" * 200_000,
        "RUN " + "'<<a' " * 40_000,
        "RUN a" + " " * 200_000 + "b",
    ],
    ids=["word", "escapes", "quoted", "blanks"],
)
def test_long_lines_are_read_in_one_go(line: str) -> None:
    assert len(read(f"{line}\nUSER x")) == 2
