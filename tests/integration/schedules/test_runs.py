"""Runs: once at their time, in maintenance hours, late, missed, killed half-way."""

from datetime import timedelta

import pytest

from haechi.domains.schedules.model import (
    BadCron,
    DuplicateSchedule,
    Hours,
    NeverDue,
    OneTime,
    RunState,
    StillRunning,
)
from haechi.errors import Busy, NotFound, StaleEdit

from .conftest import BY, START

NIGHT = Hours(["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "22:00", "05:00")


async def settled(world):
    """The runner has looked and sleeps again."""
    await world.eventually(lambda: world.clock._sleepers)


async def test_once_at_its_time_and_never_again(world):
    made = await world.create(at=START + timedelta(minutes=10))
    assert made.next_at == START + timedelta(minutes=10)
    await settled(world)
    await world.turn(599)
    assert await world.runs(made) == []
    await world.turn(2)
    (run,) = await world.ended(made)
    assert (run.state, run.due_at, run.errors) == ("succeeded", made.next_at, [])
    assert len(run.operations) == 1
    assert world.action.begun == [(("dev-a", "dev-b"), "nightly")]
    after = await world.schedules.get(made.id)
    assert (after.enabled, after.next_at) == (False, None)


async def test_again_and_again_by_cron(world):
    made = await world.create(cron="30 3 * * *")
    for day in 1, 2:
        await settled(world)
        due = (await world.schedules.get(made.id)).next_at
        await world.turn((due - world.clock.now()).total_seconds() + 1)
        assert len(await world.ended(made, day)) == day
    assert [run.due_at - START for run in await world.runs(made)] == [
        timedelta(days=1, hours=15, minutes=30),
        timedelta(hours=15, minutes=30),
    ]


async def test_an_action_without_devices(world):
    made = await world.create(action="back_up_cluster", at=START + timedelta(minutes=1))
    await settled(world)
    await world.turn(61)
    (run,) = await world.ended(made)
    assert run.state == "succeeded"
    assert world.backup.begun == [((), "nightly")]


async def test_each_device_in_its_maintenance_hours(world):
    await world.schedules.set_maintenance("dev-b", [NIGHT], by=BY, revision=0)
    made = await world.create(at=START + timedelta(minutes=10))
    await settled(world)
    await world.turn(601)
    await world.eventually(lambda: world.action.begun)

    async def waits():
        return [(run.waiting, run.state) for run in await world.runs(made)] == [
            (["dev-b"], RunState.WAITING)
        ]

    await world.eventually(waits)
    assert world.action.begun == [(("dev-a",), "nightly")]

    async def night_comes():
        await world.clock.advance(60)
        return len(world.action.begun) == 2

    await world.eventually(night_comes)
    assert (world.clock.now() - START) >= timedelta(hours=10)
    (run,) = await world.ended(made)
    assert (run.state, run.waiting) == ("succeeded", [])
    assert world.action.begun[1] == (("dev-b",), "nightly")
    assert len(run.operations) == 2


async def test_by_hand_maintenance_hours_are_not_waited_for(world):
    await world.schedules.set_maintenance("dev-a", [NIGHT], by=BY, revision=0)
    made = await world.create(cron="0 0 1 1 *")
    await world.schedules.run_schedule(made.id, by=BY)
    (run,) = await world.ended(made)
    assert run.state == "succeeded"
    assert world.action.begun == [(("dev-a", "dev-b"), "nightly")]
    assert (await world.schedules.get(made.id)).next_at == made.next_at


async def test_late_but_in_time_counts_once(world):
    made = await world.create(cron="*/30 * * * *", catch_up_s=3600)
    await world.kill()
    world.clock.set_wall(START + timedelta(hours=5, minutes=20))
    await world.revive()
    (run,) = await world.ended(made)
    assert (run.state, run.due_at) == ("succeeded", START + timedelta(hours=5))


async def test_too_late_is_recorded_as_missed(world):
    made = await world.create(cron="0 12 * * *", catch_up_s=60)
    await world.kill()
    world.clock.set_wall(START + timedelta(days=1, hours=3))
    await world.revive()
    (run,) = await world.ended(made)
    assert (run.state, run.operations) == ("missed", [])
    assert world.action.begun == []
    assert (await world.schedules.get(made.id)).next_at == START + timedelta(days=2)


async def test_a_run_that_still_goes_on_lets_the_next_be_skipped(world):
    world.go.clear()
    made = await world.create(cron="*/10 * * * *")
    await settled(world)
    await world.turn(601)

    async def runs():
        return [run.state for run in await world.runs(made)] == ["running"]

    await world.eventually(runs)
    await settled(world)
    await world.turn(600)
    skipped, running = await world.ended(made)
    assert (skipped.state, running.state) == ("skipped", "running")
    with pytest.raises(StillRunning):
        await world.schedules.run_schedule(made.id, by=BY)
    world.go.set()
    newest, first = await world.ended(made, 2)
    assert (newest.state, first.state) == ("skipped", "succeeded")


async def test_killed_half_way_it_goes_on_with_what_was_begun(world):
    world.go.clear()
    made = await world.create(at=START + timedelta(minutes=1))
    await settled(world)
    await world.turn(61)

    async def begun():
        return [one for run in await world.runs(made) for one in run.operations]

    (operation,) = await world.eventually(begun)
    await world.kill()
    await world.revive()
    world.go.set()
    (run,) = await world.ended(made)
    assert (run.state, run.operations) == ("succeeded", [operation])
    assert world.action.begun == []  # the new process began nothing


async def test_what_is_refused_is_told(world):
    world.action.refuse = Busy(subject="dev-a", operation_id="op-1", kind="deploy_to_device")
    made = await world.create(at=START + timedelta(minutes=1))
    await settled(world)
    await world.turn(61)
    (run,) = await world.ended(made)
    assert run.state == "failed"
    (error,) = run.errors
    assert (error["code"], error["device_ids"]) == ("core.busy", ["dev-a", "dev-b"])


async def test_targets_that_are_gone_are_told(world):
    world.action.there.clear()
    made = await world.create(at=START + timedelta(minutes=1))
    await settled(world)
    await world.turn(61)
    (run,) = await world.ended(made)
    assert [error["code"] for error in run.errors] == ["schedules.nothing_to_do"]


async def test_a_cancelled_operation_is_no_success(world):
    world.go.clear()
    made = await world.create(at=START + timedelta(minutes=1))
    await settled(world)
    await world.turn(61)

    async def begun():
        return [one for run in await world.runs(made) for one in run.operations]

    (operation,) = await world.eventually(begun)
    await world.operations.cancel(operation)
    (run,) = await world.ended(made)
    assert run.state == "failed"
    assert run.errors[0]["data"] == {"operation_id": operation, "state": "cancelled"}


async def test_a_deleted_schedule_ends_its_runs_and_leaves_operations(world):
    world.go.clear()
    made = await world.create(at=START + timedelta(minutes=1))
    await settled(world)
    await world.turn(61)
    await world.eventually(lambda: world.action.begun)
    await world.schedules.delete_schedule(made.id, by=BY)
    with pytest.raises(NotFound):
        await world.schedules.get(made.id)
    world.go.set()
    page = await world.operations.find()
    assert (await world.operations.wait(page.items[0].id)).state == "succeeded"


async def test_edits(world):
    made = await world.create(cron="0 12 * * *")
    moved = await world.schedules.edit_schedule(
        made.id, {"at": START + timedelta(hours=1)}, by=BY, revision=1
    )
    assert (moved.cron, moved.next_at) == (None, START + timedelta(hours=1))
    with pytest.raises(StaleEdit):
        await world.schedules.edit_schedule(made.id, {"name": "x"}, by=BY, revision=1)
    paused = await world.schedules.edit_schedule(made.id, {"enabled": False}, by=BY, revision=2)
    await settled(world)
    await world.turn(3700)
    assert (paused.enabled, await world.runs(made)) == (False, [])
    with pytest.raises(NeverDue):
        await world.schedules.edit_schedule(made.id, {"enabled": True}, by=BY, revision=3)
    back = await world.schedules.edit_schedule(
        made.id, {"cron": "@daily", "enabled": True}, by=BY, revision=3
    )
    assert (back.cron, back.at) == ("0 0 * * *", None)


async def test_what_cannot_be_saved(world):
    await world.create(cron="@daily")
    with pytest.raises(DuplicateSchedule):
        await world.create(cron="@daily")
    with pytest.raises(OneTime):
        await world.create("b", cron="@daily", at=START + timedelta(days=1))
    with pytest.raises(OneTime):
        await world.create("b")
    with pytest.raises(NeverDue):
        await world.create("b", at=START)
    with pytest.raises(BadCron):
        await world.create("b", cron="0 0 31 2 *")
    assert len((await world.schedules.find()).items) == 1
