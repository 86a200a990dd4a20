"""Asking again and again until something is so."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

PAUSE_S = 0.1
REST = 2.0
"""Twice as long as an answer took nothing is asked: what is waited for needs the machine too."""


async def until(
    what: str,
    true: Callable[[], Awaitable[Any]],
    timeout_s: float,
    error: type[Exception] = AssertionError,
) -> Any:
    """What it gave at last; else `error` naming what did not come true."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                began_s = loop.time()
                if found := await true():
                    return found
                await asyncio.sleep(max(PAUSE_S, REST * (loop.time() - began_s)))
    except TimeoutError:
        raise error(f"not within {timeout_s:g} s: {what}") from None
