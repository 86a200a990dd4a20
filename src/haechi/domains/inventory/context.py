"""What the parts of the inventory share: stores and clocks, audit and bus, checks before a delete.

A change is audited inside its transaction and told on the bus (`states`) only after the commit.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy.ext.asyncio import AsyncSession

from haechi.core.access import Principal
from haechi.core.bus import Bus
from haechi.core.clock import Clock
from haechi.core.db import Database
from haechi.core.secrets import Keyring
from haechi.domains.audit.ports import AuditTrail
from haechi.domains.inventory.model import Kind, StillUsed, Use
from haechi.domains.inventory.ports import DeleteCheck, DeleteHook

Verb = Literal["create", "edit", "delete"]
SECRET_FIELDS = frozenset({"ssh_password", "ssh_key", "password", "url", "sub_url"})


class Change:
    """One write transaction and what will be told about it."""

    def __init__(self, tx: AsyncSession, by: Principal, audit: AuditTrail) -> None:
        self.tx = tx
        self._by = by
        self._audit = audit
        self.told: list[dict[str, Any]] = []

    async def note(
        self, verb: Verb, kind: Kind, subject: str, fields: Mapping[str, Any] | None = None
    ) -> None:
        """Audit it, with the names of secret fields only."""
        details = {
            name: "(changed)" if name in SECRET_FIELDS else value
            for name, value in (fields or {}).items()
        }
        await self._audit.record(self.tx, self._by, f"{verb}_{kind}", subject, details or None)
        self.told.append({"kind": kind, "id": subject, "change": verb})


@dataclass(frozen=True, slots=True)
class Context:
    db: Database
    bus: Bus
    clock: Clock
    keyring: Keyring
    audit: AuditTrail
    checks: dict[str, list[DeleteCheck]] = field(default_factory=dict)
    hooks: dict[str, list[DeleteHook]] = field(default_factory=dict)

    @asynccontextmanager
    async def change(self, by: Principal) -> AsyncIterator[Change]:
        async with self.db.write() as tx:
            change = Change(tx, by, self.audit)
            yield change
        for data in change.told:
            self.bus.publish("states", data)

    async def clear_uses(
        self,
        tx: AsyncSession,
        kind: Kind,
        subject: str,
        name: str,
        *,
        own: list[Use],
        force: bool,
    ) -> None:
        """Raise StillUsed unless nobody uses it, or `force` may clear what is left."""
        uses = list(own)
        for check in self.checks.get(kind, ()):
            uses += await check(tx, subject)
        hindering = [use for use in uses if use.blocking or not force]
        if hindering:
            where = [use.as_dict() for use in hindering]
            raise StillUsed(kind=kind, id=subject, name=name, count=len(where), where=where)
        for hook in self.hooks.get(kind, ()):
            await hook(tx, subject)
