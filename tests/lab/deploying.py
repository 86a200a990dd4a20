"""An AI is brought to a cluster's node: the cluster, and words to look at what is there."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from haechi.domains.clusters.bundle.model import Bundle
from lab import Host, Site, ready
from lab.yard import KUBECTL, Yard

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
        """Uid → what its container does, as the cluster has it; of AIs."""
        return {
            pod["metadata"]["uid"]: (
                "ending" if "deletionTimestamp" in pod["metadata"] else next(iter(one["state"]))
            )
            for pod in await self._listed()
            for one in pod["status"].get("containerStatuses", [])
            if not _fetches(pod)
        }

    async def _listed(self) -> list[dict[str, Any]]:
        said = json.loads(await self.kubectl("get pods -n haechi-ai -o json"))
        return list(said["items"])

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
        if any(map(_fetches, await self._listed())):
            return False
        names = (await self.kubectl("get secrets -n haechi-ai -o name")).split()
        mine = [name for name in names if not name.startswith("secret/pull-")]
        (one,) = await self.yard.running(self.worker)
        return len(mine) == 1 and mine[0].startswith(f"secret/{one['id']}-")

    async def until_fetching(self, operation: Any) -> None:
        """Its node has taken up the pull, which does not end while the registry is out of reach."""
        await self.yard.until_step(operation, "pull")

        async def taken_up() -> bool:
            return any(
                one["state"].get("waiting", {}).get("reason") == "ContainerCreating"
                for pod in filter(_fetches, await self._listed())
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


def _fetches(pod: Mapping[str, Any]) -> bool:
    """It is there to bring an image to its node, and comes and goes while the registry is away."""
    return str(pod["metadata"]["name"]).startswith("pull-")


@asynccontextmanager
async def opened(bundle: Bundle, folder: Path) -> AsyncIterator[Scene]:
    """On its own cluster, with version 1 running on the worker."""
    made = await ready.by_haechi(bundle)
    async with Site() as site:
        master, worker = await made.add(site, 2)
        listen = {"registry.listen": f"{site.gateway}:0"}
        async with Yard.open(site, folder, **listen) as yard:
            await yard.map_base_image()
            cluster_id = await yard.form([master], [worker])
            one = Scene(yard, cluster_id, master, worker)
            await yard.deploy(await one.make("1"), worker)
            yield one
