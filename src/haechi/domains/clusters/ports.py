"""What clusters need from outside: the Kubernetes API, devices of the inventory, and what is done
to one host.

Hosts over SSH: `host/ports.py`. Every call is bounded in time by its adapter.
"""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from haechi.core.access import Principal
from haechi.core.secrets import Secret
from haechi.domains.clusters.host.ports import Shell
from haechi.domains.clusters.model import FormOptions, MemberRole

OnText = Callable[[str], None]
Manifest = Mapping[str, Any]
"""One Kubernetes object, with `apiVersion`, `kind` and `metadata.name`."""


@dataclass(frozen=True, slots=True)
class ApiServer:
    """One control plane as the server reaches it: directly."""

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
    network_address: str = ""
    """To which its pods' network leads the other nodes; empty before it has started."""

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

    async def abandon(self, name: str, *, log: OnText) -> int:
        """Of a node that is dead: cordon it and take its pods out at once, without waiting for
        anybody; what is no DaemonSet's and no static pod, as in `drain`. How many they were.
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

    def watch_nodes(self) -> AsyncIterator[list[Node]]:
        """All nodes now, and again after each change. Ends by an error only."""


class Kubes(Protocol):
    def open(self, access: KubeAccess) -> AbstractAsyncContextManager[Kube]: ...

    async def is_another(self, access: KubeAccess, socket: Path) -> bool:
        """Whether somebody else answers at the end of this unix socket: by a certificate that is
        not the cluster's. One who shows none may be anybody.
        """


@dataclass(frozen=True, slots=True)
class ClusterDevice:
    """A device as clusters see it."""

    id: str
    name: str
    host_name: str | None
    address: str | None
    port: int | None = None
    """Of its SSH; None: the usual one."""
    seen_address: str | None = None
    """From where its agent called last."""


class Devices(Protocol):
    """The inventory. Raises NotFound."""

    async def device(self, device_id: str) -> ClusterDevice: ...

    async def report_machine(self, device_id: str, *, machine_id: str, platform: str) -> None:
        """What the host says it is, seen while it was checked."""

    async def readdress(self, device_id: str, address: str, *, by: Principal) -> None:
        """Its address from now on; nothing where it is that one already."""

    async def twins(self, device_id: str) -> list[str]:
        """Other devices with the same host key: logins on the same host, or one in which its disk,
        or a copy of it, is now.
        """


@dataclass(frozen=True, slots=True)
class HostFinding:
    """One thing about one host that speaks against it. `code` and `data` are an AppError's, so its
    text and remedy are told in the reader's language.
    """

    device_id: str
    host: str
    name: str
    """What `accept` takes; the last word of `code`."""
    level: Literal["error", "warning"]
    code: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class HostReport:
    """What a host says of itself. `facts` is for `HostWork` alone, and JSON."""

    device_id: str
    host: str
    role: MemberRole
    address: str
    """IPv4 of the interface by which it reaches the others."""
    platform: str
    machine_id: str
    facts: dict[str, Any]


class HostWork(Protocol):
    """What is done to one host, by `host/`. Everything is idempotent. Raises AppError, HostAway."""

    async def report(self, shell: Shell, device_id: str, role: MemberRole) -> HostReport: ...

    def findings(
        self, reports: Sequence[HostReport], options: FormOptions, *, control_planes: int = 0
    ) -> list[HostFinding]:
        """Of each host, and of all of them beside each other (names, machine ids, clocks).
        `control_planes`: how many the cluster has already, beside these.
        """

    def findings_to_join(self, reports: Sequence[HostReport]) -> list[HostFinding]:
        """Of control planes that a further one is to join: what would keep it out, nothing else."""

    async def snapshot(self, shell: Shell) -> dict[str, Any]:
        """What the host looks like, as far as a cluster would change it."""

    def differences(
        self, before: Mapping[str, Any], after: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """Of two snapshots; empty where the host is as it was."""

    async def prepare(
        self,
        shell: Shell,
        role: MemberRole,
        options: FormOptions,
        version: str,
        *,
        log: OnText,
        progress: Callable[[float], None],
    ) -> None:
        """Runtime, kubelet, kubeadm, CNI plugins and images, as of `version`."""

    async def clean(self, shell: Shell, *, log: OnText) -> None:
        """Remove whatever preparing, Kubernetes and the pods' network left."""


class Releases(Protocol):
    """Which Kubernetes can be installed."""

    async def resolve(self, options: FormOptions, platforms: Collection[str]) -> str:
        """The exact version, for all the platforms. Raises NoBundle."""

    async def image(self, version: str, name: str) -> str:
        """Reference of one of its images, by the last word of its repository: `flannel`."""


class Hook(Protocol):
    """What others do to each node once it is Ready, and before it leaves: registry trust, agent.
    Idempotent. Raises AppError; `joined` of a worker that fails leaves the worker out. They leave
    in the reverse order; after one that finds the host away no further one is asked, and all are
    asked again when the host is back, before it is cleaned.
    """

    name: str

    async def joined(self, cluster_id: str, device_id: str, *, log: OnText) -> None: ...

    async def leaving(self, cluster_id: str, device_id: str, *, log: OnText) -> None: ...
