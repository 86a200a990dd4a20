"""`make demo-cluster`: two Kubernetes clusters form on bare hosts of the lab, until Ctrl-C.

One server, four hosts that have nothing but sshd; everything goes through the HTTP API, as the
dashboard does it. Then one AI package runs on both clusters.
"""

import asyncio
import shutil
import signal
import sys
from collections.abc import Callable
from typing import Any

from stage import ROOT, become_root

sys.path.insert(0, str(ROOT))

from haechi.errors import AppError
from haechi.testing.processes import PASSWORD, ServerEnded
from lab import Host, LabError, Site, engine, ready
from lab.stand import Refused, Stand

DATA_DIR = ROOT / "build" / "demo-cluster"
AGENT_IMAGE = "haechi/agent:latest"
CLUSTERS = {"north": "북문", "south": "남문"}
FILES = {
    "Dockerfile": (
        'FROM python:3.11-slim\nCOPY main.py /main.py\nCMD ["python3", "-u", "/main.py"]\n'
    ),
    "haechi.toml": '[package]\nname = "watchman"\n[needs]\ncamera = "none"\n'
    '[health]\nready = "uptime"\n',
    "main.py": (
        "import os, time\n\n"
        "while True:\n"
        '    print("all is quiet at", os.environ["HAECHI_DEVICE_ID"])\n'
        "    time.sleep(2)\n"
    ),
}


def say(line: str) -> None:
    print(f"  {line}", flush=True)


def shown(name: str) -> Callable[[dict[str, Any]], None]:
    """Each step of an operation, once, as it begins."""
    last = ""

    def show(operation: dict[str, Any]) -> None:
        nonlocal last
        step = operation["step"] or operation["state"]
        if step != last:
            last = step
            say(f"{name}: {step}")

    return show


async def form(stand: Stand, name: str, hosts: list[Host]) -> str:
    formed = await stand.begin_form(f"{name} {CLUSTERS[name]}", hosts[:1], hosts[1:])
    await stand.ended(formed, show=shown(name))
    say(f"{name}: ready")
    return str(formed["cluster_id"])


async def furnished(stand: Stand) -> dict[str, Any]:
    """The package, built while the clusters form."""
    await stand.map_base_image()
    version = await stand.upload("watchman", "1", FILES)
    say("package watchman: built")
    return version


async def deploy(stand: Stand, version: dict[str, Any], name: str, cluster_id: str) -> None:
    await stand.deploy(version, cluster_id=cluster_id)
    say(f"{name}: watchman runs")


async def show(site: Site) -> None:
    print("haechi demo: two clusters on bare hosts of this machine", flush=True)
    bundle = ready.bundle()
    hosts = {
        name: [await site.host(f"{name}-{role}") for role in ("master", "edge")]
        for name in CLUSTERS
    }
    say(f"hosts: {', '.join(site.hosts)}")
    shutil.rmtree(DATA_DIR, ignore_errors=True)
    folder = bundle.folder.parent
    async with Stand.open(site, DATA_DIR, folder, say=say, agents__image=AGENT_IMAGE) as stand:
        print(f"\n  dashboard  {stand.process.url}\n  login      admin / {PASSWORD}\n", flush=True)
        await stand.call(
            "PATCH", "/site", json={"name": "해치 클러스터 데모"}, headers={"If-Match": "*"}
        )
        async with asyncio.TaskGroup() as group:
            making = group.create_task(furnished(stand))
            forming = {
                name: group.create_task(form(stand, name, mine)) for name, mine in hosts.items()
            }
        async with asyncio.TaskGroup() as group:
            for name, task in forming.items():
                group.create_task(deploy(stand, making.result(), name, task.result()))
        print("\n  Everything runs. Ctrl-C ends the demo and removes its hosts.", flush=True)
        await asyncio.Event().wait()


async def main() -> int:
    if reason := engine.missing():
        print(reason, file=sys.stderr)
        return 3
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Site() as site:
        showing = asyncio.create_task(show(site))
        stopping = asyncio.create_task(stop.wait())
        _ = await asyncio.wait({showing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        print("\nending the demo", flush=True)
        for task in (showing, stopping):
            task.cancel()
        found, _ = await asyncio.gather(showing, stopping, return_exceptions=True)
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    if isinstance(found, LabError | Refused | ServerEnded | AppError):
        print(f"the demo stopped: {found}\nlog: {DATA_DIR}/server.log", file=sys.stderr)
        return 1
    if isinstance(found, Exception):
        raise found
    return 0


if __name__ == "__main__":
    become_root()
    sys.exit(asyncio.run(main()))
