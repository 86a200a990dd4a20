"""What etcd may refuse."""

from haechi.errors import Conflict, Text, Upstream


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
        "꺼진 제어 노드를 다시 켜세요. 주소가 바뀌었으면 haechi cluster readdress "
        "--control-planes를 실행하고, 되살릴 수 없으면 백업에서 복원하세요: "
        "haechi cluster restore.",
        "Switch the missing control planes on again. Where they have moved: haechi cluster "
        "readdress --control-planes. Where they are lost, restore the cluster from a backup: "
        "haechi cluster restore.",
    )


class EtcdMajorityNeeded(Conflict):
    """`away` names the other control planes whose etcd does not answer."""

    code = "clusters.etcd_majority_needed"
    detail = Text(
        "{host}을(를) 빼면 클러스터 {id}의 etcd에 과반수가 남지 않습니다. 응답하지 않는 제어 노드: "
        "{away}",
        "Without {host}, etcd of cluster {id} would have no majority: {away} does not answer.",
    )
    remedy = Text(
        "{away}을(를) 다시 켜세요. 되살릴 수 없으면 그것을 먼저 빼거나 교체하세요.",
        "Switch {away} on again. Where it is lost for good, remove or replace that one first.",
    )


class EtcdNotBack(Upstream):
    code = "clusters.etcd_not_back"
    title = Text("etcd 오류", "etcd failed")
    detail = Text(
        "복원한 클러스터는 응답하지만 제어 노드 {host}의 etcd가 {timeout_s}초 안에 "
        "응답하지 않았습니다.",
        "The restored cluster answers, but etcd on control plane {host} did not come back within "
        "{timeout_s} s.",
    )
    remedy = Text(
        "그 호스트에서 etcd 컨테이너의 로그를 확인하세요. 되살아나지 않으면 그 제어 노드를 빼고 "
        "다시 추가하세요.",
        "See on that host what its etcd container says. If it does not come back, remove that "
        "control plane and add it again.",
    )


class EtcdDecides(Conflict):
    code = "clusters.etcd_decides"
    detail = Text(
        "제어 노드 {host}의 etcd에는 과반수가 있어 제어 노드를 모두 멈출 필요가 없습니다.",
        "etcd on control plane {host} has a majority: there is no need to stop them all.",
    )
    remedy = Text(
        "주소가 바뀐 것을 하나씩 옮기세요: haechi cluster readdress CLUSTER DEVICE.",
        "Take those that moved up one after the other: haechi cluster readdress CLUSTER DEVICE.",
    )


class EtcdHistoriesDiffer(Conflict):
    """Every restore begins a history of its own; `host` is of a later one than `other`."""

    code = "clusters.etcd_histories_differ"
    detail = Text(
        "제어 노드 {host}과(와) {other}의 etcd 자료가 서로 다른 복원에서 나와 어느 것이 맞는지 "
        "알 수 없습니다.",
        "etcd's data on control planes {host} and {other} is of different restores, so that nobody "
        "can tell which counts.",
    )
    remedy = Text(
        "백업에서 복원하세요: haechi cluster restore.",
        "Restore the cluster from a backup: haechi cluster restore.",
    )
