"""Why a stream does not play, told from what the relay or PyAV said. Pure.

The texts are other programs' and change with their versions: whatever is not recognised is
`unreachable` with its words as detail, addresses and credentials removed.
"""

import re
from typing import Final, NamedTuple

from haechi.protocol.media import StreamError

_PATTERNS: Final[tuple[tuple[StreamError, re.Pattern[str]], ...]] = (
    (
        "wrong_password",
        re.compile(
            r"user/pass|\b401\b|unauthori[sz]ed|\b403\b|forbidden|authorization", re.IGNORECASE
        ),
    ),
    (
        "no_video",
        re.compile(r"codecs not matched|no video|invalid data|no streams|\b415\b", re.IGNORECASE),
    ),
    (
        "not_found",
        re.compile(r"\b404\b|\b454\b|not found|wrong response on (DESCRIBE|SETUP)", re.IGNORECASE),
    ),
)
_CREDENTIALS: Final = re.compile(r"(?<=://)[^/@\s]*@")
_URL: Final = re.compile(r"\b[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)
_DETAIL_LIMIT: Final = 200


class Fault(NamedTuple):
    error: StreamError
    detail: str


NO_FAULT: Final = Fault("", "")


def masked(text: str) -> str:
    """A log line or message of another program, without what stands before an `@` in a URL."""
    return _CREDENTIALS.sub("***@", text)


def fault_of(text: str) -> Fault:
    """Classify an error text; the detail names no address, for it is shown to every viewer."""
    detail = _URL.sub("", text).strip(" '\":\n")[:_DETAIL_LIMIT]
    for error, pattern in _PATTERNS:
        if pattern.search(detail):
            return Fault(error, detail)
    return Fault("unreachable", detail)
