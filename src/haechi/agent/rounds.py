"""Seeing to rules of the host's firewall for ever: what hinders is said once and tried again."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

log = logging.getLogger(__name__)

CHECK_S: Final = 30.0
"""Rules are looked at so often: a reloaded firewall loses them."""
RETRY_S: Final = 5.0


class Rounds:
    """Does `apply` at each `wake`, and from time to time while it says that there is something to
    look after; `forget` comes before those: what is there is not known then.
    """

    def __init__(
        self, apply: Callable[[], Awaitable[bool]], *, forget: Callable[[], None], problem: str
    ) -> None:
        self._apply = apply
        self._forget = forget
        self._problem = problem
        self._told = ""
        self._wake = asyncio.Event()

    def wake(self) -> None:
        self._wake.set()

    async def keep(self) -> None:
        """For ever."""
        while True:
            self._wake.clear()
            try:
                pause_s = CHECK_S if await self._apply() else None
                self._told = ""
            except OSError as error:
                pause_s = RETRY_S
                if str(error) != self._told:
                    log.error("%s: %s", self._problem, error)  # noqa: TRY400
                self._told = str(error)
            try:
                async with asyncio.timeout(pause_s):
                    _ = await self._wake.wait()
            except TimeoutError:
                self._forget()
