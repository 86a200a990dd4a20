"""What may be wrong with the pods of its own that a cluster needs. Told as findings."""

from haechi.errors import Text, Upstream


class SystemPodMissing(Upstream):
    code = "clusters.system_pod_missing"
    detail = Text(
        "노드 {host}에 클러스터가 필요로 하는 {pod} 파드가 없습니다.",
        "Node {host} has no pod of {pod}, which the cluster needs there.",
    )
    remedy = Text(
        "제어 노드에서 'kubectl -n {namespace} describe daemonset {pod}'로 삭제되거나 제한되지 "
        "않았는지 확인하세요.",
        "On a control plane see `kubectl -n {namespace} describe daemonset {pod}`: was it deleted, "
        "or kept from some nodes?",
    )


class ServicesDown(Upstream):
    code = "clusters.services_down"
    detail = Text(
        "노드 {host}에서는 서비스에 연결되지 않습니다. kube-proxy({pod})가 준비되지 않았습니다: "
        "{reason}",
        "From node {host} no service is reached: its kube-proxy ({pod}) is not ready: {reason}",
    )
    remedy = Text(
        "제어 노드에서 'kubectl -n {namespace} logs {pod}'로 이유를 확인하세요. 'kubectl -n "
        "{namespace} delete pod {pod}'로 삭제하면 새로 만들어집니다.",
        "On a control plane see why: `kubectl -n {namespace} logs {pod}`. Another one is made "
        "after `kubectl -n {namespace} delete pod {pod}`.",
    )


class PodNetworkDown(Upstream):
    code = "clusters.pod_network_down"
    detail = Text(
        "노드 {host}의 파드는 다른 노드의 파드와 통신하지 못합니다. flannel({pod})이 준비되지 "
        "않았습니다: {reason}",
        "Pods of node {host} do not reach those of other nodes: its flannel ({pod}) is not ready: "
        "{reason}",
    )
    remedy = ServicesDown.remedy


class NamesDown(Upstream):
    """`pods`: each with its node and its reason."""

    code = "clusters.names_down"
    detail = Text(
        "클러스터 안에서 서비스 이름을 찾을 수 없습니다. 준비된 CoreDNS가 없습니다: {pods}",
        "No service is found by its name: no CoreDNS is ready: {pods}",
    )
    remedy = Text(
        "제어 노드에서 'kubectl -n kube-system describe pod -l k8s-app=kube-dns'를 확인하세요. "
        "실행 중인데 준비되지 않으면 그 노드에서 서비스에 연결되지 않는 것이므로 'kubectl -n "
        "kube-system delete pod -l k8s-app=kube-proxy'를, 파드가 없으면 'kubectl -n kube-system "
        "scale deployment coredns --replicas=2'를 실행하세요.",
        "On a control plane see `kubectl -n kube-system describe pod -l k8s-app=kube-dns`. Where "
        "they run and do not get ready, their nodes reach no service: `kubectl -n kube-system "
        "delete pod -l k8s-app=kube-proxy`. Where there are none: `kubectl -n kube-system scale "
        "deployment coredns --replicas=2`.",
    )


class NamesWeakened(Upstream):
    code = "clusters.names_weakened"
    detail = Text(
        "노드 {host}의 CoreDNS({pod})가 준비되지 않았습니다: {reason}. 다른 CoreDNS는 응답합니다.",
        "The CoreDNS of node {host} ({pod}) is not ready: {reason}. Another one answers.",
    )
    remedy = Text(
        "실행 중인데 준비되지 않으면 그 노드에서 서비스에 연결되지 않는 것입니다: 'kubectl -n "
        "kube-system delete pod -l k8s-app=kube-proxy --field-selector spec.nodeName={host}'. "
        "그렇지 않으면 'kubectl -n kube-system logs {pod}'를 확인하세요.",
        "Where it runs and does not get ready, its node reaches no service: `kubectl -n "
        "kube-system delete pod -l k8s-app=kube-proxy --field-selector spec.nodeName={host}`. "
        "Otherwise see `kubectl -n kube-system logs {pod}`.",
    )
