"""Faults while an AI is brought to a cluster's node, on one cluster and through a whole server: what
runs goes on, what was begun ends well or is taken back whole, and it is said which host it was.
"""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from lab import faults

from .deploying import Scene, opened

pytestmark = pytest.mark.asyncio(loop_scope="module")

OUTAGE_S = 60.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(bundle, tmp_path_factory) -> AsyncIterator[Scene]:
    async with opened(bundle, tmp_path_factory.mktemp("faults") / "data") as made:
        yield made


async def test_the_api_is_away_for_a_minute(scene: Scene):
    old = await scene.containers()
    operation = await scene.begin("2", strategy="overlap")
    await scene.yard.until_step(operation, "prove")
    before, running = await scene.pods(), await scene.containers()
    assert old < running
    async with faults.unplugged(scene.master):
        gone_at, told = await scene.ticks("1"), await scene.ticks("2")
        await asyncio.sleep(OUTAGE_S)
        assert await scene.containers() == running
        assert await scene.ticks("1") > gone_at
        assert await scene.ticks("2") > told
    ended = await scene.yard.ended(operation)
    assert "waiting for the device" in await scene.yard.log(ended)
    await scene.yard.until("the old one is gone", lambda: scene.there("2"))
    # The very pod that was begun before the outage.
    assert set(await scene.pods()) < set(before)
    assert await scene.containers() < running


GPU_TOOL = """\
containerd config dump | grep -v -e '^imports' -e 'config_path' > /run/main.toml
cat /run/main.toml > /etc/containerd/config.toml
systemctl restart containerd"""
"""As tools that set up GPUs do: the main file is written anew of what they know, and read alone."""


async def test_a_gpu_tool_that_drops_the_registry_does_not_keep_the_image_away(scene: Scene):
    await scene.worker.shell(GPU_TOOL)
    reads = "containerd config dump | grep -q 'config_path.*certs.d'"
    assert not await scene.worker.holds(reads)
    await scene.yard.deploy(await scene.make("2.1"), scene.worker)
    assert await scene.worker.holds(reads)
    await scene.settled("2.1")


async def test_a_registry_that_is_away_is_waited_for(scene: Scene):
    version = await scene.make("3")
    before = await scene.pods()
    registry = scene.yard.haechi.registry_parts.names.pull
    await faults.partition(scene.worker, scene.yard.site.gateway)
    await faults.end_connections(
        scene.worker, scene.yard.site.gateway, int(registry.rpartition(":")[2])
    )
    try:
        operation = await scene.yard.begin_deploy(version, scene.worker)
        await scene.until_said(operation, "agent.registry_unreachable")
        assert await scene.pods() == before
    finally:
        await faults.partition(scene.worker)
    await scene.yard.ended(operation)
    await scene.yard.until("the new one is there", lambda: scene.there("3"))


async def test_an_image_that_the_node_lost_is_fetched_again(scene: Scene):
    (one,) = await scene.yard.running(scene.worker)
    before = await scene.pods()
    digest = one["image"].partition("@")[2]
    held = f"ctr -n k8s.io images ls | awk '$3 == \"{digest}\" {{print $1}}'"
    assert await scene.worker.shell(held)
    await scene.worker.shell(f"ctr -n k8s.io images rm --sync $({held})")
    assert await scene.worker.shell(held) == ""
    await scene.kubectl(f"delete pod -n haechi-ai -l haechi.internal/deployment-id={one['id']}")

    async def another() -> bool:
        return before.keys().isdisjoint(await scene.pods()) and await scene.there(one["version"])

    await scene.yard.until("another pod runs it", another)
    assert digest in await scene.worker.shell("ctr -n k8s.io images ls")
    told = await scene.kubectl("get events -n haechi-ai --field-selector reason=Pulled -o json")
    (pod,) = await scene.pods()
    (event,) = [
        event for event in json.loads(told)["items"] if event["involvedObject"]["uid"] == pod
    ]
    assert event["message"].startswith("Successfully pulled image"), event["message"]
    await scene.settled(one["version"])
    assert [row["id"] for row in await scene.yard.running(scene.worker)] == [one["id"]]


async def test_a_node_that_loses_its_power_twice_gets_its_ai_once(scene: Scene):
    """While it fetches the image, and while the AI proves itself."""
    version = await scene.make("4")
    await faults.partition(scene.worker, scene.yard.site.gateway)
    operation = await scene.yard.begin_deploy(version, scene.worker)
    await scene.until_fetching(operation)
    await scene.worker.kill()
    await scene.worker.start()  # with its power the partition has gone
    await scene.yard.until_step(operation, "prove")
    await scene.worker.kill()
    await scene.until_said(operation, "waiting for the device")
    await scene.worker.start()
    await scene.yard.ended(operation)
    await scene.settled("4")
    assert len(await scene.ever("4")) == 1
