"""A chain of our own in one of a host's firewall tables.

Needs root with `iptables` and `iptables-restore`. One chain per device and table: several devices
may share a machine. A chain outlives its agent, so that nothing opens when that stops; what belongs
to a network that is gone is swept.
"""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Container, Sequence
from typing import Final

log = logging.getLogger(__name__)

COMMAND_S: Final = 10.0

PREFIX: Final = "HAECHI-"
JUMPS: Final = {"filter": ("FORWARD", "INPUT"), "nat": ("PREROUTING",)}
"""Of each table, the chains that lead to ours."""

Argv = list[str]
Run = Callable[[Sequence[str], str], Awaitable[int]]
"""`(argv, stdin)` → exit status. Raises OSError where the program is missing or does not end."""
_RESTORE: Final = ("iptables-restore", "-w", "5", "--noflush")


class Chain:
    """Reached from the `JUMPS` of its table before all else that they do: what other rules accept
    is never seen by later ones. Docker puts its own first again whenever it starts."""

    def __init__(self, table: str, name: str, run: Run) -> None:
        self.name = name
        self._table = table
        self._jumps = JUMPS[table]
        self._run = run
        self._iptables = ("iptables", "-w", "5", "-t", table)

    async def fill(self, content: Sequence[Argv]) -> None:
        """Exactly these rules (`-A NAME …`), all at once; none: no chain. Raises OSError."""
        if not content:
            await self._remove()
            return
        # All at once: a call that met a chain which is just being filled would be lost.
        lines = [f"*{self._table}", f":{self.name} - [0:0]"]
        lines += [" ".join(rule) for rule in content]
        for jump in self._jumps:
            if await self._run([*self._iptables, "-C", jump, "-j", self.name], "") == 0:
                lines.append(f"-D {jump} -j {self.name}")
            lines.append(f"-I {jump} -j {self.name}")
        await self._must(_RESTORE, "\n".join([*lines, "COMMIT", ""]))

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


def stale(listed: str, interfaces: Container[str], but: Container[str] = ()) -> list[str]:
    """Our chains, in the words of `iptables -S`, that are about interfaces which are gone: those
    of a device that was taken away from this machine, or was killed and never came back. An empty
    one is what was left of its removal: they are filled at once.
    """
    about: dict[str, list[str | None]] = {}
    for line in listed.splitlines():
        verb, name, *words = [*line.split(), "", ""]
        if not name.startswith(PREFIX):
            continue
        found = about.setdefault(name, [])
        if verb == "-A":
            found.append(words[words.index("-i") + 1] if "-i" in words else None)
    return [
        name
        for name, found in about.items()
        if name not in but and all(one is not None and one not in interfaces for one in found)
    ]


async def sweep(but: Container[str] = ()) -> None:
    """Remove the stale chains of this machine; not those that whoever calls may just be filling."""
    try:
        for table in JUMPS:
            _, listed = await _call(["iptables", "-w", "5", "-t", table, "-S"], "")
            for name in stale(listed, {name for _, name in socket.if_nameindex()}, but):
                await Chain(table, name, firewall).fill([])
                log.info("the firewall's chain %s was of a network that is gone", name)
    except OSError as error:
        log.warning("the firewall cannot be swept: %s", error)


async def firewall(argv: Sequence[str], stdin: str) -> int:
    """A `Run`."""
    code, _ = await _call(argv, stdin)
    return code


async def _call(argv: Sequence[str], stdin: str) -> tuple[int, str]:
    """Exit status and what it said. Raises OSError."""
    child = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(COMMAND_S):
            said, _ = await child.communicate(stdin.encode())
    except TimeoutError as error:
        child.kill()
        await child.wait()
        raise OSError(f"{argv[0]} does not end") from error
    assert child.returncode is not None
    return child.returncode, said.decode(errors="replace")
