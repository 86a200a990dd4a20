"""What an endpoint of the old interface is: path, fields, reply, codes, and the call it makes.

Everything that is known of an endpoint is declared here once; the application, the reference page
and the OpenAPI document are made from it.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from haechi.core.access import Principal
from haechi.errors import Language, Text
from haechi.interop.codes import reply
from haechi.interop.fields import Field
from haechi.interop.held import Disconnected

Needs = Literal["look", "operate", "report"]
"""`look`: any known caller; `operate`: an operator; `report`: what AIs and devices may send too."""


@dataclass(frozen=True, slots=True)
class Caller:
    """`by` is who the audit log names: the owner of the token, else the address."""

    address: str
    by: Principal
    has_token: bool


@dataclass(slots=True)
class Call:
    caller: Caller
    values: dict[str, Any]
    twice: bool
    language: Language
    disconnected: Disconnected
    body: Mapping[str, Any] = field(default_factory=dict)
    content_type: str = ""
    stream: Callable[[], AsyncIterator[bytes]] | None = None
    """The raw body, where the endpoint reads it itself (multipart)."""

    def get(self, name: str) -> Any:
        return self.values.get(name)


class Answer(NamedTuple):
    """`body`: a dict is JSON, bytes are sent as they are, an iterator is streamed."""

    body: dict[str, Any] | bytes | AsyncIterator[bytes]
    status: int = 200
    content_type: str = "application/json; charset=utf-8"
    headers: Mapping[str, str] = {}


def ok(**more: Any) -> Answer:
    return Answer(reply("0000", **more))


Handler = Callable[[Call], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Of several with one path, the first whose `when` keys meet the body is taken."""

    method: Literal["GET", "POST"]
    path: str
    handler: Handler
    section: str
    text: Text
    fields: tuple[Field, ...] = ()
    reply: tuple[str, ...] = ()
    """Keys that the reply adds."""
    codes: tuple[str, ...] = ()
    """Beside the general ones."""
    needs: Needs = "operate"
    when: tuple[str, ...] = ()
    twice: bool = False
    """A body that was encoded twice is understood."""
    multipart: bool = False
    ignored: tuple[str, ...] = ()
    """Fields that old programs send and nobody reads."""
    long: bool = False

    def takes(self, body: Mapping[str, Any]) -> bool:
        return not self.when or any(body.get(name) not in (None, "") for name in self.when)
