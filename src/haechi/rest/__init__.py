"""What the REST faces of all domains share: caller, language, pages, ETags, times, uploads.

Only `domains.*.api`, `web` and `interop` import it; it knows no domain.
"""

from haechi.rest.base import (
    AcceptedOut,
    Caller,
    In,
    Lang,
    Out,
    PageOut,
    PageQuery,
    UtcTime,
    accepted,
    caller,
    check_etag,
    etag_of,
    language,
    text_so_far,
)

__all__ = [
    "AcceptedOut",
    "Caller",
    "In",
    "Lang",
    "Out",
    "PageOut",
    "PageQuery",
    "UtcTime",
    "accepted",
    "caller",
    "check_etag",
    "etag_of",
    "language",
    "text_so_far",
]
