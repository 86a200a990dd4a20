"""What a Kubernetes API answers, as errors that may be shown.

All of them are one of two kinds of the clusters domain: `KubeUnreachable` (worth another try) or
`KubeRefused` (it will not work, `status` says how). The kinds here only tell the refusals apart.
"""

from typing import Final

from haechi.domains.clusters.errors import KubeRefused, KubeUnreachable
from haechi.errors import AppError, Conflict, Text, Unavailable

MESSAGE_LIMIT: Final = 400


class KubeObjectMissing(KubeRefused):
    code = "clusters.api_object_missing"
    http_status = 404
    detail = Text(
        "클러스터 {cluster_id}의 Kubernetes API에 없습니다 ({what}): {reason}",
        "The Kubernetes API of cluster {cluster_id} does not have it ({what}): {reason}",
    )
    remedy = Text(
        "이름을 확인하세요. 이미 삭제되었을 수 있습니다.",
        "Check the name; it may have been deleted already.",
    )


class KubeConflict(KubeRefused):
    code = "clusters.api_conflict"
    http_status = 409
    detail = Text(
        "클러스터 {cluster_id}에서 다른 변경과 충돌했습니다 ({what}): {reason}",
        "It collides with another change in cluster {cluster_id} ({what}): {reason}",
    )
    remedy = Text(
        "누가 같은 객체를 바꾸는지 확인하고 다시 시도하세요.",
        "See who else changes that object, and try again.",
    )


class KubeForbidden(KubeRefused):
    code = "clusters.api_forbidden"
    detail = Text(
        "클러스터 {cluster_id}의 Kubernetes API가 haechi의 요청을 허용하지 않았습니다 ({what}): "
        "{reason}",
        "The Kubernetes API of cluster {cluster_id} does not allow haechi to ({what}): {reason}",
    )
    remedy = Text(
        "클러스터의 관리자 인증서가 유효한지, 권한이 바뀌지 않았는지 확인하세요.",
        "Check that the cluster's admin certificate is valid and its rights were not changed.",
    )


class KubeHistoryGone(KubeRefused):
    code = "clusters.api_history_gone"
    detail = Text(
        "클러스터 {cluster_id}의 Kubernetes API에 그만큼 오래된 변경 이력이 없습니다.",
        "The Kubernetes API of cluster {cluster_id} no longer has changes that old.",
    )
    remedy = Text("목록을 다시 읽으면 됩니다.", "Listing again puts it right.")


class NodeAway(Unavailable):
    code = "clusters.node_away"
    detail = Text(
        "클러스터 {cluster_id}의 노드 {node}(장치 {host})이(가) 응답하지 않습니다: {reason}",
        "Node {node} (device {host}) of cluster {cluster_id} does not answer: {reason}",
    )
    remedy = Text(
        "그 호스트의 전원과 네트워크, kubelet을 확인하세요 (systemctl status kubelet).",
        "Check that host's power and network, and its kubelet (systemctl status kubelet).",
    )


class NoNode(Conflict):
    code = "clusters.no_node"
    detail = Text(
        "장치 {device_id}은(는) 지금 어떤 클러스터의 노드도 아닙니다.",
        "Device {device_id} is no cluster's node now.",
    )
    remedy = Text(
        "장치를 클러스터에 추가하거나 다른 장치에 배포하세요.",
        "Add the device to a cluster, or deploy to another device.",
    )


class BadKubeconfig(KubeRefused):
    code = "clusters.bad_kubeconfig"
    detail = Text(
        "클러스터 {cluster_id}의 kubeconfig를 사용할 수 없습니다: {reason}",
        "The kubeconfig of cluster {cluster_id} cannot be used: {reason}",
    )
    remedy = Text(
        "제어 노드의 /etc/kubernetes/admin.conf에서 다시 읽어 오세요.",
        "Read it anew from /etc/kubernetes/admin.conf of a control plane.",
    )


_REFUSALS: Final[dict[int, type[KubeRefused]]] = {
    401: KubeForbidden,
    403: KubeForbidden,
    404: KubeObjectMissing,
    409: KubeConflict,
    410: KubeHistoryGone,
}
_LATER: Final = frozenset({429, 502, 503, 504})
_PASSING: Final = (
    "etcdserver: leader changed",
    "etcdserver: no leader",
    "etcdserver: request timed out",
    "etcdserver: too many requests",
    "context deadline exceeded",
    "connection refused",
    "not yet ready to handle request",
)
"""An API server whose etcd elects a leader, or that has just started, says one of these."""


def of_status(status: int, *, cluster_id: str, what: str, message: str) -> AppError:
    """The error for an HTTP status and the message of the `Status` object that came with it."""
    reason = message.strip()[:MESSAGE_LIMIT] or f"HTTP {status}"
    passing = status >= 500 and any(sign in message for sign in _PASSING)
    if status in _LATER or passing:
        return KubeUnreachable(cluster_id=cluster_id, reason=f"{what}: {reason}")
    kind = _REFUSALS.get(status, KubeRefused)
    return kind(cluster_id=cluster_id, status=status, what=what, reason=reason)


__all__ = [
    "BadKubeconfig",
    "KubeConflict",
    "KubeForbidden",
    "KubeHistoryGone",
    "KubeObjectMissing",
    "KubeRefused",
    "KubeUnreachable",
    "NoNode",
    "NodeAway",
    "of_status",
]
