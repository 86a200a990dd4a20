"""Names of packages and versions: what people write, and what registries and engines accept."""

import hashlib
import re
import unicodedata
from typing import Final

from haechi.domains.packages.problems import BadName, BadVersion

MAX_LABEL: Final = 63
MAX_NAME: Final = 128
_VERSION: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
_NOT_LABEL: Final = re.compile(r"[^a-z0-9]+")


def version(text: str) -> str:
    """Unchanged; raises BadVersion where it cannot be an image tag."""
    if not _VERSION.match(text):
        raise BadVersion(version=printable(text))
    return text


def original(text: str) -> str:
    """The name as a person wrote it, NFC; raises BadName."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadName(name=printable(text)) from error
    text = unicodedata.normalize("NFC", text).strip()
    bad = any(unicodedata.category(char) in {"Cc", "Cf"} or char in "/\\" for char in text)
    if bad or not 1 <= len(text) <= MAX_NAME or text in {".", ".."}:
        raise BadName(name=printable(text))
    return text


def from_file_name(file_name: str) -> str:
    """`person-detector.zip` → `person-detector`; raises BadName where it is a path."""
    stem = file_name[:-4] if file_name.lower().endswith(".zip") else file_name
    return original(stem)


def label(name: str) -> str:
    """A DNS label: lower case, `_` and others to `-`. Where nothing is left (Korean), a stable
    generated one; where it is too long, shortened with a hash.
    """
    digest = hashlib.sha256(unicodedata.normalize("NFC", name).encode()).hexdigest()
    folded = unicodedata.normalize("NFKD", name).lower()
    ascii_only = "".join(char for char in folded if not unicodedata.combining(char))
    text = _NOT_LABEL.sub("-", ascii_only).strip("-")
    if not text:
        return f"pkg-{digest[:10]}"
    if len(text) > MAX_LABEL:
        return f"{text[: MAX_LABEL - 9].rstrip('-')}-{digest[:8]}"
    return text


def printable(text: str) -> str:
    """For error messages: short, no control characters, valid Unicode."""
    clean = "".join(char if char.isprintable() else "?" for char in text[:120])
    return clean.encode("utf-8", "replace").decode()
