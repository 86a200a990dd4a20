"""Records changes inside the transaction that makes them, so neither exists without the other."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from haechi.core import ids
from haechi.core.access import Principal
from haechi.core.clock import Clock
from haechi.core.db import Database
from haechi.core.pages import DEFAULT_LIMIT, Page
from haechi.domains.audit import store
from haechi.domains.audit.model import AuditEntry, safe_details


class Audit:
    def __init__(self, *, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def record(
        self,
        tx: AsyncSession,
        by: Principal,
        action: str,
        subject: str,
        details: dict[str, Any] | None = None,
    ) -> None:
        """Add an entry to the caller's write transaction; secrets in `details` are masked."""
        entry = AuditEntry(
            id=ids.new_id("audit"),
            at=self._clock.now(),
            by_kind=by.kind,
            by_id=by.id,
            by_name=by.name,
            action=action,
            subject=subject[:200],
            details=safe_details(details or {}),
        )
        await store.add(tx, entry)

    async def find(
        self,
        *,
        action: str | None = None,
        subject: str | None = None,
        by_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = DEFAULT_LIMIT,
        cursor: str | None = None,
    ) -> Page[AuditEntry]:
        """Newest first."""
        async with self._db.read() as tx:
            return await store.find(
                tx,
                action=action,
                subject=subject,
                by_id=by_id,
                since=since,
                until=until,
                limit=limit,
                cursor=cursor,
            )

    async def forget(self, *, older_than: timedelta) -> None:
        """Retention; only the owner of the data folder decides on it."""
        async with self._db.write() as tx:
            await store.delete_before(tx, self._clock.now() - older_than)
