"""`make soak`: a cluster and its AIs through long outages; nothing may be lost, all must come back.

    python -m tests.benchmarks.soak [--minutes 20]

One cluster of 1+2 with an AI on each worker. In turns, until the time is over: a node without power
for minutes, the API away, a link that flaps, packets lost, the server killed. After each of them:
every node is shown connected, every AI runs, on the device and of the version it was put on. Prints
what each took to come back; ends with a code other than 0 where anything did not.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from lab import Host, LabError, Site, byhand, engine, faults, ready
from lab.stand import Refused, Stand

BACK_S = 600.0
FILES = {
    "Dockerfile": 'FROM python:3.11-slim\nCOPY main.py /main.py\nCMD ["python3", "/main.py"]\n',
    "haechi.toml": '[package]\nname = "soak"\n[needs]\ncamera = "none"\n[health]\nready = "uptime"\n',
    "main.py": "import time\nwhile True:\n    time.sleep(1)\n",
}


@dataclass
class Outage:
    name: str
    lasted_s: float
    back_s: float | None
    """None: it did not come back."""
    problem: str = ""


@dataclass
class Soak:
    stand: Stand
    cluster_id: str
    master: Host
    workers: list[Host]
    before: dict[str, Any]
    """What ran when it began: deployment → device and version."""
    outages: list[Outage] = field(default_factory=list)

    async def rows(self) -> dict[str, Any]:
        """Every deployment that is to run: where and of what version."""
        found: dict[str, Any] = {}
        for host in self.workers:
            for row in await self.stand.running(host):
                found[row["id"]] = [row["device_id"], row["version"]]
        return found

    async def observed(self) -> bool:
        """As the nodes say it, not as it was wished."""
        for host in self.workers:
            for row in await self.stand.running(host):
                if row["observed_state"] != "running":
                    return False
        return True

    async def pods_run(self) -> bool:
        """As Kubernetes says it: one pod of each deployment, ready."""
        said = await self.master.tries(
            f"{byhand.KUBECTL} --request-timeout=10s get deployments -n haechi-ai -o json"
        )
        if said.status:
            return False
        ready_ones = {
            one["metadata"]["name"]
            for one in json.loads(said.out)["items"]
            if one["status"].get("readyReplicas") == 1
        }
        return ready_ones == self.before.keys()

    async def all_back(self) -> bool:
        try:
            health = await self.stand.call("GET", f"/clusters/{self.cluster_id}/health")
            connected = all(one["presence"] == "ok" for one in health["nodes"])
            same = await self.rows() == self.before
            return connected and same and await self.observed() and await self.pods_run()
        except (Refused, OSError, httpx2.TransportError):
            return False

    async def outage(self, name: str, happens: Callable[[], Awaitable[object]]) -> None:
        print(f"… {name}", flush=True)
        began_s = time.monotonic()
        await happens()
        over_s = time.monotonic()
        back: float | None = None
        problem = ""
        try:
            await self.stand.until("all is back", self.all_back, BACK_S)
            back = time.monotonic() - over_s
        except Refused:
            problem = await self.what_is_missing()
        self.outages.append(Outage(name, over_s - began_s, back, problem))
        tell = f"back after {back:.1f} s" if back is not None else f"NOT BACK: {problem}"
        print(f"  {name}: {over_s - began_s:.0f} s long, {tell}", flush=True)

    async def what_is_missing(self) -> str:
        try:
            health = await self.stand.call("GET", f"/clusters/{self.cluster_id}/health")
            rows = await self.rows()
        except (Refused, OSError, httpx2.TransportError) as error:
            return f"the server does not answer: {error}"
        nodes = [[one["presence"], one["reason"]] for one in health["nodes"]]
        lost = sorted(self.before.keys() - rows.keys())
        return f"nodes {nodes}, AIs lost {lost}, rows {rows}, wanted {self.before}"

    # --- what happens

    async def no_power(self, seconds: float) -> None:
        await self.workers[0].kill()
        await asyncio.sleep(seconds)
        await self.workers[0].start()

    async def no_api(self, seconds: float) -> None:
        manifest = "/etc/kubernetes/manifests/kube-apiserver.yaml"
        await self.master.shell(f"mv {manifest} /root/")
        await asyncio.sleep(seconds)
        await self.master.shell(f"mv /root/kube-apiserver.yaml {manifest}")

    async def flaps(self, seconds: float) -> None:
        await faults.flap(self.workers[1], max(1, round(seconds / 12)), down_s=5, up_s=7)

    async def loss(self, seconds: float) -> None:
        for host in self.workers:
            await faults.lose(host, 20)
        try:
            await asyncio.sleep(seconds)
        finally:
            for host in self.workers:
                await faults.lose(host, 0)

    async def no_server(self, seconds: float) -> None:
        await asyncio.to_thread(self.stand.process.kill)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(self.stand.process.start)

    async def run(self, minutes: float) -> None:
        """Each of them once at least, then round and round until the time is over. A round takes
        about the whole time where that is short, ten minutes where it is long.
        """
        seconds = min(minutes, 10.0) * 60 / 5 * 0.6
        turns: list[tuple[str, Callable[[float], Awaitable[None]]]] = [
            ("a node without power", self.no_power),
            ("the API away", self.no_api),
            ("a link that flaps", self.flaps),
            ("a fifth of all packets lost", self.loss),
            ("the server killed", self.no_server),
        ]
        end_s = time.monotonic() + minutes * 60
        while not self.outages or time.monotonic() < end_s:
            for name, happens in turns:
                if len(self.outages) >= len(turns) and time.monotonic() >= end_s:
                    break

                async def lasting(act: Callable[[float], Awaitable[None]] = happens) -> None:
                    await act(seconds)

                await self.outage(name, lasting)

    def report(self) -> bool:
        print(f"\n{'outage':32}{'lasted':>10}{'back after':>14}")
        for one in self.outages:
            back = "NOT BACK" if one.back_s is None else f"{one.back_s:.1f} s"
            print(f"{one.name:32}{one.lasted_s:>8.0f} s{back:>14}")
        lost = [one for one in self.outages if one.back_s is None]
        print(f"\n{len(self.outages)} outages, {len(lost)} not survived; {len(self.before)} AIs")
        return not lost


async def soak(minutes: float) -> bool:
    bundle = ready.bundle()
    async with Site() as site:
        hosts = await (await ready.by_haechi(bundle)).add(site, 3)
        with tempfile.TemporaryDirectory(prefix="haechi-soak-") as folder:
            async with Stand.open(site, Path(folder), bundle.folder.parent) as stand:
                await stand.map_base_image()
                cluster_id = await stand.form("soak", hosts[:1], hosts[1:])
                version = await stand.upload("soak", "1", FILES)
                await stand.deploy(version, cluster_id=cluster_id)
                it = Soak(stand, cluster_id, hosts[0], hosts[1:], {})
                it.before = await it.rows()
                if len(it.before) != len(it.workers):
                    raise Refused(f"an AI on each worker was wanted: {it.before}")
                await stand.until("all runs", it.all_back, BACK_S)
                await it.run(minutes)
    return it.report()


def main() -> int:
    parser = argparse.ArgumentParser(description="Long outages on a cluster of lab hosts.")
    parser.add_argument("--minutes", type=float, default=20.0, help="default 20")
    asked = parser.parse_args()
    if reason := engine.missing():
        print(reason, file=sys.stderr)
        return 3
    try:
        return int(not asyncio.run(soak(asked.minutes)))
    except (LabError, Refused) as error:
        print(f"the soak could not run: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
