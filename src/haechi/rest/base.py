"""Base models and dependencies of REST routes (CONTRACTS 1).

`…In` models are strict and refuse unknown fields. Use Literal rather than Enum in them: a strict
model takes an Enum's instance only. `…Out` models are built from domain types with
`model_validate(x, from_attributes=True)` or by name.
"""

import hashlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, Generic, Literal, TypeVar

from fastapi import Depends, Query, Request, Response
from fastapi.responses import PlainTextResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, PlainSerializer

from haechi.core.access import NotSignedIn, Principal
from haechi.core.clock import to_text
from haechi.core.operations import Operation
from haechi.core.pages import DEFAULT_LIMIT, MAX_LIMIT
from haechi.errors import EditNeedsETag, Language, StaleEdit

T = TypeVar("T")
_PIECE_BYTES: Final = 64 * 1024

UtcTime = Annotated[
    datetime, PlainSerializer(to_text, return_type=str, when_used="json-unless-none")
]


class In(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", use_attribute_docstrings=True)


class Out(BaseModel):
    model_config = ConfigDict(from_attributes=True, use_attribute_docstrings=True)


class PageOut(Out, Generic[T]):
    items: list[T]
    next_cursor: str | None


class AcceptedOut(Out):
    """202: the work goes on as an operation; `Location` names it too."""

    operation_id: str


class PageQuery:
    def __init__(
        self,
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
        cursor: Annotated[str | None, Query(max_length=400)] = None,
    ) -> None:
        self.limit = limit
        self.cursor = cursor


def caller(request: Request) -> Principal:
    """The authenticated principal; the web layer has checked the route's access before."""
    principal = getattr(request.state, "principal", None)
    if not isinstance(principal, Principal):
        raise NotSignedIn
    return principal


def language(request: Request) -> Language:
    """The user's own setting first, then Accept-Language, then the server's default."""
    principal = getattr(request.state, "principal", None)
    if isinstance(principal, Principal) and principal.language:
        return principal.language
    for part in request.headers.get("accept-language", "").split(","):
        tag = part.partition(";")[0].strip().lower()
        if tag.startswith("ko"):
            return "ko"
        if tag.startswith("en"):
            return "en"
    default: Literal["ko", "en"] = getattr(request.app.state, "language", "ko")
    return default


Caller = Annotated[Principal, Depends(caller)]
Lang = Annotated[Language, Depends(language)]


def etag_of(*parts: object) -> str:
    """A strong ETag from whatever changes when the thing changes (its id and revision)."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()
    return f'"{digest[:20]}"'


def check_etag(request: Request, etag: str) -> None:
    """Edits need If-Match: 428 without, 412 where it is stale."""
    given = request.headers.get("if-match")
    if given is None:
        raise EditNeedsETag
    if given.strip() != "*" and etag not in [tag.strip() for tag in given.split(",")]:
        raise StaleEdit


def accepted(response: Response, operation: Operation) -> AcceptedOut:
    response.status_code = 202
    response.headers["Location"] = f"/api/v1/operations/{operation.id}"
    return AcceptedOut(operation_id=operation.id)


def text_so_far(path: Path) -> Response:
    """A log that may still be written to: sent without a length, which would be wrong by then."""

    def pieces() -> Iterator[bytes]:
        with path.open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                yield piece

    if not path.exists():
        return PlainTextResponse("")
    return StreamingResponse(pieces(), media_type="text/plain; charset=utf-8")
