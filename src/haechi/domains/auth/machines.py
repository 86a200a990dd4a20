"""Credentials of devices and deployments: enrolment, certificates, deployment tokens.

Functions that take `tx` run in the caller's write transaction: a deployment and its token, a
device and its certificate come and go together.
"""

from datetime import timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from haechi.core import ids
from haechi.core.access import Principal
from haechi.core.clock import Clock, to_text
from haechi.core.pki import IssuedCertificate, SiteCa
from haechi.core.secrets import Secret, token_digest
from haechi.domains.audit.service import Audit
from haechi.domains.auth.authenticator import Authenticator
from haechi.domains.auth.errors import BadCertificateRequest, EnrolmentRefused
from haechi.domains.auth.model import DEPLOYMENT_PREFIX, ENROLMENT_PREFIX, EnrolmentToken
from haechi.domains.auth.store import (
    DeploymentTokenRow,
    DeviceCertificateRow,
    EnrolmentTokenRow,
)

ENROLMENT_LIFE: Final = timedelta(hours=1)
_KEEP_USED: Final = timedelta(days=1)
"""A used or expired token is remembered so long, to tell the user why it is refused."""


class Machines:
    def __init__(
        self, *, clock: Clock, audit: Audit, ca: SiteCa, authenticator: Authenticator
    ) -> None:
        self._clock = clock
        self._audit = audit
        self._ca = ca
        self._authenticator = authenticator

    async def issue_deployment_token(
        self,
        tx: AsyncSession,
        *,
        deployment_id: str,
        device_id: str,
        facts: dict[str, str],
        direct: bool = False,
    ) -> tuple[Secret, str]:
        """(token, digest). `facts`: package_id, version_id, image_digest: what results are tied to.

        Without `direct` it is good only through the agent of its device.
        """
        secret = Secret(DEPLOYMENT_PREFIX + ids.new_secret())
        digest = token_digest(secret.reveal())
        tx.add(
            DeploymentTokenRow(
                digest=digest,
                deployment_id=deployment_id,
                device_id=device_id,
                direct=direct,
                facts=dict(facts),
                created_at=self._clock.now(),
            )
        )
        await tx.flush()
        self._authenticator.forget_after(tx)
        return secret, digest

    async def revoke_deployment_token(self, tx: AsyncSession, deployment_id: str) -> None:
        """Every token of the deployment; no error where it has none."""
        await tx.execute(
            sa.delete(DeploymentTokenRow).where(DeploymentTokenRow.deployment_id == deployment_id)
        )
        self._authenticator.forget_after(tx)

    async def deployment_principal(self, deployment_id: str, device_id: str) -> Principal | None:
        """For rows in the frames of the agent of `device_id`; None: not a deployment of his."""
        return await self._authenticator.by_deployment(deployment_id, device_id)

    async def issue_enrolment_token(
        self, tx: AsyncSession, device_id: str, by: Principal
    ) -> EnrolmentToken:
        """One hour, one use; replaces an unused one of the same device."""
        now = self._clock.now()
        await tx.execute(
            sa.delete(EnrolmentTokenRow).where(
                sa.or_(
                    sa.and_(
                        EnrolmentTokenRow.device_id == device_id,
                        EnrolmentTokenRow.used_at.is_(None),
                    ),
                    EnrolmentTokenRow.expires_at < now - _KEEP_USED,
                )
            )
        )
        secret = Secret(ENROLMENT_PREFIX + ids.new_secret())
        expires_at = now + ENROLMENT_LIFE
        tx.add(
            EnrolmentTokenRow(
                digest=token_digest(secret.reveal()),
                device_id=device_id,
                created_at=now,
                expires_at=expires_at,
                used_at=None,
            )
        )
        await tx.flush()
        await self._audit.record(
            tx, by, "enrol_device", device_id, {"expires_at": to_text(expires_at)}
        )
        return EnrolmentToken(device_id=device_id, secret=secret, expires_at=expires_at)

    async def redeem_enrolment_token(self, tx: AsyncSession, token: str) -> str:
        """The device it is for; marks it used. Raises EnrolmentRefused.

        One statement finds and marks it: of two callers at once, one gets it.
        """
        now = self._clock.now()
        digest = token_digest(token)
        device_id: str | None = await tx.scalar(
            sa.update(EnrolmentTokenRow)
            .where(
                EnrolmentTokenRow.digest == digest,
                EnrolmentTokenRow.used_at.is_(None),
                EnrolmentTokenRow.expires_at > now,
            )
            .values(used_at=now)
            .returning(EnrolmentTokenRow.device_id)
        )
        if device_id is not None:
            return device_id
        row = await tx.get(EnrolmentTokenRow, digest)
        if row is None:
            raise EnrolmentRefused(reason="unknown")
        raise EnrolmentRefused(reason="used" if row.used_at else "expired")

    async def issue_device_certificate(
        self, tx: AsyncSession, device_id: str, csr_pem: str
    ) -> IssuedCertificate:
        """At enrolment: the device's earlier certificates end now. Raises BadCertificateRequest."""
        await self._revoke_certificates(tx, device_id)
        return await self._issue(tx, device_id, csr_pem)

    async def renew_device_certificate(
        self, tx: AsyncSession, device_id: str, csr_pem: str
    ) -> IssuedCertificate:
        """At half-life: the earlier one ends when the new one is first used, so that an answer
        lost on the way locks nobody out.
        """
        return await self._issue(tx, device_id, csr_pem)

    async def revoke_device(self, tx: AsyncSession, device_id: str, by: Principal) -> None:
        """Take back all that the device and its deployments hold.

        The caller closes the device's open connection: a check is made only at connect.
        """
        await self._revoke_certificates(tx, device_id)
        await tx.execute(
            sa.delete(EnrolmentTokenRow).where(EnrolmentTokenRow.device_id == device_id)
        )
        await tx.execute(
            sa.delete(DeploymentTokenRow).where(DeploymentTokenRow.device_id == device_id)
        )
        await self._audit.record(tx, by, "revoke_device", device_id)

    async def _issue(self, tx: AsyncSession, device_id: str, csr_pem: str) -> IssuedCertificate:
        try:
            issued = self._ca.sign_device(device_id, csr_pem)
        except ValueError as error:
            raise BadCertificateRequest(reason=str(error)) from error
        tx.add(
            DeviceCertificateRow(
                serial=issued.serial,
                device_id=device_id,
                issued_at=self._clock.now(),
                expires_at=issued.not_after,
                first_used_at=None,
                revoked_at=None,
            )
        )
        await tx.flush()
        return issued

    async def _revoke_certificates(self, tx: AsyncSession, device_id: str) -> None:
        await tx.execute(
            sa.update(DeviceCertificateRow)
            .where(
                DeviceCertificateRow.device_id == device_id,
                DeviceCertificateRow.revoked_at.is_(None),
            )
            .values(revoked_at=self._clock.now())
        )
        self._authenticator.forget_after(tx)
