"""Schedules on a real control DB and operations engine, with a turned clock and an action that
writes down what it was asked.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from haechi.core.access import Principal, Role
from haechi.core.bus import Bus
from haechi.core.clock import SystemClock, to_ms
from haechi.core.db import Database
from haechi.core.operations import Definition, Operations, Step
from haechi.domains.audit.service import Audit
from haechi.domains.schedules import Schedules
from haechi.domains.schedules.model import BadArguments
from haechi.errors import Text
from haechi.testing.clock import FakeClock
from haechi.testing.waiting import eventually

BY = Principal(kind="user", id="usr-aaaaaaaaaaaaaaaa", name="kim", role=Role.OPERATOR)
START = datetime(2026, 11, 30, 3, 0, tzinfo=UTC)  # Monday, 12:00 in Seoul


class Site:
    async def timezone(self) -> str:
        return "Asia/Seoul"

    async def device_id(self, ref: str) -> str:
        return ref


@dataclass
class Action:
    """Starts an operation `act` per call, which succeeds when `go` is set."""

    operations: Operations
    by_device: bool = True
    there: list[str] = field(default_factory=lambda: ["dev-a", "dev-b"])
    begun: list[tuple[tuple[str, ...], str]] = field(default_factory=list)
    refuse: Exception | None = None

    async def check(self, arguments, by):
        if "wrong" in arguments:
            raise BadArguments(action="deploy_package", reason="wrong")
        return dict(arguments)

    async def devices(self, arguments):
        return list(self.there) if self.by_device else []

    async def begin(self, arguments, device_ids, by):
        if self.refuse is not None:
            raise self.refuse
        self.begun.append((tuple(device_ids), by.name))
        subject = f"act-{len(self.begun)}"
        return [await self.operations.start("act", subject, {}, requested_by=by.name)]


@dataclass
class World:
    path: Path
    clock: FakeClock = field(default_factory=lambda: FakeClock(START))
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def begin(self) -> None:
        self.db = Database(self.path / "control.db")
        await self.db.create_all()
        self.go.set()
        await self.revive()

    async def revive(self) -> None:
        """A new server process on the same data."""
        clock = SystemClock()
        bus = Bus(lambda: to_ms(clock.now()))
        self.operations = Operations(self.db, bus, clock, self.path / "operations")

        async def act(run) -> None:
            await self.go.wait()

        step = Step("act", Text("행동", "act"), act)
        self.operations.register(Definition("act", Text("행동", "act"), [step]))
        self.action = Action(self.operations)
        self.backup = Action(self.operations, by_device=False)
        self.schedules = Schedules(
            db=self.db,
            bus=bus,
            clock=self.clock,
            audit=Audit(db=self.db, clock=clock),
            operations=self.operations,
            site=Site(),
        )
        self.schedules.can("deploy_package", self.action)
        self.schedules.can("back_up_cluster", self.backup)
        await self.operations.start_engine()
        self.schedules.start()

    async def kill(self) -> None:
        await self.schedules.close()
        await self.operations.close()

    async def create(self, name="nightly", action="deploy_package", **when):
        return await self.schedules.create_schedule(name, action, {"x": 1}, by=BY, **when)

    async def runs(self, schedule):
        return (await self.schedules.runs(schedule.id)).items

    async def ended(self, schedule, count=1):
        """The schedule's runs, newest first, once so many have ended."""

        async def look():
            found = await self.runs(schedule)
            return found if len([one for one in found if one.state.ended]) >= count else None

        return await self.eventually(look)

    async def eventually(self, true):
        """Until `true()` is; sleepers whose time has come while the database worked are woken."""

        async def look():
            await self.clock.advance(0)
            value = true()
            return await value if asyncio.iscoroutine(value) else value

        return await eventually(look)

    async def turn(self, seconds: float) -> None:
        await self.clock.advance(seconds)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    await made.begin()
    yield made
    made.go.set()
    await made.kill()
    await made.db.close()
