"""Signing in and out, and what a signed-in user may change about himself."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from haechi.core import ids
from haechi.core.access import Principal
from haechi.core.clock import Clock
from haechi.core.db import Database
from haechi.core.secrets import Secret, token_digest
from haechi.domains.audit.service import Audit
from haechi.domains.auth.authenticator import Authenticator
from haechi.domains.auth.errors import (
    NeedsSession,
    WeakPassword,
    WrongCredentials,
    WrongCurrentPassword,
)
from haechi.domains.auth.model import SESSION_PREFIX, LogIn, User, name_key
from haechi.domains.auth.passwords import Passwords, check_password
from haechi.domains.auth.store import SessionRow, UserRow, to_user
from haechi.domains.auth.throttle import Throttle
from haechi.domains.auth.users import Users, get_row
from haechi.errors import Language

_MAX_INPUT: Final = 1024


@dataclass(frozen=True, slots=True)
class _Found:
    user_id: str
    name: str
    password_hash: str
    disabled: bool


class Sessions:
    def __init__(
        self,
        *,
        db: Database,
        clock: Clock,
        audit: Audit,
        authenticator: Authenticator,
        users: Users,
        passwords: Passwords,
        throttle: Throttle,
        session_hours: float,
    ) -> None:
        self._db = db
        self._clock = clock
        self._audit = audit
        self._authenticator = authenticator
        self._users = users
        self._passwords = passwords
        self._throttle = throttle
        self._life = timedelta(hours=session_hours)

    async def log_in(
        self, *, name: str, password: Secret, address: str, previous: Secret | None = None
    ) -> LogIn:
        """A fresh session, whatever the caller held before; `previous` is ended with it.

        Raises WrongCredentials or TooManyLogIns. An unknown name takes as long as a known one.
        """
        key = name_key(name[:_MAX_INPUT])
        self._throttle.begin(key, address)
        found = await self._find(key)
        stored = found.password_hash if found is not None and not found.disabled else None
        good = len(password.reveal()) <= _MAX_INPUT and await self._passwords.verify(
            stored, password
        )
        if found is None or not good:
            # The name as typed may be a password in the wrong field: only known ones are kept.
            await self._record_failure(found, address)
            raise WrongCredentials
        self._throttle.succeeded(key, address)
        renewed = None
        if self._passwords.is_outdated(found.password_hash):
            renewed = await self._passwords.hash(password)
        async with self._db.write() as tx:
            row = await tx.get(UserRow, found.user_id)
            if row is None or row.disabled or row.password_hash != found.password_hash:
                raise WrongCredentials
            if renewed is not None:
                row.password_hash = renewed
            row.last_login_at = self._clock.now()
            if previous is not None:
                await self._end(tx, previous)
            secret = await self._begin(tx, row.id)
            by = Principal(kind="user", id=row.id, name=row.name)
            await self._audit.record(tx, by, "log_in", row.id, {"address": address})
            return LogIn(user=to_user(row), secret=secret)

    async def log_out(self, by: Principal, secret: Secret) -> None:
        async with self._db.write() as tx:
            await self._end(tx, secret)
            await self._audit.record(tx, by, "log_out", by.id)

    async def me(self, by: Principal) -> User:
        """The user behind a session or an API token."""
        return await self._users.get_user(user_id_of(by))

    async def set_language(self, by: Principal, language: Language) -> User:
        async with self._db.write() as tx:
            row = await get_row(tx, user_id_of(by))
            row.language = language
            row.revision += 1
            self._authenticator.forget_after(tx)
            return to_user(row)

    async def change_password(
        self, by: Principal, *, current: Secret, new: Secret, address: str
    ) -> LogIn:
        """Ends every session of the user and begins a new one for the caller."""
        if by.kind != "user":
            raise NeedsSession
        self._throttle.begin(name_key(by.name), address)
        async with self._db.read() as tx:
            stored = (await get_row(tx, by.id)).password_hash
        if not await self._passwords.verify(stored, current):
            raise WrongCurrentPassword
        self._throttle.succeeded(name_key(by.name), address)
        check_password(by.name, new)
        if new == current:
            raise WeakPassword(reason="the same as before", reason_ko="이전과 같습니다")
        hashed = await self._passwords.hash(new)
        async with self._db.write() as tx:
            row = await get_row(tx, by.id)
            if row.password_hash != stored or row.disabled:
                raise WrongCurrentPassword
            row.must_change_password = False
            row.revision += 1
            await self._users.set_password(tx, row, hashed)
            secret = await self._begin(tx, row.id)
            await self._audit.record(tx, by, "change_password", row.id)
            return LogIn(user=to_user(row), secret=secret)

    async def forget_expired(self) -> None:
        """Housekeeping: rows of sessions that have ended by themselves."""
        async with self._db.write() as tx:
            await tx.execute(sa.delete(SessionRow).where(SessionRow.expires_at < self._clock.now()))

    async def _find(self, key: str) -> _Found | None:
        async with self._db.read() as tx:
            row = await tx.scalar(sa.select(UserRow).where(UserRow.name_key == key))
        if row is None:
            return None
        return _Found(row.id, row.name, row.password_hash, row.disabled)

    async def _record_failure(self, found: _Found | None, address: str) -> None:
        by = Principal(kind="system", id="anonymous", name=address)
        subject = found.user_id if found is not None else "unknown"
        details = {"name": found.name} if found is not None else {}
        async with self._db.write() as tx:
            await self._audit.record(tx, by, "refuse_log_in", subject, details)

    async def _begin(self, tx: AsyncSession, user_id: str) -> Secret:
        now = self._clock.now()
        secret = Secret(SESSION_PREFIX + ids.new_secret())
        tx.add(
            SessionRow(
                digest=token_digest(secret.reveal()),
                user_id=user_id,
                created_at=now,
                last_used_at=now,
                expires_at=now + self._life,
            )
        )
        await tx.flush()
        return secret

    async def _end(self, tx: AsyncSession, secret: Secret) -> None:
        await tx.execute(
            sa.delete(SessionRow).where(SessionRow.digest == token_digest(secret.reveal()))
        )
        self._authenticator.forget_after(tx)


def user_id_of(by: Principal) -> str:
    """The user behind a session or an API token. Raises NeedsSession for machines."""
    if by.kind == "user":
        return by.id
    if by.kind == "token":
        return by.facts["user_id"]
    raise NeedsSession
