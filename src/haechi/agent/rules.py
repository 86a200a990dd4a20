"""A chain of our own in one of the host's firewall tables, and seeing to it for ever.

Needs root with `iptables` and `iptables-restore`; where they are missing it is said once and tried
again. One chain per device and table: several devices may share a machine.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from haechi.errors import AppError

log = logging.getLogger(__name__)

CHECK_S: Final = 30.0
"""Rules are looked at so often: a reloaded firewall loses them."""
RETRY_S: Final = 5.0
COMMAND_S: Final = 10.0

Argv = list[str]
Run = Callable[[Sequence[str], str], Awaitable[int]]
"""`(argv, stdin)` → exit status. Raises OSError where the program is missing or does not end."""
_RESTORE: Final = ("iptables-restore", "-w", "5", "--noflush")


class Chain:
    """`jumps`: the chains of the table that lead here, before all else that they do."""

    def __init__(self, table: str, name: str, jumps: Sequence[str], run: Run) -> None:
        self.name = name
        self._table = table
        self._jumps = jumps
        self._run = run
        self._iptables = ("iptables", "-w", "5", "-t", table)

    async def fill(self, content: Sequence[Argv]) -> None:
        """Exactly these rules (`-A NAME …`), all at once; none: no chain. Raises OSError."""
        if not content:
            await self._remove()
            return
        # All at once: a call that met a chain which is just being filled would be lost.
        rules = [" ".join(rule) for rule in content]
        lines = [f"*{self._table}", f":{self.name} - [0:0]", *rules, "COMMIT", ""]
        await self._must(_RESTORE, "\n".join(lines))
        for jump in self._jumps:
            if await self._run([*self._iptables, "-C", jump, "-j", self.name], "") != 0:
                await self._must([*self._iptables, "-I", jump, "-j", self.name])

    async def _remove(self) -> None:
        for jump in self._jumps:
            while await self._run([*self._iptables, "-D", jump, "-j", self.name], "") == 0:
                pass
        await self._run([*self._iptables, "-F", self.name], "")
        await self._run([*self._iptables, "-X", self.name], "")

    async def _must(self, argv: Sequence[str], stdin: str = "") -> None:
        code = await self._run(argv, stdin)
        if code != 0:
            raise OSError(f"{' '.join(argv)}: exit {code}")


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
            except (OSError, AppError) as error:
                pause_s = RETRY_S
                if str(error) != self._told:
                    log.error("%s: %s", self._problem, error)  # noqa: TRY400
                self._told = str(error)
            try:
                async with asyncio.timeout(pause_s):
                    _ = await self._wake.wait()
            except TimeoutError:
                self._forget()


async def firewall(argv: Sequence[str], stdin: str) -> int:
    """A `Run`."""
    child = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(COMMAND_S):
            await child.communicate(stdin.encode())
    except TimeoutError as error:
        child.kill()
        await child.wait()
        raise OSError(f"{argv[0]} does not end") from error
    assert child.returncode is not None
    return child.returncode
