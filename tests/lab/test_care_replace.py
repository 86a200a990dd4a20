"""A dead worker is replaced by a new host, in one command: its AI and its camera move there, nobody
is let in any more who shows its certificate, and when the old host is back it is cleaned.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

from haechi.testing.processes import PASSWORD, command
from lab import Host, Site, byhand, ready
from lab.stand import Stand

from .agents import agent_image  # noqa: F401 - a fixture

FILES = {
    "Dockerfile": 'FROM python:3.11-slim\nCOPY main.py /main.py\nCMD ["python3", "/main.py"]\n',
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
COMMAND_S = 1500.0


async def built(stand: Stand) -> dict[str, Any]:
    await stand.map_base_image()
    return await stand.upload("watch", "1", FILES)


async def formed(stand: Stand, master: Host, worker: Host) -> str:
    cluster_id = await stand.form("yard", [master], [worker])
    await agent_of(stand, cluster_id, worker)
    return cluster_id


async def agent_of(stand: Stand, cluster_id: str, host: Host) -> None:
    async def there() -> bool:
        return bool((await stand.node(cluster_id, host)).get("agent_connected"))

    await stand.until(f"the agent of {host.name} has called in", there)


async def haechi(stand: Stand, *words: str) -> str:
    """The command line, as an operator uses it; what it printed."""
    home = stand.process.folder / "operator"
    home.mkdir(exist_ok=True)
    given = {"HAECHI_URL": stand.process.url}
    login = ("login", "admin", "--password-stdin")
    entered = await asyncio.to_thread(command, *login, home=home, given=given, stdin=PASSWORD)
    assert entered.returncode == 0, entered.stderr
    done = await asyncio.to_thread(command, *words, home=home, given=given, within_s=COMMAND_S)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


async def sees(stand: Stand, host: Host, camera_id: str) -> None:
    """Results of the camera come from this host, and are the ones that count."""

    async def counted() -> bool:
        params = {"camera_id": camera_id, "limit": 1}
        (newest, *_) = (await stand.call("GET", "/results", params=params))["items"] or [None]
        return bool(
            newest
            and newest["device_id"] == stand.ids[host.name]
            and newest["authoritative"]
            and newest["class"] == "fog"
        )

    await stand.until(f"results of the camera come from {host.name}", counted)


async def nodes(master: Host) -> set[str]:
    said = json.loads(await master.shell(f"{byhand.KUBECTL} get nodes -o json"))
    return {one["metadata"]["name"] for one in said["items"]}


async def test_a_dead_worker_is_replaced_in_one_command(
    site: Site,
    bundle,
    prepared_hosts,
    tmp_path: Path,
    agent_image: str,  # noqa: F811
):
    master, worker, spare = await prepared_hosts(3)
    for host in (master, worker, spare):
        await ready.forget(host)
    folder = bundle.folder.parent
    async with Stand.open(site, tmp_path, folder, agents__image=agent_image) as stand:
        async with asyncio.TaskGroup() as group:
            building = group.create_task(built(stand))
            forming = group.create_task(formed(stand, master, worker))
        cluster_id = forming.result()
        camera = await stand.call(
            "POST",
            "/cameras",
            json={
                "name": "gate",
                "url": f"rtsp://{site.gateway}:9/none",
                "device_id": stand.ids[worker.name],
            },
        )
        await stand.deploy(building.result(), device_ids=[stand.ids[worker.name]])
        await sees(stand, worker, camera["id"])

        await worker.kill()
        await stand.until_presence(cluster_id, worker, "dead")
        await stand.know([spare])
        print(await haechi(stand, "cluster", "replace", "yard", worker.name, spare.name))

        assert await nodes(master) == {master.hostname, spare.hostname}
        moved = await stand.call("GET", f"/cameras/{camera['id']}")
        assert moved["device_id"] == stand.ids[spare.name]
        (one,) = await stand.running(spare)
        assert (one["package_name"], one["engine"]) == ("watch", "kubernetes")
        assert await stand.running(worker) == []
        await sees(stand, spare, camera["id"])
        old = await stand.call("GET", f"/devices/{stand.ids[worker.name]}")
        assert old["enrolment"] == "revoked"

        await worker.start()
        await _cleaned(stand, cluster_id, worker)
        assert await nodes(master) == {master.hostname, spare.hostname}
        assert not (await stand.node(cluster_id, worker)).get("agent_connected")


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
