"""Faults while an AI is brought to a cluster's node, on one cluster and through a whole server: what
runs goes on, what was begun ends well or is taken back whole, and it is said which host it was.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import pytest_asyncio

from lab import Host, Site, faults, ready
from lab.yard import KUBECTL, Yard

pytestmark = pytest.mark.asyncio(loop_scope="module")

OUTAGE_S = 60.0
AIS = """\
ctr -n k8s.io containers ls -q 'labels."io.kubernetes.container.name"==ai' | sort > /run/lab-ais
ctr -n k8s.io tasks ls | awk '$3 == "RUNNING" {print $1}' | sort | comm -12 - /run/lab-ais"""
"""AIs that run on a host, by their containers."""
DOCKERFILE = 'FROM python:3.11-slim\nCOPY main.py /main.py\nCMD ["python3", "/main.py"]\n'
MANIFEST = '[package]\nname = "ticker"\n[needs]\ncamera = "none"\n[health]\nready = "uptime"\n'
RUNS = """\
import itertools, time

for tick in itertools.count():
    print("version {version} tick", tick, flush=True)
    time.sleep(0.5)
"""


@dataclass
class Scene:
    yard: Yard
    cluster_id: str
    master: Host
    worker: Host
    versions: dict[str, str] = field(default_factory=dict)

    async def make(self, version: str) -> str:
        """The version's id; built at its first use."""
        if version not in self.versions:
            script = RUNS.replace("{version}", version)
            files = {"Dockerfile": DOCKERFILE, "main.py": script, "haechi.toml": MANIFEST}
            self.versions[version] = await self.yard.upload("ticker", version, files)
        return self.versions[version]

    async def begin(self, version: str, **wishes: Any) -> Any:
        return await self.yard.begin_deploy(await self.make(version), self.worker, **wishes)

    async def there(self, version: str) -> bool:
        """In the cluster it is the only one: no other object, no pod on its way out."""
        (one,) = await self.yard.running(self.worker)
        names = await self.kubectl(
            "get deployments -n haechi-ai -o jsonpath='{.items[*].metadata.name}'"
        )
        pods = (await self.pods()).values()
        return one["version"] == version and names == one["id"] and list(pods) == ["running"]

    async def pods(self) -> dict[str, str]:
        """Uid → what its container does, as the cluster has it."""
        said = json.loads(await self.kubectl("get pods -n haechi-ai -o json"))
        return {
            pod["metadata"]["uid"]: (
                "ending" if "deletionTimestamp" in pod["metadata"] else next(iter(one["state"]))
            )
            for pod in said["items"]
            for one in pod["status"].get("containerStatuses", [])
        }

    async def ticks(self, version: str) -> int:
        """How far that version's AI has come, in its own words on its host."""
        said = await self.worker.shell(
            f"cat /var/log/pods/haechi-ai_*/ai/*.log | grep -c 'version {version} tick' || :"
        )
        return int(said)

    async def ever(self, version: str) -> list[dict[str, Any]]:
        """Each deployment of it that there was on the worker, past ones too."""
        params = {
            "version_id": self.versions[version],
            "device_id": self.yard.devices[self.worker.name],
            "include_removed": True,
        }
        found = await self.yard.server.client.get("/deployments", params=params)
        return list(found.json()["items"])

    async def settled(self, version: str) -> None:
        """Nothing is left of any other: not in the book, not in the cluster, not on the host."""
        await self.yard.until(f"{version} is there alone", lambda: self.alone(version))
        await self.worker.until(f"test $( ({AIS}) | wc -l) = 1", "one AI runs on the host")

    async def alone(self, version: str) -> bool:
        rows = await self.yard.deployments(self.worker)
        known = [row["version"] for row in rows if row["state"] != "gone"]
        if known != [version] or not await self.there(version):
            return False
        names = (await self.kubectl("get secrets -n haechi-ai -o name")).split()
        mine = [name for name in names if not name.startswith("secret/pull-")]
        (one,) = await self.yard.running(self.worker)
        return len(mine) == 1 and mine[0].startswith(f"secret/{one['id']}-")

    async def until_fetching(self, operation: Any) -> None:
        """Its node has taken up the pull, which does not end while the registry is out of reach."""
        await self.yard.until_step(operation, "pull")

        async def taken_up() -> bool:
            said = json.loads(await self.kubectl("get pods -n haechi-ai -o json"))
            return any(
                one["state"].get("waiting", {}).get("reason") == "ContainerCreating"
                for pod in said["items"]
                if pod["metadata"]["name"].startswith("pull-")
                for one in pod["status"].get("containerStatuses", [])
            )

        await self.yard.until("the node fetches the image", taken_up)

    async def containers(self) -> set[str]:
        return set((await self.worker.shell("ctr -n k8s.io tasks ls -q")).split())

    async def kubectl(self, command: str) -> str:
        return await self.master.shell(f"{KUBECTL} {command}")

    async def until_said(self, operation: Any, words: str) -> None:
        async def said() -> bool:
            text = await self.yard.log(operation)
            assert "== failed" not in text, text
            return words in text

        await self.yard.until(f"its log says: {words}", said)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(bundle, tmp_path_factory) -> AsyncIterator[Scene]:
    made = await ready.by_haechi(bundle)
    async with Site() as site:
        master, worker = await made.add(site, 2)
        listen = {"registry.listen": f"{site.gateway}:0"}
        async with Yard.open(site, tmp_path_factory.mktemp("faults") / "data", **listen) as yard:
            await yard.map_base_image()
            cluster_id = await yard.form([master], [worker])
            one = Scene(yard, cluster_id, master, worker)
            await yard.deploy(await one.make("1"), worker)
            yield one


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
