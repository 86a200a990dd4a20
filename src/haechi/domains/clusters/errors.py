"""What may go wrong with clusters. Of hosts alone: `host/errors.py`."""

from haechi.errors import Conflict, Invalid, ManyProblems, NotFound, Text, Unavailable, Upstream


class ClusterNotFound(NotFound):
    code = "clusters.not_found"
    detail = Text("클러스터 '{id}'을(를) 찾을 수 없습니다.", "There is no cluster '{id}'.")
    remedy = Text("목록에서 ID를 확인하세요.", "Check the id in the list.")


class NotAMember(NotFound):
    code = "clusters.not_a_member"
    detail = Text(
        "장치 {device_id}은(는) 클러스터 {cluster_id}의 구성원이 아닙니다.",
        "Device {device_id} is not a member of cluster {cluster_id}.",
    )
    remedy = Text("클러스터의 구성원 목록을 확인하세요.", "Check the cluster's list of members.")


class DuplicateCluster(Conflict):
    code = "clusters.duplicate_name"
    detail = Text(
        "이름 '{name}'은(는) 이미 클러스터 {id}이(가) 쓰고 있습니다.",
        "The name '{name}' is already that of cluster {id}.",
    )
    remedy = Text(
        "다른 이름을 쓰거나 그 클러스터에 장치를 추가하세요.",
        "Choose another name, or add devices to that cluster.",
    )


class DeviceInCluster(Conflict):
    code = "clusters.device_in_cluster"
    detail = Text(
        "장치 {device_id}은(는) 이미 클러스터 {cluster_id}에 속해 있습니다.",
        "Device {device_id} already belongs to cluster {cluster_id}.",
    )
    remedy = Text(
        "그 클러스터에서 먼저 빼거나 다른 장치를 고르세요.",
        "Remove it from that cluster first, or choose another device.",
    )


class HostBusy(Conflict):
    code = "clusters.host_busy"
    detail = Text(
        "호스트 {host}에서 다른 작업({operation_id}, {kind})이 진행 중입니다.",
        "Another operation ({operation_id}, {kind}) is at work on host {host}.",
    )
    remedy = Text(
        "그 작업이 끝난 뒤 다시 시도하거나 먼저 취소하세요.",
        "Wait until it ends, or cancel it first.",
    )


class NotItsHost(Conflict):
    code = "clusters.not_its_host"
    detail = Text(
        "{address}의 호스트는 정리할 노드 '{node}'이(가) 아닌 것 같습니다: {reason}",
        "The host at {address} seems not to be the one that was node '{node}': {reason}",
    )
    remedy = Text(
        "아무것도 건드리지 않았습니다. 그 노드의 디스크를 다른 장치로 옮겼다면 그대로 두고, 아니면 "
        "장치의 주소를 바로잡으세요.",
        "Nothing was touched. If that node's disk lives in another device now, leave it as it is; "
        "otherwise correct the device's address.",
    )


class ClusterNotReady(Conflict):
    code = "clusters.not_ready"
    detail = Text(
        "클러스터 {id}은(는) 지금 '{state}' 상태라서 이 작업을 할 수 없습니다.",
        "Cluster {id} is '{state}' now, so this cannot be done.",
    )
    remedy = Text(
        "구성이 끝난 클러스터에서 다시 시도하세요.", "Try again with a cluster that is formed."
    )


class BadMembers(Invalid):
    code = "clusters.bad_members"
    detail = Text(
        "구성원을 이렇게 정할 수 없습니다: {reason}", "The members cannot be so: {reason}"
    )
    remedy = Text(
        "제어 노드는 1대 또는 3대 이상의 홀수로, 각 장치는 한 번만 적으세요.",
        "Give one control plane, or an odd number of three or more, and each device once.",
    )


class BadNetwork(Invalid):
    code = "clusters.bad_network"
    detail = Text(
        "네트워크 {cidr}을(를) 쓸 수 없습니다: {reason}",
        "The network {cidr} cannot be used: {reason}",
    )
    remedy = Text(
        "서로, 그리고 호스트의 네트워크와 겹치지 않는 IPv4 대역을 지정하세요.",
        "Give IPv4 networks that overlap neither each other nor the hosts' own.",
    )


class LastControlPlane(Conflict):
    code = "clusters.last_control_plane"
    detail = Text(
        "{host}은(는) 클러스터 {id}의 마지막 제어 노드입니다.",
        "{host} is the last control plane of cluster {id}.",
    )
    remedy = Text(
        "다른 제어 노드를 먼저 추가하거나 클러스터를 삭제하세요.",
        "Add another control plane first, or delete the cluster.",
    )


class HostsNotFit(ManyProblems):
    """Every finding of every host at once; `problems` names each with its host."""

    code = "clusters.hosts_not_fit"
    http_status = 409
    title = Text("호스트 점검 실패", "Hosts not fit")
    detail = Text(
        "호스트 점검에서 문제가 {count}개 나왔습니다. 아무것도 바꾸지 않았습니다.",
        "The check of the hosts found {count} problems; nothing was changed.",
    )
    remedy = Text(
        "모두 고친 뒤 다시 시도하세요. 경고는 이름을 적어 받아들일 수 있습니다.",
        "Correct them all and try again; warnings can be accepted by name.",
    )


class HostStepFailed(Upstream):
    """A command on a host failed; `reason` is the host's own last error."""

    code = "clusters.host_step_failed"
    detail = Text(
        "호스트 {host}에서 '{step}' 단계가 실패했습니다: {reason}",
        "Step '{step}' failed on host {host}: {reason}",
    )
    remedy = Text(
        "작업 로그에 있는 호스트의 마지막 오류를 고친 뒤 다시 시도하세요.",
        "Correct the host's own error, shown in the operation's log, and try again.",
    )


class KubeletNotStarting(HostStepFailed):
    code = "clusters.kubelet_not_starting"
    detail = Text(
        "호스트 {host}의 kubelet이 시작되지 않습니다: {reason}",
        "The kubelet of host {host} does not start: {reason}",
    )
    remedy = Text(
        "호스트에서 kubelet의 오류를 고친 뒤 다시 시도하세요.",
        "Correct what the kubelet says on that host, then try again.",
    )


class NodeNotReady(Upstream):
    code = "clusters.node_not_ready"
    detail = Text(
        "노드 {node}이(가) {timeout_s}초 안에 준비되지 않았습니다: {reason}",
        "Node {node} was not ready within {timeout_s} s: {reason}",
    )
    remedy = Text(
        "그 호스트의 kubelet과 네트워크를 확인하세요.",
        "Check the kubelet and the network of that host.",
    )


class WorkersFailed(Upstream):
    """The others are in; `hosts` names who is not, with its own error."""

    code = "clusters.workers_failed"
    detail = Text(
        "{total}대 중 {failed}대가 클러스터에 들어오지 못했습니다.",
        "{failed} of {total} hosts did not join.",
    )
    remedy = Text(
        "표시된 호스트의 오류를 고친 뒤 '노드 추가'로 다시 넣으세요.",
        "Correct the errors of the hosts named, then add them again.",
    )


class KubeUnreachable(Unavailable):
    code = "clusters.api_unreachable"
    detail = Text(
        "클러스터 {cluster_id}의 Kubernetes API에 연결할 수 없습니다: {reason}",
        "The Kubernetes API of cluster {cluster_id} cannot be reached: {reason}",
    )
    remedy = Text(
        "제어 노드의 전원과 네트워크, 그리고 서버에서 제어 노드의 6443번 포트로 가는 연결을 "
        "방화벽이 막지 않는지 확인하세요. 실행 중인 AI는 계속 동작합니다.",
        "Check power and network of the control planes, and that no firewall keeps this server "
        "from their port 6443; AIs that run go on.",
    )


class KubeRefused(Upstream):
    code = "clusters.api_refused"
    detail = Text(
        "클러스터 {cluster_id}의 Kubernetes API가 요청을 거절했습니다 ({status}): {reason}",
        "The Kubernetes API of cluster {cluster_id} refused ({status}): {reason}",
    )
    remedy = Text("표시된 이유를 확인하세요.", "See the reason given.")


class NoKubeconfig(Conflict):
    code = "clusters.no_kubeconfig"
    detail = Text(
        "클러스터 {id}에는 아직 kubeconfig가 없습니다.", "Cluster {id} has no kubeconfig yet."
    )
    remedy = Text("구성이 끝난 뒤 다시 시도하세요.", "Try again once it is formed.")


class AlreadyRunsOther(Conflict):
    code = "clusters.forming_differs"
    detail = Text(
        "클러스터 '{name}'은(는) 다른 구성으로 이미 만들어지고 있습니다 ({operation_id}).",
        "Cluster '{name}' is being formed already, with other settings ({operation_id}).",
    )
    remedy = Text("그 작업이 끝나기를 기다리거나 취소하세요.", "Wait until it ends, or cancel it.")


class NoBundle(Conflict):
    code = "clusters.no_bundle"
    detail = Text(
        "Kubernetes {version}의 오프라인 번들({platform})이 없습니다.",
        "There is no offline bundle of Kubernetes {version} for {platform}.",
    )
    remedy = Text(
        "`haechi bundle create`로 번들을 만들거나 다른 버전을 지정하세요.",
        "Make one with `haechi bundle create`, or give another version.",
    )
