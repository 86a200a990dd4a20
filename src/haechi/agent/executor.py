"""Carries out the server's commands (`protocol.commands`): decode, do, answer, cancel.

Idempotent by deployment id and image digest; what must outlast the link is written down before it
is done. Knows neither frames nor sockets: `say` gets chunks, the return value is the answer.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from haechi.adapters import docker_errors
from haechi.adapters.docker_api import DockerApi
from haechi.adapters.docker_pull import find_image, pull_image
from haechi.adapters.docker_pull import pulled as pulled_image
from haechi.adapters.docker_states import as_command_error, log_line, platform_of
from haechi.adapters.docker_trust import wire_docker_host
from haechi.agent import boot
from haechi.agent.chunks import LogPipe, PullReport, Say
from haechi.agent.containers import Containers
from haechi.agent.deployments import Deployment, Deployments, Kept
from haechi.agent.home import Home, read_json, write_json
from haechi.core import ids
from haechi.core.tasks import TaskGroup
from haechi.errors import AppError
from haechi.protocol import commands as c
from haechi.protocol.desired import ContainerStatus
from haechi.protocol.problems import (
    AgentFault,
    BadArguments,
    CommandCancelled,
    DeadlinePassed,
    DeviceDiskFull,
    ImageMissing,
    ImageNotFound,
    NoContainer,
    UnknownVerb,
    WrongPlatform,
    to_wire_error,
)

log = logging.getLogger(__name__)

_GOING: Final = (docker_errors.EngineObjectNotFound, docker_errors.EngineConflict)
"""What the engine says of a container that is gone, or is just being removed: no log any more."""


class Executor:
    def __init__(
        self,
        *,
        home: Home,
        engine: DockerApi,
        containers: Containers,
        deployments: Deployments,
        still: Callable[[c.TakeStill], Awaitable[c.Still]],
        camera_url: Callable[[Deployment], Awaitable[str]],
        on_assignments: Callable[[], Awaitable[None]],
        cores: float,
        memory_bytes: int,
        gpu: str,
        memory_available: Callable[[], int],
        docker_config: Path,
        hosts_file: Path,
    ) -> None:
        self._home = home
        self._engine = engine
        self._containers = containers
        self._deployments = deployments
        self._still = still
        self._camera_url = camera_url
        self._on_assignments = on_assignments
        self._cores = cores
        self._memory_bytes = memory_bytes
        self._gpu = gpu
        self._memory_available = memory_available
        self._docker_config = docker_config
        self._hosts_file = hosts_file
        self._do: dict[str, Callable[[Any, Say], Awaitable[Struct]]] = {
            "image.pull": self._pull,
            "image.check": self._check,
            "image.remove": self._remove_image,
            "container.start": self._start,
            "container.stop": self._stop,
            "container.remove": self._remove,
            "container.status": self._status,
            "container.logs": self._logs,
            "media.still": self._take_still,
            "media.url": self._give_camera_url,
            "engine.info": self._info,
        }

    async def run(
        self, verb: str, args: dict[str, Any], deadline_s: float, say: Say
    ) -> tuple[Any, dict[str, Any] | None]:
        """(result, error) as they go into a `done` frame. Cancelling it is the cancel."""
        try:
            async with asyncio.timeout(deadline_s):
                return c.to_wire(await self._run(verb, args, say)), None
        except TimeoutError:
            return None, to_wire_error(DeadlinePassed(verb=verb))
        except asyncio.CancelledError:
            return None, to_wire_error(CommandCancelled(verb=verb))
        except AppError as error:
            if not error.code.startswith("agent."):
                error = as_command_error(error)
            log.warning("command %s failed: %s", verb, error)
            return None, to_wire_error(error)
        except Exception:
            fault_id = ids.new_id("request")
            log.exception("fault %s in command %s", fault_id, verb)
            return None, to_wire_error(AgentFault(fault_id=fault_id))

    async def _run(self, verb: str, args: dict[str, Any], say: Say) -> Struct:
        known = c.VERBS.get(verb)
        handler = self._do.get(verb)
        if known is None or handler is None:
            raise UnknownVerb(verb=verb[:60])
        try:
            decoded = c.args_of(known, args)
        except msgspec.ValidationError as error:
            raise BadArguments(verb=verb, problem=str(error)) from error
        return await handler(decoded, say)

    # -- images -------------------------------------------------------------------------------

    async def _pull(self, asked: c.PullImage, say: Say) -> c.PulledImage:
        if asked.registry is not None:
            await asyncio.to_thread(self._wire, asked.registry)
        present = await find_image(self._engine, asked.image)
        now = present is None
        if present is None:
            await self._fetch(asked.image, asked.registry, say)
            present = await find_image(self._engine, asked.image)
            if present is None:
                raise ImageNotFound(image=asked.image)
        await self._check_platform(asked.image, present)
        return pulled_image(present, now=now)

    async def pull_kept(self, image: str) -> None:
        """Fetch an image that is gone, with the pull access kept on disk."""

        async def quiet(_progress: Struct) -> None:
            return None

        access = await asyncio.to_thread(read_json, self._home.registry_file, c.RegistryAccess)
        _ = await self._pull(c.PullImage(image, access), quiet)

    async def _fetch(self, image: str, registry: c.RegistryAccess | None, say: Say) -> None:
        progress = PullReport(say)
        try:
            async with progress:
                await pull_image(self._engine, image, registry, progress.see)
        except DeviceDiskFull as error:
            raise DeviceDiskFull(needed_bytes=0, free_bytes=await self._disk_free()) from error

    def _wire(self, access: c.RegistryAccess) -> None:
        """Make the registry's stable name known and trusted; keep the access for later pulls."""
        write_json(self._home.registry_file, access)
        name, _, port = access.name.partition(":")
        host, _, own_port = access.address.rpartition(":")
        try:
            address = _resolve(host.strip("[]"))
            _ = wire_docker_host(
                config_home=self._docker_config,
                hosts_file=self._hosts_file,
                name=name,
                port=int(port or own_port or "443"),
                address=address,
                ca_pem=access.ca_pem,
            )
        except (OSError, ValueError) as error:
            # Somebody may have wired this host by hand; the pull will tell.
            log.warning("the registry's name could not be wired: %s", error)

    async def _check_platform(self, image: str, present: dict[str, Any]) -> None:
        theirs, ours = platform_of(present), boot.oci_platform()
        if theirs and theirs.split("/")[:2] != ours.split("/")[:2]:
            if theirs.split("/")[1] in _emulated():
                return
            raise WrongPlatform(image=image, image_platform=theirs, platform=ours)

    async def _check(self, asked: c.CheckImage, _say: Say) -> c.CheckedImage:
        present = await find_image(self._engine, asked.image)
        if present is None:
            return c.CheckedImage(present=False)
        return c.CheckedImage(
            present=True,
            image_id=str(present["Id"]),
            size_bytes=int(present.get("Size") or 0),
            platform=platform_of(present),
        )

    async def _remove_image(self, asked: c.RemoveImage, _say: Say) -> c.RemovedImage:
        if await find_image(self._engine, asked.image) is None:
            return c.RemovedImage(removed=False)
        try:
            await self._engine.remove_image(asked.image)
        except docker_errors.EngineConflict:
            return c.RemovedImage(removed=False)
        return c.RemovedImage(removed=True)

    # -- containers ---------------------------------------------------------------------------

    async def _start(self, asked: c.StartContainer, _say: Say) -> ContainerStatus:
        if await find_image(self._engine, asked.spec.image) is None:
            raise ImageMissing(image=asked.spec.image)
        kept = Kept(spec=asked.spec, token=asked.token, assignments=asked.assignments)
        known = self._deployments.get(asked.spec.deployment_id)
        if known is not None:
            kept.ready_ms, kept.ready_container = known.kept.ready_ms, known.kept.ready_container
        deployment = await asyncio.to_thread(self._deployments.keep, kept)
        deployment.busy = True
        try:
            await self._on_assignments()
            await self._containers.start(deployment)
        finally:
            deployment.busy = False
        self._deployments.on_change()
        return deployment.status()

    async def _stop(self, asked: c.StopContainer, _say: Say) -> ContainerStatus:
        deployment = self._deployments.get(asked.deployment_id)
        if deployment is None:
            _ = await self._containers.remove(asked.deployment_id, grace_s=asked.grace_s)
            return ContainerStatus(deployment_id=asked.deployment_id, state="absent")
        deployment.kept.wanted = False
        await asyncio.to_thread(self._deployments.save, deployment)
        await self._containers.stop(deployment, grace_s=asked.grace_s)
        return deployment.status()

    async def _remove(self, asked: c.RemoveContainer, _say: Say) -> c.RemovedContainer:
        deployment = self._deployments.get(asked.deployment_id)
        if deployment is not None:
            deployment.kept.wanted = False
            await asyncio.to_thread(self._deployments.save, deployment)
            await self._containers.stop(deployment, grace_s=asked.grace_s)
        tail = await self._tail(asked.deployment_id, asked.keep_log_lines)
        last = deployment.status() if deployment is not None else None
        removed = await self._containers.remove(asked.deployment_id, grace_s=asked.grace_s)
        await asyncio.to_thread(self._deployments.forget, asked.deployment_id)
        await self._on_assignments()
        return c.RemovedContainer(removed=removed, log_tail=tail, last=last)

    async def _status(self, asked: c.AskStatus, _say: Say) -> c.Statuses:
        wanted = asked.deployment_ids or [one.id for one in self._deployments]
        found: list[ContainerStatus] = []
        for deployment_id in wanted:
            deployment = self._deployments.get(deployment_id)
            if deployment is None:
                found.append(ContainerStatus(deployment_id=deployment_id, state="absent"))
                continue
            await self._containers.look_at(deployment)
            found.append(deployment.status())
        return c.Statuses(found)

    async def _tail(self, deployment_id: str, count: int) -> list[c.LogLine]:
        container_id = await self._containers.id_of(deployment_id)
        if not container_id or count <= 0:
            return []
        lines: deque[c.LogLine] = deque(maxlen=count)
        with contextlib.suppress(*_GOING):
            async for line in self._engine.container_logs(container_id, tail=count):
                lines.append(log_line(line, now_ms=boot.wall_ms()))
        return list(lines)

    async def _logs(self, asked: c.ReadLogs, say: Say) -> c.LogsEnded:
        container_id = await self._containers.id_of(asked.deployment_id)
        if not container_id:
            raise NoContainer(deployment_id=asked.deployment_id)
        pipe = LogPipe(say)
        async with TaskGroup() as group:
            pump = group.create_task(pipe.pump())
            try:
                await self._read_logs(container_id, asked, pipe)
            finally:
                pipe.end()
            await pump
        deployment = self._deployments.get(asked.deployment_id)
        if deployment is not None:
            await self._containers.look_at(deployment)
        return c.LogsEnded(lines=pipe.count, state=deployment.state if deployment else "absent")

    async def _read_logs(self, container_id: str, asked: c.ReadLogs, pipe: LogPipe) -> None:
        since_ms = asked.since_ms or 0
        if asked.follow:
            lines = self._engine.follow_logs(container_id, tail=asked.tail)
        else:
            since = f"{since_ms / 1000:.3f}" if since_ms else ""
            lines = self._engine.container_logs(container_id, since=since, tail=asked.tail)
        with contextlib.suppress(*_GOING):
            async for line in lines:
                one = log_line(line, now_ms=boot.wall_ms())
                if one.at_ms >= since_ms:
                    pipe.put(one)

    # -- the rest -----------------------------------------------------------------------------

    async def _take_still(self, asked: c.TakeStill, _say: Say) -> c.Still:
        return await self._still(asked)

    async def _give_camera_url(self, asked: c.AskCameraUrl, _say: Say) -> c.CameraUrl:
        deployment = self._deployments.get(asked.deployment_id)
        if deployment is None:
            raise NoContainer(deployment_id=asked.deployment_id)
        return c.CameraUrl(await self._camera_url(deployment))

    async def _info(self, _asked: c.AskEngine, _say: Say) -> c.EngineInfo:
        info = await self._engine.info()
        platform = boot.oci_platform()
        return c.EngineInfo(
            engine="docker",
            version=str(info.get("ServerVersion", "")),
            platform=platform,
            platforms=[platform, *(f"linux/{arch}" for arch in sorted(_emulated()))],
            cpu_cores=self._cores,
            memory_bytes=self._memory_bytes,
            memory_available_bytes=self._memory_available(),
            disk_free_bytes=await self._disk_free(),
            gpu=self._gpu,
        )

    async def _disk_free(self) -> int:
        try:
            root = Path(str((await self._engine.info()).get("DockerRootDir", "/")))
            return boot.disk_free_bytes(root)
        except (OSError, AppError):
            return boot.disk_free_bytes(self._home.root)


def _emulated() -> set[str]:
    """Architectures that binfmt_misc hands to qemu on this machine."""
    names = {"qemu-aarch64": "arm64", "qemu-x86_64": "amd64", "qemu-arm": "arm"}
    folder = Path("/proc/sys/fs/binfmt_misc")
    try:
        return {arch for name, arch in names.items() if (folder / name).exists()}
    except OSError:
        return set()


def _resolve(host: str) -> str:
    import socket

    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return str(found[0][4][0])
