"""A node goes for long while an AI is brought to it, or for good: it is named, and nothing is left
half-done. One cluster for both.
"""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio
from tests.lab.deploying import Scene, opened

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(bundle, tmp_path_factory) -> AsyncIterator[Scene]:
    async with opened(bundle, tmp_path_factory.mktemp("faults") / "data") as made:
        yield made


async def test_a_node_that_stays_away_is_named_and_left_as_it_was(scene: Scene):
    """The deployment that it broke ends; the next one waits for it, as long as it was told to."""
    version = await scene.make("5")
    context = scene.yard.haechi.deployments.context
    patient, context.pace = context.pace, replace(context.pace, link_s=20.0)
    operation = await scene.yard.begin_deploy(version, scene.worker)
    await scene.yard.until_step(operation, "prove")
    (old,) = await scene.yard.running(scene.worker)
    await scene.worker.kill()
    failed = await scene.yard.ended(operation, state="failed")
    context.pace = patient
    english = {"Accept-Language": "en"}
    shown = await scene.yard.server.client.get(f"/operations/{failed.id}", headers=english)
    error = shown.json()["error"]
    assert error["code"] == "clusters.node_away"
    assert scene.worker.name in error["detail"]
    assert error["remedy"].startswith("Check that host's power and network"), error
    made = "get deployments -n haechi-ai -o jsonpath='{.items[*].metadata.name}'"
    assert await scene.kubectl(made) == old["id"]
    assert [row["id"] for row in await scene.yard.running(scene.worker)] == [old["id"]]
    (new,) = await scene.ever("5")
    assert (new["state"], new["outcome"]) == ("gone", "failed")

    waiting = await scene.yard.begin_deploy(version, scene.worker, wait_s=3600)

    async def waits() -> bool:
        now = await scene.yard.haechi.operations.get(waiting.id)
        return now.step == "preflight" and scene.worker.name in now.progress_text

    await scene.yard.until("the next one waits for the node", waits)
    await scene.worker.start()
    await scene.yard.ended(waiting)
    await scene.settled("5")


async def test_a_dead_node_is_removed_once_its_deployment_is_cancelled(scene: Scene):
    """Last: the worker is none any more. Nothing is left behind, neither then nor when it is back."""
    version, device_id = await scene.make("6"), scene.yard.devices[scene.worker.name]
    node = f"/clusters/{scene.cluster_id}/nodes/{device_id}"
    call = scene.yard.server.client.request
    context = scene.yard.haechi.deployments.context
    context.pace = replace(context.pace, link_s=3600.0)
    operation = await scene.yard.begin_deploy(version, scene.worker, strategy="recreate")
    await scene.yard.until_step(operation, "prove")
    await scene.worker.kill()
    await scene.until_said(operation, "waiting for the device")
    await scene.yard.until_node(scene.cluster_id, scene.worker, "dead")
    refused = (await call("DELETE", node)).json()
    assert refused["code"] == "clusters.host_busy"
    assert refused["data"]["operation_id"] == operation.id
    assert (await call("POST", f"/operations/{operation.id}/cancel")).status_code == 202
    await scene.yard.ended(operation, state="cancelled")
    await scene.yard.does("DELETE", node)
    assert await scene.yard.deployments(scene.worker) == []
    assert {row["state"] for row in await scene.ever("6")} == {"gone"}
    assert await scene.kubectl("get deployments,pods -n haechi-ai -o name") == ""
    names = await scene.kubectl("get nodes -o jsonpath='{.items[*].metadata.name}'")
    assert names == scene.master.hostname

    await scene.worker.start()

    async def cleaned() -> bool:
        found = await call("GET", f"/clusters/{scene.cluster_id}")
        members = {one["device_id"]: one["state"] for one in found.json()["members"]}
        return members[device_id] == "gone"

    await scene.yard.until("the host is cleaned by itself", cleaned)
    assert await scene.worker.shell("ctr -n k8s.io containers ls -q") == ""
    assert not await scene.worker.holds("systemctl is-active --quiet kubelet")
    assert await scene.yard.deployments(scene.worker) == []
