"""A device that another operation has for itself (its node leaves a cluster) is left alone."""

import asyncio

import pytest

from haechi.core.access import SYSTEM
from haechi.core.operations import Definition, Step
from haechi.errors import Busy, Text

WORDS = Text("일", "work")


async def test_nothing_is_deployed_rolled_back_or_removed_there(world):
    await world.deploy("1")
    await world.deploy("2")
    now = await world.check_one("2")
    gate = asyncio.Event()

    async def do(_run):
        await gate.wait()

    world.operations.register(Definition("remove_node", WORDS, [Step("do", WORDS, do)]))
    leaving = await world.operations.start(
        "remove_node", "clu-1", {}, requested_by="kim", claims=["dev-a"]
    )
    for refused in (
        world.begin_deploy("3"),
        world.deployments.rollback_deployment(now.id, by=SYSTEM),
        world.deployments.remove_deployment(now.id, by=SYSTEM),
    ):
        with pytest.raises(Busy) as caught:
            await refused
        assert caught.value.data["operation_id"] == leaving.id
    # Of several devices, this one is told; the others get it.
    several = await world.deploy("3", "dev-a", "dev-b")
    there, elsewhere = several.ctx["result"]["devices"]
    assert there["error"]["code"] == "core.busy"
    assert there["error"]["data"]["operation_id"] == leaving.id
    assert elsewhere["state"] == "succeeded"
    await world.check_one("2")
    gate.set()
    await world.operations.wait(leaving.id)
    assert (await world.deploy("3")).state == "succeeded"
