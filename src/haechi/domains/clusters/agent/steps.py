"""Bringing an agent to a host, step by step. Each can be done again; `ctx` says how far it is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from haechi.core.access import SYSTEM
from haechi.core.clock import Clock
from haechi.core.db import Database
from haechi.domains.clusters import store
from haechi.domains.clusters.agent import places
from haechi.domains.clusters.agent.errors import (
    AgentNotInstalled,
    AgentNotSeen,
    NoEngineForAgent,
    ServerOnLoopback,
)
from haechi.domains.clusters.agent.places import DockerPlace, NodePlace, Place
from haechi.domains.clusters.agent.ports import AgentImages, Agents
from haechi.domains.clusters.host.ports import Hosts, Shell

PLACES: Final[dict[str, Place]] = {"docker": DockerPlace(), "node": NodePlace()}
SHOWN_LINES: Final = 15

Log = Callable[[str], None]
OnRatio = Callable[[float | None, str], None]


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things may take; tests turn it down."""

    seen_s: float = 120.0
    """For an agent to call in after its start."""
    back_s: float = 300.0
    """For the one before, where a new one did not: there is nothing else to go back to."""
    stays_s: float = 5.0
    """It has to stay connected for so long before the one before it is given up."""


class Steps:
    def __init__(
        self,
        *,
        db: Database,
        clock: Clock,
        hosts: Hosts,
        agents: Agents,
        images: AgentImages,
        pace: Pace,
    ) -> None:
        self._db = db
        self._clock = clock
        self._hosts = hosts
        self._agents = agents
        self._images = images
        self._pace = pace

    async def look(self, ctx: dict[str, Any], log: Log) -> None:
        """What the host is, and what runs there now."""
        async with self._hosts.open(ctx["device_id"]) as shell:
            ctx["host"] = shell.host.name
            ctx["place"] = await self._place_of(ctx["device_id"], shell)
            ctx["platform"] = await places.platform_of(shell)
            ctx.setdefault("before", await PLACES[ctx["place"]].current(shell))
            if _is_loopback(self._agents.server) and not _is_loopback(shell.host.address):
                raise ServerOnLoopback(host=shell.host.name, server=self._agents.server)
        log(f"{ctx['host']}: {ctx['place']}, {ctx['platform']}, runs {ctx['before'] or 'no agent'}")

    async def must_be_there(self, ctx: dict[str, Any]) -> None:
        if not ctx["before"]:
            raise AgentNotInstalled(host=ctx["host"])

    async def deliver(self, ctx: dict[str, Any], log: Log, progress: OnRatio) -> None:
        image = await self._images.image(ctx["platform"])
        ctx["reference"] = image.reference
        ctx["same"] = image.reference == ctx["before"]

        def sent(done_bytes: int, total_bytes: int) -> None:
            ratio = done_bytes / total_bytes if total_bytes else 0.0
            progress(0.1 + 0.6 * ratio, f"{done_bytes // 1024**2} MB")

        async with self._hosts.open(ctx["device_id"]) as shell:
            await PLACES[ctx["place"]].deliver(shell, image, sent)
        log(f"{ctx['host']} has {image.reference}")

    async def invite(self, ctx: dict[str, Any], log: Log) -> None:
        """Unless the host is this device already, and known as such here."""
        async with self._hosts.open(ctx["device_id"]) as shell:
            if await places.is_enrolled(shell) and self._agents.is_connected(ctx["device_id"]):
                log("it is enrolled already")
                return
            invitation = await self._agents.invite_device(ctx["device_id"], SYSTEM)
            await places.lay_invitation(shell, invitation)
        log(f"invited to {invitation.server}")

    async def start(self, ctx: dict[str, Any], log: Log, *, reference: str) -> None:
        """The one before is ended first."""
        async with self._hosts.open(ctx["device_id"]) as shell:
            place = PLACES[ctx["place"]]
            await place.stop(shell)
            await place.start(shell, reference)
        log(f"{ctx['host']} starts {reference}")

    async def see(self, ctx: dict[str, Any], log: Log, *, back: bool = False) -> None:
        """Wait until the agent has called in, and stays; `back`: the one before does again. Raises
        AgentNotSeen with its last words.

        A link of the agent before it ends with it; one that is still shown has to outlast that.
        """
        device_id, pace = ctx["device_id"], self._pace
        timeout_s = pace.back_s if back else pace.seen_s
        limit_s = self._clock.monotonic() + timeout_s
        since_s: float | None = None
        while (now_s := self._clock.monotonic()) < limit_s:
            if not self._agents.is_connected(device_id):
                since_s = None
                if await self._agents.wait_connected(device_id, limit_s - now_s):
                    since_s = self._clock.monotonic()
            elif since_s is None:
                since_s = now_s
            elif now_s - since_s >= pace.stays_s:
                log(f"{ctx['host']}: the agent has called in")
                return
            await self._clock.sleep(min(0.5, pace.stays_s))
        lines = await self._last_words(ctx)
        for line in lines:
            log(f"   | {line}")
        raise AgentNotSeen(
            host=ctx["host"],
            timeout_s=round(timeout_s),
            server=self._agents.server,
            reason=lines[-1][:300] if lines else "-",
            log=[line[:400] for line in lines[-SHOWN_LINES:]],
        )

    async def take_away(self, ctx: dict[str, Any], log: Log) -> None:
        """The agent, its data and its image."""
        async with self._hosts.open(ctx["device_id"]) as shell:
            place = PLACES[ctx["place"]]
            reference = await place.current(shell) or str(ctx.get("reference", ""))
            await place.stop(shell)
            if reference:
                # Those of updates that failed, too.
                repository = reference.rpartition(":")[0]
                for one in {reference, *await place.images(shell, repository)}:
                    await place.drop_image(shell, one)
            await places.forget(shell)
        log(f"{ctx['host']}: agent, data and image are gone")

    async def drop(self, ctx: dict[str, Any], reference: str) -> None:
        """An image that nothing is made of any more."""
        async with self._hosts.open(ctx["device_id"]) as shell:
            await PLACES[ctx["place"]].drop_image(shell, reference)

    async def _last_words(self, ctx: dict[str, Any]) -> list[str]:
        async with self._hosts.open(ctx["device_id"]) as shell:
            return await PLACES[ctx["place"]].last_words(shell)

    async def _place_of(self, device_id: str, shell: Shell) -> str:
        async with self._db.read() as tx:
            if await store.membership(tx, device_id) is not None:
                return "node"
        if await places.has_docker(shell):
            return "docker"
        raise NoEngineForAgent(host=shell.host.name)


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0] or address
    return host.startswith("127.") or host in {"localhost", "[::1]", "::1"}
