"""The `Builder` port over a Docker Engine: BuildKit by `POST /build?version=2`.

Whatever the Engine says is translated to the errors of builds; what is transient stays
`Unavailable`. Every name it gives starts with `haechi-` or lies in the site registry, so that what
a crash leaves behind can be told from other people's images.
"""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from haechi.adapters.build_context import stream_context
from haechi.adapters.build_limits import limit_build_steps
from haechi.adapters.docker_api import DockerApi, RegistryLogin
from haechi.adapters.docker_buildkit import Trace
from haechi.adapters.docker_errors import EngineObjectNotFound, EngineUnreachable, short
from haechi.core.clock import Clock
from haechi.domains.builds.images import same_platform
from haechi.domains.builds.model import BuildFailed
from haechi.domains.builds.ports import BuiltImage, Engine, Login, OnProgress, OnText, Plan
from haechi.errors import DiskFull, Unavailable

HEREDOCS_SINCE: Final = (23, 0)
BINFMT: Final = Path("/proc/sys/fs/binfmt_misc")
QEMU: Final = {"arm64": "qemu-aarch64", "arm": "qemu-arm", "amd64": "qemu-x86_64"}
IDLE_LIMIT_S: Final = 3600.0
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm/v7"}
BUILT: Final = "haechi.build"
"""Label of every image built here; its value is the build's id."""


class DockerBuilder:
    """`limit_steps`: the Engine is on this machine, so its build steps can be limited here."""

    def __init__(
        self,
        docker: DockerApi,
        *,
        clock: Clock,
        name: str = "docker",
        limit_steps: bool = False,
        binfmt: Path = BINFMT,
    ) -> None:
        self.name = name
        self._docker = docker
        self._clock = clock
        self._limit_steps = limit_steps
        self._binfmt = binfmt
        self._engine: Engine | None = None

    async def engine(self) -> Engine:
        if self._engine is None:
            info = await self._docker.info()
            version = str(info["ServerVersion"])
            arch = str(info["Architecture"])
            found = re.match(r"(\d+)\.(\d+)", version)
            numbers = (int(found[1]), int(found[2])) if found else (0, 0)
            self._engine = Engine(
                platform=f"{info['OSType']}/{_ARCHITECTURES.get(arch, arch)}",
                version=version,
                heredocs=numbers >= HEREDOCS_SINCE,
                emulates=frozenset(),
            )
        emulates = await asyncio.to_thread(self._emulated) if self._limit_steps else frozenset()
        return Engine(self._engine.platform, self._engine.version, self._engine.heredocs, emulates)

    def _emulated(self) -> frozenset[str]:
        """Platforms with an enabled qemu entry that keeps its interpreter open (flag F)."""
        found = set()
        for arch, entry in QEMU.items():
            try:
                text = (self._binfmt / entry).read_text()
            except OSError:
                continue
            flags = re.search(r"^flags: (\w*)", text, re.MULTILINE)
            # Without P a build "succeeded" with a broken RUN; without F the interpreter is
            # looked for inside the image.
            if text.startswith("enabled") and flags and {"P", "F"} <= set(flags[1]):
                found.add(f"linux/{arch}")
        return frozenset(found)

    async def ensure_image(
        self, reference: str, platform: str, login: Login | None, log: OnText
    ) -> str:
        with contextlib.suppress(EngineObjectNotFound):
            image = await self._docker.image(reference)
            if same_platform(platform_of(image), platform):
                return str(image["Id"])
        log(f"pulling {reference} ({platform})")
        await self._docker.pull(reference, platform=platform, login=_login(login))
        return str((await self._docker.image(reference))["Id"])

    async def build(self, plan: Plan, log: OnText, progress: OnProgress) -> BuiltImage:
        if self._limit_steps and plan.memory_bytes:
            cores = float((await self._docker.info()).get("NCPU") or 1)
            missing = await asyncio.to_thread(
                limit_build_steps, memory_bytes=plan.memory_bytes, cpu_cores=cores
            )
            if missing:
                log(f"limits not available on this machine: {', '.join(missing)}")
        trace = Trace()
        query = {
            "version": "2",
            "dockerfile": plan.dockerfile,
            "t": plan.tag,
            "platform": plan.platform,
            "labels": json.dumps(dict(plan.labels)),
            "buildargs": json.dumps(dict(plan.build_args)),
            "networkmode": plan.network,
            "nocache": "1" if plan.no_cache else "0",
            "rm": "1",
            "forcerm": "1",
        }
        context = stream_context(plan.context_dir, plan.dockerfile, plan.dockerfile_text)
        async with (
            contextlib.aclosing(context),
            self._docker.build(query, context, head_timeout_s=IDLE_LIMIT_S) as lines,
        ):
            await self._watch(lines, trace, log, progress)
        if trace.error:
            raise _failure(trace)
        image = await self._docker.image(trace.image_id)
        return BuiltImage(image_id=str(image["Id"]), size_bytes=int(image["Size"]))

    async def _watch(
        self,
        lines: AsyncIterator[dict[str, Any]],
        trace: Trace,
        log: OnText,
        progress: OnProgress,
    ) -> None:
        async for line in lines:
            for text in trace.feed(line):
                log(text)
            progress(trace.ratio, trace.current)
        if not trace.error and not trace.image_id:
            # A clean end without an image: the daemon went away in the middle.
            raise EngineUnreachable(engine=self.name, reason="the build's stream ended early")

    async def push(
        self, image: str, reference: str, login: Login | None, progress: OnProgress
    ) -> str:
        name, _, tag = reference.rpartition(":")
        await self._docker.tag(image, name, tag)
        sizes: dict[str, tuple[int, int]] = {}

        def see(line: dict[str, Any]) -> None:
            layer, detail = line.get("id"), line.get("progressDetail")
            if not layer or not isinstance(detail, dict):
                return
            if "total" in detail:
                sizes[layer] = (int(detail.get("current", 0)), int(detail["total"]))
            elif layer in sizes and line.get("status") == "Pushed":
                sizes[layer] = (sizes[layer][1], sizes[layer][1])
            total = sum(size for _, size in sizes.values())
            done = sum(min(done, size) for done, size in sizes.values())
            if total:
                progress(done / total, f"{done / 1e6:.0f} / {total / 1e6:.0f} MB")

        try:
            return await self._docker.push(reference, login=_login(login), on_line=see)
        finally:
            with contextlib.suppress(Unavailable):
                await self._docker.remove_image(reference)

    async def keep(self, image: str, reference: str) -> None:
        name, _, tag = reference.rpartition(":")
        await self._docker.tag(image, name, tag)

    async def remove(self, reference: str) -> None:
        await self._docker.remove_image(reference)

    async def prune(self) -> int:
        return await self._docker.prune_images({"label": [BUILT]})


def platform_of(image: dict[str, Any]) -> str:
    parts = [image.get("Os", ""), image.get("Architecture", ""), image.get("Variant", "")]
    return "/".join(part for part in parts if part)


def _login(login: Login | None) -> RegistryLogin | None:
    return RegistryLogin(login.name, login.password) if login else None


def _failure(trace: Trace) -> Exception:
    message = trace.error
    # BuildKit wraps the reason: "failed to solve with frontend …: executor failed running […]: …".
    reason = re.sub(
        r"^failed to solve(?: with frontend \S+)?: (?:rpc error: code = \w+ desc = )?", "", message
    )
    lines = trace.last_lines
    everything = "\n".join([message, *lines]).lower()
    if "no space left on device" in everything or "disk quota exceeded" in everything:
        return DiskFull(where="docker build")
    return BuildFailed(step=short(trace.current), reason=short(reason), lines=lines)
