"""`make demo-check`: the demo site without a browser, for about a minute, with a verdict.

Exits 0 only if the main job really worked; the last line is one JSON object with what was
measured. Every figure is taken from the API, as any user could take it.
"""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from api import CallFailed
from historic import Historic
from stage import DEVICES, Site, Version, become_root, free_ports

BASELINE_S = 8.0
WATCH_S = 12.0
# Beyond these something is broken rather than slow: how fast it is, the report says.
LATENCY_LIMIT_MS = 10_000
FRESHNESS_LIMIT_S = 10.0
MOVE_GAP_LIMIT_S = 15.0
SWITCH_GAP_LIMIT_S = 15.0


def say(line: str) -> None:
    print(f"  {line}", flush=True)


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def p(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


class Check:
    def __init__(self, site: Site) -> None:
        self.site = site
        self.report: dict[str, Any] = {}
        self.failures: list[str] = []

    def expect(self, what: str, good: bool) -> None:
        if not good:
            self.failures.append(what)
            say(f"FAILED: {what}")

    async def run(self) -> None:
        site = self.site
        cameras = await site.start_cameras()
        await site.start_server()
        await site.furnish(cameras)
        await site.start_agents()
        freshness = asyncio.create_task(self._freshness())
        try:
            detector = await self._build_and_deploy()
            await self._before_and_after()
            await self._results()
            await self._move()
            await self._switch()
            await self._rollback(detector)
            await self._historic()
        finally:
            freshness.cancel()
        await self._metrics(await asyncio.gather(freshness, return_exceptions=True))

    async def _build_and_deploy(self) -> Version:
        site = self.site
        version = await site.upload("person-detector", "1")
        self.report["build_s"] = round(await site.build(version), 2)
        seconds, operation = await site.deploy(version, [plan.name for plan in DEVICES])
        self.report["deploy_s"] = round(seconds, 2)
        say(f"built in {self.report['build_s']} s, running on 3 devices in {seconds:.1f} s")
        outcomes = operation["result"]
        say(f"outcome: {json.dumps(outcomes, ensure_ascii=False)[:400]}")
        await site.until("every camera is analysed", self._every_camera_seen, within_s=60)
        self.report["cameras"] = len(site.cameras)
        self.report["devices"] = len(site.devices)
        return version

    async def _every_camera_seen(self) -> bool:
        for camera_id in self.site.cameras.values():
            page = await self.site.api.get("/results", camera_id=camera_id, limit=1)
            if not page["items"]:
                return False
        return True

    async def _before_and_after(self) -> None:
        """Mean CPU of a device before and after the monitoring package joins it."""
        site = self.site
        device = DEVICES[1].name
        monitoring = await site.upload("monitoring", "1")
        await site.build(monitoring)
        await asyncio.sleep(BASELINE_S)
        start = time.time()
        await site.deploy(monitoring, [device])
        ready = time.time()
        await asyncio.sleep(BASELINE_S)
        before = await self._mean_cpu(device, start - BASELINE_S, start)
        after = await self._mean_cpu(device, ready, ready + BASELINE_S)
        self.report["before_after"] = [round(before, 3), round(after, 3)]
        self.expect("samples before and after a deployment", before > 0 and after > 0)

    async def _mean_cpu(self, device: str, start: float, end: float) -> float:
        rows = await self._samples(device, start, end)
        return statistics.fmean(row["cpu_ratio"] for row in rows) if rows else 0.0

    async def _samples(self, device: str, start: float, end: float) -> list[dict[str, Any]]:
        page = await self.site.api.get(
            "/metrics/samples",
            device_id=self.site.devices[device],
            **{"from": _text(start), "to": _text(end)},
        )
        return list(page["items"])

    async def _results(self) -> None:
        """Let it run, then look at what was stored: boxes, latency, every camera."""
        start = time.time()
        await asyncio.sleep(WATCH_S)
        rows = await self._stored(start)
        latencies = [1000 * (at(row["stored_at"]) - at(row["captured_at"])) for row in rows]
        detections = sum(len(row["objects"]) for row in rows)
        self.report["results"] = len(rows)
        self.report["detections"] = detections
        self.report["result_latency_p95_ms"] = round(p(latencies, 0.95)) if latencies else None
        seen = {row["camera_id"] for row in rows if row["camera_id"]}
        self.expect("results of all four cameras", len(seen) == len(self.site.cameras))
        self.expect("people are found", detections > 0)
        self.expect(
            f"95 % stored within {LATENCY_LIMIT_MS} ms of capture",
            bool(latencies) and p(latencies, 0.95) < LATENCY_LIMIT_MS,
        )

    async def _stored(self, start: float, **filters: str) -> list[dict[str, Any]]:
        return await self.site.api.all("/results", **{"from": _text(start)}, **filters)

    async def _move(self) -> None:
        """A camera goes to the neighbour by hand: no container restarts, the gap is measured."""
        site = self.site
        before = await self._restarts()
        start = time.time()
        await site.move_camera("path", DEVICES[1].name)
        target = site.devices[DEVICES[1].name]

        async def arrived() -> bool:
            rows = await self._stored(start, camera_id=site.cameras["path"], device_id=target)
            return len(rows) >= 5

        await site.until("the moved camera is analysed by its new device", arrived, within_s=30)
        rows = await self._stored(start - 3, camera_id=site.cameras["path"])
        self.report["move_gap_s"] = round(longest_gap([at(row["captured_at"]) for row in rows]), 2)
        self.expect("no restart by a move", await self._restarts() == before)
        self.expect("the move's gap", self.report["move_gap_s"] < MOVE_GAP_LIMIT_S)

    async def _restarts(self) -> list[Any]:
        rows = await self.site.api.all("/deployments")
        return sorted((row["id"], row["restarts"]) for row in rows if row["state"] == "running")

    async def _switch(self) -> None:
        """Version 2 replaces version 1 everywhere: the longest time a camera had no result."""
        site = self.site
        start = time.time()
        second = await site.upload("person-detector", "2", DETECTOR_THRESHOLD="0.45")
        await site.build(second)
        began = time.time()
        await site.deploy(second, [plan.name for plan in DEVICES])
        await asyncio.sleep(2)
        by_camera: dict[str, list[float]] = defaultdict(list)
        for row in await self._stored(began - 3):
            if row["camera_id"] is None:
                continue  # a heartbeat
            by_camera[row["camera_id"]].append(at(row["captured_at"]))
        gaps = [longest_gap(times) for times in by_camera.values()]
        self.report["switch_gap_s"] = round(max(gaps), 2) if gaps else None
        say(f"version 2 replaced version 1 in {time.time() - start:.1f} s, gap {gaps}")
        self.expect("all cameras through the switch", len(by_camera) == len(site.cameras))
        self.expect("the switch's gap", bool(gaps) and max(gaps) < SWITCH_GAP_LIMIT_S)

    async def _rollback(self, good: Version) -> None:
        """A version that crashes: the old one is confirmed running, by haechi itself."""
        from haechi.testing.packages import crashing

        site = self.site
        bad = await site.upload_zip("person-detector", crashing("person-detector"), "3-crashes")
        await site.build(bad)
        device = DEVICES[2].name
        start = time.time()
        seconds, operation = await site.deploy(bad, [device], ok=False)
        self.expect("a crashing version is refused", operation["state"] == "failed")
        self.report["rollback_s"] = round(seconds, 2)

        async def old_again() -> bool:
            rows = await self._stored(start + seconds, camera_id=site.cameras["corner"])
            return bool(rows)

        await site.until("the old version goes on", old_again, within_s=20)
        rows = await self.site.api.all("/deployments", device_id=site.devices[device])
        running = [row["version"] for row in rows if row["state"] == "running"]
        self.expect(f"version 2 is still there (found {running})", running == ["2"])
        del good

    async def _historic(self) -> None:
        """An old program's day, by the historic interface alone."""
        historic = Historic(self.site)
        await historic.run()
        self.report["interop_calls"] = historic.calls
        self.report["interop_ok"] = historic.ok
        self.expect(f"the historic calls {historic.problems}", historic.ok)

    async def _freshness(self) -> list[float]:
        """Follow the live stream: how old is a sample when it is shown?"""
        ages: list[float] = []
        async with follow(self.site, [f"samples:{i}" for i in self.site.devices.values()]) as lines:
            try:
                async for line in lines:
                    if line.startswith("data: {"):
                        message = json.loads(line[6:])
                        ages.append(time.time() - at(message["data"]["at"]))
            except asyncio.CancelledError:
                return ages
        return ages

    async def _metrics(self, followed: list[Any]) -> None:
        ages = followed[0] if isinstance(followed[0], list) else []
        counted = 0
        for plan in DEVICES:
            counted += len(await self._samples(plan.name, time.time() - 600, time.time()))
        self.report["metrics_rows"] = counted
        self.report["metrics_freshness_p99_s"] = round(p(ages, 0.99), 3) if ages else None
        self.expect("samples are stored", counted > 60)
        self.expect("samples are fresh", bool(ages) and p(ages, 0.99) < FRESHNESS_LIMIT_S)


def longest_gap(times: list[float]) -> float:
    ordered = sorted(times)
    gaps = [after - before for before, after in pairwise(ordered)]
    return max(gaps, default=float("inf"))


@asynccontextmanager
async def follow(site: Site, topics: list[str]) -> AsyncIterator[AsyncIterator[str]]:
    async with site.api.stream("/stream", topics=",".join(topics)) as response:
        yield response.aiter_lines()


def _text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat()


async def main() -> int:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="haechi-check-") as folder:
        async with Site(Path(folder) / "site", free_ports(), say=say) as site:
            check = Check(site)
            try:
                await check.run()
            except CallFailed as error:
                check.failures.append(str(error))
                for log in sorted(site.data_dir.glob("*.log")):
                    print(f"--- {log.name}\n{log.read_text(errors='replace')[-2500:]}")
    for failure in check.failures:
        print(f"FAILED: {failure}")
    say(f"took {time.monotonic() - started:.0f} s")
    print(json.dumps(check.report))
    return int(bool(check.failures))


if __name__ == "__main__":
    become_root()
    sys.exit(asyncio.run(main()))
