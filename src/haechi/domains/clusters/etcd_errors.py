"""What etcd may refuse."""

from haechi.errors import Text, Upstream


class EtcdFailed(Upstream):
    code = "clusters.etcd_failed"
    title = Text("etcd 오류", "etcd failed")
    detail = Text(
        "제어 노드 {host}의 etcd에서 '{what}'이(가) 실패했습니다: {reason}",
        "etcd on control plane {host} could not do '{what}': {reason}",
    )
    remedy = Text(
        "그 호스트에서 etcd 컨테이너가 실행 중인지와 디스크 공간을 확인하세요.",
        "Check on that host that the etcd container runs, and its disk space.",
    )


class EtcdQuorumLost(EtcdFailed):
    code = "clusters.etcd_quorum_lost"
    detail = Text(
        "제어 노드 {host}의 etcd에 과반수가 없어 '{what}'을(를) 할 수 없습니다: {reason}",
        "etcd on control plane {host} has no majority, so '{what}' cannot be done: {reason}",
    )
    remedy = Text(
        "꺼진 제어 노드를 다시 켜세요. 되살릴 수 없으면 백업에서 복원하세요: "
        "haechi cluster restore.",
        "Switch the missing control planes on again. Where they are lost, restore the cluster from "
        "a backup: haechi cluster restore.",
    )
