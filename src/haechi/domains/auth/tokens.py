"""API tokens: for programs that act for a user."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from haechi.core import ids
from haechi.core.access import Principal, Role
from haechi.core.clock import Clock
from haechi.core.db import Database
from haechi.core.pages import Page, decode_cursor, page_of
from haechi.core.secrets import Secret, token_digest
from haechi.domains.audit.service import Audit
from haechi.domains.auth.authenticator import Authenticator
from haechi.domains.auth.errors import NeedsSession, TokenNotFound, TokenRoleTooHigh
from haechi.domains.auth.model import TOKEN_PREFIX, ApiToken
from haechi.domains.auth.sessions import user_id_of
from haechi.domains.auth.store import ApiTokenRow, UserRow, to_token
from haechi.errors import BadRequest


class ApiTokens:
    def __init__(
        self, *, db: Database, clock: Clock, audit: Audit, authenticator: Authenticator
    ) -> None:
        self._db = db
        self._clock = clock
        self._audit = audit
        self._authenticator = authenticator

    async def create_token(
        self, by: Principal, *, name: str, role: Role | None, expires_at: datetime | None
    ) -> tuple[ApiToken, Secret]:
        """The secret is shown this once. `role` None: the creator's own."""
        if by.kind != "user" or by.role is None:
            raise NeedsSession
        role = by.role if role is None else role
        if role > by.role:
            raise TokenRoleTooHigh(role=role.name.lower(), own=by.role.name.lower())
        now = self._clock.now()
        if expires_at is not None and expires_at <= now:
            raise BadRequest(reason="expires_at")
        secret = Secret(TOKEN_PREFIX + ids.new_secret())
        row = ApiTokenRow(
            id=ids.new_id("token"),
            digest=token_digest(secret.reveal()),
            user_id=by.id,
            name=name,
            role=int(role),
            created_at=now,
            expires_at=expires_at,
            last_used_at=None,
        )
        async with self._db.write() as tx:
            tx.add(row)
            await tx.flush()
            details = {"name": name, "role": role.name.lower(), "expires_at": expires_at}
            await self._audit.record(tx, by, "create_token", row.id, details)
        return to_token(row, by.name), secret

    async def list_tokens(
        self, by: Principal, *, limit: int, cursor: str | None = None, everyone: bool = False
    ) -> Page[ApiToken]:
        """The caller's own, or everyone's for an admin; by id."""
        query = (
            sa.select(ApiTokenRow, UserRow.name)
            .join(UserRow, UserRow.id == ApiTokenRow.user_id)
            .order_by(ApiTokenRow.id)
        )
        if not (everyone and by.role is Role.ADMIN):
            query = query.where(ApiTokenRow.user_id == user_id_of(by))
        after = decode_cursor(cursor, 1)
        if after:
            query = query.where(ApiTokenRow.id > str(after[0]))
        async with self._db.read() as tx:
            rows = (await tx.execute(query.limit(limit + 1))).all()
        return page_of([to_token(row, name) for row, name in rows], limit, lambda t: (t.id,))

    async def delete_token(self, by: Principal, token_id: str) -> None:
        """One's own; an admin anybody's. Whose it is otherwise, is not told."""
        async with self._db.write() as tx:
            row = await _get(tx, token_id)
            if by.role is not Role.ADMIN and row.user_id != user_id_of(by):
                raise TokenNotFound(id=token_id)
            await tx.execute(sa.delete(ApiTokenRow).where(ApiTokenRow.id == token_id))
            await self._audit.record(tx, by, "delete_token", token_id, {"name": row.name})
            self._authenticator.forget_after(tx)


async def _get(tx: AsyncSession, token_id: str) -> ApiTokenRow:
    row = await tx.get(ApiTokenRow, token_id)
    if row is None:
        raise TokenNotFound(id=token_id)
    return row
