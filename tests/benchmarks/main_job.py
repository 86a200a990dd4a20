"""How long from a zip to a running AI, what an agent costs, and what a package costs its model.

    python tests/benchmarks/main_job.py

A real site as the demo has it: one server, one device, one camera. Prints one JSON row per figure.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "demo"), str(ROOT / "examples" / "packages" / "person-detector")]

from stage import GIB, DevicePlan, Site, become_root, cache, free_ports  # noqa: E402 - from demo/

from haechi.adapters.docker_api import DockerApi  # noqa: E402 - after the path above
from haechi.testing import packages  # noqa: E402 - after the path above

PLANS = (DevicePlan("bench", "", 1.5, 2 * GIB, ("gate",)),)
ROUNDS = 3
WATCH_S = 20.0
MODEL_FRAMES = 60


def row(
    name: str,
    value: float,
    unit: str,
    reference: str | None = None,
    reference_value: float | None = None,
) -> dict[str, Any]:
    ratio = round(value / reference_value, 3) if reference_value else None
    return {
        "name": name,
        "value": round(value, 3),
        "unit": unit,
        "reference": reference,
        "reference_value": None if reference_value is None else round(reference_value, 3),
        "ratio": ratio,
    }


def bare_docker_run_s(image: str) -> float:
    """What Docker alone needs to start a container of that image."""
    times = []
    for _ in range(ROUNDS):
        started = time.monotonic()
        subprocess.run(
            ["docker", "run", "--rm", "--entrypoint", "true", image],
            check=True,
            timeout=60,
            capture_output=True,
        )
        times.append(time.monotonic() - started)
    return statistics.median(times)


async def zip_to_running(site: Site) -> list[dict[str, Any]]:
    whole, from_image = [], []
    for number in range(ROUNDS + 1):
        content = packages.posting("bench", version=str(number))
        started = time.monotonic()
        version = await site.upload_zip("bench", content, str(number))
        await site.build(version)
        built = time.monotonic()
        await site.deploy(version, ["bench"])
        if number:  # the first one warms the caches
            whole.append(time.monotonic() - started)
            from_image.append(time.monotonic() - built)
    build = (await site.api.all("/builds"))[0]
    bare = bare_docker_run_s(build["image"])
    return [
        row("zip_to_running_s", statistics.median(whole), "s"),
        row(
            "image_to_running_s",
            statistics.median(from_image),
            "s",
            "docker run of the same image",
            bare,
        ),
    ]


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def rss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


async def alone(site: Site) -> None:
    """End what ran before: its results would be counted as the detector's, and by the agent."""
    for running in await site.api.all("/deployments", device_id=site.devices["bench"]):
        if running["state"] == "running":
            accepted = await site.api.call("DELETE", f"/deployments/{running['id']}")
            await site.api.wait(accepted["operation_id"], within_s=60)


async def detector(site: Site) -> list[dict[str, Any]]:
    """Frames analysed per CPU second of the container, beside the bare model's on this core; and
    what the agent costs meanwhile, with ten results a second."""
    await alone(site)
    version = await site.upload("person-detector", "1")
    await site.build(version)
    accepted = await site.api.post(
        "/deployments",
        {
            "version_id": version.id,
            "device_ids": [site.devices["bench"]],
            "resources": {"cpu": 1.0},
            "cameras": {"fps": 10.0, "stream": "main"},
        },
    )
    await site.api.wait(accepted["operation_id"], within_s=120)
    deployments = await site.api.all("/deployments", package_id=version.package_id)
    mine = {"deployment_id": deployments[0]["id"]}

    async def seen() -> bool:
        return bool((await site.api.get("/results", limit=1, **mine))["items"])

    await site.until("the camera is analysed", seen, within_s=60)
    await asyncio.sleep(3)
    docker = DockerApi("/var/run/docker.sock")
    labels = {"haechi.device": site.devices["bench"], "haechi.package": version.package_id}
    found = await docker.containers(labels=labels)
    agent = site.pid("bench")

    async def used() -> tuple[float, float, float]:
        stats = await docker.container_stats(found[0]["Id"])
        total = stats["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9
        return total, cpu_s(agent), time.time()

    container_before, agent_before, start = await used()
    await asyncio.sleep(WATCH_S)
    container_after, agent_after, end = await used()
    rows = await site.api.all("/results", **mine, **{"from": _text(start), "to": _text(end)})
    package_fps = len(rows) / (container_after - container_before)
    memory = rss_mb(agent)
    return [
        row(
            "detector_fps_per_core",
            package_fps,
            "frames per CPU second",
            "bare model on the same picture size",
            bare_model_fps(),
        ),
        row("agent_results_per_s", len(rows) / (end - start), "1/s"),
        row("agent_rss_mb", memory, "MB"),
        row("agent_cpu_percent", 100 * (agent_after - agent_before) / (end - start), "% of a core"),
    ]


def _text(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def bare_model_fps() -> float:
    import av
    from nanodet import SIDE_PX, NanoDet

    model = NanoDet(cache.path("detector"))
    with av.open(str(cache.path("footage"))) as container:
        frames = []
        for frame in container.decode(video=0):
            frames.append(frame.to_ndarray(format="rgb24", width=SIDE_PX, height=SIDE_PX))
            if len(frames) == MODEL_FRAMES:
                break
    model.detect(frames[0])
    started = time.process_time()
    for frame in frames:
        model.detect(frame)
    return len(frames) / (time.process_time() - started)


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="haechi-bench-") as folder:
        quiet = lambda _line: None  # noqa: E731 - nothing to say between the rows
        async with Site(Path(folder) / "site", free_ports(), say=quiet, plans=PLANS) as site:
            await site.start_server()
            await site.furnish(await site.start_cameras())
            await site.start_agents()
            for made in [*await zip_to_running(site), *await detector(site)]:
                print(json.dumps(made), flush=True)


if __name__ == "__main__":
    become_root()
    asyncio.run(main())
