"""People and their roles. There is always an administrator who can sign in."""

import logging
import secrets
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from haechi.core import ids
from haechi.core.access import SYSTEM, Principal, Role
from haechi.core.clock import Clock
from haechi.core.db import Database
from haechi.core.pages import Page, decode_cursor, page_of
from haechi.core.pki import write_file
from haechi.core.secrets import Secret
from haechi.domains.audit.service import Audit
from haechi.domains.auth.authenticator import Authenticator
from haechi.domains.auth.errors import (
    BadUserName,
    LastAdmin,
    NeedsSession,
    OwnPassword,
    UserNameTaken,
    UserNotFound,
)
from haechi.domains.auth.model import ADMIN_NAME, User, UserChange, clean_name, name_key
from haechi.domains.auth.passwords import Passwords, check_password
from haechi.domains.auth.store import SessionRow, UserRow, to_user
from haechi.errors import Language, StaleEdit

log = logging.getLogger(__name__)

PASSWORD_VARIABLE: Final = "HAECHI_ADMIN_PASSWORD"  # noqa: S105 - the variable's name
PASSWORD_FILE: Final = "initial-admin-password"  # noqa: S105 - the file's name
_MAX_NAME: Final = 64
_NAME_SIGNS: Final = frozenset("._-@")


class Users:
    def __init__(
        self,
        *,
        db: Database,
        clock: Clock,
        audit: Audit,
        authenticator: Authenticator,
        passwords: Passwords,
        data_dir: Path,
    ) -> None:
        self._db = db
        self._clock = clock
        self._audit = audit
        self._authenticator = authenticator
        self._passwords = passwords
        self._password_file = data_dir / PASSWORD_FILE

    async def ensure_admin(self, environment: Mapping[str, str]) -> User | None:
        """At the first start: make `admin` and say where its password is. None afterwards.

        With HAECHI_ADMIN_PASSWORD no file is written and nothing need be changed.
        """
        async with self._db.read() as tx:
            if await tx.scalar(sa.select(sa.func.count()).select_from(UserRow)):
                return None
        given = Secret(environment.get(PASSWORD_VARIABLE, ""))
        password = given or Secret(secrets.token_urlsafe(18))
        check_password(ADMIN_NAME, password)
        hashed = await self._passwords.hash(password)
        if not given:
            # Before the commit: a crash in between leaves a useless file, not a locked door.
            write_file(self._password_file, password.reveal().encode() + b"\n", 0o600)
        async with self._db.write() as tx:
            user = await self._add(
                tx, SYSTEM, ADMIN_NAME, hashed, Role.ADMIN, None, must_change=not given
            )
        if given:
            log.info("first start: user %s has the password of %s", user.name, PASSWORD_VARIABLE)
        else:
            log.warning(
                "first start: the password of user %s is in %s; sign in and change it",
                user.name,
                self._password_file,
            )
        return user

    async def create_user(
        self,
        by: Principal,
        *,
        name: str,
        password: Secret,
        role: Role,
        language: Language | None = None,
    ) -> User:
        """The user must change the password at the first log-in: two people know it.

        Raises NeedsSession for a token: one that leaked must not make people of its own.
        """
        _check_person(by)
        name = _checked_name(name)
        check_password(name, password)
        hashed = await self._passwords.hash(password)
        async with self._db.write() as tx:
            return await self._add(tx, by, name, hashed, role, language, must_change=True)

    async def list_users(self, *, limit: int, cursor: str | None = None) -> Page[User]:
        """By name."""
        query = sa.select(UserRow).order_by(UserRow.name_key)
        after = decode_cursor(cursor, 1)
        if after:
            query = query.where(UserRow.name_key > str(after[0]))
        async with self._db.read() as tx:
            rows = list(await tx.scalars(query.limit(limit + 1)))
        return page_of([to_user(row) for row in rows], limit, lambda u: (name_key(u.name),))

    async def get_user(self, user_id: str) -> User:
        async with self._db.read() as tx:
            return to_user(await get_row(tx, user_id))

    async def edit_user(
        self, by: Principal, user_id: str, change: UserChange, *, revision: int | None = None
    ) -> User:
        """Sets what is not None. With `revision`, raises StaleEdit where it is not current.

        A new password ends the user's sessions and must be changed by him. Raises NeedsSession.
        """
        _check_person(by)
        user = await self.get_user(user_id)
        if change.name is not None:
            change = replace(change, name=_checked_name(change.name))
        hashed = None
        if change.password is not None:
            if user_id in {by.id, by.facts.get("user_id")}:
                raise OwnPassword
            check_password(change.name or user.name, change.password)
            hashed = await self._passwords.hash(change.password)
        async with self._db.write() as tx:
            row = await get_row(tx, user_id)
            if revision is not None and row.revision != revision:
                raise StaleEdit
            loses_admin = (change.role or Role(row.role)) < Role.ADMIN or change.disabled
            if loses_admin:
                await self._check_not_last_admin(tx, row)
            await self._apply(tx, row, change)
            if hashed is not None:
                row.must_change_password = True
                await self.set_password(tx, row, hashed)
            if change.disabled:
                await end_sessions(tx, user_id)
            row.revision += 1
            await self._audit.record(tx, by, "edit_user", user_id, change.describe())
            self._authenticator.forget_after(tx)
            return to_user(row)

    async def delete_user(self, by: Principal, user_id: str) -> None:
        """With all sessions and tokens."""
        _check_person(by)
        async with self._db.write() as tx:
            row = await get_row(tx, user_id)
            await self._check_not_last_admin(tx, row)
            await tx.execute(sa.delete(UserRow).where(UserRow.id == user_id))
            await self._audit.record(tx, by, "delete_user", user_id, {"name": row.name})
            self._authenticator.forget_after(tx)
        if row.name == ADMIN_NAME:
            self._password_file.unlink(missing_ok=True)

    async def set_password(self, tx: AsyncSession, row: UserRow, hashed: str) -> None:
        """Ends every session of the user; the file with the first password goes too."""
        row.password_hash = hashed
        await end_sessions(tx, row.id)
        self._authenticator.forget_after(tx)
        if row.name_key == ADMIN_NAME:
            sa.event.listen(
                tx.sync_session,
                "after_commit",
                lambda _: self._password_file.unlink(missing_ok=True),
                once=True,
            )

    async def _apply(self, tx: AsyncSession, row: UserRow, change: UserChange) -> None:
        if change.name is not None and change.name != row.name:
            await _check_free(tx, change.name, besides=row.id)
            row.name, row.name_key = change.name, name_key(change.name)
        if change.role is not None:
            row.role = int(change.role)
        if change.disabled is not None:
            row.disabled = change.disabled
        if change.language is not None:
            row.language = change.language

    async def _add(
        self,
        tx: AsyncSession,
        by: Principal,
        name: str,
        hashed: str,
        role: Role,
        language: Language | None,
        *,
        must_change: bool,
    ) -> User:
        await _check_free(tx, name)
        row = UserRow(
            id=ids.new_id("user"),
            name=name,
            name_key=name_key(name),
            password_hash=hashed,
            role=int(role),
            language=language,
            must_change_password=must_change,
            disabled=False,
            revision=1,
            created_at=self._clock.now(),
            last_login_at=None,
        )
        tx.add(row)
        await tx.flush()
        await self._audit.record(
            tx, by, "create_user", row.id, {"name": name, "role": role.name.lower()}
        )
        return to_user(row)

    async def _check_not_last_admin(self, tx: AsyncSession, row: UserRow) -> None:
        """Inside the write transaction, of which there is one at a time: two cannot both go."""
        if row.role < Role.ADMIN or row.disabled:
            return
        others = await tx.scalar(
            sa.select(sa.func.count())
            .select_from(UserRow)
            .where(
                UserRow.role == int(Role.ADMIN), UserRow.disabled.is_(False), UserRow.id != row.id
            )
        )
        if not others:
            raise LastAdmin(name=row.name)


def _check_person(by: Principal) -> None:
    if by.kind not in {"user", "system"}:
        raise NeedsSession


async def get_row(tx: AsyncSession, user_id: str) -> UserRow:
    row = await tx.get(UserRow, user_id)
    if row is None:
        raise UserNotFound(id=user_id)
    return row


async def end_sessions(tx: AsyncSession, user_id: str) -> None:
    await tx.execute(sa.delete(SessionRow).where(SessionRow.user_id == user_id))


async def _check_free(tx: AsyncSession, name: str, besides: str = "") -> None:
    taken = await tx.scalar(
        sa.select(UserRow.id).where(UserRow.name_key == name_key(name), UserRow.id != besides)
    )
    if taken is not None:
        raise UserNameTaken(name=name)


def _checked_name(name: str) -> str:
    cleaned = clean_name(name)
    good = all(character.isalnum() or character in _NAME_SIGNS for character in cleaned)
    if not cleaned or len(cleaned) > _MAX_NAME or not good:
        raise BadUserName(name=name[:_MAX_NAME])
    return cleaned
