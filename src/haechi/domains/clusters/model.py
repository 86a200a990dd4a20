"""What a cluster is: its members, how it is to be formed, and where it stands.

Members are devices of the inventory. What may go wrong is in `errors.py`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Literal, Self

MemberRole = Literal["control_plane", "worker"]

API_PORT: Final = 6443
"""Where the API server of a control plane listens."""
API_PROXY_PORT: Final = 6444
"""Where each node's own proxy to the API servers listens, on loopback."""
DOMAIN: Final = "haechi.internal"
DEVICE_LABEL: Final = "haechi.internal/device-id"
"""Node label: haechi's identity of the device, whatever its name or address."""


def api_name(cluster_id: str) -> str:
    """The name that certificates and kubeconfigs carry for the cluster's API, for ever."""
    return f"api.{cluster_id}.{DOMAIN}"


def api_endpoint(cluster_id: str) -> str:
    """`host:port` of the API as each node calls it: through its own proxy."""
    return f"{api_name(cluster_id)}:{API_PROXY_PORT}"


class ClusterState(StrEnum):
    FORMING = "forming"
    READY = "ready"
    """Formed. How it does right now is observed, not kept here."""
    FAILED = "failed"
    """Not formed; its hosts were put back as far as they could be reached."""
    DELETING = "deleting"
    DELETED = "deleted"

    @property
    def gone(self) -> bool:
        return self in {ClusterState.FAILED, ClusterState.DELETED}


class MemberState(StrEnum):
    PLANNED = "planned"
    JOINING = "joining"
    """Being prepared, initialised or joined."""
    READY = "ready"
    LEAVING = "leaving"
    CLEANING = "cleaning"
    """No longer a node, but the host could not be reached: cleaned when it is seen again."""
    GONE = "gone"
    FAILED = "failed"
    """Did not join; cleaned, and free for another try."""


HELD: Final = (
    MemberState.PLANNED,
    MemberState.JOINING,
    MemberState.READY,
    MemberState.LEAVING,
    MemberState.CLEANING,
)
"""Member states in which the device belongs to the cluster and to no other."""


@dataclass(frozen=True, slots=True)
class HostProfile:
    """What hosts of this cluster need beyond the defaults: given by the caller, never assumed."""

    kubelet: dict[str, Any] = field(default_factory=dict)
    """Merged over the KubeletConfiguration, key by key."""
    kube_proxy: dict[str, Any] = field(default_factory=dict)
    """Merged over the KubeProxyConfiguration."""
    containerd: dict[str, Any] = field(default_factory=dict)
    """Merged over containerd's configuration, table by table."""
    ignore_preflight: list[str] = field(default_factory=list)
    """Names of kubeadm's own checks whose errors are taken as warnings."""


@dataclass(frozen=True, slots=True)
class FormOptions:
    pod_cidr: str = "10.244.0.0/16"
    service_cidr: str = "10.96.0.0/12"
    kubernetes_version: str | None = None
    """`1.36`, or exactly `1.36.3`; absent: the newest bundle that is there."""
    source: Literal["bundle", "distribution"] = "bundle"
    run_ai_on_control_plane: bool = False
    accept: list[str] = field(default_factory=list)
    """Names of warnings that the caller has read and accepts."""
    clean_leftovers: bool = False
    """Remove what an earlier cluster left on the hosts, instead of refusing them."""
    profile: HostProfile = field(default_factory=HostProfile)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_json(cls, saved: Mapping[str, Any]) -> Self:
        """Fields that this release does not know are left out."""
        values = _known(cls, saved)
        profile = HostProfile(**_known(HostProfile, values.pop("profile", {})))
        return cls(**values, profile=profile)


def _known(cls: type[Any], saved: Mapping[str, Any]) -> dict[str, Any]:
    names = {one.name for one in fields(cls)}
    return {key: value for key, value in saved.items() if key in names}


@dataclass(frozen=True, slots=True)
class Cluster:
    id: str
    name: str
    state: ClusterState
    kubernetes_version: str
    """Exact, without `v`; empty until planned."""
    options: FormOptions
    message: str
    operation_id: str | None
    """The one that made it what it is, or works on it."""
    created_by: str
    revision: int
    created_at: datetime
    formed_at: datetime | None
    ended_at: datetime | None

    @property
    def api_name(self) -> str:
        return api_name(self.id)


@dataclass(frozen=True, slots=True)
class Member:
    cluster_id: str
    device_id: str
    role: MemberRole
    node_name: str
    address: str
    """The host's own address in the cluster, as last seen."""
    state: MemberState
    message: str = ""
    observed: dict[str, Any] = field(default_factory=dict)
    """What was seen of it last: conditions, version, why it is judged as it is."""
    joined_at: datetime | None = None
    left_at: datetime | None = None

    @property
    def is_control_plane(self) -> bool:
        return self.role == "control_plane"


@dataclass(frozen=True, slots=True)
class PlannedMember:
    device_id: str
    device_name: str
    role: MemberRole
    node_name: str
    address: str


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One line of a plan: what will be done on which host (empty: on all, or on none)."""

    name: str
    title_ko: str
    title_en: str
    hosts: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """Everything that forming would do, before anything is done."""

    name: str
    kubernetes_version: str
    api_name: str
    options: FormOptions
    members: list[PlannedMember]
    steps: list[PlannedStep]


@dataclass(frozen=True, slots=True)
class HostProof:
    """One host before forming against after cleaning. `differences` empty: as it was."""

    device_id: str
    state: Literal["clean", "differs", "pending", "unknown"]
    """`pending`: not cleaned yet, the host is away. `unknown`: no snapshot was kept."""
    before_at: datetime | None
    after_at: datetime | None
    differences: list[dict[str, Any]]
