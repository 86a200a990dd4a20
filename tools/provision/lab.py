"""The host lab: podman with runc, and the images of its hosts. `lab/` builds and runs them."""

import asyncio
import sys

from provision import cache, debian
from provision.process import StepFailed

PACKAGES = {
    "podman": "runs the lab's hosts",
    "runc": "starts them (crun fails beside cgroup v1)",
    "netavark": "their networks",
    "iptables": "their networks",
    "nftables": "packet loss, partitions, and the fence around a site",
    "openssh-client": "keys, and `python -m lab ssh`",
    "mmdebstrap": "makes the host image",
}
REMEDY = "docs/howto/lab.md says what a machine needs for the lab."
sys.path.append(str(cache.CHECKOUT))  # for lab/, which is standard library only

from lab import LabError, engine, images  # noqa: E402


def ready(_options: frozenset[str]) -> bool:
    return not debian.absent(PACKAGES) and engine.missing() is None and asyncio.run(_made())


async def _made() -> bool:
    try:
        engine.environment()
        return await images.there(images.bare()) and await images.there(images.docker())
    except LabError as e:
        raise StepFailed(str(e), REMEDY) from e


def prepare(_options: frozenset[str]) -> str:
    if packages := debian.absent(PACKAGES):
        debian.install(packages, PACKAGES)
    if reason := engine.missing():
        raise StepFailed(reason, REMEDY)
    try:
        asyncio.run(images.build(lambda line: print(f"      {line}", flush=True)))
    except LabError as e:
        raise StepFailed(str(e), REMEDY) from e
    return f"{images.bare()}, {images.docker()}"
