"""AIs on a cluster that a real server formed: from the zip to a pod, switched, taken back, mended,
adopted. Then a dead worker is replaced by a new host, in one command: its AI and its camera move
there, nobody is let in any more who shows its certificate, and when the old host is back it is
cleaned.

One cluster for all scenes: forming it takes longest.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

from haechi.testing import packages
from haechi.testing.processes import PASSWORD, command
from lab import Host, Site, byhand, ready
from lab.stand import ACCEPT, Stand

from .agents import agent_image  # noqa: F401 - a fixture

pytestmark = pytest.mark.asyncio(loop_scope="module")

COMMAND_S = 1500.0
DOCKERFILE = 'FROM python:3.11-slim\nCOPY main.py /main.py\nCMD ["python3", "/main.py"]\n'
MANIFEST = '[package]\nname = "ticker"\n[needs]\ncamera = "none"\n[health]\nready = "uptime"\n'
RUNS = """\
import os, time

print("version {version} on", os.environ["HAECHI_DEVICE_ID"], flush=True)
while True:
    print("tick", flush=True)
    time.sleep(0.3)
"""
CRASHES = 'import sys\nprint("the model file is damaged", flush=True)\nsys.exit(3)\n'


WATCH = {
    "Dockerfile": DOCKERFILE,
    "haechi.toml": (
        '[package]\nname = "watch"\n[needs]\ncamera = "many"\n[health]\nready = "result"\n'
    ),
    "main.py": """\
import json, os, time, urllib.request

while True:
    call = urllib.request.Request(
        os.environ["HAECHI_RESULTS_URL"],
        json.dumps({"class": "fog", "class_prob": 0.9}).encode(),
        {
            "Content-Type": "application/json",
            "Authorization": "Bearer " + os.environ["HAECHI_TOKEN"],
        },
    )
    try:
        urllib.request.urlopen(call, timeout=3).close()
    except OSError as error:
        print(repr(error), flush=True)
    time.sleep(0.5)
""",
}


@dataclass
class Deployed:
    """A server, the cluster of one worker that it formed, and a host of no cluster."""

    stand: Stand
    master: Host
    worker: Host
    spare: Host
    versions: dict[str, str] = field(default_factory=dict)
    cluster_id: str = ""

    async def form(self) -> None:
        formed = await self.stand.begin_form("yard", [self.master], [self.worker])
        await self.stand.ended(formed)
        self.cluster_id = formed["cluster_id"]
        assert "was reached, trusted and entered" in await self.stand.log(formed)

    async def upload(self, version: str, script: str) -> None:
        """It is built where it is needed first."""
        files = {
            "Dockerfile": DOCKERFILE,
            "main.py": script.replace("{version}", version),
            "haechi.toml": MANIFEST,
        }
        found = await self.stand.call(
            "POST",
            "/packages/upload",
            params={"filename": "a.zip", "name": "ticker", "version": version},
            content=packages.zip_of(files),
        )
        self.versions[version] = found["id"]

    async def deploy(self, version: str, **wishes: Any) -> dict[str, Any]:
        targets = {} if "group_id" in wishes else {"cluster_id": self.cluster_id}
        which = {"id": self.versions[version]}
        return await self.stand.deploy(which, state=None, **targets, **wishes)

    async def running(self, host: Host | None = None) -> list[dict[str, Any]]:
        return await self.stand.running(host or self.worker)

    async def version(self) -> str:
        return ",".join(row["version"] for row in await self.running())

    async def pods(self) -> dict[str, str]:
        """Uid → state of the AIs' containers, as the cluster sees them."""
        said = await self.kubectl("get pods -n haechi-ai -o json")
        return {
            pod["metadata"]["uid"]: next(iter(one["state"]))
            for pod in json.loads(said)["items"]
            for one in pod["status"].get("containerStatuses", [])
            if one["name"] == "ai"
        }

    async def remade(self, deployment_id: str) -> bool:
        """It is there, asks for its pod, and the pod runs."""
        said = await self.master.tries(
            f"{byhand.KUBECTL} get deployment -n haechi-ai {deployment_id}"
            " -o jsonpath='{.spec.replicas} {.status.readyReplicas}'"
        )
        return said.out.strip() == "1 1"

    async def remove(self, host: Host) -> None:
        """Its only AI."""
        (one,) = await self.running(host)
        removed = await self.stand.call("DELETE", f"/deployments/{one['id']}")
        assert (await self.stand.ended(removed))["result"]["outcome"] == "removed"
        assert await self.running(host) == []

    async def nodes(self) -> set[str]:
        said = json.loads(await self.kubectl("get nodes -o json"))
        return {one["metadata"]["name"] for one in said["items"]}

    async def kubectl(self, command: str) -> str:
        return await self.master.shell(f"{byhand.KUBECTL} {command}")

    async def haechi(self, *words: str) -> str:
        """The command line, as an operator uses it; what it printed."""
        home = self.stand.process.folder / "operator"
        home.mkdir(exist_ok=True)
        given = {"HAECHI_URL": self.stand.process.url}
        login = ("login", "admin", "--password-stdin")
        entered = await asyncio.to_thread(command, *login, home=home, given=given, stdin=PASSWORD)
        assert entered.returncode == 0, entered.stderr
        done = await asyncio.to_thread(command, *words, home=home, given=given, within_s=COMMAND_S)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    async def until_agent_of(self, host: Host) -> None:
        async def there() -> bool:
            return bool((await self.stand.node(self.cluster_id, host)).get("agent_connected"))

        await self.stand.until(f"the agent of {host.name} has called in", there)

    async def until_sees(self, host: Host, camera_id: str) -> None:
        """Results of the camera come from this host, and are the ones that count."""

        async def counted() -> bool:
            params = {"camera_id": camera_id, "limit": 1}
            found = await self.stand.call("GET", "/results", params=params)
            (newest, *_) = found["items"] or [None]
            return bool(
                newest
                and newest["device_id"] == self.stand.ids[host.name]
                and newest["authoritative"]
                and newest["class"] == "fog"
            )

        await self.stand.until(f"results of the camera come from {host.name}", counted)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab(bundle, tmp_path_factory, agent_image: str) -> AsyncIterator[Deployed]:  # noqa: F811
    prepared = await ready.by_haechi(bundle, agent=agent_image)
    async with Site() as site:
        hosts = await prepared.add(site, 3)
        for host in hosts:
            await ready.forget(host)
        folder, bundles = tmp_path_factory.mktemp("server"), bundle.folder.parent
        async with Stand.open(site, folder, bundles, agents__image=agent_image) as stand:
            made = Deployed(stand, *hosts)
            async with asyncio.TaskGroup() as group:
                group.create_task(stand.map_base_image())
                group.create_task(made.form())
            yield made


async def test_from_the_zip_to_a_pod_switched_taken_back_mended_and_adopted(lab: Deployed):
    for version, script in (("1", RUNS), ("2", RUNS), ("3", CRASHES)):
        await lab.upload(version, script)

    first = await lab.deploy("1")
    assert first["state"] == "succeeded", first
    (one,) = await lab.running()
    assert one["engine"] == "kubernetes"
    assert await lab.running(lab.master) == []
    lines = (
        await lab.stand.client.get(f"/deployments/{one['id']}/logs", params={"tail": 500})
    ).text
    assert f"version 1 on {lab.stand.ids[lab.worker.name]}" in lines
    token = await lab.kubectl("get deployments -n haechi-ai -o yaml")
    assert "HAECHI_TOKEN" not in token

    # Overlap: at no moment is there no running AI.
    seen: list[int] = []
    watching = asyncio.Event()

    async def watch() -> None:
        while not watching.is_set():
            seen.append(list((await lab.pods()).values()).count("running"))
            await asyncio.sleep(0.2)

    async with asyncio.TaskGroup() as group:
        group.create_task(watch())
        second = await lab.deploy("2", strategy="overlap")
        watching.set()
    assert second["state"] == "succeeded", second
    assert min(seen) >= 1, seen
    assert await lab.version() == "2"

    bad = await lab.deploy("3")
    assert (bad["state"], bad["error"]["code"]) == ("failed", "deployments.not_proven")
    assert "the model file is damaged" in json.dumps(bad["error"])
    assert await lab.version() == "2"

    members = {"name": "gates", "device_ids": [lab.stand.ids[lab.worker.name]]}
    gates = await lab.stand.call("POST", "/groups", json=members)
    back = await lab.deploy("1", group_id=gates["id"], strategy="recreate")
    assert back["state"] == "succeeded", back
    assert await lab.version() == "1"

    # Drift: deleted, then edited.
    (one,) = await lab.running()
    await lab.kubectl(f"delete deployment -n haechi-ai {one['id']}")
    await lab.stand.until("it is there again", lambda: lab.remade(one["id"]))
    await lab.kubectl(f"scale deployment -n haechi-ai {one['id']} --replicas=0")
    await lab.stand.until("it is there again", lambda: lab.remade(one["id"]))

    # The server dies and comes back: it finds what it had made.
    before = await lab.pods()
    await asyncio.to_thread(lab.stand.process.kill)
    assert await lab.pods() == before
    await asyncio.to_thread(lab.stand.process.start)

    async def observed() -> bool:
        return [row["observed_state"] for row in await lab.running()] == ["running"]

    await lab.stand.until("it is observed", observed)
    assert await lab.pods() == before

    # All of its nodes, the control plane too.
    both = await lab.deploy("2", control_planes=True)
    assert both["state"] == "succeeded", both
    assert [row["version"] for row in await lab.running(lab.master)] == ["2"]

    for host in (lab.worker, lab.master):
        await lab.remove(host)


async def test_a_dead_worker_is_replaced_in_one_command(lab: Deployed):
    """Last: the worker is none any more."""
    stand, worker, spare = lab.stand, lab.worker, lab.spare
    watch = await stand.upload("watch", "1", WATCH)
    await lab.until_agent_of(worker)
    camera = await stand.call(
        "POST",
        "/cameras",
        json={
            "name": "gate",
            "url": f"rtsp://{stand.site.gateway}:9/none",
            "device_id": stand.ids[worker.name],
        },
    )
    await stand.deploy(watch, device_ids=[stand.ids[worker.name]])
    await lab.until_sees(worker, camera["id"])

    await worker.kill()
    await stand.until_presence(lab.cluster_id, worker, "dead")
    await stand.know([spare])
    accepted = [f"--accept={name}" for name in ACCEPT]
    print(await lab.haechi("cluster", "replace", "yard", worker.name, spare.name, *accepted))

    assert await lab.nodes() == {lab.master.hostname, spare.hostname}
    moved = await stand.call("GET", f"/cameras/{camera['id']}")
    assert moved["device_id"] == stand.ids[spare.name]
    (one,) = await stand.running(spare)
    assert (one["package_name"], one["engine"]) == ("watch", "kubernetes")
    assert await stand.running(worker) == []
    await lab.until_sees(spare, camera["id"])
    old = await stand.call("GET", f"/devices/{stand.ids[worker.name]}")
    assert old["enrolment"] == "revoked"

    await worker.start()
    await _cleaned(stand, lab.cluster_id, worker)
    assert await lab.nodes() == {lab.master.hostname, spare.hostname}
    assert not (await stand.node(lab.cluster_id, worker)).get("agent_connected")


async def _cleaned(stand: Stand, cluster_id: str, worker: Host) -> None:
    """By itself, and nothing of the cluster is left."""
    device_id = stand.ids[worker.name]

    async def gone() -> bool:
        members = (await stand.call("GET", f"/clusters/{cluster_id}"))["members"]
        return [one["state"] for one in members if one["device_id"] == device_id] == ["gone"]

    await stand.until(f"{worker.name} is cleaned", gone)
    for path in ("/etc/kubernetes/kubelet.conf", "/var/lib/haechi-agent", "/etc/haechi"):
        assert not await worker.holds(f"test -e {path}"), path
    assert not await worker.holds("systemctl is-active --quiet kubelet")
    assert await worker.shell("ctr -n k8s.io tasks ls -q") == ""
    proof = await stand.call("GET", f"/clusters/{cluster_id}/proof")
    (host,) = [one for one in proof["hosts"] if one["device_id"] == device_id]
    assert host["state"] == "clean", host["differences"]
