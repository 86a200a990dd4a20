"""Reading a Dockerfile just far enough to know its images, and exchanging them by the base map.

Pure: text in, text out. Only the image words change, so that line numbers, comments and layout in
the build log are the author's. Nothing may be fetched from outside on the Dockerfile's word alone:
`syntax` directives, which name a frontend image, are left out.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from haechi.domains.builds.images import normalise
from haechi.domains.builds.model import BadDockerfile, BaseUse
from haechi.domains.packages.dockerfile_lines import (
    Instruction,
    directives,
    instructions,
    possible_syntax,
)

_VARIABLE: Final = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")
LEFT_OUT: Final = "# syntax line left out by haechi"
MAX_WORD: Final = 1024
"""No image has a longer name; ARGs that double in each line would fill the memory."""


@dataclass(frozen=True, slots=True)
class Rewritten:
    text: str
    bases: list[BaseUse]
    """Every outside image it names, in order, without repeats."""
    heredocs: bool
    """Uses heredocs, which older BuildKits only know through a fetched frontend."""
    syntax: str = ""
    """The frontend image that was left out."""


def platform_arguments(build_platform: str, target_platform: str) -> dict[str, str]:
    """The ARGs that BuildKit predefines for FROM lines."""
    arguments: dict[str, str] = {}
    for prefix, platform in (("BUILD", build_platform), ("TARGET", target_platform)):
        os_name, _, rest = platform.partition("/")
        arch, _, variant = rest.partition("/")
        arguments |= {
            f"{prefix}PLATFORM": platform,
            f"{prefix}OS": os_name,
            f"{prefix}ARCH": arch,
            f"{prefix}VARIANT": variant,
        }
    return arguments


def rewrite(
    text: str,
    *,
    base_map: Mapping[str, str],
    build_platform: str,
    target_platform: str,
    build_args: Mapping[str, str] | None = None,
) -> Rewritten:
    """Apply the operator's map (source → target) to every image the Dockerfile names.

    Raises BadDockerfile where it has no stage or an image cannot be known before building.
    """
    lines = text.removeprefix("\ufeff").split("\n")
    escape = directives(lines).escape
    syntax = _leave_out_syntax(lines)
    work = _Rewriting(
        lines=lines,
        known={normalise(source): target for source, target in base_map.items()},
        given=dict(build_args or {}),
        arguments=platform_arguments(build_platform, target_platform),
        target_platform=target_platform,
    )
    heredocs = False
    for part in instructions(lines, escape):
        if part.unended:
            problem = f"the heredoc '{part.unended[:60]}' has no end"
            raise BadDockerfile(line=part.line, problem=problem)
        heredocs = heredocs or bool(part.heredocs)
        work.take(part)
    if work.stages == 0:
        raise BadDockerfile(line=1, problem="there is no FROM line")
    return Rewritten("\n".join(lines), list(work.bases.values()), heredocs, syntax)


@dataclass(slots=True)
class _Rewriting:
    lines: list[str]
    known: dict[str, str]
    given: dict[str, str]
    arguments: dict[str, str]
    target_platform: str
    bases: dict[tuple[str, str], BaseUse] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    stages: int = 0

    def take(self, part: Instruction) -> None:
        if part.name == "ARG" and self.stages == 0:
            self._declare(part.rest.split())
        elif part.name == "FROM":
            self._from(part)
        elif part.name in {"COPY", "ADD", "RUN"}:
            for key, word in _references(part):
                target = self._use(word, part.line, self.target_platform)
                if target is not None:
                    _exchange(self.lines, part, f"{key}={word}", f"{key}={target}")

    def _declare(self, words: list[str]) -> None:
        """ARG before the first FROM: a value given to the build wins over the default."""
        for word in words:
            name, equals, default = word.partition("=")
            if name in self.given:
                self.arguments[name] = self.given[name]
            elif equals:
                with contextlib.suppress(EndlessWord):  # it names no image then
                    self.arguments[name] = expand(default.strip("\"'"), self.arguments)

    def _from(self, part: Instruction) -> None:
        flags, words = _flags(part.rest.split())
        if not words:
            raise BadDockerfile(line=part.line, problem="FROM names no image")
        line = part.line
        platform = self._expanded(flags.get("platform", ""), line) or self.target_platform
        target = self._use(words[0], line, platform)
        if target is not None:
            _exchange(self.lines, part, words[0], target)
        if len(words) == 3 and words[1].upper() == "AS":
            self.names.add(words[2].lower())
        self.stages += 1

    def _use(self, word: str, line: int, platform: str) -> str | None:
        """Note an outside image; returns what the word must become, None: stays as it is."""
        resolved = self._expanded(word.strip("\"'"), line)
        if not resolved:
            raise BadDockerfile(line=line, problem=f"'{word}' is empty: an ARG has no value")
        lower = resolved.lower()
        if lower == "scratch" or lower in self.names:
            return None
        if lower.isdecimal() and int(lower) < self.stages:
            return None
        target = self.known.get(normalise(resolved))
        used = BaseUse(source=resolved, used=target or resolved, platform=platform, line=line)
        self.bases.setdefault((resolved, platform), used)
        return target

    def _expanded(self, word: str, line: int) -> str:
        try:
            return expand(word, self.arguments)
        except EndlessWord as error:
            problem = f"'{word[:60]}' becomes longer than {MAX_WORD} characters"
            raise BadDockerfile(line=line, problem=problem) from error


class EndlessWord(ValueError):
    """A word that is, or becomes, longer than MAX_WORD."""


def expand(word: str, arguments: Mapping[str, str]) -> str:
    """`$A`, `${A}`, `${A:-default}`, `${A:+other}`, nested, as BuildKit does in FROM and ARG.

    Raises EndlessWord.
    """
    out, at = "", 0
    while at < len(word):
        if max(len(word), len(out)) > MAX_WORD:
            raise EndlessWord
        if word.startswith("\\$", at):
            out, at = out + "$", at + 2
        elif word.startswith("${", at):
            end = _closing(word, at + 2)
            out, at = out + _value(word[at + 2 : end], arguments), end + 1
        elif found := _VARIABLE.match(word, at):
            out, at = out + arguments.get(found.group(1), ""), found.end()
        else:
            out, at = out + word[at], at + 1
    if len(out) > MAX_WORD:
        raise EndlessWord
    return out


def _closing(word: str, at: int) -> int:
    """Index of the brace that ends what began before `at`; the end of the word without one."""
    depth = 1
    for index in range(at, len(word)):
        if word.startswith("${", index):
            depth += 1
        elif word[index] == "}":
            depth -= 1
            if depth == 0:
                return index
    return len(word)


def _value(inside: str, arguments: Mapping[str, str]) -> str:
    name, colon, rest = inside.partition(":")
    found = arguments.get(name, "")
    if not colon or not rest:
        return found
    other = rest[1:]
    if rest[0] == "+":
        return expand(other, arguments) if found else ""
    return found or (expand(other, arguments) if rest[0] == "-" else "")


def _leave_out_syntax(lines: list[str]) -> str:
    """Blanks `syntax` directives out, in all of BuildKit's forms; returns the first one's image."""
    for index, line in enumerate(lines):
        if line.lstrip().startswith("{"):
            raise BadDockerfile(line=index + 1, problem="this is JSON, not a Dockerfile")
        if line.strip() and not line.lstrip().startswith(("#", "//")):
            break
    found = list(possible_syntax(lines))
    for index, _ in found:
        lines[index] = LEFT_OUT
    return found[0][1] if found else ""


def _flags(words: list[str]) -> tuple[dict[str, str], list[str]]:
    flags: dict[str, str] = {}
    for index, word in enumerate(words):
        if not word.startswith("--"):
            return flags, words[index:]
        key, _, value = word[2:].partition("=")
        flags[key.lower()] = value
    return flags, []


def _references(part: Instruction) -> Iterator[tuple[str, str]]:
    """(`key`, word) of each `--from=word` and of `from=word` in each `--mount`."""
    for word in part.rest.split():
        if not word.startswith("--"):
            return
        key, _, value = word.partition("=")
        if key == "--from" and value:
            yield key, value
        elif key == "--mount":
            for option in value.split(","):
                name, _, source = option.partition("=")
                if name.lower() == "from" and source:
                    yield name, source


def _exchange(lines: list[str], part: Instruction, old: str, new: str) -> None:
    """Put `new` for the first whole word `old` among the instruction's own lines."""
    pattern = re.compile(rf"(?<![\w./:@$}}-]){re.escape(old)}(?![\w./:@-])")
    if old.startswith("--"):
        pattern = re.compile(rf"(?<!\S){re.escape(old)}(?!\S)")
    for index in range(part.first, part.head_last + 1):
        if lines[index].lstrip().startswith("#"):
            continue
        start = 0
        if index == part.first:
            start = len(lines[index]) - len(lines[index].lstrip()) + len(part.name)
        head, tail = lines[index][:start], lines[index][start:]
        changed, count = pattern.subn(lambda _: new, tail, count=1)
        if count:
            lines[index] = head + changed
            return
    problem = f"'{old[:60]}' goes over two lines, so that it cannot be exchanged: write it on one"
    raise BadDockerfile(line=part.line, problem=problem)
