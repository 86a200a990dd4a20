"""Who is calling and what a route demands.

Every HTTP route carries a marker (`requires(...)` or `PUBLIC`); the web layer refuses a route
without one. This module knows no web framework, so domains can declare access without importing
it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final, Literal, TypeVar

from haechi.errors import Forbidden, Language, Text, Unauthorized

PrincipalKind = Literal["user", "token", "device", "deployment", "system"]


class Role(IntEnum):
    """Ordered: each role may do all that the ones below it may."""

    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3


@dataclass(frozen=True, slots=True)
class Principal:
    """The authenticated caller. `device_id`, `deployment_id`… come from the credential alone."""

    kind: PrincipalKind
    id: str
    name: str
    role: Role | None = None
    language: Language | None = None
    device_id: str | None = None
    deployment_id: str | None = None
    facts: dict[str, str] = field(default_factory=dict)


SYSTEM: Final = Principal(kind="system", id="system", name="haechi", role=Role.ADMIN)


@dataclass(frozen=True, slots=True)
class Access:
    """What a route demands: a role, and/or kinds of machine callers; `public` demands nothing."""

    role: Role | None = None
    kinds: frozenset[PrincipalKind] = frozenset()
    public: bool = False

    def check(self, principal: Principal | None) -> None:
        """Raises NotSignedIn or NotAllowed."""
        if self.public:
            return
        if principal is None:
            raise NotSignedIn
        if principal.kind in self.kinds:
            return
        if self.role is not None and principal.role is not None and principal.role >= self.role:
            return
        needed = self.role.name.lower() if self.role else "/".join(sorted(self.kinds))
        raise NotAllowed(needed=needed)

    def describe(self) -> str:
        if self.public:
            return "public"
        return "|".join([*([self.role.name.lower()] if self.role else []), *sorted(self.kinds)])


class NotSignedIn(Unauthorized):
    code = "auth.not_signed_in"
    detail = Text("로그인이 필요합니다.", "You are not signed in.")
    remedy = Text(
        "로그인하거나 유효한 토큰을 Authorization 헤더로 보내세요.",
        "Sign in, or send a valid token in the Authorization header.",
    )


class NotAllowed(Forbidden):
    code = "auth.not_allowed"
    detail = Text("이 작업에는 '{needed}' 권한이 필요합니다.", "This needs the role '{needed}'.")
    remedy = Text("관리자에게 권한을 요청하세요.", "Ask an administrator for the role.")


F = TypeVar("F", bound=Callable[..., Any])
_MARKER: Final = "__haechi_access__"


def requires(
    role: Role | None = None, *, also: set[PrincipalKind] | None = None
) -> Callable[[F], F]:
    """Mark an endpoint: callable by users and API tokens of at least `role`, and by `also`."""
    return _mark(Access(role=role, kinds=frozenset(also or ())))


def public(endpoint: F) -> F:
    """Mark an endpoint that anybody may call."""
    return _mark(Access(public=True))(endpoint)


def _mark(access: Access) -> Callable[[F], F]:
    def apply(endpoint: F) -> F:
        setattr(endpoint, _MARKER, access)
        return endpoint

    return apply


def access_of(endpoint: object) -> Access | None:
    """The marker of an endpoint, None where it has none (and must therefore be refused)."""
    found = getattr(endpoint, _MARKER, None)
    return found if isinstance(found, Access) else None
