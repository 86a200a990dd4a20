"""Waiting until the new containers on a device have proven that they work, or have not.

What proof is says `proof`; here the device is asked again and again, waited for where it is cut
off, and believed only where it is really there.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from haechi.core.operations import Permanent, Run
from haechi.domains.deployments import store
from haechi.domains.deployments.context import SHOWN_LINES, TAIL_LINES, Context, render_line
from haechi.domains.deployments.model import (
    KEPT_BY_AGENT,
    Deployment,
    DeploymentState,
    NotProven,
    ReadyBy,
    Withdrawn,
)
from haechi.domains.deployments.proof import Proof
from haechi.errors import AppError, Unavailable
from haechi.protocol.commands import EngineInfo
from haechi.protocol.desired import ContainerStatus

_T = TypeVar("_T")


class Proving:
    def __init__(self, context: Context) -> None:
        self._c = context
        self._news: dict[str, asyncio.Event] = {}

    def heard(self, device_id: str) -> None:
        """The device has reported: whoever waits looks again at once."""
        event = self._news.get(device_id)
        if event is not None:
            event.set()

    async def prove(self, run: Run, units: list[Deployment]) -> None:
        """Returns when all of them have. Raises NotProven, Withdrawn, or what keeps the device
        away, all for good.
        """
        c, ctx = self._c, run.ctx
        new = {one.id: one for one in units}
        proofs = {
            one.id: Proof(
                ready=self._heard_by(one),
                within_s=one.needs.get("within_s") or c.pace.within_s,
                uptime_s=c.pace.uptime_s,
            )
            for one in new.values()
        }
        news = self._news[ctx["device_id"]] = asyncio.Event()
        try:
            while proofs:
                news.clear()
                await self._must_be_wanted(run, list(proofs))
                for status in await self._status(run, proofs):
                    proof, one = proofs[status.deployment_id], new[status.deployment_id]
                    verdict = proof.judge(status, c.clock.monotonic())
                    if verdict == "failed":
                        await self._disproven(run, one, proof.reason)
                    if verdict == "proven" and await self._is_there(run, one, proof):
                        run.log(f"{one.id} is proven ({proof.reason})")
                        del proofs[one.id]
                if proofs:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(c.pace.poll_s):
                            await news.wait()
        finally:
            self._news.pop(ctx["device_id"], None)

    def _heard_by(self, one: Deployment) -> ReadyBy | None:
        """What the package wants to be proven by; `ready()` only where an agent hears it."""
        wanted: ReadyBy | None = one.needs.get("ready")
        heard = one.engine == KEPT_BY_AGENT or self._c.devices.is_connected(one.device_id)
        return None if wanted == "sdk" and not heard else wanted

    async def _status(self, run: Run, proofs: dict[str, Proof]) -> list[ContainerStatus]:
        """Ask; while the device is cut off, the time to prove itself stands still."""
        c, ctx = self._c, run.ctx
        engine = ctx.get("engine", KEPT_BY_AGENT)
        statuses, took_s, was_cut_off = await self._patiently(
            run, list(proofs), lambda: c.status(ctx["device_id"], list(proofs), engine=engine)
        )
        for proof in proofs.values():
            if was_cut_off:
                proof.interrupt()
            if proof.began_s is not None and took_s > c.pace.poll_s:
                proof.began_s += took_s
        return [status for status in statuses if status.deployment_id in proofs]

    async def _is_there(self, run: Run, one: Deployment, proof: Proof) -> bool:
        """Staying up is no word of the AI's own, and an engine may remember for most of a minute
        what a host said before it lost its power: the host itself must answer now. Where it had to
        be waited for, its AI proves itself from the beginning.
        """
        c, ctx = self._c, run.ctx
        if proof.reason != "uptime" or ctx.get("engine", KEPT_BY_AGENT) == KEPT_BY_AGENT:
            return True

        def ask() -> Awaitable[EngineInfo]:
            return c.engine.info(ctx["device_id"])

        try:
            await ask()
        except Unavailable:
            await self._patiently(run, [one.id], ask)
            proof.interrupt()
            proof.began_s = None
            return False
        return True

    async def _patiently(
        self, run: Run, deployment_ids: list[str], ask: Callable[[], Awaitable[_T]]
    ) -> tuple[_T, float, bool]:
        """The answer, how many seconds it took, and whether the device had to be waited for.
        Raises Unavailable, for good, where it stays cut off.
        """
        c, ctx = self._c, run.ctx
        engine = ctx.get("engine", KEPT_BY_AGENT)
        began_s = c.clock.monotonic()
        was_cut_off = False
        while True:
            try:
                return await ask(), c.clock.monotonic() - began_s, was_cut_off
            except AppError as error:
                await self._must_be_wanted(run, deployment_ids)
                if not isinstance(error, Unavailable):
                    raise
                was_cut_off = True
                lost_s = c.clock.monotonic() - began_s
                if lost_s > c.pace.link_s:
                    raise Permanent(error) from error
                run.log(f"-- {error}; waiting for the device")
                if engine != KEPT_BY_AGENT or await c.devices.wait_connected(
                    ctx["device_id"], c.pace.link_s - lost_s
                ):
                    await asyncio.sleep(c.pace.poll_s)

    async def _must_be_wanted(self, run: Run, deployment_ids: list[str]) -> None:
        async with self._c.db.read() as tx:
            await refuse_withdrawn(tx, run, deployment_ids)

    async def _disproven(self, run: Run, one: Deployment, reason: str) -> None:
        lines = [render_line(line) for line in await self._c.tail(one)]
        for line in lines[-TAIL_LINES:]:
            run.log(f"   | {line}")
        async with self._c.db.write() as tx:
            await store.change_deployments(tx, [one.id], message=reason[:500])
        raise Permanent(
            NotProven(
                version=one.version,
                device=run.ctx["result"]["device"],
                device_id=one.device_id,
                deployment_id=one.id,
                reason=reason,
                log=[line[:400] for line in lines[-SHOWN_LINES:]],
            )
        )


async def refuse_withdrawn(tx: AsyncSession, run: Run, deployment_ids: list[str]) -> None:
    """Raises Withdrawn, for good, where somebody has taken one of them away meanwhile."""
    for one in await store.deployments(tx, deployment_ids):
        if one.state in {DeploymentState.STOPPING, DeploymentState.GONE}:
            device = run.ctx["result"]["device"]
            raise Permanent(Withdrawn(version=one.version, device=device, deployment_id=one.id))
