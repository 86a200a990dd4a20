"""What packages need from others, by shape."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from haechi.core.access import Principal
from haechi.domains.packages.model import BuildFacts, Use

DeleteCheck = Callable[[AsyncSession, str], Awaitable[list[Use]]]
"""Who still uses the version with this id? Runs inside the deleting transaction."""

DeleteHook = Callable[[AsyncSession, str], Awaitable[None]]
"""Clears what belongs to the version with this id; runs inside the deleting transaction."""


class BuildBook(Protocol):
    """Who knows how the builds of versions went (the builds domain)."""

    async def build_facts(
        self, tx: AsyncSession, version_ids: Sequence[str]
    ) -> dict[str, BuildFacts]: ...


class AuditTrail(Protocol):
    async def record(
        self,
        tx: AsyncSession,
        by: Principal,
        action: str,
        subject: str,
        details: dict[str, Any] | None = None,
    ) -> None: ...
