"""AIs on a cluster, and what is seen of its nodes: how fast, by what the AIs themselves say.

Each AI sends a datagram twenty times a second to this machine, so that "running" is what has been
heard of it, and a gap is time in which nothing was heard.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

from tests.benchmarks.cluster_forming import form_s, ready_hosts, say, stand
from tests.benchmarks.figures import Row, row

from haechi.domains.clusters.bundle.model import Bundle
from lab import Host, Site, byhand
from lab.stand import Stand

HEARD_S = 180.0
AFTER_S = 3.0
BARE = "kubectl apply of such a package by hand in the same run"
MANIFEST = '[package]\nname = "beat"\n[needs]\ncamera = "none"\n[health]\nready = "uptime"\n'
DOCKERFILE = 'FROM python:3.11-slim\nCOPY main.py /main.py\nCMD ["python3", "/main.py"]\n'
BEATS = """\
import socket, time

speaker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    speaker.sendto(b"{version}", ("{address}", {port}))
    time.sleep(0.05)
"""
CRASHES = 'import sys\nprint("the model file is damaged", flush=True)\nsys.exit(3)\n'


class Ear(asyncio.DatagramProtocol):
    """When each beat was heard, by version."""

    def __init__(self) -> None:
        self.heard: list[tuple[float, str]] = []

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        del addr
        self.heard.append((time.monotonic(), data.decode()))

    async def first_s(self, version: str) -> float:
        """When this version was first heard."""
        async with asyncio.timeout(HEARD_S):
            while True:
                for at, said in self.heard:
                    if said == version:
                        return at
                await asyncio.sleep(0.02)

    def longest_gap_s(self, since: float) -> float:
        times = [at for at, _ in self.heard if at >= since]
        return max(after - before for before, after in pairwise(times))


@asynccontextmanager
async def listening(address: str) -> AsyncIterator[tuple[Ear, int]]:
    loop = asyncio.get_running_loop()
    transport, ear = await loop.create_datagram_endpoint(Ear, local_addr=(address, 0))
    try:
        yield ear, transport.get_extra_info("sockname")[1]
    finally:
        transport.close()


class Running:
    """A cluster of 1+1 that takes AIs."""

    def __init__(
        self, made: Stand, cluster_id: str, hosts: list[Host], ear: Ear, port: int
    ) -> None:
        self.made = made
        self.cluster_id = cluster_id
        self.control, self.worker = hosts
        self.ear = ear
        self._port = port

    async def upload(self, version: str, script: str = BEATS) -> dict[str, Any]:
        said = {"{version}": version, "{address}": self.made.site.gateway, "{port}": self._port}
        for word, value in said.items():
            script = script.replace(word, str(value))
        files = {"Dockerfile": DOCKERFILE, "main.py": script, "haechi.toml": MANIFEST}
        return await self.made.upload("beat", version, files)

    async def begin(self, version: dict[str, Any], **wishes: Any) -> dict[str, Any]:
        body = {"version_id": version["id"], "cluster_id": self.cluster_id, **wishes}
        return dict(await self.made.call("POST", "/deployments", json=body))

    async def image_of(self, version_id: str) -> str:
        builds = (await self.made.call("GET", "/builds", params={"limit": 1000}))["items"]
        return next(str(one["image"]) for one in builds if one["version_id"] == version_id)

    async def image_to_running(self, rounds: int) -> list[Row]:
        """The node has the base image; the layer of this version is new to it."""
        by_haechi, by_hand = [], []
        for number in range(rounds + 1):
            name = f"image-{number}"
            version = await self.upload(name)
            began_s = time.monotonic()
            accepted = await self.begin(version)
            seconds = await self.ear.first_s(name) - began_s
            await self.made.ended(accepted)
            if number:  # the first one brings the base image
                by_haechi.append(seconds)
        for number in range(rounds):
            name = f"bare-{number}"
            image = await self.image_of((await self.upload(name))["id"])
            by_hand.append(await self._apply_s(name, image))
        return [row("image_to_running_k8s_s", by_haechi, "s", BARE, by_hand)]

    async def _apply_s(self, version: str, image: str) -> float:
        labels = {"app": version}
        pod = {
            "nodeSelector": {"kubernetes.io/hostname": self.worker.hostname},
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "ai", "image": image}],
        }
        wanted = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": version},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        }
        began_s = time.monotonic()
        await self.control.shell(f"{byhand.KUBECTL} apply -f -", stdin=json.dumps(wanted).encode())
        seconds = await self.ear.first_s(version) - began_s
        await self.control.shell(f"{byhand.KUBECTL} delete deployment {version}")
        return seconds

    async def switch_gap(self, rounds: int) -> list[Row]:
        """One version in place of another, overlapping: the longest silence."""
        gaps = []
        await self.made.ended(await self.begin(await self.upload("gap-0")))
        await self.ear.first_s("gap-0")
        for number in range(1, rounds + 1):
            version = await self.upload(f"gap-{number}")
            began_s = time.monotonic()
            await self.made.ended(await self.begin(version, strategy="overlap"))
            await self.ear.first_s(f"gap-{number}")
            await asyncio.sleep(AFTER_S)
            gaps.append(self.ear.longest_gap_s(began_s))
        return [row("switch_gap_k8s_s", gaps, "s", "target", 1)]

    async def rollback(self, rounds: int) -> list[Row]:
        """A version that crashes: from the call until the old one is confirmed."""
        times = []
        await self.made.ended(await self.begin(await self.upload("good")))
        for number in range(rounds):
            bad = await self.upload(f"bad-{number}", CRASHES)
            began_s = time.monotonic()
            ended = await self.made.ended(await self.begin(bad), state="failed")
            times.append(time.monotonic() - began_s)
            versions = [one["version"] for one in await self.made.running(self.worker)]
            if versions != ["good"]:
                raise SystemExit(f"not taken back: {versions} runs after {ended['error']}")
        return [row("rollback_k8s_s", times, "s", "target", 10)]

    async def silent(self, rounds: int) -> list[Row]:
        """The worker loses its power: until it is shown."""
        times = []
        for _ in range(rounds):
            await self.made.until_presence(self.cluster_id, self.worker, "ok")
            began_s = time.monotonic()
            await self.worker.kill()
            await self.made.until_presence(self.cluster_id, self.worker, "silent", "dead")
            times.append(time.monotonic() - began_s)
            await self.worker.start()
        return [row("node_silent_shown_s", times, "s", "target", 3)]


async def running(bundle: Bundle, wanted: Collection[str], rounds: int) -> list[Row]:
    rows: list[Row] = []
    async with Site() as site:
        hosts = await ready_hosts(site, bundle, 2)
        async with stand(site, bundle) as made, listening(site.gateway) as (ear, port):
            await made.map_base_image()
            _, (cluster_id,) = await form_s(made, hosts, 1)
            it = Running(made, cluster_id, hosts, ear, port)
            figures: dict[str, Callable[[int], Any]] = {
                "image_to_running_k8s_s": it.image_to_running,
                "switch_gap_k8s_s": it.switch_gap,
                "rollback_k8s_s": it.rollback,
                "node_silent_shown_s": it.silent,
            }
            for name, measure in figures.items():
                if name in wanted:
                    say(name)
                    rows += await measure(rounds)
    return rows
