"""Images become running AIs: engines, assignments and deployments."""

from typing import Final

from haechi.adapters.engine_agent import AgentEngine
from haechi.adapters.engine_docker_ssh import DockerSshEngine
from haechi.adapters.engine_kube import KubeEngine
from haechi.adapters.kube_nodes import Seat
from haechi.app.upkeeping import Upkeeping
from haechi.core.clock import Clock
from haechi.core.db import Database
from haechi.core.secrets import Keyring
from haechi.domains.clusters.lone_finding import LoneFinding
from haechi.domains.clusters.lone_hosts import LoneHosts
from haechi.domains.clusters.model import MemberState
from haechi.domains.clusters.neighbours import InventoryLoneHosts
from haechi.domains.deployments.assignments import Assignments
from haechi.domains.deployments.context import Context
from haechi.domains.deployments.engines import Engines
from haechi.domains.deployments.leaving import LeavingWork
from haechi.domains.deployments.moving import Moving
from haechi.domains.deployments.neighbours import (
    BuiltImages,
    InventoryPlaces,
    PackageVersions,
    register_checks,
)
from haechi.domains.deployments.node_trust import NodeTrust
from haechi.domains.deployments.ports import Engine
from haechi.domains.deployments.service import Deployments
from haechi.domains.inventory.model import Device
from haechi.protocol.commands import MEDIA_URL, AskCameraUrl, CameraUrl, RegistryAccess
from haechi.protocol.desired import ContainerSpec
from haechi.settings import Loaded
from haechi.web.server import split_address
from haechi.web.tls import local_addresses

ENGINE_LABEL: Final = "engine"
"""Of a device: `docker-ssh` reaches its Docker over SSH instead of through an agent."""
TAKEN_UP_S: Final = 15.0
"""For an agent to write down what it has to do; on a slow disk that takes a while."""


class Deploying(Upkeeping):
    def __init__(
        self, loaded: Loaded, *, clock: Clock, db: Database, keyring: Keyring, server_id: str
    ) -> None:
        super().__init__(loaded, clock=clock, db=db, keyring=keyring, server_id=server_id)
        parts = self.registry_parts
        self.places = InventoryPlaces(self.inventory, self.clusters)
        self.assignments = Assignments(
            db=self.db,
            bus=self.bus,
            clock=self.clock,
            audit=self.audit,
            places=self.places,
            devices=self.agents,
        )
        images = BuiltImages(
            builds=self.builds,
            registry=self.registry,
            operations=self.operations,
            bus=self.bus,
            access=lambda: RegistryAccess(
                name=parts.names.pull, address=parts.address, ca_pem=parts.ca_pem
            ),
        )
        self.docker_hosts = DockerSshEngine(
            self.hosts,
            server_url=self._server_url,
            ca_pem=lambda: self.ca.pem if self._https else "",
            old_listeners=self._old_listeners,
        )
        watching = self.upkeep.watching
        lone = InventoryLoneHosts(self.inventory, _is_over_ssh)
        self.lone_hosts = LoneHosts(
            clock=self.clock,
            bus=self.bus,
            agents=self.agents,
            probe=self.probe,
            listed=lone.listed,
            is_node=lambda device_id: watching.presence(device_id) is not None,
        )
        self.lone_finding = LoneFinding(clock=self.clock, finder=self.finder, book=lone)
        self.lone_hosts.on_dead.append(self.lone_finding.dead)
        self.lone_hosts.on_return.append(self.lone_finding.returned)
        self.agents.use_reason_word(
            lambda one: watching.reason_word(one) or self.lone_hosts.reason_word(one)
        )
        self.node_trust = NodeTrust(
            hosts=self.hosts,
            registry=lambda: parts.names.pull,
            access=images.pull_access,
            nodes=self._node_devices,
        )
        # Before the agents: their image may come from the registry.
        self.clusters.context.hooks.insert(0, self.node_trust)
        engines: list[Engine] = [
            AgentEngine(self.agents),
            self.docker_hosts,
            KubeEngine(
                self.kubes,
                self._seat,
                camera_url=self._camera_url,
                mend=self.node_trust.mend,
            ),
        ]
        self.deployments = Deployments(
            context=Context(
                db=self.db,
                bus=self.bus,
                clock=self.clock,
                keyring=keyring,
                engine=Engines(
                    engines,
                    choosers=[self._clustered, self._labelled],
                    engine_of=self._engine_of_deployment,
                ),
                versions=PackageVersions(self.packages),
                images=images,
                places=self.places,
                tokens=self.auth.machines,
                devices=self.agents,
                assignments=self.assignments,
                server_url=self._server_url,
                log_dir=self.settings.server.data_dir / "logs",
            ),
            operations=self.operations,
            audit=self.audit,
        )
        # The last leaves first: it needs no host, and none that is away is asked for two goodbyes.
        self.clusters.context.hooks.append(
            LeavingWork(
                self.deployments.context,
                engine=KubeEngine.name,
                end_pulls=self.registry.revoke_pull,
            )
        )
        self.upkeep.moves_work_by(
            Moving(
                context=self.deployments.context,
                deployments=self.deployments,
                operations=self.operations,
            )
        )
        register_checks(
            self.deployments,
            packages=self.packages,
            inventory=self.inventory,
            registry=self.registry,
        )
        self.agents.register_section("pod_networks", self.clusters.book.pod_networks)
        self.inventory.watched_by(self.agents)
        self.inventory.on_delete("device", self.agents.delete_device)
        self.inventory.on_delete("device", self.registry.delete_device)
        self.agents.on_revoked(self.registry.revoke_pull)

    async def _seat(self, device_id: str) -> Seat | None:
        """Where a device is a node that is in order, or on its way out."""
        member = await self.clusters.book.of_device(device_id)
        if member is None or member.state not in {MemberState.READY, MemberState.LEAVING}:
            return None
        place = await self.places.device(device_id)
        access = await self.clusters.context.access(member.cluster_id)
        return Seat(member.cluster_id, device_id, member.node_name, place.name, access)

    async def _node_devices(self) -> list[str]:
        return await self.clusters.book.nodes()

    async def _camera_url(self, device_id: str, spec: ContainerSpec) -> str:
        """Where a pod that knows no assignments finds its camera: the agent of its node says, once
        it has heard of the pod.
        """
        if spec.camera != "one":
            return ""
        revision = await self.agents.push(device_id)
        if self.agents.is_connected(device_id):
            await self.agents.wait_applied(device_id, revision, TAKEN_UP_S)
        asked = AskCameraUrl(spec.deployment_id)
        answer: CameraUrl = await self.agents.command(device_id, MEDIA_URL, asked)
        return answer.url

    async def _clustered(self, device_id: str) -> str | None:
        return None if await self._seat(device_id) is None else KubeEngine.name

    async def _labelled(self, device_id: str) -> str | None:
        """The device's label may ask for its Docker over SSH, instead of through an agent."""
        device = await self.inventory.devices.get(device_id)
        return DockerSshEngine.name if _is_over_ssh(device) else None

    async def _engine_of_deployment(self, deployment_id: str) -> str | None:
        return await self.deployments.book.engine_of(deployment_id)

    def _old_listeners(self) -> list[str]:
        """Where programs of the old days that have no agent call: old listeners that others than
        this machine reach. Of IPv4, as the network of such programs is."""
        found: list[str] = []
        for listen in self.settings.interop.listen:
            host, port = split_address(listen)
            if host in {"0.0.0.0", "::"}:  # noqa: S104 - recognised, not bound
                host = next(iter(local_addresses()), "")
            if host and ":" not in host and not host.startswith("127."):
                found.append(f"http://{host}:{port}")
        return found


def _is_over_ssh(device: Device) -> bool:
    return device.labels.get(ENGINE_LABEL, "") == DockerSshEngine.name
