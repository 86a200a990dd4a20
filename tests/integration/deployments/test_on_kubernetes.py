"""Deploying to a cluster's nodes: the whole flow over the Kubernetes engine and a small API."""

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from haechi.adapters.engine_kube import KubeEngine
from haechi.adapters.kube_errors import KubeUnreachable, NodeAway
from haechi.adapters.kube_lightkube import LightKubes
from haechi.adapters.kube_nodes import Seat
from haechi.core.access import SYSTEM
from haechi.domains.deployments import keeping
from haechi.domains.deployments.leaving import LeavingWork
from haechi.domains.deployments.replace import Replace
from haechi.testing.deployments import image_reference
from haechi.testing.kube_api import FakeKube, running_kube
from haechi.testing.kube_nodes import KubeNodes
from haechi.testing.kube_store import Key
from haechi.testing.waiting import eventually

from .conftest import PACE, World

NODES = {"dev-cp": "cp", "dev-a": "gate", "dev-b": "yard"}


class OnKubernetes(World):
    kube: FakeKube
    nodes: KubeNodes
    seats: dict[str, str]
    """Device → its node, while it is one."""

    async def deploy_to_cluster(self, version: str, *, all_nodes: bool = False):
        operation = await self.deployments.deploy_package(
            f"ver-{version}", [], cluster_id="clu-1", control_planes=all_nodes, by=SYSTEM
        )
        return await self.operations.wait(operation.id)

    def versions_on(self, device_id: str = "dev-a") -> list[str]:
        """Versions that run there."""
        by_image = {image_reference(f"ver-{one}"): one for one in ("1", "2", "3")}
        return [by_image[image] for image in self.nodes.running(device_id)]


@pytest.fixture
async def site(tmp_path, monkeypatch) -> AsyncIterator[OnKubernetes]:
    monkeypatch.setattr(keeping, "LEAVE_ALONE", timedelta(0))
    # Generous where a busy machine decides: only what is meant to fail does.
    patient = replace(PACE, away_s=60, within_s=60, link_s=60)
    monkeypatch.setattr(sys.modules[World.__module__], "PACE", patient)
    kubes = LightKubes()
    async with running_kube(tmp_path) as kube:
        nodes = KubeNodes(kube.store, registry={image_reference(f"ver-{n}") for n in (1, 2, 3)})
        for device_id, name in NODES.items():
            await nodes.add(name, device_id)

        seats = dict(NODES)

        async def locate(device_id: str) -> Seat | None:
            name = seats.get(device_id)
            return name and Seat("clu-test", device_id, name, name, kube.access)

        world = OnKubernetes(tmp_path, engine=KubeEngine(kubes, locate))  # type: ignore[arg-type]
        world.kube, world.nodes, world.seats = kube, nodes, seats
        world.places.devices |= NODES
        world.places.clusters["clu-1"] = (["dev-cp"], ["dev-a", "dev-b"])
        async with nodes.working():
            await world.begin()
            world.devices.connected.clear()  # no agents: proven by staying up
            yield world
            await world.end()
            await kubes.close()


async def test_a_cluster_is_its_workers_and_its_control_planes_where_asked(site):
    operation = await site.deploy_to_cluster("1")
    assert operation.state == "succeeded", operation.error
    assert [site.versions_on(one) for one in ("dev-cp", "dev-a", "dev-b")] == [[], ["1"], ["1"]]
    rows = operation.ctx["result"]["devices"]
    assert [(row["device_id"], row["outcome"]) for row in rows] == [
        ("dev-a", "deployed"),
        ("dev-b", "deployed"),
    ]
    (one,) = await site.running()
    assert one.engine == "kubernetes"
    assert (await site.deploy_to_cluster("1", all_nodes=True)).state == "succeeded"
    assert [site.versions_on(one) for one in ("dev-cp", "dev-a", "dev-b")] == [["1"], ["1"], ["1"]]


async def test_one_bad_node_does_not_stop_the_others(site):
    await site.nodes.lose("yard")
    operation = await site.deployments.deploy_package(
        "ver-1", [], cluster_id="clu-1", by=SYSTEM, wait_s=0.5
    )
    ended = await site.operations.wait(operation.id)
    assert ended.state == "failed"
    good, bad = ended.ctx["result"]["devices"]
    assert (good["state"], bad["state"]) == ("succeeded", "failed")
    assert bad["error"]["code"] == "clusters.node_away"
    assert bad["error"]["data"]["node"] == "yard"
    assert site.versions_on("dev-a") == ["1"]


async def test_a_node_is_waited_for_whatever_its_agent_says(site):
    pace = site.deployments.context.pace
    site.deployments.context.pace = replace(pace, away_s=0.0)
    site.devices.connected.add("dev-a")
    await site.nodes.lose("gate")
    operation = await site.deployments.deploy_package("ver-1", ["dev-a"], by=SYSTEM, wait_s=600)
    asked = len(site.kube.api.calls)
    await eventually(lambda: len(site.kube.api.calls) > asked + 10)
    await site.nodes.bring_back("gate")
    ended = await site.operations.wait(operation.id)
    assert ended.state == "succeeded", ended.error
    assert site.versions_on() == ["1"]


async def test_a_host_that_died_unnoticed_proves_nothing_until_it_is_back(site, monkeypatch):
    """The API calls it Ready, and its pods running, for most of a minute."""
    operation = await _dies_before_it_is_proven(site, monkeypatch)
    asked = len(site.kube.api.calls)
    await eventually(lambda: len(site.kube.api.calls) > asked + 20)
    assert (await site.operations.get(operation.id)).state == "running"
    assert await site.running() == []
    await site.nodes.bring_back("gate")
    ended = await site.operations.wait(operation.id)
    assert ended.state == "succeeded", ended.error
    assert site.versions_on() == ["1"]


async def test_what_ended_with_its_hosts_power_proves_itself_when_it_runs_again(site, monkeypatch):
    operation = await _dies_before_it_is_proven(site, monkeypatch)
    await site.nodes.bring_back("gate", restarted=True)
    ended = await site.operations.wait(operation.id)
    assert ended.state == "succeeded", ended.error
    assert site.versions_on() == ["1"]


@pytest.mark.parametrize("strategy", ["overlap", "recreate"])
async def test_a_node_removed_in_the_middle_of_a_deployment_gets_nothing_more(
    site, monkeypatch, strategy
):
    """It lost its power, and nobody waits for it any longer."""
    await site.deploy("1")
    operation = await _dies_before_it_is_proven(site, monkeypatch, "2", strategy=strategy)
    await site.nodes.lose("gate")
    await _leaves_its_cluster(site)
    await _ends_as_withdrawn(site, operation)
    await site.nodes.bring_back("gate", restarted=True)
    await eventually(lambda: site.versions_on() == [])


async def test_a_node_removed_while_its_cameras_are_switched_gets_nothing_more(site, monkeypatch):
    async def leaves(_replace, _run):
        await _leaves_its_cluster(site)

    await site.deploy("1")
    monkeypatch.setattr(Replace, "_wait_for_the_new_eyes", leaves)
    await _ends_as_withdrawn(site, await site.begin_deploy("2"))
    await eventually(lambda: site.versions_on() == [])


async def test_a_node_removed_before_the_new_one_starts_gets_nothing_more(site, monkeypatch):
    async def leaves(_engine, _device_id, _reference):
        await _leaves_its_cluster(site)
        return True

    await site.deploy("1")
    monkeypatch.setattr(KubeEngine, "has_image", leaves)
    await _ends_as_withdrawn(site, await site.begin_deploy("2"), started=["1"])
    await eventually(lambda: site.versions_on() == [])


async def _leaves_its_cluster(site):
    async def end_pulls(device_id):
        del device_id

    hook = LeavingWork(site.deployments.context, engine="kubernetes", end_pulls=end_pulls)
    await hook.leaving("clu-1", "dev-a", log=print)
    del site.seats["dev-a"]


async def _ends_as_withdrawn(site, operation, started=("1", "2")):
    ended = await site.operations.wait(operation.id)
    assert ended.state == "failed"
    (row,) = ended.ctx["result"]["devices"]
    assert row["error"]["code"] == "deployments.withdrawn"
    assert row["error"]["data"]["device"] == "gate"
    past = (await site.deployments.book.find(device_id="dev-a", include_removed=True)).items
    assert {one.version: (one.state, one.desired) for one in past} == {
        "1": ("gone", "stopped"),
        "2": ("gone", "stopped"),
    }
    once = sorted(one.id for one in past if one.version in started)
    assert sorted(site.tokens.issued) == once, "for none of them anew"
    assert site.kube.store.find("Deployment") == []


async def _dies_before_it_is_proven(site, monkeypatch, version="1", **wishes):
    """The operation that has just begun, on a host that has just lost its power."""
    image, died, missed = image_reference(f"ver-{version}"), asyncio.Event(), asyncio.Event()
    info = KubeEngine.info

    async def dead(self, device_id):
        if image in site.nodes.running("dev-a") and not died.is_set():
            await site.nodes.lose("gate", noticed=False)
            died.set()
        try:
            return await info(self, device_id)
        except NodeAway:
            missed.set()
            raise

    monkeypatch.setattr(KubeEngine, "info", dead)
    operation = await site.begin_deploy(version, **wishes)
    await eventually(missed.is_set)
    return operation


async def test_the_new_version_is_there_before_the_old_one_goes(site):
    await site.deploy("1")
    assert (await site.deploy("2", strategy="overlap")).state == "succeeded"
    assert site.versions_on() == ["2"]
    pods = [
        (change.type, change.seen["spec"]["containers"][0]["image"])
        for change in site.kube.store.history
        if change.key.plural == "pods" and change.key.name.startswith("dep-")
    ]
    first, second = image_reference("ver-1"), image_reference("ver-2")
    assert pods.index(("ADDED", second)) < pods.index(("DELETED", first))


async def test_recreate_stops_the_old_one_first_and_says_how_long_it_took(site):
    await site.deploy("1")
    operation = await site.deploy("2", strategy="recreate")
    assert operation.state == "succeeded", operation.error
    assert site.versions_on() == ["2"]
    (row,) = operation.ctx["result"]["devices"]
    assert row["gap_s"] >= 0


@pytest.mark.parametrize("strategy", ["overlap", "recreate"])
async def test_a_bad_version_is_taken_back(site, strategy):
    await site.deploy("1")
    site.nodes.behaviour[image_reference("ver-2")] = "crash"
    operation = await site.deploy("2", strategy=strategy)
    assert operation.state == "failed"
    assert operation.error["code"] == "deployments.not_proven"
    await eventually(lambda: site.versions_on() == ["1"])
    (one,) = await site.running()
    assert one.version == "1"
    names = {deployment["metadata"]["name"] for deployment in site.kube.store.find("Deployment")}
    assert names == {one.id}


async def test_an_image_that_the_registry_lacks_touches_nothing(site):
    await site.deploy("1")
    site.nodes.registry.clear()
    operation = await site.deploy("2")
    assert operation.error["code"] == "agent.image_not_found"
    assert site.versions_on() == ["1"]


async def test_a_registry_that_is_away_is_waited_for(site):
    await site.deploy("1")
    site.nodes.registry_error = "dial tcp: connect: connection refused"
    operation = await site.begin_deploy("2")

    await eventually(
        lambda: [1 for method, path in site.kube.api.calls if method == "DELETE" and "pull" in path]
    )
    assert site.versions_on() == ["1"]
    site.nodes.registry_error = ""
    ended = await site.operations.wait(operation.id)
    assert ended.state == "succeeded", ended.error
    await eventually(lambda: site.versions_on() == ["2"])


async def test_what_somebody_deleted_or_edited_comes_back(site):
    await site.deploy("1")
    (one,) = await site.running()
    key = Key("apps/v1", "deployments", "haechi-ai", one.id)
    objects = site.kube.store.objects
    before = objects[key]["metadata"]["uid"]
    await site.kube.store.remove(key)
    await eventually(lambda: key in objects and objects[key]["metadata"]["uid"] != before)
    await eventually(lambda: site.versions_on() == ["1"])
    await site.kube.store.merge(key, {"spec": {"replicas": 0}})
    await eventually(lambda: objects[key]["spec"]["replicas"] == 1)
    await eventually(lambda: site.versions_on() == ["1"])
    assert (await site.running())[0].id == one.id


async def test_an_api_that_is_away_for_a_while_only_delays(site):
    await site.deploy("1")
    for _ in range(8):
        site.kube.api.faults.append((503, "the server is currently unable to handle the request"))
    operation = await site.deploy("2")
    assert operation.state == "succeeded", operation.error
    await eventually(lambda: site.versions_on() == ["2"])


async def begun_without_api(site):
    """A deployment to one device, begun while its cluster's API is away, and its device's part."""
    pace = site.deployments.context.pace
    site.deployments.context.pace = replace(pace, away_s=0.0)
    await site.kube.close_door(0)
    parent = await site.deployments.deploy_package("ver-1", ["dev-a"], by=SYSTEM, wait_s=3600)

    async def part():
        found = await site.operations.find(parent_id=parent.id)
        return found.items[0] if found.items else None

    await eventually(part)
    return parent, await part()


async def test_a_deployment_waits_for_an_api_that_is_away_from_the_start(site, monkeypatch):
    """As long as for a device that is away, and says what it waits for."""
    asked, info = [], KubeEngine.info

    async def counted(self, device_id):
        asked.append(device_id)
        return await info(self, device_id)

    monkeypatch.setattr(KubeEngine, "info", counted)
    parent, part = await begun_without_api(site)

    async def shown():
        found = [await site.operations.get(one.id) for one in (parent, part)]
        return all(
            "gate" in x.progress_text and "api_unreachable" in x.progress_text for x in found
        )

    await eventually(shown)
    seen = len(asked)
    await eventually(lambda: len(asked) > seen + 20)
    await site.operations.flush_log(part.id)
    said = site.operations.log_path(part.id).read_text()
    assert said.count("api_unreachable") < 5, "one line a minute, not one for each question"
    await site.kube.open_door(0)
    ended = await site.operations.wait(parent.id)
    assert ended.state == "succeeded", ended.error
    assert site.versions_on() == ["1"]


async def test_one_that_waits_for_its_api_can_be_cancelled(site):
    parent, part = await begun_without_api(site)
    await site.operations.cancel(parent.id)
    for one in (parent, part):
        assert (await site.operations.wait(one.id)).state == "cancelled"
    await site.kube.open_door(0)
    assert site.versions_on() == []


async def test_an_api_that_refuses_for_long_while_something_is_begun_only_delays(site, monkeypatch):
    """As often as one that is away for a minute does."""
    await site.deploy("1")
    start, refused = KubeEngine.start, []

    async def away(self, *given):
        if len(refused) < 30:
            refused.append(given)
            raise KubeUnreachable(cluster_id="clu-test", reason="connection refused")
        return await start(self, *given)

    monkeypatch.setattr(KubeEngine, "start", away)
    operation = await site.deploy("2")
    assert operation.state == "succeeded", operation.error
    assert len(refused) == 30
    await eventually(lambda: site.versions_on() == ["2"])


@pytest.mark.parametrize("at", ["Secret", "Deployment"])
async def test_a_server_killed_in_the_middle_finds_what_it_had_begun(site, at):
    await site.deploy("1")
    began = await site.begin_deploy("2")

    def begun() -> bool:
        found = site.kube.store.find(at)
        return len([one for one in found if one["metadata"]["name"].startswith("dep-")]) > 1

    await eventually(begun)
    await site.kill()
    await site.revive()
    ended = await site.operations.wait(began.id)
    assert ended.state == "succeeded", ended.error
    await eventually(lambda: site.versions_on() == ["2"])
    assert site.nodes.started.count(image_reference("ver-2")) == 1


async def test_what_runs_is_adopted_by_a_server_that_comes_back(site):
    await site.deploy("1")
    before = [pod["metadata"]["uid"] for pod in site.kube.store.find("Pod")]
    await site.kill()
    await site.revive()
    await site.deployments.keeper.look()
    (one,) = await site.running()
    assert (await site.deployments.book.get(one.id)).observed.state == "running"
    assert [pod["metadata"]["uid"] for pod in site.kube.store.find("Pod")] == before


async def test_it_is_removed_and_its_last_words_are_kept(site):
    await site.deploy("1")
    (one,) = await site.running()
    operation = await site.deployments.remove_deployment(one.id, by=SYSTEM)
    ended = await site.operations.wait(operation.id)
    assert ended.ctx["result"]["outcome"] == "removed"
    assert site.kube.store.find("Deployment") == []
    lines = [line async for line in site.deployments.book.logs(one.id)]
    assert "log of" in lines[0]


@pytest.mark.parametrize("reachable", [True, False])
async def test_what_a_cluster_ran_ends_when_the_device_leaves_it(site, reachable):
    await site.deploy_to_cluster("1")
    (one,) = await site.running("dev-a")
    if not reachable:
        await site.kube.close_door(0)
    said, ended = [], []

    async def end_pulls(device_id):
        ended.append(device_id)

    hook = LeavingWork(site.deployments.context, engine="kubernetes", end_pulls=end_pulls)
    await hook.leaving("clu-1", "dev-a", log=said.append)
    assert said[-1] == "1 deployments ended"
    assert ended == ["dev-a"]
    assert await site.running("dev-a") == []
    assert (await site.deployments.book.get(one.id)).state == "gone"
    assert len(await site.running("dev-b")) == 1
    if reachable:
        assert site.versions_on("dev-a") == []
    other = LeavingWork(site.deployments.context, engine="other", end_pulls=end_pulls)
    await other.leaving("clu-1", "dev-b", log=said.append)
    assert len(await site.running("dev-b")) == 1
    assert ended == ["dev-a"], "what another engine runs there still pulls"
