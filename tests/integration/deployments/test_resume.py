"""kill -9 in the middle of every step: the next server process finishes or undoes the work."""

import asyncio

import pytest

from haechi.testing.waiting import eventually

STAGES = ["info", "has_image", "pull", "start", "status", "remove", "stop"]
ONLY_LOOKS = {"info", "has_image", "status"}
CASES = [
    pytest.param(strategy, stage, after, id=f"{strategy}-{stage}-{'after' if after else 'before'}")
    for strategy in ("overlap", "recreate")
    for stage in STAGES
    for after in (False, True)
    # Overlap stops nothing before the new one is proven; what only looks leaves nothing behind.
    if (strategy, stage) != ("overlap", "stop") and not (after and stage in ONLY_LOOKS)
]


@pytest.mark.parametrize(("strategy", "stage", "after"), CASES)
async def test_killed_in_a_stage(world, strategy, stage, after):
    await world.deploy("1")
    first = await world.check_one("1")
    gates = world.engine.hold_after if after else world.engine.hold
    gates[stage] = asyncio.Event()
    operation = await world.begin_deploy("2", strategy=strategy)
    await eventually(world.engine.held.is_set)
    await world.kill()
    gates.pop(stage).set()
    assert not (await world.operations.get(operation.id)).state.ended
    if strategy == "overlap":
        assert world.engine.running("dev-a")  # the AI never stopped
    await world.revive()
    ended = await world.operations.wait(operation.id)
    assert ended.state == "succeeded", ended.error
    one = await world.check_one("2")
    assert await world.assigned() == {"cam-1": "2", "cam-2": "2"}
    assert set(world.engine.containers["dev-a"]) == {one.id}  # nothing made twice, nothing left
    assert world.tokens.issued == [first.id, one.id]
    assert one.generation == first.generation + 1


@pytest.mark.parametrize("strategy", ["overlap", "recreate"])
async def test_killed_while_a_bad_version_is_undone(world, strategy):
    await world.deploy("1")
    first = await world.check_one("1")
    world.engine.behaviour[world.image("2")] = "crash"
    gate = world.engine.hold["remove"] = asyncio.Event()
    operation = await world.begin_deploy("2", strategy=strategy)
    await eventually(world.engine.held.is_set)
    await world.kill()
    del world.engine.hold["remove"]
    gate.set()
    await world.revive()
    ended = await world.operations.wait(operation.id)
    assert ended.state == "failed"
    assert (await world.check_one("1")).id == first.id
    assert await world.assigned() == {"cam-1": "1", "cam-2": "1"}


async def test_killed_parent_finds_its_children(world):
    gate = world.engine.hold["info"] = asyncio.Event()
    operation = await world.begin_deploy("1", "dev-a", "dev-b")
    await eventually(world.engine.held.is_set)
    await world.kill()
    del world.engine.hold["info"]
    gate.set()
    await world.revive()
    ended = await world.operations.wait(operation.id)
    assert ended.state == "succeeded"
    children = await world.operations.find(parent_id=operation.id)
    assert len(children.items) == 2
    await world.check_one("1", "dev-a")
    await world.check_one("1", "dev-b")
