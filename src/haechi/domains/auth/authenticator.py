"""From a credential to a Principal, fast enough for every single result.

Answers are cached for a few seconds by the credential's digest. A revocation empties the cache
after its commit; a look-up that was under way meanwhile is not kept (`_generation`).
"""

import logging
import math
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from haechi.core.access import Principal, Role
from haechi.core.clock import Clock
from haechi.core.db import Database
from haechi.core.pki import read_device_identity
from haechi.core.secrets import token_digest
from haechi.core.trust import fingerprint
from haechi.domains.audit.service import Audit
from haechi.domains.auth.errors import CertificateRevoked, TokenOfAnotherDevice
from haechi.domains.auth.model import (
    DEPLOYMENT_PREFIX,
    MUST_CHANGE_PASSWORD,
    SESSION_PREFIX,
    TOKEN_PREFIX,
    Peer,
)
from haechi.domains.auth.store import (
    ApiTokenRow,
    DeploymentTokenRow,
    DeviceCertificateRow,
    SessionRow,
    UserRow,
)

log = logging.getLogger(__name__)

SESSION_LIFE: Final = timedelta(days=30)
"""Even a session in daily use ends after so long."""
_TOUCH: Final = timedelta(seconds=60)
_MAX_ENTRIES: Final = 10_000
_MAX_SECRET_CHARACTERS: Final = 200
_REPORT_EVERY_S: Final = 600.0
_NOBODY: Final = Peer()


@dataclass(frozen=True, slots=True)
class _Known:
    principal: Principal
    until: float
    direct: bool = True


class Authenticator:
    def __init__(
        self,
        *,
        db: Database,
        clock: Clock,
        audit: Audit,
        session_hours: float,
        cache_s: float = 3.0,
    ) -> None:
        self._db = db
        self._audit = audit
        self._reported: OrderedDict[str, float] = OrderedDict()
        self._clock = clock
        self._session = timedelta(hours=session_hours)
        self._cache_s = cache_s
        self._cache: OrderedDict[str, _Known] = OrderedDict()
        self._generation = 0

    async def by_token(self, secret: str, peer: Peer = _NOBODY) -> Principal | None:
        """Whose session, API token or deployment token it is; None where it is nobody's.

        Raises TokenOfAnotherDevice for a deployment token that comes from elsewhere.
        """
        if len(secret) > _MAX_SECRET_CHARACTERS:
            return None
        digest = token_digest(secret)
        known = self._cached(digest)
        if known is None:
            known = await self._load_token(secret, digest)
            if known is None:
                return None
        principal = known.principal
        if principal.kind == "deployment" and not _comes_from_its_device(known, peer):
            await self._report(principal, peer)
            raise TokenOfAnotherDevice(deployment_id=principal.deployment_id, address=peer.address)
        return principal

    async def by_certificate(self, der: bytes) -> Principal | None:
        """Whose verified client certificate it is; None where it is no device's.

        Raises CertificateRevoked. The first use of a renewed certificate retires the ones before.
        """
        key = "crt:" + fingerprint(der)
        known = self._cached(key)
        if known is not None:
            return known.principal
        identity = read_device_identity(der)
        if identity is None:
            return None
        generation = self._generation
        async with self._db.read() as tx:
            row = await tx.get(DeviceCertificateRow, identity.serial)
        if row is None or row.revoked_at is not None or row.device_id != identity.device_id:
            raise CertificateRevoked(device_id=identity.device_id)
        if row.first_used_at is None:
            await self._retire_older(row)
        principal = Principal(
            kind="device",
            id=row.device_id,
            name=row.device_id,
            device_id=row.device_id,
            facts={"certificate": row.serial},
        )
        self._keep(key, _Known(principal, self._until(row.expires_at)), generation)
        return principal

    async def by_deployment(self, deployment_id: str, device_id: str) -> Principal | None:
        """The deployment for which a device's agent speaks; None where it is not that device's."""
        key = f"dep:{deployment_id}"
        known = self._cached(key)
        if known is None:
            generation = self._generation
            async with self._db.read() as tx:
                row = await tx.scalar(
                    sa.select(DeploymentTokenRow)
                    .where(DeploymentTokenRow.deployment_id == deployment_id)
                    .order_by(DeploymentTokenRow.created_at.desc())
                    .limit(1)
                )
            if row is None:
                return None
            known = _Known(_deployment_principal(row), self._until(None))
            self._keep(key, known, generation)
        return known.principal if known.principal.device_id == device_id else None

    def forget(self) -> None:
        """Something was revoked or changed: look everything up anew."""
        self._generation += 1
        self._cache.clear()

    def forget_after(self, tx: AsyncSession) -> None:
        """`forget` once `tx` has committed, so that nobody caches what it is about to end."""
        sa.event.listen(tx.sync_session, "after_commit", lambda _: self.forget(), once=True)

    def _cached(self, key: str) -> _Known | None:
        known = self._cache.get(key)
        if known is None or known.until <= self._clock.monotonic():
            return None
        return known

    def _keep(self, key: str, known: _Known, generation: int) -> None:
        if generation != self._generation:
            return
        self._cache[key] = known
        while len(self._cache) > _MAX_ENTRIES:
            self._cache.popitem(last=False)

    def _until(self, expires_at: datetime | None) -> float:
        left_s = self._cache_s
        if expires_at is not None:
            left_s = min(left_s, (expires_at - self._clock.now()).total_seconds())
        return self._clock.monotonic() + left_s

    async def _load_token(self, secret: str, digest: str) -> _Known | None:
        generation = self._generation
        if secret.startswith(SESSION_PREFIX):
            known = await self._load_session(digest)
        elif secret.startswith(TOKEN_PREFIX):
            known = await self._load_api_token(digest)
        elif secret.startswith(DEPLOYMENT_PREFIX):
            known = await self._load_deployment_token(digest)
        else:
            return None
        if known is not None:
            self._keep(digest, known, generation)
        return known

    async def _load_session(self, digest: str) -> _Known | None:
        now = self._clock.now()
        async with self._db.read() as tx:
            found = (
                await tx.execute(
                    sa.select(SessionRow, UserRow)
                    .join(UserRow, UserRow.id == SessionRow.user_id)
                    .where(SessionRow.digest == digest)
                )
            ).one_or_none()
        if found is None:
            return None
        session, user = found
        if session.expires_at <= now or user.disabled:
            return None
        expires_at = session.expires_at
        if now - session.last_used_at >= min(_TOUCH, self._session / 10):
            expires_at = min(now + self._session, session.created_at + SESSION_LIFE)
            async with self._db.write() as tx:
                await tx.execute(
                    sa.update(SessionRow)
                    .where(SessionRow.digest == digest)
                    .values(last_used_at=now, expires_at=expires_at)
                )
        principal = Principal(
            kind="user",
            id=user.id,
            name=user.name,
            role=Role(user.role),
            language=user.language,
            facts={MUST_CHANGE_PASSWORD: "yes"} if user.must_change_password else {},
        )
        return _Known(principal, self._until(expires_at))

    async def _load_api_token(self, digest: str) -> _Known | None:
        now = self._clock.now()
        async with self._db.read() as tx:
            found = (
                await tx.execute(
                    sa.select(ApiTokenRow, UserRow)
                    .join(UserRow, UserRow.id == ApiTokenRow.user_id)
                    .where(ApiTokenRow.digest == digest)
                )
            ).one_or_none()
        if found is None:
            return None
        token, user = found
        if user.disabled or (token.expires_at is not None and token.expires_at <= now):
            return None
        if token.last_used_at is None or now - token.last_used_at >= _TOUCH:
            async with self._db.write() as tx:
                await tx.execute(
                    sa.update(ApiTokenRow)
                    .where(ApiTokenRow.id == token.id)
                    .values(last_used_at=now)
                )
        principal = Principal(
            kind="token",
            id=token.id,
            name=f"{user.name}/{token.name}",
            role=Role(min(token.role, user.role)),
            language=user.language,
            facts={"user_id": user.id},
        )
        return _Known(principal, self._until(token.expires_at))

    async def _load_deployment_token(self, digest: str) -> _Known | None:
        async with self._db.read() as tx:
            row = await tx.get(DeploymentTokenRow, digest)
        if row is None:
            return None
        return _Known(_deployment_principal(row), self._until(None), direct=row.direct)

    async def _report(self, principal: Principal, peer: Peer) -> None:
        """A token used from elsewhere is likely stolen: audited, but not once per request."""
        now = self._clock.monotonic()
        if now - self._reported.get(principal.id, -math.inf) < _REPORT_EVERY_S:
            return
        self._reported[principal.id] = now
        while len(self._reported) > _MAX_ENTRIES:
            self._reported.popitem(last=False)
        log.warning("token of deployment %s used from %s", principal.id, peer.address)
        details = {"address": peer.address, "device_id": peer.device_id}
        async with self._db.write() as tx:
            await self._audit.record(tx, principal, "refuse_token", principal.id, details)

    async def _retire_older(self, row: DeviceCertificateRow) -> None:
        now = self._clock.now()
        async with self._db.write() as tx:
            await tx.execute(
                sa.update(DeviceCertificateRow)
                .where(DeviceCertificateRow.serial == row.serial)
                .values(first_used_at=now)
            )
            await tx.execute(
                sa.update(DeviceCertificateRow)
                .where(
                    DeviceCertificateRow.device_id == row.device_id,
                    DeviceCertificateRow.issued_at < row.issued_at,
                    DeviceCertificateRow.revoked_at.is_(None),
                )
                .values(revoked_at=now)
            )


def _deployment_principal(row: DeploymentTokenRow) -> Principal:
    return Principal(
        kind="deployment",
        id=row.deployment_id,
        name=row.deployment_id,
        device_id=row.device_id,
        deployment_id=row.deployment_id,
        facts=dict(row.facts),
    )


def _comes_from_its_device(known: _Known, peer: Peer) -> bool:
    if peer.device_id is not None:
        return peer.device_id == known.principal.device_id
    return known.direct
