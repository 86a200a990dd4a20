"""The lines of a Dockerfile as BuildKit joins them to instructions: directives, continuations,
comments, heredocs. Pure.

What is understood of a package and what a build rewrites stand on the same instructions. The rules
are those of BuildKit's frontend/dockerfile/parser.
"""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

_DIRECTIVE: Final = re.compile(r"(?:#|//)\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(\S.*)")
_DIRECTIVES: Final = frozenset({"syntax", "escape", "check"})
_BLANKS: Final = re.compile(r"[ \t\v\f\r]+")
_WORD: Final = re.compile(
    r"""(?:[^\s"'\\]|\\.?|"(?:[^"\\]|\\.)*"|'[^']*')+|(?P<open>["'])""", re.DOTALL
)
_HEREDOC: Final = re.compile(r"\d*<<(?P<dash>-?)(?P<name>[^<]+)")
_HAVE_HEREDOCS: Final = frozenset({"RUN", "COPY", "ADD"})


@dataclass(frozen=True, slots=True)
class Directives:
    """What the comments at the very top say to BuildKit."""

    escape: str = "\\"
    syntax: str | None = None
    """The frontend image that BuildKit would fetch."""


@dataclass(frozen=True, slots=True)
class Instruction:
    name: str
    """In capitals."""
    rest: str
    """What follows the name, its lines joined, without heredocs."""
    first: int
    """Index of its first line."""
    head_last: int
    """Index of the last line before its heredocs."""
    last: int
    """Index of its last line, those of its heredocs included."""
    heredocs: tuple[str, ...] = ()
    """As they are written, `<<-"EOF"`: such words are no file names."""
    unended: str = ""
    """The heredoc that the file's end cuts off."""

    @property
    def line(self) -> int:
        """As people count."""
        return self.first + 1


def directives(lines: Sequence[str]) -> Directives:
    """Only the block at the very top counts: the first other line ends it."""
    found: dict[str, str] = {}
    for line in lines:
        match = _DIRECTIVE.match(line.strip())
        if match is None or not match[0].startswith("#"):
            break
        key = match[1].lower()
        if key not in _DIRECTIVES or key in found:
            break
        found[key] = match[2]
    escape = found.get("escape", "\\")
    return Directives(escape if escape in {"\\", "`"} else "\\", found.get("syntax"))


def possible_syntax(lines: Sequence[str]) -> Iterator[tuple[int, str]]:
    """(index, image) of each line that any BuildKit could take for a `syntax` directive: with
    `//` too, behind a `#!` line, and, to be on the safe side, behind other comments.
    """
    for index, line in enumerate(lines):
        stripped = line.strip()
        if stripped and not stripped.startswith(("#", "//")):
            return
        match = _DIRECTIVE.match(stripped)
        if match is not None and match[1].lower() == "syntax":
            yield index, match[2]


def instructions(lines: Sequence[str], escape: str) -> Iterator[Instruction]:
    index = 0
    while index < len(lines):
        if _is_skipped(lines[index]):
            index += 1
            continue
        first, line, pieces = index, lines[index].strip(), []
        while (begun := _goes_on(line, escape)) is not None:
            pieces.append(begun)
            following = index + 1
            while following < len(lines) and _is_skipped(lines[following]):
                following += 1
            if following >= len(lines):
                index, line = len(lines) - 1, ""
                break
            index, line = following, lines[following].rstrip("\r")
        head = "".join([*pieces, line]).strip()
        if not head:
            break  # an escape character, and then the end of the file
        name, *more = _BLANKS.split(head, maxsplit=1)
        name, rest = name.upper(), more[0] if more else ""
        head_last, written, unended = index, [], ""
        for word, ending, strip_tabs in _heredocs(name, rest):
            written.append(word)
            index, ended = _end_of(lines, index, ending, strip_tabs=strip_tabs)
            unended = unended or ("" if ended else ending)
        yield Instruction(name, rest, first, head_last, index, tuple(written), unended)
        index += 1


def _is_skipped(line: str) -> bool:
    """Blank lines and comments count neither between instructions nor inside one."""
    stripped = line.strip()
    return not stripped or stripped.startswith("#")


def _goes_on(line: str, escape: str) -> str | None:
    """The line without its escape character; None where nothing follows. Two are one, escaped."""
    bare = line.rstrip(" \t\r")
    if bare.endswith(escape) and not bare.endswith(escape * 2):
        return bare[:-1]
    return None


def _heredocs(name: str, rest: str) -> Iterator[tuple[str, str, bool]]:
    """(as written, the line that ends it, whether tabs before that do not count)."""
    if "<<" not in rest:
        return
    if name == "ONBUILD":
        name = rest.split(maxsplit=1)[0].upper()
    words = list(_WORD.finditer(rest)) if name in _HAVE_HEREDOCS else []
    if any(word["open"] for word in words):
        return  # a quote without an end: BuildKit looks for none
    for word in words:
        match = _HEREDOC.fullmatch(word[0])
        if match is None:
            continue
        try:
            names = shlex.split(match["name"])
        except ValueError:
            continue
        if len(names) == 1:
            yield word[0], names[0], bool(match["dash"])


def _end_of(lines: Sequence[str], index: int, ending: str, *, strip_tabs: bool) -> tuple[int, bool]:
    """Index of the line that ends the heredoc which begins after `index`; the last one without."""
    for at in range(index + 1, len(lines)):
        line = lines[at].rstrip("\r")
        if (line.lstrip("\t") if strip_tabs else line) == ending:
            return at, True
    return len(lines) - 1, False
