"""What a dead device should run moves to the one that replaces it."""

from dataclasses import replace

import pytest

from haechi.core.tasks import Tasks
from haechi.domains.agents.model import NotConnected
from haechi.domains.deployments.model import WorkNotMoved
from haechi.domains.deployments.moving import Moving
from haechi.protocol.problems import EngineFailed
from haechi.testing.waiting import eventually


@pytest.fixture
def moving(world):
    return Moving(
        context=world.deployments.context,
        deployments=world.deployments,
        operations=world.operations,
    )


async def move(world, moving):
    lines = []
    await moving.move_work("dev-a", "dev-b", by="kim", log=lines.append)
    return lines


async def test_deployments_and_cameras_move_with_their_settings(world, moving):
    await world.deploy("2", environment={"MODE": "night"}, fps=7.0)
    world.devices.connected.discard("dev-a")
    lines = await move(world, moving)
    moved = (await world.running("dev-b"))[0]
    assert (moved.version, moved.wishes.environment, moved.wishes.fps) == (
        "2",
        {"MODE": "night"},
        7.0,
    )
    assert await world.assigned(device_id="dev-b") == {"cam-1": "2", "cam-2": "2"}

    async def ended() -> bool:
        return await world.running("dev-a") == []

    await eventually(ended)  # by operations of their own
    assert world.places.cameras == {"cam-1": "dev-b", "cam-2": "dev-b", "cam-3": "dev-b"}
    assert any("asked for by kim" in line for line in lines)


async def test_a_new_place_that_is_cut_off_for_a_while_is_waited_for(world, moving):
    """Longer than an engine that does not answer gets: nobody would move it a second time."""
    await world.deploy("1")
    world.devices.connected -= {"dev-a", "dev-b"}
    world.engine.away["dev-b"] = NotConnected(device_id="dev-b")
    world.deployments.context.pace = replace(world.deployments.context.pace, away_s=0.0)
    tasks = Tasks("moving")
    moved = tasks.spawn("move", move(world, moving))
    asked = len(world.engine.calls)
    await eventually(lambda: moved.done() or len(world.engine.calls) > asked + 20)
    world.engine.away.clear()
    world.devices.connected.add("dev-b")
    await moved
    assert [one.version for one in await world.running("dev-b")] == ["1"]


async def test_doing_it_again_changes_nothing(world, moving):
    await world.deploy("1")
    world.devices.connected.discard("dev-a")
    await move(world, moving)
    moved = await world.running("dev-b")
    await move(world, moving)
    assert [one.id for one in await world.running("dev-b")] == [one.id for one in moved]


async def test_what_is_refused_stays_as_it_was_and_is_named(world, moving):
    await world.deploy("1")
    world.devices.connected.discard("dev-a")
    world.engine.fail["start"] = [EngineFailed(reason="no such device") for _ in range(9)]
    with pytest.raises(WorkNotMoved) as caught:
        await move(world, moving)
    assert caught.value.data["failures"][0]["error"]["code"] == EngineFailed.code
    assert [one.version for one in await world.running("dev-a")] == ["1"]
    assert await world.assigned(device_id="dev-a") == {"cam-1": "1", "cam-2": "1"}
