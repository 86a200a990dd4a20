"""SwitchByWeather: the AI for the weather that is, instead of the one for the weather that was.

New beside old, proven, then the old goes; where the new one fails, the old one never noticed. A
reading is judged at once and never waits: the switch is an operation of its own.
"""

import logging
from dataclasses import dataclass
from typing import Any, Final

from haechi.core.access import SYSTEM, Principal
from haechi.core.clock import Clock
from haechi.core.db import Database
from haechi.core.ids import new_id
from haechi.core.operations import Definition, Operation, Operations, Permanent, Run, State, Step
from haechi.domains.collaboration import store
from haechi.domains.collaboration.model import (
    ENVIRONMENT,
    Decision,
    Reading,
    Reason,
    RunningAi,
    SwitchFailed,
    Verdict,
    class_name,
    newest,
)
from haechi.domains.collaboration.ports import Ais, Deployer
from haechi.errors import AppError, Busy, Text, catalogue
from haechi.settings import CollaborationSettings

log = logging.getLogger(__name__)

POLICY: Final = "switch_by_weather"


@dataclass
class _Streak:
    """Since when readings of one class follow each other without a gap."""

    class_: str
    since_s: float
    last_s: float


class SwitchByWeather:
    """Call `start` once the stores are open, before the operations engine starts."""

    def __init__(
        self,
        *,
        db: Database,
        clock: Clock,
        operations: Operations,
        ais: Ais,
        deployer: Deployer,
        settings: CollaborationSettings,
    ) -> None:
        self._db = db
        self._clock = clock
        self._operations = operations
        self._ais = ais
        self._deployer = deployer
        self._settings = settings
        self._streaks: dict[str, _Streak] = {}
        self._stay_until_s: dict[tuple[str, str], float] = {}
        self._told: dict[tuple[str, str], tuple[str, str]] = {}
        operations.register(self._definition())

    async def start(self) -> None:
        """Remember minimum stays across a restart."""
        async with self._db.read() as tx:
            attempts = await store.last_attempts(tx, POLICY)
        now, now_s = self._clock.now(), self._clock.monotonic()
        for key, at in attempts.items():
            age_s = (now - at).total_seconds()
            self._stay_until_s[key] = now_s + self._settings.weather_minimum_stay_s - age_s

    async def read(self, reading: Reading, *, by: Principal = SYSTEM) -> list[Verdict]:
        """Judge one reading, for each AI that runs on the device. Raises UnknownClass."""
        wanted = class_name(reading.class_)
        sure = reading.confidence >= self._settings.weather_confidence
        held_s = self._note(reading.device_id, wanted) if sure else 0.0
        verdicts = []
        for ai in await self._ais.running_on(reading.device_id):
            if not ai.version.variant.class_:
                continue
            verdicts.append(await self._judge(ai, wanted, reading, held_s, sure=sure, by=by))
        return verdicts

    async def decisions(self, device_id: str | None = None, limit: int = 100) -> list[Decision]:
        async with self._db.read() as tx:
            return await store.find(tx, device_id=device_id, policy=POLICY, limit=limit)

    def _note(self, device_id: str, class_: str) -> float:
        """How long the class has been the same; a silence as long as the dwell starts anew."""
        now_s = self._clock.monotonic()
        streak = self._streaks.get(device_id)
        gap_s = max(self._settings.weather_dwell_s, 2.0)
        if streak is None or streak.class_ != class_ or now_s - streak.last_s > gap_s:
            streak = self._streaks[device_id] = _Streak(class_, now_s, now_s)
        streak.last_s = now_s
        return now_s - streak.since_s

    async def _judge(
        self,
        ai: RunningAi,
        wanted: str,
        reading: Reading,
        held_s: float,
        *,
        sure: bool,
        by: Principal,
    ) -> Verdict:
        variant = ai.version.variant
        family = variant.family
        idle = _idle(variant.class_, wanted, sure=sure)
        if idle is not None:
            if idle == "class_runs_already":
                self._told.pop((ai.device_id, family), None)
            return Verdict(family, "none", idle)
        candidates = await self._ais.built_for(family, wanted)
        best = newest(candidates)
        values = {
            "class": wanted,
            "confidence": reading.confidence,
            "held_s": round(held_s, 1),
            "running_class": variant.class_,
            "running_version_id": ai.version.version_id,
        }
        if best is None:
            verdict = Verdict(family, "refused", "no_package")
            await self._keep(ai.device_id, verdict, values, [])
            return verdict
        hindrance = await self._hindrance(ai.device_id, family, held_s)
        if hindrance is not None:
            return hindrance
        try:
            operation = await self._begin(ai, best.version_id, wanted, by)
        except Busy as busy:
            held_by = str(busy.data["operation_id"])
            return Verdict(family, "in_progress", "switch_in_flight", held_by)
        verdict = Verdict(family, "started", "weather_changed", operation.id, best.version_id)
        await self._keep(
            ai.device_id, verdict, values, [candidate.version_id for candidate in candidates]
        )
        return verdict

    async def _hindrance(self, device_id: str, family: str, held_s: float) -> Verdict | None:
        holder = await self._operations.active_on(_subject(device_id))
        if holder is not None:
            return Verdict(family, "in_progress", "switch_in_flight", holder.id)
        if held_s < self._settings.weather_dwell_s:
            return Verdict(family, "waiting", "not_steady")
        if self._clock.monotonic() < self._stay_until_s.get((device_id, family), float("-inf")):
            return Verdict(family, "waiting", "minimum_stay")
        return None

    async def _keep(
        self, device_id: str, verdict: Verdict, values: dict[str, Any], candidates: list[str]
    ) -> None:
        """Once, not every second while nothing changes."""
        told = (verdict.action, str(values["class"]))
        key = (device_id, verdict.family)
        if verdict.action != "started" and self._told.get(key) == told:
            return
        self._told[key] = told
        decision = Decision(
            id=new_id("decision"),
            at=self._clock.now(),
            policy=POLICY,
            device_id=device_id,
            family=verdict.family,
            action=verdict.action,
            reason=verdict.reason,
            values=values,
            candidates=candidates,
            operation_id=verdict.operation_id,
        )
        async with self._db.write() as tx:
            store.add(tx, decision)

    # --- the operation

    async def _begin(self, ai: RunningAi, version_id: str, class_: str, by: Principal) -> Operation:
        return await self._operations.start(
            POLICY,
            _subject(ai.device_id),
            {
                "device_id": ai.device_id,
                "family": ai.version.variant.family,
                "class": class_,
                "version_id": version_id,
                "old_version_id": ai.version.version_id,
                "old": ai.deployment_ids,
            },
            requested_by=by.name,
        )

    def _definition(self) -> Definition:
        return Definition(
            kind=POLICY,
            title=Text("날씨에 맞춰 AI 전환", "Switch the AI by weather"),
            steps=[
                Step(
                    "deploy",
                    Text("새 AI를 나란히 실행하고 확인", "Start the new AI beside and prove it"),
                    self._deploy,
                    self._undo_deploy,
                    timeout_s=4 * 3600,
                ),
                Step("retire", Text("이전 AI 정리", "Retire the old AI"), self._retire),
            ],
            parallel=32,
            on_end=self._ended,
        )

    async def _deploy(self, run: Run) -> None:
        ctx = run.ctx
        if "deploy_operation" not in ctx:
            like = RunningAi(
                ctx["device_id"], await self._ais.version(ctx["old_version_id"]), ctx["old"]
            )
            started = await self._deployer.deploy_beside(ctx["version_id"], like, SYSTEM)
            ctx["deploy_operation"] = started.id
            await run.save()
        run.log(f"deploy: operation {ctx['deploy_operation']}")
        ended = await self._operations.wait(ctx["deploy_operation"])
        if ended.state != State.SUCCEEDED:
            raise Permanent(_error_of(ended, ctx))
        run.progress(0.8, "")

    async def _undo_deploy(self, run: Run) -> None:
        """Cancelled before the old one was touched: the new one goes."""
        ctx = run.ctx
        if ctx.get("retiring") or "deploy_operation" not in ctx:
            return
        started = await self._operations.get(ctx["deploy_operation"])
        if not started.state.ended:
            if started.state != State.CANCELLING:
                await self._operations.cancel(started.id)
            started = await self._operations.wait(started.id)
        if started.state != State.SUCCEEDED:
            return
        for row in started.ctx.get("result", {}).get("devices", []):
            if row.get("outcome") != "unchanged":
                for deployment_id in row.get("deployment_ids", []):
                    await self._deployer.remove(deployment_id, SYSTEM)

    async def _retire(self, run: Run) -> None:
        """The new one is proven: from here on there is no way back."""
        ctx = run.ctx
        ctx["retiring"] = True
        await run.save()
        for deployment_id in ctx["old"]:
            removal = await self._deployer.remove(deployment_id, SYSTEM)
            if removal is None:
                continue
            ended = await self._operations.wait(removal.id)
            run.log(f"removed {deployment_id}: {ended.state}")
            if ended.state != State.SUCCEEDED:
                raise Permanent(_error_of(ended, ctx))

    async def _ended(self, operation: Operation) -> None:
        """Whatever came of it, the AI that runs now stays for a while."""
        ctx = operation.ctx
        stay_s = self._settings.weather_minimum_stay_s
        self._stay_until_s[ctx["device_id"], ctx["family"]] = self._clock.monotonic() + stay_s
        async with self._db.write() as tx:
            await store.end(tx, operation.id, operation.state.value, self._clock.now())


def _idle(running: str, wanted: str, *, sure: bool) -> Reason | None:
    """Why this AI is not concerned; None where it is."""
    if not sure:
        return "confidence_low"
    if ENVIRONMENT in {wanted, running}:
        return "environment_class"
    return "class_runs_already" if running == wanted else None


def _subject(device_id: str) -> str:
    return f"{POLICY}/{device_id}"


def _error_of(operation: Operation, ctx: dict[str, Any]) -> AppError:
    error = operation.error or {}
    cls = catalogue().get(str(error.get("code")))
    if cls is None:
        return SwitchFailed(device_id=ctx["device_id"], family=ctx["family"])
    return cls(**error["data"])
