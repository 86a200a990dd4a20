"""Asking again and again until something is so."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

PAUSE_S = 0.5
"""Each answer costs caller and server some 15 ms of the machine."""
REST = 2.0
"""Twice as long as an answer took nothing is asked: what is waited for needs the machine too."""


async def until(
    what: str,
    true: Callable[[], Awaitable[Any]],
    timeout_s: float,
    error: type[Exception] = AssertionError,
    *,
    pause_s: float = PAUSE_S,
) -> Any:
    """What it gave at last; else `error` naming what did not come true. A shorter pause is for what
    is soon over, or measured.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                began_s = loop.time()
                if found := await true():
                    return found
                await asyncio.sleep(max(pause_s, REST * (loop.time() - began_s)))
    except TimeoutError:
        raise error(f"not within {timeout_s:g} s: {what}") from None
