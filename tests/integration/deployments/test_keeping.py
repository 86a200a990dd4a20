"""Engines that no agent keeps (Docker over SSH, a cluster): the server does what an agent would."""

from datetime import timedelta

import pytest

from haechi.core.access import SYSTEM
from haechi.domains.deployments import keeping
from haechi.domains.deployments.model import DeploymentState
from haechi.protocol.desired import ContainerStatus, ObservedState
from haechi.protocol.problems import EngineAway
from haechi.testing.waiting import eventually

from .conftest import World


@pytest.fixture
async def ssh(world: World, monkeypatch) -> World:
    """The same world, its devices without agents."""
    monkeypatch.setattr(keeping, "LEAVE_ALONE", timedelta(0))
    world.engine.name = "docker-ssh"
    world.devices.connected.clear()
    return world


async def test_it_deploys_replaces_and_removes_without_an_agent(ssh):
    operation = await ssh.deploy("1")
    assert operation.state == "succeeded", operation.error
    (first,) = await ssh.running()
    assert first.engine == "docker-ssh"
    await ssh.devices.push("dev-a")
    desired = ssh.devices.desired["dev-a"]
    # Nothing is left to an agent that might come one day, but to know whose pods it has.
    assert desired.deployments == []
    assert [spec.deployment_id for spec in desired.workloads] == [first.id]

    assert (await ssh.deploy("2")).state == "succeeded"
    (second,) = await ssh.running()
    assert ssh.engine.running("dev-a") == [second.id]
    ended = await ssh.operations.wait(
        (await ssh.deployments.remove_deployment(second.id, by=SYSTEM)).id
    )
    assert ended.ctx["result"]["outcome"] == "removed"
    assert ssh.engine.running("dev-a") == []


async def test_a_container_that_vanished_comes_back(ssh):
    await ssh.deploy("1")
    (one,) = await ssh.running()
    del ssh.engine.containers["dev-a"][one.id]
    await eventually(lambda: ssh.engine.running("dev-a") == [one.id])
    assert (await ssh.deployments.book.get(one.id)).state == DeploymentState.RUNNING


async def test_its_image_is_pulled_again_where_that_is_gone_too(ssh):
    await ssh.deploy("1")
    (one,) = await ssh.running()
    ssh.engine.images["dev-a"].clear()
    del ssh.engine.containers["dev-a"][one.id]
    await eventually(lambda: ssh.engine.running("dev-a") == [one.id])
    assert ssh.engine.images["dev-a"] == {one.image}


async def test_removal_at_a_device_that_is_away_is_made_good_later(ssh):
    await ssh.deploy("1")
    (one,) = await ssh.running()
    ssh.engine.fail["remove"] = [EngineAway(detail="host is off")] * 3
    operation = await ssh.deployments.remove_deployment(one.id, by=SYSTEM)
    ended = await ssh.operations.wait(operation.id)
    assert ended.state == "succeeded"
    assert ended.ctx["result"]["outcome"] == "pending"
    await eventually(lambda: ssh.engine.running("dev-a") == [])

    async def state() -> str:
        return (await ssh.deployments.book.get(one.id)).state

    await eventually(lambda: ssh.engine.fail["remove"] == [])
    for _ in range(200):
        if await state() == "gone":
            break
        await ssh.deployments.keeper.look()
    assert await state() == "gone"


async def test_what_the_engine_says_is_shown_and_told(ssh):
    with ssh.bus.subscribe({"states"}) as news:
        await ssh.deploy("1")
        (one,) = await ssh.running()
        await ssh.deployments.keeper.look()
        shown = await ssh.deployments.book.get(one.id)
        assert shown.observed is not None
        assert shown.observed.state == "running"
        async for message in news:
            if message.data.get("observed") == "running":
                break


async def test_results_that_came_straight_to_the_server_prove_it(ssh):
    ssh.versions.change("ver-1", ready="result")
    ssh.engine.behaviour[ssh.image("1")] = "up"
    operation = await ssh.begin_deploy("1")
    await eventually(lambda: ssh.engine.running("dev-a"))
    (deployment_id,) = ssh.engine.running("dev-a")
    ssh.deployments.heard_results(deployment_id, 3, 1_000)
    ended = await ssh.operations.wait(operation.id)
    assert ended.state == "succeeded", ended.error
    await ssh.deployments.keeper.look()
    shown = await ssh.deployments.book.get(deployment_id)
    assert (shown.observed.results, shown.observed.first_result_ms) == (3, 1_000)


async def test_ready_counts_only_where_an_agent_hears_it(ssh):
    """The SDK's ready() goes to the agent; without one, staying up has to do."""
    ssh.versions.change("ver-1", ready="sdk")
    ssh.engine.behaviour[ssh.image("1")] = "up"
    assert (await ssh.deploy("1")).state == "succeeded"


async def test_the_word_of_the_nodes_agent_counts(ssh):
    """A pod's results go to the agent of its node, which tells of them in its state."""
    ssh.devices.connected.add("dev-a")
    ssh.versions.change("ver-1", ready="sdk")
    ssh.engine.behaviour[ssh.image("1")] = "up"
    operation = await ssh.begin_deploy("1")
    await eventually(lambda: ssh.engine.running("dev-a"))
    (deployment_id,) = ssh.engine.running("dev-a")
    said = ContainerStatus(deployment_id, "running", ready_ms=5, results=2, first_result_ms=6)
    ssh.devices.report("dev-a", ObservedState(revision=1, deployments=[said]))
    ended = await ssh.operations.wait(operation.id)
    assert ended.state == "succeeded", ended.error
    # And its silence about what is no business of its own removes nothing.
    ssh.devices.report("dev-a", ObservedState(revision=99))
    await eventually(lambda: not ssh.deployments.is_comparing)
    assert (await ssh.deployments.book.get(deployment_id)).state == "running"


async def test_only_tokens_that_no_agent_carries_are_good_from_anywhere(ssh):
    await ssh.deploy("1")
    (alone,) = await ssh.running()
    ssh.engine.name = "kubernetes"
    await ssh.deploy("1", "dev-b")
    (pod,) = await ssh.running("dev-b")
    assert alone.id in ssh.tokens.direct
    assert pod.id not in ssh.tokens.direct
