"""The AI containers of this device in its Docker engine: make, start, stop, remove, look.

Idempotent by deployment id (a label), one thing at a time per deployment. The engine's events tell
what happened, never polling; after the daemon was away everything is looked at anew. Which
containers *should* run is not known here (reconcile.py).
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any, Final

from haechi.adapters.docker_api import DockerApi, gateway_of, interface_of
from haechi.adapters.docker_bodies import (
    LABEL_DEPLOYMENT,
    LABEL_DEVICE,
    Place,
    agent_environment,
    create_body,
    internet_name,
    network_name,
)
from haechi.adapters.docker_containers import (
    find_container,
    inspect_container,
    make_container,
    runs_as_wanted,
)
from haechi.adapters.docker_states import addresses, as_command_error, epoch_s, seen
from haechi.agent.deployments import Deployment, Deployments
from haechi.errors import AppError, Unavailable

log = logging.getLogger(__name__)

LOCATE_S: Final = 0.5
EVENT_RETRY_S: Final = (0.5, 10.0)
_WATCHED_EVENTS: Final = {"start", "die", "oom", "destroy", "stop", "kill", "restart", "create"}

CameraUrl = Callable[[Deployment], Awaitable[str]]
"""The local address for a container that knows no assignments; "" where it needs none. Raises
MediaAway while there is none yet."""


class Containers:
    def __init__(
        self,
        *,
        engine: DockerApi,
        deployments: Deployments,
        device_id: str,
        cores: float,
        memory_bytes: int,
        cgroup_parent: str,
        intake_port: int,
        camera_url: CameraUrl,
    ) -> None:
        self.engine = engine
        self._deployments = deployments
        self._device_id = device_id
        self._cores = cores
        self._memory_bytes = memory_bytes
        self._cgroup_parent = cgroup_parent
        self._intake_port = intake_port
        self._camera_url = camera_url
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._searched: dict[str, float] = {}
        self._locating = asyncio.Lock()
        self.gateway = ""
        self.interface = ""
        """The host's end of the device's network; "" before it was seen."""
        self.reachable = False
        self.on_gateway: Callable[[], None] = lambda: None
        self.on_event: Callable[[], None] = lambda: None
        self.fence: Callable[[], Awaitable[None]] = _nothing
        """Done before a container starts."""

    @property
    def network(self) -> str:
        return network_name(self._device_id)

    async def ensure_network(self) -> str:
        """Make the device's internal bridge; its gateway is where AIs reach agent and media."""
        labels = {LABEL_DEVICE: self._device_id}
        # The engine lets two calls at once make two networks of one name.
        async with self._locks[self.network]:
            found = await self.engine.ensure_bridge(self.network, internal=True, labels=labels)
        place = gateway_of(found), interface_of(found)
        if place != (self.gateway, self.interface):
            self.gateway, self.interface = place
            self.on_gateway()
        return self.gateway

    def sources(self) -> list[list[str]]:
        """Where AIs call from, as matches of iptables."""
        return [["-i", self.interface]] if self.interface else []

    def fenced(self) -> list[list[str]] | None:
        """AIs' calls over the device's own network, while there are AIs; None before it was seen.
        What an AI that was allowed the internet sends there goes over its second network."""
        if not self.interface:
            return None
        return self.sources() if any(self._deployments) else []

    # -- looking ------------------------------------------------------------------------------

    async def look_at_all(self) -> None:
        """Bring every deployment's observed state up to date."""
        label = f"{LABEL_DEVICE}={self._device_id}"
        listed = await self.engine.containers(labels=[label])
        ids: dict[str, str] = {}
        for one in listed:
            ids[str(one["Labels"].get(LABEL_DEPLOYMENT, ""))] = str(one["Id"])
        for deployment in self._deployments:
            await self._observe(deployment, ids.get(deployment.id, ""))

    async def look_at(self, deployment: Deployment) -> None:
        await self._observe(deployment, await self._id_of(deployment.id))

    async def strangers(self) -> list[str]:
        """Deployments of which there is a container but nothing is kept."""
        listed = await self.engine.containers(labels=[f"{LABEL_DEVICE}={self._device_id}"])
        found = {str(one["Labels"].get(LABEL_DEPLOYMENT, "")) for one in listed}
        return sorted(one for one in found if one and self._deployments.get(one) is None)

    async def locate(self, address: str) -> None:
        """Somebody at this address wants in: look again, though not for every knock."""
        async with self._locating:
            now = asyncio.get_running_loop().time()
            known = self._deployments.by_address(address) is not None
            if known or now - self._searched.get(address, -LOCATE_S) < LOCATE_S:
                return
            if len(self._searched) > 1000:
                self._searched.clear()
            self._searched[address] = now
            try:
                await self.look_at_all()
            except AppError as error:
                log.warning("cannot tell whose address %s is: %s", address, error)

    async def _id_of(self, deployment_id: str) -> str:
        return await find_container(self.engine, self._device_id, deployment_id)

    async def _observe(self, deployment: Deployment, container_id: str) -> dict[str, Any] | None:
        inspected = await inspect_container(self.engine, container_id)
        before = deployment.status()
        observe(deployment, inspected)
        self._deployments.placed(deployment, addresses(inspected, self.network))
        if deployment.status() != before:
            self._deployments.on_change()
        return inspected

    # -- doing --------------------------------------------------------------------------------

    async def start(self, deployment: Deployment) -> None:
        """Make it run: create what is absent, start what stopped, replace what is another."""
        async with self._locks[deployment.id]:
            with _translated():
                await self._start(deployment)

    async def _start(self, deployment: Deployment) -> None:
        await self.ensure_network()
        spec = deployment.kept.spec
        inspected = await self._observe(deployment, await self._id_of(deployment.id))
        body = await self._body(deployment)
        if runs_as_wanted(inspected, body):
            return
        container_id = await make_container(
            self.engine,
            self._device_id,
            spec,
            body,
            inspected,
            self._give_internet if spec.internet else _nothing,
        )
        await self.fence()
        try:
            await self.engine.start_container(container_id)
        except AppError as error:
            deployment.error = str(error.data.get("message") or error)[:300]
            await self._observe(deployment, container_id)
            raise
        deployment.error = ""
        await self._observe(deployment, container_id)
        log.info("container of %s started", deployment.id)

    async def _body(self, deployment: Deployment) -> dict[str, Any]:
        place = Place(
            device_id=self._device_id,
            network=self.network,
            environment=agent_environment(f"http://{self.gateway}:{self._intake_port}"),
            cores=self._cores,
            memory_bytes=self._memory_bytes,
            cgroup_parent=self._cgroup_parent,
        )
        kept = deployment.kept
        return create_body(
            kept.spec, place, token=kept.token, camera_url=await self._camera_url(deployment)
        )

    async def _give_internet(self, container_id: str) -> None:
        second = internet_name(self._device_id)
        labels = {LABEL_DEVICE: self._device_id}
        async with self._locks[second]:
            await self.engine.ensure_bridge(second, internal=False, labels=labels)
        await self.engine.connect_network(second, container_id)

    async def stop(self, deployment: Deployment, *, grace_s: float) -> None:
        """SIGTERM, grace, SIGKILL; the container stays for its logs."""
        async with self._locks[deployment.id]:
            with _translated():
                container_id = await self._id_of(deployment.id)
                if container_id:
                    await self.engine.stop_container(container_id, grace_s=grace_s)
                await self._observe(deployment, container_id)

    async def remove(self, deployment_id: str, *, grace_s: float) -> bool:
        """Stop and remove whatever container carries this deployment id."""
        async with self._locks[deployment_id]:
            with _translated():
                container_id = await self._id_of(deployment_id)
                if container_id:
                    await self.engine.stop_container(container_id, grace_s=grace_s)
                    await self.engine.remove_container(container_id, force=True)
                deployment = self._deployments.get(deployment_id)
                if deployment is not None:
                    await self._observe(deployment, "")
        return bool(container_id)

    async def id_of(self, deployment_id: str) -> str:
        with _translated():
            return await self._id_of(deployment_id)

    # -- events -------------------------------------------------------------------------------

    async def follow(self) -> None:
        """Follow the engine's events for ever; look at everything whenever it came back."""
        retry_s = EVENT_RETRY_S[0]
        while True:
            try:
                await self.engine.ping()
                await self._follow_once()
                retry_s = EVENT_RETRY_S[0]
            except Unavailable as error:
                if self.reachable:
                    log.error("the container engine is away: %s", error)  # noqa: TRY400
            except AppError as error:
                log.error("the container engine refused: %s", error)  # noqa: TRY400
            self.reachable = False
            await asyncio.sleep(retry_s)
            retry_s = min(retry_s * 2, EVENT_RETRY_S[1])

    async def _follow_once(self) -> None:
        info = await self.engine.info()
        since_s = epoch_s(str(info.get("SystemTime", "")))
        await self.ensure_network()
        await self.look_at_all()
        if not self.reachable:
            log.info("the container engine answers: docker %s", info.get("ServerVersion"))
        self.reachable = True
        self.on_event()
        filters = {"type": ["container"], "label": [f"{LABEL_DEVICE}={self._device_id}"]}
        async for event in self.engine.events(filters, since_s=since_s):
            action = str(event.get("Action", "")).partition(":")[0]
            if action not in _WATCHED_EVENTS:
                continue
            attributes = event.get("Actor", {}).get("Attributes", {})
            deployment = self._deployments.get(str(attributes.get(LABEL_DEPLOYMENT, "")))
            if deployment is not None:
                await self.look_at(deployment)
                self.on_event()


async def _nothing(*_: object) -> None:
    return None


def observe(deployment: Deployment, inspected: dict[str, Any] | None) -> None:
    """Take over what the engine says of a container (None: there is none)."""
    if inspected is None:
        deployment.state = "absent"
        deployment.container_id = ""
        deployment.pid = 0
        return
    found = seen(inspected)
    deployment.begin_life(found.container_id, found.started_ms)
    deployment.state = found.state
    deployment.image = found.image
    deployment.pid = found.pid
    deployment.restarts = found.restarts
    if found.state == "running":
        deployment.exit_code = None
        deployment.error = ""
    elif found.exit_code is not None:
        deployment.exit_code = found.exit_code
    deployment.oom_killed = found.oom_killed
    if found.error:
        deployment.error = found.error


class _translated:  # noqa: N801 - reads as a clause: `with _translated():`
    """Errors of the engine's client as those of an agent's command."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, AppError) and not error.code.startswith("agent."):
            raise as_command_error(error) from error
