"""Image references: how they are written, normalised and named in the site registry."""

import re
from typing import Final

DEFAULT_HOST: Final = "docker.io"
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_REPOSITORY: Final = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9._-]+)*")
_REFERENCE: Final = re.compile(
    r"(?:[A-Za-z0-9.-]+(?::\d+)?/)?[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)


def is_reference(text: str) -> bool:
    return len(text) <= 300 and _REFERENCE.fullmatch(text) is not None


def is_tag(text: str) -> bool:
    return _TAG.fullmatch(text) is not None


def is_repository(text: str) -> bool:
    return len(text) <= 200 and _REPOSITORY.fullmatch(text) is not None


def normalise(reference: str) -> str:
    """The full name that a short one stands for: `python` → `docker.io/library/python:latest`."""
    name, at, digest = reference.partition("@")
    first, slash, rest = name.partition("/")
    has_host = bool(slash) and ("." in first or ":" in first or first == "localhost")
    host, path = (first, rest) if has_host else (DEFAULT_HOST, name)
    if host in {"index.docker.io", "registry-1.docker.io"}:
        host = DEFAULT_HOST
    if host == DEFAULT_HOST and "/" not in path:
        path = f"library/{path}"
    if ":" not in path.rpartition("/")[2] and not at:
        path += ":latest"
    return f"{host}/{path}{at}{digest}"


def architecture(platform: str) -> str:
    """`linux/arm64/v8` → `arm64`."""
    return [*platform.split("/"), ""][1]


def same_platform(one: str, other: str) -> bool:
    """Whether an image of one runs on the other: equal but for a variant only one of them names."""
    first, second = one.split("/"), other.split("/")
    if first[:2] != second[:2]:
        return False
    implied = "v8" if first[1:2] == ["arm64"] else ""
    return (first[2:] or [implied]) == (second[2:] or [implied])
