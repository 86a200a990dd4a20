"""What clusters need from outside: the Kubernetes API, and devices of the inventory.

Hosts over SSH: `host/ports.py`. Every call is bounded in time by its adapter.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from haechi.core.access import Principal
from haechi.core.secrets import Secret

OnText = Callable[[str], None]
Manifest = Mapping[str, Any]
"""One Kubernetes object, with `apiVersion`, `kind` and `metadata.name`."""


@dataclass(frozen=True, slots=True)
class ApiServer:
    """One control plane as the server reaches it; `device_id` allows a tunnel over its SSH."""

    device_id: str
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class KubeAccess:
    """How to reach a cluster's API: any of `servers`, whose certificate bears `server_name`."""

    cluster_id: str
    kubeconfig: Secret
    """Admin's; its own server address is the nodes' and is not used."""
    server_name: str
    servers: tuple[ApiServer, ...]


@dataclass(frozen=True, slots=True)
class NodeCondition:
    type: str
    status: str
    """`True`, `False` or `Unknown`."""
    reason: str
    message: str
    changed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    device_id: str | None
    """From the label `haechi.internal/device-id`."""
    ready: bool
    unschedulable: bool
    control_plane: bool
    addresses: tuple[str, ...]
    """Internal ones."""
    kubelet_version: str
    machine_id: str = ""
    boot_id: str = ""
    conditions: tuple[NodeCondition, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[str, ...] = ()
    """`key=value:effect`."""
    created_at: datetime | None = None

    @property
    def why_not_ready(self) -> str:
        for one in self.conditions:
            if one.type == "Ready" and one.status != "True":
                return one.message or one.reason
        return ""


@dataclass(frozen=True, slots=True)
class Pod:
    namespace: str
    name: str
    node: str | None
    phase: str
    ready: bool
    restarts: int
    labels: Mapping[str, str] = field(default_factory=dict)
    owner_kind: str = ""
    """`DaemonSet`, `ReplicaSet`, `Node` (static pod)…"""
    reason: str = ""
    """Why it waits or failed, e.g. `ImagePullBackOff: …`."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """How far a Deployment or DaemonSet is. `updated` ones run the newest template."""

    desired: int
    updated: int
    ready: int

    @property
    def done(self) -> bool:
        return self.updated >= self.desired and self.ready >= self.desired


@dataclass(frozen=True, slots=True)
class Drained:
    evicted: int
    left: tuple[str, ...]
    """`namespace/name` of what was still there when the time was over."""


class Kube(Protocol):
    """One cluster's API. Raises KubeUnreachable (worth another try) or KubeRefused."""

    async def version(self) -> str:
        """Of the API server that answers, without `v`."""

    async def nodes(self) -> list[Node]: ...

    async def node(self, name: str) -> Node | None: ...

    async def label_node(self, name: str, labels: Mapping[str, str | None]) -> None:
        """None removes one."""

    async def untaint_node(self, name: str, key: str) -> None:
        """Gone already is fine."""

    async def cordon(self, name: str) -> None: ...

    async def uncordon(self, name: str) -> None: ...

    async def drain(self, name: str, *, grace_s: int, timeout_s: float, log: OnText) -> Drained:
        """Cordon it and evict what is no DaemonSet's and no static pod, honouring disruption
        budgets until `timeout_s`; then says what is left. A node that is gone has nothing.
        """

    async def delete_node(self, name: str) -> None:
        """Gone already is fine."""

    async def pods(
        self,
        *,
        namespace: str | None = None,
        node: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> list[Pod]: ...

    async def apply(self, objects: Sequence[Manifest], *, log: OnText | None = None) -> None:
        """Server-side apply as `haechi`, in order, forcing conflicts."""

    async def delete(self, objects: Sequence[Manifest], *, wait_s: float = 30) -> None:
        """In reverse order; gone already is fine. Waits until they are gone, at most `wait_s`."""

    async def get(
        self, api_version: str, kind: str, name: str, namespace: str | None = None
    ) -> dict[str, Any] | None: ...

    async def rollout(self, kind: str, namespace: str, name: str) -> Rollout | None:
        """Of a `Deployment` or `DaemonSet`; None where there is none."""

    def watch_nodes(self) -> AsyncIterator[list[Node]]:
        """All nodes now, and again after each change. Ends by an error only."""


class Kubes(Protocol):
    def open(self, access: KubeAccess) -> AbstractAsyncContextManager[Kube]: ...


@dataclass(frozen=True, slots=True)
class ClusterDevice:
    """A device as clusters see it."""

    id: str
    name: str
    host_name: str | None
    address: str | None


class Devices(Protocol):
    """The inventory. Raises NotFound."""

    async def device(self, device_id: str) -> ClusterDevice: ...

    async def report_machine(self, device_id: str, *, machine_id: str, platform: str) -> None:
        """What the host says it is, seen while it was checked."""


class Hook(Protocol):
    """What others do to each node once it is Ready, and before it leaves: registry trust, agent.
    Idempotent. Raises AppError; `joined` of a worker that fails leaves the worker out.
    """

    name: str

    async def joined(self, cluster_id: str, device_id: str, *, log: OnText) -> None: ...

    async def leaving(self, cluster_id: str, device_id: str, *, log: OnText) -> None: ...


class AuditTrail(Protocol):
    async def record(
        self,
        tx: AsyncSession,
        by: Principal,
        action: str,
        subject: str,
        details: dict[str, Any] | None = None,
    ) -> None: ...
