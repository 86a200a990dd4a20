"""What packages need from others, by shape."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from haechi.domains.inventory.model import Use
from haechi.domains.packages.model import BuildFacts

DeleteCheck = Callable[[AsyncSession, str], Awaitable[list[Use]]]
"""Who still uses the version with this id? Runs inside the deleting transaction."""

DeleteHook = Callable[[AsyncSession, str], Awaitable[None]]
"""Clears what belongs to the version with this id; runs inside the deleting transaction."""


class BuildBook(Protocol):
    """Who knows how the builds of versions went (the builds domain)."""

    async def build_facts(
        self, tx: AsyncSession, version_ids: Sequence[str]
    ) -> dict[str, BuildFacts]: ...
