"""REST: /session, /me, /users, /tokens."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import AwareDatetime, BeforeValidator, Field, SecretStr

from haechi.core.access import Principal, Role, public, requires
from haechi.core.clock import from_text
from haechi.core.secrets import Secret
from haechi.domains.auth.errors import NeedsSession
from haechi.domains.auth.model import ApiToken, LogIn, User, UserChange
from haechi.domains.auth.service import Auth
from haechi.errors import Language
from haechi.rest import Caller, In, Out, PageOut, PageQuery, UtcTime, check_etag, etag_of

SESSION_COOKIE = "haechi_session"
RoleName = Literal["viewer", "operator", "admin"]
_Text = Annotated[str, Field(max_length=1024)]
_Password = Annotated[SecretStr, Field(max_length=1024)]
"""Shows as `***` wherever a body is printed."""
_Time = Annotated[
    AwareDatetime, BeforeValidator(lambda v: from_text(v) if isinstance(v, str) else v)
]


class LogInIn(In):
    name: _Text
    password: _Password


class MeOut(Out):
    id: str
    """Of the user, also when an API token calls."""
    name: str
    role: RoleName
    """What the caller may do: a token may have less than its user."""
    language: Language | None
    must_change_password: bool
    kind: Literal["user", "token"]


class MePatchIn(In):
    language: Language


class PasswordIn(In):
    current: _Password
    new: _Password


class UserOut(Out):
    id: str
    name: str
    role: RoleName
    language: Language | None
    must_change_password: bool
    disabled: bool
    created_at: UtcTime
    last_login_at: UtcTime | None


class UserIn(In):
    name: _Text
    password: _Password
    """To be changed by the user at the first log-in."""
    role: RoleName
    language: Language | None = None


class UserPatchIn(In):
    name: _Text | None = None
    password: _Password | None = None
    """Resets it: the user's sessions end, and it must be changed at the next log-in."""
    role: RoleName | None = None
    language: Language | None = None
    disabled: bool | None = None


class TokenIn(In):
    name: Annotated[str, Field(min_length=1, max_length=100)]
    role: RoleName | None = None
    """At most one's own; absent: one's own."""
    expires_at: _Time | None = None


class TokenOut(Out):
    id: str
    name: str
    role: RoleName
    user_id: str
    user_name: str
    created_at: UtcTime
    expires_at: UtcTime | None
    last_used_at: UtcTime | None


class NewTokenOut(TokenOut):
    secret: str
    """Shown this once: keep it."""


def _role_name(role: Role) -> RoleName:
    names: dict[Role, RoleName] = {
        Role.VIEWER: "viewer",
        Role.OPERATOR: "operator",
        Role.ADMIN: "admin",
    }
    return names[role]


def _role(name: RoleName) -> Role:
    return Role[name.upper()]


def _secret(value: SecretStr) -> Secret:
    return Secret(value.get_secret_value())


def _user_out(user: User) -> UserOut:
    return UserOut(
        id=user.id,
        name=user.name,
        role=_role_name(user.role),
        language=user.language,
        must_change_password=user.must_change_password,
        disabled=user.disabled,
        created_at=user.created_at,
        last_login_at=user.last_login_at,
    )


def _of_token(token: ApiToken) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "role": _role_name(token.role),
        "user_id": token.user_id,
        "user_name": token.user_name,
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "last_used_at": token.last_used_at,
    }


def _me_out(user: User, by: Principal | None = None) -> MeOut:
    token_role = by.role if by is not None and by.kind == "token" else None
    return MeOut(
        id=user.id,
        name=user.name,
        role=_role_name(token_role or user.role),
        language=user.language,
        must_change_password=user.must_change_password,
        kind="token" if token_role is not None else "user",
    )


def _etag(user: User) -> str:
    return etag_of(user.id, user.revision)


def session_secret(request: Request) -> Secret | None:
    """Of a command line that sends its session as Bearer, else of the cookie: as `web.security`."""
    authorization = request.headers.get("authorization")
    if authorization is not None:
        scheme, _, value = authorization.partition(" ")
        return Secret(value.strip()) if scheme.lower() == "bearer" and value else None
    cookie = request.cookies.get(SESSION_COOKIE)
    return Secret(cookie) if cookie else None


def _set_cookie(request: Request, response: Response, log_in: LogIn) -> None:
    # A session cookie of the browser: the server decides when it ends, as use makes it slide.
    response.set_cookie(
        SESSION_COOKIE,
        log_in.secret.reveal(),
        path="/",
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    response.headers["Cache-Control"] = "no-store"


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def router(auth: Auth) -> APIRouter:
    api = APIRouter()
    _add_session_routes(api, auth)
    _add_user_routes(api, auth)
    _add_token_routes(api, auth)
    return api


def _add_session_routes(api: APIRouter, auth: Auth) -> None:
    @api.post("/session", tags=["session"])
    @public
    async def log_in(body: LogInIn, request: Request, response: Response) -> MeOut:
        """Sign in: the cookie `haechi_session` is the session."""
        done = await auth.sessions.log_in(
            name=body.name,
            password=_secret(body.password),
            address=_address(request),
            previous=session_secret(request),
        )
        _set_cookie(request, response, done)
        return _me_out(done.user)

    @api.delete("/session", tags=["session"], status_code=204)
    @requires(Role.VIEWER)
    async def log_out(by: Caller, request: Request, response: Response) -> None:
        """Sign out: the session ends on the server too."""
        secret = session_secret(request)
        if by.kind != "user" or secret is None:
            raise NeedsSession
        await auth.sessions.log_out(by, secret)
        response.delete_cookie(SESSION_COOKIE, path="/", httponly=True, samesite="strict")

    @api.get("/me", tags=["session"])
    @requires(Role.VIEWER)
    async def get_me(by: Caller) -> MeOut:
        """Who is calling, and what he may do."""
        return _me_out(await auth.sessions.me(by), by)

    @api.patch("/me", tags=["session"])
    @requires(Role.VIEWER)
    async def edit_me(by: Caller, body: MePatchIn) -> MeOut:
        """Choose the language of texts and errors."""
        return _me_out(await auth.sessions.set_language(by, body.language), by)

    @api.put("/me/password", tags=["session"], status_code=204)
    @requires(Role.VIEWER)
    async def change_password(
        by: Caller, body: PasswordIn, request: Request, response: Response
    ) -> None:
        """Every other session of the user ends; the caller gets a new cookie."""
        done = await auth.sessions.change_password(
            by,
            current=_secret(body.current),
            new=_secret(body.new),
            address=_address(request),
        )
        _set_cookie(request, response, done)


def _add_user_routes(api: APIRouter, auth: Auth) -> None:
    @api.get("/users", tags=["users"])
    @requires(Role.ADMIN)
    async def list_users(page: Annotated[PageQuery, Depends()]) -> PageOut[UserOut]:
        found = await auth.users.list_users(limit=page.limit, cursor=page.cursor)
        return PageOut[UserOut](
            items=[_user_out(user) for user in found.items], next_cursor=found.next_cursor
        )

    @api.post("/users", tags=["users"], status_code=201)
    @requires(Role.ADMIN)
    async def create_user(by: Caller, body: UserIn, response: Response) -> UserOut:
        user = await auth.users.create_user(
            by,
            name=body.name,
            password=_secret(body.password),
            role=_role(body.role),
            language=body.language,
        )
        response.headers["ETag"] = _etag(user)
        response.headers["Location"] = f"/api/v1/users/{user.id}"
        return _user_out(user)

    @api.get("/users/{user_id}", tags=["users"])
    @requires(Role.ADMIN)
    async def get_user(user_id: str, response: Response) -> UserOut:
        user = await auth.users.get_user(user_id)
        response.headers["ETag"] = _etag(user)
        return _user_out(user)

    @api.patch("/users/{user_id}", tags=["users"])
    @requires(Role.ADMIN)
    async def edit_user(
        user_id: str, by: Caller, body: UserPatchIn, request: Request, response: Response
    ) -> UserOut:
        """Name, role, language, reset of the password, disable. The last admin stays one."""
        before = await auth.users.get_user(user_id)
        check_etag(request, _etag(before))
        change = UserChange(
            role=_role(body.role) if body.role else None,
            disabled=body.disabled,
            password=_secret(body.password) if body.password is not None else None,
            name=body.name,
            language=body.language,
        )
        any_revision = request.headers.get("if-match", "").strip() == "*"
        user = await auth.users.edit_user(
            by, user_id, change, revision=None if any_revision else before.revision
        )
        response.headers["ETag"] = _etag(user)
        return _user_out(user)

    @api.delete("/users/{user_id}", tags=["users"], status_code=204)
    @requires(Role.ADMIN)
    async def delete_user(user_id: str, by: Caller) -> None:
        """With all sessions and tokens. The last admin cannot be deleted."""
        await auth.users.delete_user(by, user_id)


def _add_token_routes(api: APIRouter, auth: Auth) -> None:
    @api.get("/tokens", tags=["tokens"])
    @requires(Role.VIEWER)
    async def list_tokens(
        by: Caller,
        page: Annotated[PageQuery, Depends()],
        everyone: Annotated[bool, Query(description="An admin sees all users' tokens")] = False,
    ) -> PageOut[TokenOut]:
        """One's own API tokens."""
        found = await auth.tokens.list_tokens(
            by, limit=page.limit, cursor=page.cursor, everyone=everyone
        )
        items = [TokenOut(**_of_token(token)) for token in found.items]
        return PageOut[TokenOut](items=items, next_cursor=found.next_cursor)

    @api.post("/tokens", tags=["tokens"], status_code=201)
    @requires(Role.VIEWER)
    async def create_token(by: Caller, body: TokenIn, response: Response) -> NewTokenOut:
        """For a program: acts for its user; the secret is in this answer only."""
        token, secret = await auth.tokens.create_token(
            by,
            name=body.name,
            role=_role(body.role) if body.role else None,
            expires_at=body.expires_at,
        )
        response.headers["Location"] = f"/api/v1/tokens/{token.id}"
        response.headers["Cache-Control"] = "no-store"
        return NewTokenOut(**_of_token(token), secret=secret.reveal())

    @api.delete("/tokens/{token_id}", tags=["tokens"], status_code=204)
    @requires(Role.VIEWER)
    async def delete_token(token_id: str, by: Caller) -> None:
        """Works at once, everywhere. One's own; an admin anybody's."""
        await auth.tokens.delete_token(by, token_id)
