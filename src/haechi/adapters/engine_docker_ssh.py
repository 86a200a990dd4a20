"""The Docker of a host that has no agent, over SSH: the `Engine` of a lone Docker host.

The same container as the agent makes (`docker_bodies`), but for where it calls: results go straight
to the server, with the deployment's token. Nobody on the host looks after it: Docker itself starts
it again after a crash or a reboot, and the server makes it anew where it vanished (deployments'
keeper). No cameras are handed out, for there is no media to hand them out.
"""

import io
import tarfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any, Final

from haechi.adapters.docker_api import DockerApi
from haechi.adapters.docker_bodies import LABEL_DEVICE, Place, create_body, internet_name
from haechi.adapters.docker_containers import (
    find_container,
    inspect_container,
    make_container,
    runs_as_wanted,
)
from haechi.adapters.docker_errors import EngineConflict, EngineObjectNotFound, EngineTimedOut
from haechi.adapters.docker_errors import EngineUnreachable as Unreachable
from haechi.adapters.docker_pull import find_image, pull_image, pulled
from haechi.adapters.docker_ssh_errors import NeedsAgent, OnlyOnLoopback
from haechi.adapters.docker_ssh_facts import engine_info
from haechi.adapters.docker_ssh_fence import Fences
from haechi.adapters.docker_ssh_hosts import DockerHosts, Way
from haechi.adapters.docker_ssh_trust import is_loopback_url, wire_host
from haechi.adapters.docker_states import PullLayers, as_command_error, log_line, seen
from haechi.core.secrets import Secret
from haechi.domains.clusters.host.ports import Hosts
from haechi.domains.deployments.model import WITHOUT_AGENT
from haechi.errors import AppError
from haechi.protocol.assignments import Assignment
from haechi.protocol.commands import (
    EngineInfo,
    LogLine,
    LogLines,
    PulledImage,
    PullProgress,
    RegistryAccess,
    RemovedContainer,
)
from haechi.protocol.desired import ContainerSpec, ContainerStatus
from haechi.protocol.problems import ImageNotFound, NoContainer

CA_FOLDER: Final = "etc/haechi"
CA_FILE: Final = "site-ca.pem"
LOG_BATCH: Final = 200


class DockerSshEngine:
    """`server_url` is where containers post; `ca_pem` is what they must trust there ("" without
    TLS); `old_listeners` are the addresses at which the server answers programs of the old days."""

    name = WITHOUT_AGENT

    def __init__(
        self,
        hosts: Hosts,
        *,
        server_url: Callable[[], str],
        ca_pem: Callable[[], str],
        old_listeners: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._hosts = DockerHosts(hosts)
        self._server_url = server_url
        self._ca_pem = ca_pem
        self._old_listeners = old_listeners
        self._fences = Fences(lambda: [server_url(), *old_listeners()])

    async def close(self) -> None:
        await self._hosts.close()

    async def name_of(self, device_id: str) -> str:
        del device_id
        return self.name

    async def info(self, device_id: str) -> EngineInfo:
        async with self._way(device_id) as way:
            return await engine_info(way)

    async def has_image(self, device_id: str, image: str) -> bool:
        async with self._way(device_id) as way:
            return await find_image(way.docker, image) is not None

    async def remove_image(self, device_id: str, image: str) -> bool:
        async with self._way(device_id) as way:
            if await find_image(way.docker, image) is None:
                return False
            try:
                await way.docker.remove_image(image)
            except EngineConflict:
                return False
            return True

    async def pull(
        self,
        device_id: str,
        image: str,
        access: RegistryAccess | None,
        progress: Callable[[PullProgress], None],
    ) -> PulledImage:
        layers = PullLayers()

        def see(line: dict[str, Any]) -> None:
            layers.see(line)
            progress(PullProgress(layers.done_bytes, layers.total_bytes, layers.text))

        async with self._way(device_id) as way:
            if access is not None:
                await wire_host(way.shell, access)
            present = await find_image(way.docker, image)
            if present is not None:
                return pulled(present, now=False)
            await pull_image(way.docker, image, access, see)
            present = await find_image(way.docker, image)
            if present is None:
                raise ImageNotFound(image=image)
            return pulled(present, now=True)

    async def start(
        self,
        device_id: str,
        spec: ContainerSpec,
        token: Secret,
        assignments: Sequence[Assignment],
    ) -> ContainerStatus:
        del assignments
        async with self._way(device_id) as way:
            host = way.shell.host
            if spec.camera == "one":
                raise NeedsAgent(host=host.name)
            if is_loopback_url(self._server_url()) and not is_loopback_url(f"//{host.address}"):
                raise OnlyOnLoopback(
                    what="server",
                    address=self._server_url(),
                    host=host.name,
                    setting="server.listen",
                )
            async with self._network(way, device_id, spec) as network:
                await self._begin(way, device_id, spec, token, network)
            return await self._status(way.docker, device_id, spec.deployment_id)

    @asynccontextmanager
    async def _network(self, way: Way, device_id: str, spec: ContainerSpec) -> AsyncIterator[str]:
        """Where the AI begins."""
        if not spec.internet:
            async with self._fences.laid(way, device_id) as network:
                yield network
            return
        network, labels = internet_name(device_id), {LABEL_DEVICE: device_id}
        await way.docker.ensure_bridge(network, internal=False, labels=labels)
        yield network

    async def _begin(
        self, way: Way, device_id: str, spec: ContainerSpec, token: Secret, network: str
    ) -> None:
        docker = way.docker
        facts = await docker.info()
        place = Place(
            device_id=device_id,
            network=network,
            environment=self._environment(spec),
            cores=float(facts.get("NCPU") or 1),
            memory_bytes=int(facts.get("MemTotal") or 0),
            names=await self._fences.names(),
        )
        body = create_body(spec, place, token=token.reveal(), camera_url="")
        container_id = await find_container(docker, device_id, spec.deployment_id)
        inspected = await inspect_container(docker, container_id)
        if runs_as_wanted(inspected, body):
            return
        ca_pem = self._ca_pem()

        async def give_ca(made: str) -> None:
            if ca_pem:
                await _put(docker, made, ca_pem)

        container_id = await make_container(docker, device_id, spec, body, inspected, give_ca)
        await docker.start_container(container_id)

    def _environment(self, spec: ContainerSpec) -> dict[str, str]:
        """Where the AI calls: the server, for there is no agent."""
        url = self._server_url()
        values = {"HAECHI_MASTER_URL": url, "HAECHI_RESULTS_URL": f"{url}/api/v1/results"}
        for listener in self._old_listeners()[:1]:
            values["HAECHI_USAGE_URL"] = f"{listener}/usage"
        if self._ca_pem():
            trusted = f"/{CA_FOLDER}/{CA_FILE}"
            values["HAECHI_CA_FILE"] = trusted
            if not spec.internet:
                # It talks to nobody else: plain clients trust the site's CA by these.
                values |= {"SSL_CERT_FILE": trusted, "REQUESTS_CA_BUNDLE": trusted}
        return values

    async def stop(self, device_id: str, deployment_id: str, grace_s: float) -> ContainerStatus:
        async with self._way(device_id) as way:
            container_id = await find_container(way.docker, device_id, deployment_id)
            if container_id:
                await way.docker.stop_container(container_id, grace_s=grace_s)
            return await self._status(way.docker, device_id, deployment_id)

    async def remove(
        self, device_id: str, deployment_id: str, grace_s: float, keep_log_lines: int
    ) -> RemovedContainer:
        async with self._way(device_id) as way:
            docker = way.docker
            last = await self._status(docker, device_id, deployment_id)
            if not last.container_id:
                return RemovedContainer(removed=False)
            await docker.stop_container(last.container_id, grace_s=grace_s)
            tail = await _tail(docker, last.container_id, keep_log_lines)
            await docker.remove_container(last.container_id, force=True)
            await self._fences.see_to(way, device_id, now=True)
            return RemovedContainer(removed=True, log_tail=tail, last=last)

    async def status(self, device_id: str, deployment_ids: Sequence[str]) -> list[ContainerStatus]:
        async with self._way(device_id) as way:
            await self._fences.see_to(way, device_id)
            return [await self._status(way.docker, device_id, one) for one in deployment_ids]

    async def _status(
        self, docker: DockerApi, device_id: str, deployment_id: str
    ) -> ContainerStatus:
        container_id = await find_container(docker, device_id, deployment_id)
        inspected = await inspect_container(docker, container_id)
        if inspected is None:
            return ContainerStatus(deployment_id, "absent")
        found = seen(inspected)
        return ContainerStatus(
            deployment_id=deployment_id,
            # Made and never begun: its start was cut off, and it will not begin by itself.
            state="exited" if found.state == "starting" else found.state,
            container_id=found.container_id,
            image=found.image,
            started_ms=found.started_ms,
            restarts=found.restarts,
            exit_code=found.exit_code,
            oom_killed=found.oom_killed,
            error=found.error,
        )

    async def logs(
        self,
        device_id: str,
        deployment_id: str,
        *,
        since_ms: int | None = None,
        follow: bool = False,
        tail: int | None = None,
    ) -> AsyncIterator[LogLines]:
        async with AsyncExitStack() as stack:
            way = await stack.enter_async_context(self._way(device_id))
            container_id = await find_container(way.docker, device_id, deployment_id)
            if not container_id:
                raise NoContainer(deployment_id=deployment_id)
            lines = (
                way.docker.follow_logs(container_id, tail=tail)
                if follow
                else way.docker.container_logs(container_id, tail=tail)
            )
            await stack.enter_async_context(aclosing(lines))
            batch: list[LogLine] = []
            async for line in lines:
                one = log_line(line, now_ms=_now_ms())
                if since_ms is not None and one.at_ms < since_ms:
                    continue
                batch.append(one)
                if follow or len(batch) >= LOG_BATCH:
                    yield LogLines(batch)
                    batch = []
            if batch:
                yield LogLines(batch)

    @asynccontextmanager
    async def _way(self, device_id: str) -> AsyncIterator[Way]:
        async with self._hosts.open(device_id) as way:
            try:
                yield way
            except (Unreachable, EngineTimedOut):
                raise  # it is the way that failed: told with the host's name
            except AppError as error:
                if error.code.startswith("engine."):
                    raise as_command_error(error) from error
                raise


async def _put(docker: DockerApi, container_id: str, ca_pem: str) -> None:
    """The site CA, into a container that has not been started."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        folder = tarfile.TarInfo(CA_FOLDER)
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(folder)
        content = ca_pem.encode()
        file = tarfile.TarInfo(f"{CA_FOLDER}/{CA_FILE}")
        file.size, file.mode = len(content), 0o644
        tar.addfile(file, io.BytesIO(content))
    headers = {"Content-Type": "application/x-tar"}
    target = f"/containers/{container_id}/archive"
    async with docker.stream(
        "PUT", target, {"path": "/"}, body=packed.getvalue(), headers=headers
    ) as response:
        _ = await response.read()


async def _tail(docker: DockerApi, container_id: str, count: int) -> list[LogLine]:
    if count <= 0:
        return []
    try:
        async with aclosing(docker.container_logs(container_id, tail=count)) as lines:
            return [log_line(line, now_ms=_now_ms()) async for line in lines]
    except (EngineObjectNotFound, EngineConflict):
        return []


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
