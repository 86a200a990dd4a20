"""Reads a Dockerfile as far as haechi must understand it: which images it needs, what it copies,
whether it would fetch a frontend. Pure; it never refuses what BuildKit would accept.
"""

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from haechi.domains.packages.dockerfile_lines import Instruction, directives, instructions

INSTRUCTIONS: Final = frozenset(
    {
        *("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK"),
        *("LABEL", "MAINTAINER", "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME"),
        "WORKDIR",
    }
)
_FLAG: Final = re.compile(r"^--([a-z][a-z-]*)(?:=(\S*))?(?:\s+|$)")
_VARIABLE: Final = re.compile(
    r"\\(?P<escaped>\$)|\$(?:(?P<plain>[A-Za-z_]\w*)|\{(?P<name>[A-Za-z_]\w*)"
    r"(?:(?P<op>:?[-+?])(?P<word>[^}]*))?\}|(?P<other>\{[^}]*\}))"
)

MAX_EXPANDED: Final = 1024
"""Variables in longer texts, or that make a text longer, are left as they are: no image or path is
so long, and values that double in each line would fill the memory."""


@dataclass(frozen=True, slots=True)
class ImageUse:
    """An image that does not come from this Dockerfile."""

    reference: str
    """As it would be pulled; where `resolved` is false it still holds variables."""
    kind: Literal["from", "copy", "mount"]
    line: int
    resolved: bool


@dataclass(frozen=True, slots=True)
class Copy:
    """Sources that must be in the build context; patterns and unresolved ones left out."""

    sources: list[str]
    line: int


@dataclass(frozen=True, slots=True)
class Fault:
    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Dockerfile:
    images: list[ImageUse] = field(default_factory=list)
    stages: list[str] = field(default_factory=list)
    """Names, `` where a stage has none."""
    copies: list[Copy] = field(default_factory=list)
    exposes: list[str] = field(default_factory=list)
    syntax: str | None = None
    """The frontend image that `# syntax=` would have BuildKit fetch."""
    has_command: bool = False
    faults: list[Fault] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {
            "images": [
                {"reference": i.reference, "kind": i.kind, "line": i.line, "resolved": i.resolved}
                for i in self.images
            ],
            "stages": self.stages,
            "exposes": self.exposes,
            "syntax": self.syntax,
            "has_command": self.has_command,
        }


def decode(content: bytes) -> str:
    """UTF-8, else cp949; a byte order mark and DOS line ends are no content."""
    for encoding in ("utf-8-sig", "cp949"):
        try:
            return content.decode(encoding).replace("\r\n", "\n")
        except UnicodeDecodeError:
            continue
    return content.decode("utf-8", "replace").replace("\r\n", "\n")


def parse(text: str, build_args: Mapping[str, str] | None = None) -> Dockerfile:
    lines = text.split("\n")
    said = directives(lines)
    reader = _Reader(build_args or {})
    for instruction in instructions(lines, said.escape):
        reader.take(instruction)
    if not reader.stages:
        reader.faults.append(Fault(1, "FROM is missing"))
    return Dockerfile(
        images=reader.images,
        stages=reader.stages,
        copies=reader.copies,
        exposes=reader.exposes,
        syntax=said.syntax,
        has_command=reader.has_command,
        faults=reader.faults,
    )


def expand(text: str, variables: Mapping[str, str]) -> tuple[str, bool]:
    """Variables replaced; False where one has no known value, or it grows beyond MAX_EXPANDED."""
    if "$" not in text:
        return text, True
    if len(text) > MAX_EXPANDED:
        return text, False
    resolved = True

    def value(match: re.Match[str]) -> str:
        nonlocal resolved
        if match["escaped"]:
            return "$"
        name = match["plain"] or match["name"]
        if name is None:
            resolved = False
            return match[0]
        known = variables.get(name)
        operator, word = match["op"] or "", match["word"] or ""
        is_set = known is not None and (known != "" or not operator.startswith(":"))
        if operator.endswith("-") and not is_set:
            inner, fine = expand(word, variables)
            resolved = resolved and fine
            return inner
        if operator.endswith("+"):
            return word if is_set else ""
        if known is None:
            resolved = False
            return match[0]
        return known

    expanded = _VARIABLE.sub(value, text)
    return (expanded, resolved) if len(expanded) <= MAX_EXPANDED else (text, False)


class _Reader:
    def __init__(self, build_args: Mapping[str, str]) -> None:
        self._build_args = build_args
        self._global: dict[str, str] = {}
        self._local: dict[str, str] = {}
        self.images: list[ImageUse] = []
        self.stages: list[str] = []
        self.copies: list[Copy] = []
        self.exposes: list[str] = []
        self.faults: list[Fault] = []
        self.has_command = False

    def take(self, instruction: Instruction) -> None:
        word = instruction.name
        if instruction.unended:
            reason = f"the heredoc {instruction.unended[:40]} has no end"
            self.faults.append(Fault(instruction.line, reason))
        if word not in INSTRUCTIONS:
            self.faults.append(Fault(instruction.line, f"unknown instruction {word[:40]}"))
        elif word == "FROM":
            self._from(instruction)
        elif word == "ARG":
            self._arg(instruction)
        elif not self.stages:
            self.faults.append(Fault(instruction.line, f"{word} before the first FROM"))
        elif word == "ENV":
            self._env(instruction)
        elif word in {"COPY", "ADD"}:
            self._copy(instruction)
        elif word == "RUN":
            self._run(instruction)
        elif word == "EXPOSE":
            self.exposes += expand(instruction.rest, self._local)[0].split()
        elif word in {"CMD", "ENTRYPOINT"}:
            self.has_command = True

    def _use(self, reference: str, kind: Literal["from", "copy", "mount"], line: int) -> None:
        scope = self._global if kind == "from" else {**self._global, **self._local}
        expanded, resolved = expand(reference, scope)
        lowered = expanded.lower()
        known_stages = {name for name in self.stages if name}
        if lowered == "scratch" or lowered in known_stages:
            return
        if kind != "from" and expanded.isdigit():
            return
        if not expanded:
            self.faults.append(Fault(line, "empty image name"))
            return
        self.images.append(ImageUse(expanded, kind, line, resolved))

    def _from(self, instruction: Instruction) -> None:
        _, rest = _flags(instruction.rest)
        words = rest.split()
        if len(words) not in {1, 3} or (len(words) == 3 and words[1].upper() != "AS"):
            self.faults.append(Fault(instruction.line, "FROM <image> [AS <name>]"))
            self.stages.append("")
            return
        self._use(words[0].strip("\"'"), "from", instruction.line)
        self.stages.append(words[2].lower() if len(words) == 3 else "")
        self._local = {}
        self.has_command = False

    def _arg(self, instruction: Instruction) -> None:
        for item in _words(instruction.rest):
            name, equals, default = item.partition("=")
            if name in self._build_args:
                value: str | None = self._build_args[name]
            elif equals:
                value, fine = expand(default, {**self._global, **self._local})
                value = value if fine else None
            else:
                value = self._global.get(name) if self.stages else None
            scope = self._local if self.stages else self._global
            if value is not None:
                scope[name] = value

    def _env(self, instruction: Instruction) -> None:
        words = _words(instruction.rest)
        if words and "=" not in words[0]:
            name, _, value = instruction.rest.partition(" ")
            words = [f"{name}={value.strip()}"]
        before = dict(self._local)  # one ENV sees only what stood before it
        for item in words:
            name, equals, value = item.partition("=")
            expanded, fine = expand(value, before)
            if equals and fine:
                self._local[name] = expanded
            else:
                self._local.pop(name, None)

    def _copy(self, instruction: Instruction) -> None:
        flags, rest = _flags(instruction.rest)
        source_image = dict(flags).get("from")
        if source_image is not None:
            self._use(source_image.strip("\"'"), "copy", instruction.line)
            return
        words = _exec_form(rest) or _words(rest)
        heredocs = {text.replace("'", "").replace('"', "") for text in instruction.heredocs}
        sources = []
        for word in words[:-1]:
            if word in heredocs or word.startswith("<<"):
                continue
            expanded, resolved = expand(word, self._local)
            if resolved and not re.match(r"(?i)^([a-z][a-z0-9+.-]*://|git@)", expanded):
                sources.append(expanded)
        if len(words) < 2:
            self.faults.append(
                Fault(instruction.line, f"{instruction.name} <source>… <destination>")
            )
        elif sources:
            self.copies.append(Copy(sources, instruction.line))

    def _run(self, instruction: Instruction) -> None:
        flags, _ = _flags(instruction.rest)
        for name, value in flags:
            if name != "mount":
                continue
            options = dict(item.partition("=")[::2] for item in value.split(","))
            if options.get("from"):
                self._use(options["from"].strip("\"'"), "mount", instruction.line)


def _flags(rest: str) -> tuple[list[tuple[str, str]], str]:
    flags = []
    while match := _FLAG.match(rest):
        flags.append((match[1], match[2] or ""))
        rest = rest[match.end() :]
    return flags, rest


def _words(rest: str) -> list[str]:
    try:
        return shlex.split(rest, comments=False)
    except ValueError:
        return rest.split()


def _exec_form(rest: str) -> list[str] | None:
    if not rest.startswith("["):
        return None
    try:
        words = json.loads(rest)
    except (ValueError, RecursionError):
        return None
    return [str(word) for word in words] if isinstance(words, list) else None
