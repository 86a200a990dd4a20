"""What whoever changes something needs of the audit log; `service.Audit` is it."""

from typing import Any, Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from haechi.core.access import Principal


class AuditTrail(Protocol):
    async def record(
        self,
        tx: AsyncSession,
        by: Principal,
        action: str,
        subject: str,
        details: dict[str, Any] | None = None,
    ) -> None:
        """Add an entry to the caller's write transaction; secrets in `details` are masked."""
