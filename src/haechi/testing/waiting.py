"""Waiting for a condition instead of sleeping: for tests."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any


async def eventually(
    true: Callable[[], Any] | Callable[[], Awaitable[Any]], timeout_s: float = 60.0
) -> Any:
    """Until `true()` is; returns what it gave. Raises TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while True:
            value = true()
            if asyncio.iscoroutine(value):
                value = await value
            if value:
                return value
            await asyncio.sleep(0.01)
