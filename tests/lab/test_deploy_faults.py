"""Faults while an AI is brought to a cluster's node, on one cluster and through a whole server: what
runs goes on, what was begun ends well or is taken back whole, and it is said which host it was.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

from lab import Host, Site, faults, ready
from lab.yard import KUBECTL, Yard

pytestmark = pytest.mark.asyncio(loop_scope="module")

OUTAGE_S = 60.0
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
            await yard.form([master], [worker])
            one = Scene(yard, master, worker)
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


async def test_a_registry_that_is_away_is_waited_for(scene: Scene):
    version = await scene.make("3")
    before = await scene.pods()
    await faults.partition(scene.worker, scene.yard.site.gateway)
    try:
        operation = await scene.yard.begin_deploy(version, scene.worker)
        await scene.until_said(operation, "agent.registry_unreachable")
        assert await scene.pods() == before
    finally:
        await faults.partition(scene.worker)
    await scene.yard.ended(operation)
    await scene.yard.until("the new one is there", lambda: scene.there("3"))
