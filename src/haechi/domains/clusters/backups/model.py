"""What a backup is, and what may be wrong with one."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, NamedTuple

from haechi.errors import Conflict, NotFound, Text, Upstream

Occasion = Literal["asked", "daily"]

ETCD_FILE: Final = "etcd.db"
"""Inside the archive; all else stands there under its path on the host."""
SAVED_PATHS: Final = (
    "etc/kubernetes/pki",
    "etc/kubernetes/manifests",
    "etc/kubernetes/admin.conf",
    "var/lib/kubelet/config.yaml",
    "var/lib/kubelet/kubeadm-flags.env",
)
AUTHORITIES: Final = (
    "ca.crt",
    "ca.key",
    "front-proxy-ca.crt",
    "front-proxy-ca.key",
    "sa.key",
    "sa.pub",
    "etcd/ca.crt",
    "etcd/ca.key",
)
"""What makes it the same cluster, below `/etc/kubernetes/pki`: every other certificate follows."""


class SavedNode(NamedTuple):
    node_name: str
    address: str


@dataclass(frozen=True, slots=True)
class Backup:
    """Only whole ones are listed. The file holds the cluster's private keys."""

    id: str
    cluster_id: str
    occasion: Occasion
    size_bytes: int
    """Of the encrypted file."""
    sha256: str
    kubernetes_version: str
    revision: int
    """etcd's, at that moment."""
    total_keys: int
    device_id: str
    """The control plane that it was taken from."""
    control_planes: list[SavedNode]
    created_by: str
    created_at: datetime


class BackupNotFound(NotFound):
    code = "clusters.backup_not_found"
    detail = Text(
        "클러스터 {cluster_id}에 백업 '{id}'이(가) 없습니다.",
        "Cluster {cluster_id} has no backup '{id}'.",
    )
    remedy = Text(
        "'haechi cluster backups'로 목록을 확인하세요.", "See the list: `haechi cluster backups`."
    )


class NoBackup(Conflict):
    code = "clusters.no_backup"
    detail = Text(
        "클러스터 {cluster_id}에는 아직 백업이 없습니다.", "Cluster {cluster_id} has no backup yet."
    )
    remedy = Text(
        "'haechi cluster backup'으로 먼저 백업하세요.", "Take one first: `haechi cluster backup`."
    )


class NoLivingControlPlane(Upstream):
    """`hosts` says of each why not."""

    code = "clusters.no_living_control_plane"
    detail = Text(
        "클러스터 {cluster_id}의 제어 노드 중 etcd가 응답하는 것이 없습니다.",
        "No control plane of cluster {cluster_id} has an etcd that answers.",
    )
    remedy = Text(
        "제어 노드의 전원과 네트워크를 확인하세요. 모두 잃었다면 백업을 새 호스트에 복원하세요: "
        "haechi cluster restore --onto.",
        "Check power and network of the control planes. If all are lost, restore a backup onto "
        "another host: haechi cluster restore --onto.",
    )


class BackupIncomplete(Upstream):
    code = "clusters.backup_incomplete"
    detail = Text(
        "백업 {id}에 '{path}'이(가) 없어 복원할 수 없습니다.",
        "Backup {id} has no '{path}', so it cannot be restored.",
    )
    remedy = Text("다른 백업을 고르세요.", "Choose another backup.")


class ControlPlanesAway(Conflict):
    """`away` names them. All control planes are changed together, or the cluster would split."""

    code = "clusters.control_planes_away"
    detail = Text(
        "모든 제어 노드에 닿아야 하지만 {away}에 연결할 수 없습니다.",
        "Every control plane is needed, but {away} cannot be reached.",
    )
    remedy = Text(
        "그 호스트를 켜세요. 되살릴 수 없으면 --leave-out-away로 나머지 제어 노드만 이어 가고, "
        "제어 노드를 모두 잃었다면 haechi cluster restore --onto로 새 호스트를 지정하세요.",
        "Switch them on. Where they are lost for good, go on with the others alone: "
        "--leave-out-away. If all control planes are lost: haechi cluster restore --onto.",
    )


class ControlPlaneLives(Conflict):
    """`hosts`: which, by what it was seen (`API`, `etcd`), and by which worker."""

    code = "clusters.control_plane_lives"
    detail = Text(
        "아직 동작하는 제어 노드가 있어 그것 없이 이어 갈 수 없습니다: {hosts}. 같은 이름의 "
        "클러스터가 둘이 됩니다.",
        "A control plane still lives, so the cluster cannot go on without it: {hosts}. There would "
        "be two clusters under one name.",
    )
    remedy = Text(
        "그 호스트와 함께 이어 가려면 haechi가 SSH로 닿게 하고 --onto나 --leave-out-away 없이 "
        "실행하세요. 버리려면 그 호스트를 먼저 끄세요.",
        "To go on with it, let haechi reach it over SSH and leave --onto or --leave-out-away out. "
        "To give it up, switch that host off first.",
    )
